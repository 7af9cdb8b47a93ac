/** Changes of a run file's text that commands make. The text stays the person's: comments, order and unknown keys are kept. Pure. */
import { checkRunFile } from "../../protocol/runConfig.ts";
import { editRunFile, type TextChange } from "../files/runFileDocument.ts";

export interface LowerBatch {
  changes: TextChange[];
  /** The keys with their old and new values. */
  summary: string;
}

/**
 * The next cheaper setting: half the micro-batch at twice the accumulation, so that an update still sees as many rows; at one row recompute, then half
 * the sequence length. Null when there is nothing left to lower, or the file cannot be read.
 */
export function lowerBatchEdits(text: string, file: string): LowerBatch | null {
  const train = checkRunFile(text, file).config?.train;
  if (!train) return null;
  const set = (values: Record<string, number | string>): LowerBatch => ({
    changes: editRunFile(
      text,
      Object.entries(values).map(([key, value]) => ({ path: ["train", key], value })),
    ),
    summary: Object.entries(values)
      .map(([key, value]) => `${key} ${train[key as keyof typeof train]} → ${value}`)
      .join(", "),
  });
  if (train.batchSize > 1) {
    const batchSize = Math.floor(train.batchSize / 2);
    return set({ batchSize, gradientAccumulation: Math.ceil((train.batchSize * train.gradientAccumulation) / batchSize) });
  }
  if (train.recompute === "none") return set({ recompute: "layer" });
  return train.sequenceLength >= 32 ? set({ sequenceLength: Math.floor(train.sequenceLength / 2) }) : null;
}

/** A text with changes made, from its end so that earlier offsets stay true. */
export function withEdits(text: string, changes: readonly TextChange[]): string {
  return [...changes]
    .sort((a, b) => b.offset - a.offset)
    .reduce((all, { offset, length, text: put }) => all.slice(0, offset) + put + all.slice(offset + length), text);
}
