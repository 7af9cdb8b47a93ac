/**
 * Takes away the run.lock of a run that no process works on any more and whose process cannot be asked: one of another machine (a container that was built
 * anew is one), or one that no register knows. Plain Node; who is asked before, and how, is the command's.
 * The rules to keep: the lock of a process that the register and the system agree on stays; only the lock that a person was shown is removed, under the
 * guard file that a core takes for the same (core/files/runLock.ts).
 */
import { open, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../../protocol/userError.ts";
import { findLiveRun, lockName } from "../liveRuns.ts";

/** As a core does: a guard that is older was left by a process that was killed. */
const guardMs = 10_000;
const tries = 20;
const waitMs = 100;

/** What stands in a run's lock; null when there is none. Throws UserError `run/live` when it is a core's that is alive. */
export async function readRemovableLock(runFolder: string): Promise<string | null> {
  const found = await findLiveRun(runFolder);
  if (found.kind === "live")
    throw new UserError("run/live", `Process ${found.record.pid} of this machine works on ${runFolder}.`, "Stop the run first.", { badInput: false });
  return readFile(path.join(runFolder, lockName), "utf8").catch(() => null);
}

/** Removes the lock if `text` still stands in it; false when another, or none, is there by now. Throws UserError `run/live`, `run/lock-busy`. */
export async function removeLock(runFolder: string, text: string): Promise<boolean> {
  const file = path.join(runFolder, lockName);
  const guard = `${file}.takeover`;
  await takeGuard(guard, runFolder);
  try {
    if ((await readRemovableLock(runFolder)) !== text) return false;
    await rm(file, { force: true });
    return true;
  } finally {
    await rm(guard, { force: true });
  }
}

async function takeGuard(guard: string, runFolder: string): Promise<void> {
  for (let attempt = 0; attempt < tries; attempt++, await delay(waitMs)) {
    try {
      return await (await open(guard, "wx")).close();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "EEXIST")
        throw new UserError("run/cannot-write", `${guard} cannot be written: ${message}.`, "Check the run folder and its permissions.", {
          badInput: false,
        });
    }
    const status = await stat(guard).catch(() => null);
    if (status && Date.now() - status.mtimeMs > guardMs) await rm(guard, { force: true });
  }
  throw new UserError("run/lock-busy", `Other processes are taking the lock of ${runFolder}.`, "Wait a moment, and try again.", { badInput: false });
}
