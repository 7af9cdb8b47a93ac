/**
 * Makes a folder that appears complete or not at all: filled under a temporary name beside its place, then renamed. For exports and new models.
 * The rule to keep: what is already in a folder is never overwritten.
 */
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { requireFreeBytes, syncFolder, temporaryName, writeError } from "./durableFile.ts";

/** Throws UserError `export/not-empty` when `to` is a file or has anything in it. */
export async function requireEmptyFolder(to: string): Promise<void> {
  const names = await readdir(to).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code === "ENOTDIR") throw new UserError("export/not-empty", `${to} is a file.`, "Give the path of a new folder.");
    throw error;
  });
  if (names.length > 0) throw new UserError("export/not-empty", `${to} is not empty.`, "Give the path of a new or an empty folder.");
}

/**
 * Creates `to` with what `fill` writes into the folder it is given. `neededBytes` are checked against the disk first.
 * Throws UserError `export/not-empty`, `run/disk-full` or `run/cannot-write`; on any failure nothing stays behind.
 */
export async function createFolder(to: string, neededBytes: number, fill: (folder: string) => Promise<void>): Promise<void> {
  const target = path.resolve(to);
  const parent = path.dirname(target);
  const temporary = path.join(parent, temporaryName());
  await requireEmptyFolder(target);
  try {
    await mkdir(parent, { recursive: true });
    await requireFreeBytes(target, parent, neededBytes);
    await mkdir(temporary);
    await fill(temporary);
    await syncFolder(temporary);
    await rmdir(target).catch(() => undefined);
    await rename(temporary, target);
    await syncFolder(parent);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw error instanceof UserError ? error : await writeError(error, target, parent, neededBytes);
  }
}
