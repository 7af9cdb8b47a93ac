/**
 * What a run reports, one JSON object a line in events.jsonl and, with --json, on standard output.
 * Scalars are never dropped. A reader drops steps beyond `resumed.fromStep` (see `history`), so that the history of a killed and
 * resumed run equals the undisturbed one's.
 */
import type { EventBodies } from "./eventSchemas.ts";

/** Share of the chosen entries per projection, e.g. `{q_proj: 0.1, …}`; sums to 1. */
export type Shares = Record<string, number>;

export type RunEvent = { /** Gapless per run folder, from 1. */ sequence: number /** Milliseconds since 1970. */; timeMs: number } & RunEventBody;

/** What each kind holds is said in eventSchemas.ts. */
export type RunEventBody = EventBodies;

/** The events as if the run had never been interrupted: what stands beyond the checkpoint that a resume went back to is dropped. */
export function history(events: readonly RunEvent[]): RunEvent[] {
  const kept: RunEvent[] = [];
  extendHistory(kept, events);
  return kept;
}

/** Adds later events to a history in place, dropping what a resume among them went back behind. */
export function extendHistory(kept: RunEvent[], later: readonly RunEvent[]): void {
  for (const event of later) {
    if (event.kind === "resumed") {
      let length = 0;
      for (const earlier of kept) if (stepBehind(earlier) <= event.fromStep) kept[length++] = earlier;
      kept.length = length;
    }
    kept.push(event);
  }
}

/**
 * The update an event belongs to; what belongs to none is never dropped. Blocks are chosen anew after what their step left was saved, so that a resume
 * from that step does it again; the first choice is part of the checkpoint of step 0.
 */
function stepBehind(event: RunEvent): number {
  if (event.kind === "warmup") return event.afterStep > 0 ? event.afterStep + 0.5 : 0;
  if (event.kind === "selection") return event.step > 0 ? event.step + 0.5 : 0;
  if (event.kind === "initialising") return 0;
  return "step" in event ? event.step : Number.NEGATIVE_INFINITY;
}
