/**
 * Starts the core of a run, or finds the one that another window has started at the same moment: two windows that see a crash both start it again, and one
 * of them gets the lock. It connects to nothing.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { LiveRunRecord } from "../../protocol/liveRun.ts";
import { UserError } from "../../protocol/userError.ts";
import { findLiveRun } from "../liveRuns.ts";
import { startCore } from "../startCore.ts";
import type { RunServices } from "./runServices.ts";

/** Who has the lock of a run is in the register at once after it. */
const registeredMs = 5000;

export interface StartWishes {
  resume: boolean;
  acceptChanges?: boolean;
  /** With keepRunning off the core ends after so long without a window. */
  aloneMs: number;
}

/** Throws UserError. */
export async function startOrJoin(runFolder: string, services: RunServices, { resume, acceptChanges, aloneMs }: StartWishes): Promise<LiveRunRecord> {
  const program = await services.program();
  const stopWhenAloneMs = services.keepRunning() ? null : aloneMs;
  const recordFrames = services.recordFrames?.() ?? false;
  try {
    return (await startCore({ ...program, runFolder, resume, acceptChanges, stopWhenAloneMs, recordFrames })).record;
  } catch (error) {
    const others = error instanceof UserError && ["run/locked", "run/begun"].includes(error.code) ? await othersCore(runFolder) : null;
    if (others) return others;
    throw error;
  }
}

/** The core that has the lock; null when it is in no register, for a forged lock or a command line's. */
async function othersCore(runFolder: string): Promise<LiveRunRecord | null> {
  for (const began = performance.now(); performance.now() - began < registeredMs; await delay(100)) {
    const found = await findLiveRun(runFolder);
    if (found.kind === "live") return found.record;
    if (found.kind !== "unregistered" || !found.alive) return null;
  }
  return null;
}
