/**
 * One run as the screen shows it, out of how far its events say it has come and who works on it. Pure.
 * The rule to keep: the folder decides how a run ended, a live core what it does now, and a lock in the folder at most that it is busy.
 */
import os from "node:os";
import type { Failure, LockHolder, RunState, RunView } from "../../protocol/panelProtocol.ts";
import type { LinkState } from "./linkState.ts";
import type { RunProgress } from "./runProgress.ts";

export interface RunFacts {
  runFolder: string;
  name: string;
  trusted: boolean;
  progress: RunProgress;
  link: LinkState;
  /** The core of the link has been silent for too long. */
  silent: boolean;
  /** A core that is still to come will be stopped. */
  stopping: boolean;
  /** Why the last core ended, where the events do not say. */
  failure: Failure | null;
  logTail: readonly string[];
  /** Its lock names another machine, or a process that no register knows. */
  holder: LockHolder | null;
}

/** Asked once: it is a call to the system, and a view is made several times a second. */
const machineBytes = os.totalmem();

export function runView(facts: RunFacts): RunView {
  const { runFolder, name, progress, link, logTail } = facts;
  const state = stateOf(facts);
  const totalSteps = progress.totalSteps || (link.kind === "attached" ? link.status.totalSteps : 0);
  return {
    runFolder,
    name,
    state,
    step: progress.step,
    totalSteps,
    warmup: isLiveState(state) ? progress.warmup : null,
    initialising: isLiveState(state) ? progress.initialising : null,
    loss: progress.loss,
    remainingMs: state === "running" ? progress.remainingMs : null,
    failure: state === "finished" ? null : (facts.failure ?? (state === "failed" ? progress.failure : null)),
    logTail: [...logTail],
    pid: pidOf(link),
    holder: state === "elsewhere" && link.kind !== "refused" ? facts.holder : null,
    machineBytes,
  };
}

function stateOf({ trusted, progress, link, silent, stopping, failure, holder }: RunFacts): RunState {
  if (silent) return "notResponding";
  if (link.kind === "attached" && link.status.state !== "ended") return link.status.state;
  if (stopping) return "stopping";
  if (link.kind === "connecting") return "opening";
  if (link.kind === "starting") return "starting";
  if (link.kind === "refused") return "elsewhere";
  if (progress.outcome === "finished") return "finished";
  if (holder) return "elsewhere";
  if (failure) return "failed";
  if (progress.outcome) return progress.outcome;
  return trusted ? "interrupted" : "restricted";
}

const restStates: readonly RunState[] = ["draft", "stopped", "interrupted", "failed", "finished", "restricted"];

function isLiveState(state: RunState): boolean {
  return !restStates.includes(state);
}

function pidOf(link: LinkState): number | null {
  if (link.kind === "attached") return link.client.hello.pid;
  return link.kind === "connecting" || link.kind === "refused" ? link.pid : null;
}
