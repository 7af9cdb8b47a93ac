/**
 * A person's Stop, kept where this user's other windows see it: each window waits by itself to start a crashed core again, and none may do so with a run
 * that was stopped in another.
 * The rule to keep: it only ever keeps a core from being started by itself; what a person starts or resumes goes on.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { registerFolder } from "../liveRuns.ts";

async function fileOf(runFolder: string): Promise<string> {
  const name = createHash("sha256")
    .update(await realpath(runFolder))
    .digest("hex")
    .slice(0, 32);
  return path.join(path.dirname(registerFolder()), "stops", name);
}

/** Keeps that a person asked for a stop just now. */
export async function noteStop(runFolder: string): Promise<void> {
  const file = await fileOf(runFolder);
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(file, String(Date.now()), { mode: 0o600 });
}

/** Whether a person asked for a stop at or after that moment, in any window. */
export async function wasStopped(runFolder: string, sinceMs: number): Promise<boolean> {
  const noted = await fileOf(runFolder)
    .then((file) => readFile(file, "utf8"))
    .catch(() => "");
  return noted !== "" && Number(noted) >= sinceMs;
}

/** A person wants the run to go on. */
export async function forgetStop(runFolder: string): Promise<void> {
  await rm(await fileOf(runFolder), { force: true });
}
