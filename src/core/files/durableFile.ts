/**
 * Writes files so that after a crash either the old or the new one is there in full: temporary name, fsync, rename, fsync of the folder.
 * It knows no format. The rule to keep: a file appears under its own name only when every byte of it is on the disk.
 */
import { createHash, randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm, statfs } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { formatBytes } from "../terminal/format.ts";

/** Content of a file, in order. */
export type Chunks = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** The chunks, until `signal` says that nobody wants the file any more; then it throws the signal's reason. */
export async function* untilAborted(chunks: Chunks, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    yield chunk;
  }
}

/** What was written: size and SHA-256 in hex, taken on the way. */
export interface WrittenFile {
  bytes: number;
  sha256: string;
}

/** Names of temporary files and folders start with this and are swept when a run starts. */
export const temporaryPrefix = ".tmp-";

export function temporaryName(): string {
  return `${temporaryPrefix}${randomUUID()}`;
}

/** Bytes an unprivileged process may still write to the file system that holds `place`. */
export async function freeBytes(place: string): Promise<number> {
  const { bavail, bsize } = await statfs(place);
  return bavail * bsize;
}

/** Throws UserError `run/disk-full` when fewer than `neededBytes` are free where `what` shall go. */
export async function requireFreeBytes(what: string, place: string, neededBytes: number): Promise<void> {
  const free = await freeBytes(place);
  if (free < neededBytes) throw diskFull(what, neededBytes, free);
}

function diskFull(what: string, neededBytes: number, free: number, cause?: unknown): UserError {
  const message = `The disk is full: ${what} needs ${formatBytes(neededBytes)}, has ${formatBytes(free)}.`;
  return new UserError("run/disk-full", message, "Free space on that disk, or choose another folder.", { badInput: false, cause });
}

/** Turns what the operating system says about writing `what` under `folder` into a UserError; anything else comes back as it is. */
export async function writeError(error: unknown, what: string, folder: string, neededBytes: number): Promise<unknown> {
  const code = (error as NodeJS.ErrnoException)?.code;
  if (code === "ENOSPC" || code === "EDQUOT") return diskFull(what, neededBytes, await freeBytes(folder).catch(() => 0), error);
  const reasons: Record<string, string> = {
    EACCES: "permission is denied",
    EPERM: "permission is denied",
    EROFS: "the file system is read-only",
    EMFILE: "too many files are open",
    ENFILE: "too many files are open",
    ENOENT: "the folder is gone",
    EIO: "the disk reports an error",
  };
  const reason = reasons[code ?? ""];
  if (!reason) return error;
  return new UserError(
    "run/cannot-write",
    `${what} cannot be written under ${folder}: ${reason}.`,
    "Check the folder, its permissions and its disk.",
    { badInput: false, cause: error },
  );
}

/** Creates `file`, which must not exist, writes `chunks` and fsyncs it. On failure the file is removed. */
export async function writeNewFile(file: string, chunks: Chunks): Promise<WrittenFile> {
  const handle = await open(file, "wx");
  try {
    const written = await writeChunks(handle, chunks);
    await handle.sync();
    await handle.close();
    return written;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(file, { force: true }).catch(() => undefined);
    throw error;
  }
}

async function writeChunks(handle: FileHandle, chunks: Chunks): Promise<WrittenFile> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    for (let done = 0; done < chunk.length; ) {
      const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, bytes + done);
      done += bytesWritten;
    }
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Puts a file with this content in place of `file`, or where there was none; a reader sees the old or the new one, never a part. */
export async function replaceFile(file: string, chunks: Chunks): Promise<WrittenFile> {
  const temporary = path.join(path.dirname(file), temporaryName());
  const written = await writeNewFile(temporary, chunks);
  try {
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(path.dirname(file));
  return written;
}

/** Makes renames and new names in a folder durable. Windows has no such call and needs none. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A JSON text with two spaces of indentation and a last newline. Numbers must be finite: JSON has no others, and null would stand in silently. */
export function jsonText(value: unknown): string {
  const text = JSON.stringify(
    value,
    (key, entry) => {
      if (typeof entry === "number" && !Number.isFinite(entry)) throw new RangeError(`${key} is ${entry}, which JSON cannot hold`);
      return entry;
    },
    2,
  );
  return `${text}\n`;
}
