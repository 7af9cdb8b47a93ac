/**
 * What a run reports, one JSON object a line in events.jsonl and, with --json, on standard output.
 * Scalars are never dropped. A reader drops steps beyond `resumed.fromStep` (see `history`), so that the history of a killed and
 * resumed run equals the undisturbed one's.
 */
import type { BytesByClass } from "./memory.ts";

/** Share of the chosen entries per projection, e.g. `{q_proj: 0.1, …}`; sums to 1. */
export type Shares = Record<string, number>;

export type RunEvent = { /** Gapless per run folder, from 1. */ sequence: number /** Milliseconds since 1970. */; timeMs: number } & RunEventBody;

export type RunEventBody =
  | {
      kind: "started";
      run: string;
      method: string;
      device: string;
      trainRows: number;
      skippedRows: number;
      totalSteps: number;
      warmupSteps: number;
      trainTokens: number;
    }
  /** One scoring step of a warm-up, which starts after update `afterStep`; `loss` as in `step`. */
  | { kind: "warmup"; step: number; of: number; afterStep: number; loss: number; tokensPerSecond: number }
  | { kind: "selection"; step: number; blockSize: number; blocks: number; trainableParameters: number; shares: Shares; sharesByLayer: Shares[] }
  /** loss: mean NLL over the unmasked targets of the whole update, before it. gradNorm: L2 over the trainables before clipping. */
  | { kind: "step"; step: number; loss: number; learningRate: number; gradNorm: number; tokensPerSecond: number }
  | { kind: "memory"; step: number; bytesByClass: BytesByClass; peakBytes: number; processBytes: number }
  | { kind: "evaluation"; step: number; loss: number; tokens: number }
  | { kind: "checkpoint"; step: number; folder: string }
  /** Something other than asked was done, or a thing to know, with its reason. */
  | { kind: "notice"; code: string; message: string }
  /** A NaN or infinity appeared: the update of this step was skipped. */
  | { kind: "skipped"; step: number; reason: string }
  | { kind: "paused"; step: number; reason: string }
  /** fromStep: of the checkpoint it goes on from; −1 when there was none and it begins again. */
  | { kind: "resumed"; fromStep: number }
  | { kind: "stopped"; step: number; reason: string }
  /** A host asked for something; what came of it follows as an event of its own. `by` names the host; `id` is the command's. */
  | { kind: "command"; name: "pause" | "resume" | "stop" | "save"; id: string; by: string }
  /** The run ended with an error; a checkpoint before it can be resumed from. */
  | { kind: "failed"; code: string; message: string; action: string }
  | { kind: "done"; run: string; step: number };

/** The events as if the run had never been interrupted: what stands beyond the checkpoint that a resume went back to is dropped. */
export function history(events: readonly RunEvent[]): RunEvent[] {
  let kept: RunEvent[] = [];
  for (const event of events) {
    if (event.kind === "resumed") kept = kept.filter((earlier) => stepBehind(earlier) <= event.fromStep);
    kept.push(event);
  }
  return kept;
}

/**
 * The update an event belongs to; what belongs to none is never dropped. Blocks are chosen anew after what their step left was saved, so that a resume
 * from that step does it again; the first choice is part of the checkpoint of step 0.
 */
function stepBehind(event: RunEvent): number {
  if (event.kind === "warmup") return event.afterStep > 0 ? event.afterStep + 0.5 : 0;
  if (event.kind === "selection") return event.step > 0 ? event.step + 0.5 : 0;
  return "step" in event ? event.step : Number.NEGATIVE_INFINITY;
}
