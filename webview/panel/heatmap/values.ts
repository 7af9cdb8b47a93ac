/**
 * What the heatmap shows of each block in each mode: its value, how exactly it is known, and what values there are. Reads the model; no colours, no DOM.
 * The rule to keep: null and NaN mean unknown or not kept, and never become a number.
 */
import type { HeatmapModel } from "./model.ts";
import type { ValueRange } from "./scale.ts";

export const heatmapModes = ["score", "selected", "gradient", "delta", "secondMoment"] as const;
export type HeatmapMode = (typeof heatmapModes)[number];
/** Modes whose cells have a number. */
export type ValueMode = Exclude<HeatmapMode, "selected">;

/** One value a chosen block, in their order; null where there are none. */
export function chosenValues(model: HeatmapModel, mode: ValueMode): Float32Array | null {
  if (mode === "score") return model.chosen?.scores ?? null;
  return model.magnitudes?.[mode] ?? null;
}

/** True where the scores of all blocks of a matrix are known. */
export function hasAllScores(model: HeatmapModel, matrix: number): boolean {
  return model.scores !== null && model.scores.starts[matrix] >= 0;
}

/** The value of byte `b` of a matrix is low + b · step. */
export function byteStep(model: HeatmapModel, matrix: number): { low: number; step: number } {
  const { low, high } = model.scores as NonNullable<HeatmapModel["scores"]>;
  return { low: low[matrix], step: (high[matrix] - low[matrix]) / 255 };
}

/** What a mode's values span; null when there are none. */
export function rangeOf(model: HeatmapModel, mode: ValueMode): ValueRange | null {
  const range: ValueRange = { low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY, smallestPositive: Number.POSITIVE_INFINITY, error: 0 };
  for (let matrix = 0; matrix < model.matrices.length; matrix++)
    if (mode === "score" && hasAllScores(model, matrix)) includeScores(range, model, matrix);
    else includeChosen(range, model, mode, matrix);
  return range.high >= range.low ? range : null;
}

function includeScores(range: ValueRange, model: HeatmapModel, matrix: number): void {
  const { low, step } = byteStep(model, matrix);
  const high = low + 255 * step;
  if (!Number.isFinite(low) || !Number.isFinite(high) || model.matrices[matrix].rows * model.matrices[matrix].columns === 0) return;
  include(range, low);
  include(range, high);
  if (low <= 0 && low + step > 0) range.smallestPositive = Math.min(range.smallestPositive, low + step);
  range.error = Math.max(range.error, step / 2);
}

function includeChosen(range: ValueRange, model: HeatmapModel, mode: ValueMode, matrix: number): void {
  const values = chosenValues(model, mode);
  if (!values || !model.chosen) return;
  const first = model.chosen.first[matrix];
  for (let block = first; block < first + model.chosen.counts[matrix]; block++) if (Number.isFinite(values[block])) include(range, values[block]);
}

function include(range: ValueRange, value: number): void {
  range.low = Math.min(range.low, value);
  range.high = Math.max(range.high, value);
  if (value > 0) range.smallestPositive = Math.min(range.smallestPositive, value);
}

/** A cell's value and how far the exact one may lie from it; null when it is unknown or was not kept. */
export function valueAt(model: HeatmapModel, mode: ValueMode, matrix: number, cell: number): { value: number; error: number } | null {
  if (mode === "score" && model.scores && hasAllScores(model, matrix)) {
    const { low, step } = byteStep(model, matrix);
    const byte = model.scores.bytes[model.scores.starts[matrix] + cell - model.matrices[matrix].offset];
    return Number.isFinite(low + step) ? { value: low + byte * step, error: step / 2 } : null;
  }
  const block = model.chosen?.ofCell[cell] ?? -1;
  const value = block < 0 ? Number.NaN : (chosenValues(model, mode)?.[block] ?? Number.NaN);
  return Number.isFinite(value) ? { value, error: 0 } : null;
}

/** Whether a block was chosen; null before any was. */
export function chosenAt(model: HeatmapModel, cell: number): boolean | null {
  return model.chosen ? model.chosen.ofCell[cell] >= 0 : null;
}
