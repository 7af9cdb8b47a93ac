/**
 * What a run does while the disk is full: it waits, and says so; nothing that was computed is lost. Used around everything that a run writes
 * but its events, which wait in memory (session.ts).
 */
import { UserError } from "../protocol/userError.ts";
import { writeError } from "./files/durableFile.ts";
import type { Emit, RunControl } from "./trainer.ts";

/** What a pause needs to know of its run. */
export interface PausedRun {
  folder: string;
  state: { step: number };
}

/**
 * Does `write`, again and again while the disk is full, until it succeeds or the run is asked to stop; then the UserError `run/disk-full` is thrown.
 * `write` must leave nothing half-written when it fails. Events so far are on the disk before it is called.
 */
export async function pauseWhileDiskFull<T>(run: PausedRun, emit: Emit, control: RunControl, what: string, write: () => Promise<T>): Promise<T> {
  if (!(await control.eventsWritten()))
    throw new UserError(
      "run/disk-full",
      `The disk is full: ${what} was not written, because events before it could not be.`,
      "Free space on that disk, and resume the run.",
      {
        badInput: false,
      },
    );
  for (let first = true; ; first = false) {
    try {
      return await write();
    } catch (error) {
      const full = await writeError(error, what, run.folder, 0);
      if (!(full instanceof UserError && full.code === "run/disk-full")) throw error;
      const reason = `${full.message} ${full.action}`;
      if (first) emit({ kind: "paused", step: run.state.step, reason });
      if (!(await control.waitForSpace(reason, first))) throw full;
    }
  }
}
