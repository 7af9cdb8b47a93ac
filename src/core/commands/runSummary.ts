/**
 * What a person wants to know when a run is done: the memory it took beside its plan and full fine-tuning's, and what it did to the held-out loss.
 * The rule to keep: a figure under `measured` was measured in this run, by this process; the others say that they are planned.
 */
import { history, type RunEvent } from "../../protocol/events.ts";
import { readEvents } from "../files/eventLog.ts";
import type { MemoryPlan } from "../plan.ts";
import type { Run } from "../run.ts";
import { formatLoss, formatPercent } from "../terminal/format.ts";
import { type MemoryColumn, memoryTable } from "../terminal/memoryTable.ts";
import { paint, type TerminalStyle } from "../terminal/style.ts";

/** Follows the device's ledger through the phases of a run: its peak before blocks were first chosen, and after. */
export class MemoryPhases {
  #warmedUp = false;
  #ledger: Run["device"]["ledger"] | null = null;
  #warmup: MemoryColumn | null = null;
  #training: ReturnType<Run["device"]["ledger"]["watch"]> | null = null;

  open(run: Run): void {
    this.#ledger = run.device.ledger;
    // A resumed run, and one without blocks, trains from the start.
    if (run.method || !run.smt) this.#training = this.#ledger.watch();
  }

  onEvent({ kind }: RunEvent): void {
    if (kind === "warmup") this.#warmedUp = true;
    if (kind !== "selection" || this.#training || !this.#ledger) return;
    const { peakBytes, peakBytesByClass: bytesByClass } = this.#ledger;
    this.#warmup = { origin: "measured", heading: this.#warmedUp ? "warm-up" : "selection", peakBytes, bytesByClass };
    this.#training = this.#ledger.watch();
  }

  get columns(): MemoryColumn[] {
    const peak = this.#training?.peak;
    const training = peak && { origin: "measured", heading: "training", peakBytes: peak.bytes, bytesByClass: { ...peak.bytesByClass } };
    return [this.#warmup, training ?? null].filter((column) => column !== null);
  }
}

/** The plan's own columns. */
export function planColumns(plan: MemoryPlan, method: string): MemoryColumn[] {
  const planned = {
    origin: "planned",
    heading: plan.exact ? method : `${method}, at most`,
    peakBytes: plan.peakBytes,
    bytesByClass: plan.bytesByClass,
  };
  if (method === "full") return [{ ...planned, heading: "full fine-tuning" }];
  return [
    planned,
    { origin: "planned", heading: "full fine-tuning", peakBytes: plan.fullFineTuning.peakBytes, bytesByClass: plan.fullFineTuning.bytesByClass },
  ];
}

/** Measured beside planned, and a sentence that says when the peak was. */
export function memoryLines(measured: readonly MemoryColumn[], plan: MemoryPlan, method: string, style: TerminalStyle): string[] {
  const lines = memoryTable([...measured, ...planColumns(plan, method)], style);
  if (measured.length === 0 || method === "full") return lines;
  const most = measured.reduce((best, column) => (column.peakBytes > best.peakBytes ? column : best));
  const training = measured[measured.length - 1];
  const why = most.bytesByClass.trainable === 0 ? "when nothing was trainable yet" : "which trains every weight";
  const when = most === training ? "" : `The peak was in the ${most.heading}, ${why}. `;
  const share = formatPercent(most.peakBytes / plan.fullFineTuning.peakBytes);
  const state = (column: Pick<MemoryColumn, "bytesByClass">) => column.bytesByClass.gradients + column.bytesByClass.optimizer;
  const stateShare = formatPercent(state(training) / state(plan.fullFineTuning));
  lines.push(`${when}This run took ${share} of full fine-tuning's memory; of its gradients and optimizer state, ${stateShare}.`);
  return lines;
}

/** Held-out loss before and after, over the whole history of a run; empty where nothing was held out. */
export async function lossLines(runFolder: string, style: TerminalStyle): Promise<string[]> {
  const evaluations = history(await readEvents(runFolder)).filter((event) => event.kind === "evaluation");
  if (evaluations.length < 2) return [];
  const [first, last] = [evaluations[0], evaluations[evaluations.length - 1]];
  return [
    `${paint("held-out", style, 75)}  loss ${formatLoss(first.loss)} before, ${paint(formatLoss(last.loss), style, 78)} after ${last.step} updates (over ${last.tokens} tokens; perplexity ${perplexity(first.loss)} → ${perplexity(last.loss)})`,
  ];
}

function perplexity(loss: number): string {
  const value = Math.exp(loss);
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
