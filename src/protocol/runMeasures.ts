/**
 * What a run has measured, from its events alone: losses before and after, the most memory, the time of a step. Pure; comparisons are made of it.
 * The rule to keep: what was not measured is null.
 */
import { history, type RunEvent } from "./events.ts";

/** What a run has measured. */
export interface Measures {
  done: boolean;
  steps: number;
  lossBefore: number | null;
  lossAfter: number | null;
  /** Of the blocks that were chosen, or of the adapters; null for full fine-tuning. */
  chosenParameters: number | null;
  peakBytes: number | null;
  secondsPerStep: number | null;
  seconds: number;
  lostZeros: number | null;
}

/** The measures in a run's events. `lossAfter` is only there when the held-out rows were evaluated after the last update. */
export function measuresIn(events: readonly RunEvent[]): Measures {
  const kept = history(events);
  const done = kept.findLast(({ kind }) => kind === "done");
  const steps = kept.reduce((most, event) => (event.kind === "step" || event.kind === "skipped" ? Math.max(most, event.step) : most), 0);
  const evaluations = kept.filter((event) => event.kind === "evaluation");
  const last = evaluations.findLast(({ step }) => step === steps && step > 0);
  const memory = events.flatMap((event) => (event.kind === "memory" ? [event.peakBytes] : []));
  return {
    done: done !== undefined,
    steps,
    lossBefore: evaluations.find(({ step }) => step === 0)?.loss ?? null,
    lossAfter: last?.loss ?? null,
    chosenParameters: kept.findLast((event) => event.kind === "selection" || event.kind === "adapters")?.trainableParameters ?? null,
    peakBytes: memory.length > 0 ? Math.max(...memory) : null,
    secondsPerStep: secondsPerStep(kept),
    seconds: workedMs(events) / 1000,
    lostZeros: kept.findLast((event) => event.kind === "sparsity")?.lost ?? null,
  };
}

/**
 * Mean time from one update's event to the next one's, of those with nothing else in between, and without the fastest and slowest quarter: a busy machine
 * moves it less. Null below three.
 */
function secondsPerStep(events: readonly RunEvent[]): number | null {
  const milliseconds: number[] = [];
  let before: Extract<RunEvent, { kind: "step" }> | null = null;
  for (const event of events) {
    if (event.kind === "memory") continue;
    if (event.kind === "step" && before?.step === event.step - 1 && event.timeMs >= before.timeMs) milliseconds.push(event.timeMs - before.timeMs);
    before = event.kind === "step" ? event : null;
  }
  if (milliseconds.length < 3) return null;
  milliseconds.sort((a, b) => a - b);
  const quarter = Math.floor(milliseconds.length / 4);
  const middle = milliseconds.slice(quarter, milliseconds.length - quarter);
  return middle.reduce((sum, ms) => sum + ms, 0) / middle.length / 1000;
}

/** A process that begins says these first: the time before them may be one in which nobody worked. */
const beginnings: readonly RunEvent["kind"][] = ["notice", "resumed", "started"];

/** Time between events, without the time in which no process worked on the run. */
function workedMs(events: readonly RunEvent[]): number {
  let sum = 0;
  for (let i = 1; i < events.length; i++) if (!beginnings.includes(events[i].kind)) sum += Math.max(0, events[i].timeMs - events[i - 1].timeMs);
  return sum;
}
