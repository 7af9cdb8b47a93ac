/**
 * What a pruning says while it runs and what it leaves beside the pruned model (`pruning.json`). Schemas that are also the types; no I/O.
 * The rule to keep: errors and counts are measured on the matrices that were written.
 */
import Type, { type Static } from "typebox";

const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });

export const pruningMethods = ["magnitude", "wanda", "sparsegpt", "ria"] as const;
export type PruningMethod = (typeof pruningMethods)[number];

/** Where the lowest scores of a share are looked for: in the whole matrix, or in each of its rows. */
export const pruningGroupings = ["matrix", "row"] as const;
export type PruningGrouping = (typeof pruningGroupings)[number];

/** A share of all weights (0.5), or n:m, such as 2:4: n zeros in every m neighbouring input columns. */
export const patternText = Type.String({ pattern: "^(0?\\.[0-9]{1,6}|[1-9][0-9]?:[1-9][0-9]?)$" });

/** A pattern as people read it: `2:4`, or `50 %`. */
export function patternTitle(pattern: string): string {
  return pattern.includes(":") ? pattern : `${percentOf(pattern)} %`;
}

/** 50 of `0.5`, without the noise of binary fractions. */
export function percentOf(share: string): number {
  return Number((Number(share) * 100).toPrecision(6));
}

/** One matrix as it was pruned. */
export const prunedMatrixSchema = Type.Object({
  /** Hugging Face name without `.weight`. */
  name: Type.String(),
  layer: count,
  projection: Type.String(),
  zeros: count,
  entries: count,
  /** ‖X(W − Ŵ)ᵀ‖ / ‖X·Wᵀ‖ over the calibration tokens; null where none were run. */
  error: Type.Union([Type.Number(), Type.Null()]),
});
export type PrunedMatrix = Static<typeof prunedMatrixSchema>;

/** Sent at most a few times a second. */
export const pruningProgressSchema = Type.Object({
  stage: Type.Enum(["loading", "permuting", "calibrating", "pruning", "writing"]),
  layer: count,
  layers: count,
  /** 0 to 1, over everything. */
  done: Type.Number(),
  /** Null before it can be known. */
  remainingMs: Type.Union([Type.Number(), Type.Null()]),
  /** Matrices finished since the last report. */
  finished: Type.Array(prunedMatrixSchema),
});
export type PruningProgress = Static<typeof pruningProgressSchema>;

/** What there is to know before the work begins, as sentences: sent once, if there is any. */
export const pruningNotesSchema = Type.Object({ notes: Type.Array(Type.String(), { maxItems: 100 }) });
export type PruningNotes = Static<typeof pruningNotesSchema>;

export const pruningReportSchema = Type.Object({
  method: Type.Enum([...pruningMethods]),
  pattern: Type.String(),
  /** `row` where RIA looked for the lowest scores of each row. */
  grouping: Type.Optional(Type.Enum([...pruningGroupings])),
  /** Channels were put into another order before, throughout the model, so that n:m patterns keep more. */
  permuted: Type.Optional(Type.Boolean()),
  /** Name of the base's folder, its hash, and what it was calibrated on; no path of a machine. */
  base: Type.String(),
  baseSha256: Type.String(),
  calibration: Type.Union([Type.Object({ file: Type.String(), samples: count, tokens: count, seed: count }), Type.Null()]),
  matrices: Type.Array(prunedMatrixSchema),
  zeros: count,
  entries: count,
});
export type PruningReport = Static<typeof pruningReportSchema>;
