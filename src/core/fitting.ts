/**
 * What to change in a run file whose plan is more than the memory there is: the cheapest change that the planner says would fit.
 * The rule to keep: no change is said to fit that was not planned; the update's rows stay what they are as long as that can be.
 */
import type { RunConfig } from "../protocol/runConfig.ts";
import { bytesPerElement, type ElementBytes } from "./devices/device.ts";
import { formatBytes } from "./terminal/format.ts";

/** Plans a changed run: its peak in bytes. */
export type PeakOf = (config: RunConfig) => Promise<number>;

interface Change {
  train: RunConfig["train"];
  /** The settings to set. */
  settings: string;
}

/** A sentence with the cheapest change that fits, or that none does. */
export async function changeThatFits(config: RunConfig, freeBytes: number, peakOf: PeakOf): Promise<string> {
  for (const { train, settings } of changes(config.train)) {
    const peakBytes = await peakOf({ ...config, train });
    if (peakBytes <= freeBytes) return `Set ${settings}: the run is then planned to need ${formatBytes(peakBytes)}.`;
  }
  return "No batch size, sequence length or precision fits: use a smaller model or fewer trained parameters.";
}

/** The cheapest change as far as the run file alone tells; whether it is enough was not planned. */
export function cheapestChange(config: RunConfig, { elementBytes = bytesPerElement }: { elementBytes?: ElementBytes } = {}): string {
  if (config.train.recompute === "none") return "Set train.recompute to layer, or lower train.batchSize or train.sequenceLength.";
  if (config.train.batchSize > 1) return "Lower train.batchSize and raise train.gradientAccumulation as much.";
  return config.train.precision === "f32" && elementBytes.bf16 < elementBytes.f32
    ? "Set train.precision to bf16."
    : "Lower train.sequenceLength, or use a smaller model.";
}

/** From cheap to dear: time for recomputation, smaller micro-batches of the same update, then what changes the training itself. */
function* changes(given: RunConfig["train"]): Generator<Change> {
  let [train, settings]: [RunConfig["train"], string[]] = [given, []];
  const told = (more: string[]) => [...settings, ...more].join(" and ");
  if (train.recompute === "none") {
    train = { ...train, recompute: "layer" };
    settings = ["train.recompute to layer"];
    yield { train, settings: told([]) };
  }
  // Exact parts only, so that an update sees the same rows.
  for (const batchSize of divisorsBelow(train.batchSize)) {
    const gradientAccumulation = (given.gradientAccumulation * given.batchSize) / batchSize;
    const smaller = { ...train, batchSize, gradientAccumulation };
    yield { train: smaller, settings: told([`train.batchSize to ${batchSize}`, `train.gradientAccumulation to ${gradientAccumulation}`]) };
    if (batchSize !== 1) continue;
    train = smaller;
    settings = [...settings, "train.batchSize to 1", `train.gradientAccumulation to ${gradientAccumulation}`];
  }
  if (train.precision === "f32") {
    train = { ...train, precision: "bf16" };
    settings = [...settings, "train.precision to bf16"];
    yield { train, settings: told([]) };
  }
  for (let length = Math.floor(train.sequenceLength / 2); length >= 32; length = Math.floor(length / 2))
    yield { train: { ...train, sequenceLength: length }, settings: told([`train.sequenceLength to ${length}`]) };
}

/** The divisors of a number that are smaller than it, the largest first. */
function divisorsBelow(number: number): number[] {
  const divisors: number[] = [];
  for (let candidate = Math.floor(number / 2); candidate >= 1; candidate--) if (number % candidate === 0) divisors.push(candidate);
  return divisors;
}
