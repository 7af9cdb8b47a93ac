/**
 * What the extension host and the block inspector say to each other by postMessage. The inspector shows up to two blocks of one run side by side, each as
 * of a step: `now` is the live run at its next step boundary, or the newest checkpoint when none is live.
 * The rules to keep: the host checks every message of the inspector by these schemas; every request gets one answer; only windows of values cross.
 */
import Type, { type Static } from "typebox";
import { type Analysis, type BlockPlace, blockParts, blockPlaceSchema, type Cell, windowSchema } from "./coreProtocol.ts";
import type { SelectedBlock } from "./selection.ts";

const closed = { additionalProperties: false };
const request = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
export const stepChoiceSchema = Type.Union([Type.Literal("now"), Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 })]);
/** `now`, or the step of a checkpoint. */
export type StepChoice = Static<typeof stepChoiceSchema>;

const block = { ...blockPlaceSchema.properties, at: stepChoiceSchema };
const part = Type.Enum([...blockParts]);

/** Inspector → host. */
export const fromInspectorSchemas = {
  ready: Type.Object({ kind: Type.Literal("ready") }, closed),
  /** Window of values, with statistics of the whole block at the same step where they are asked for; the answer is `values` or `missing`. */
  readWindow: Type.Object({ kind: Type.Literal("readWindow"), request, ...block, part, window: windowSchema, analyze: Type.Boolean() }, closed),
  /** Score, rank and magnitudes at every step that is known; the answer is `history`. */
  history: Type.Object({ kind: Type.Literal("history"), request, ...blockPlaceSchema.properties }, closed),
  /** One block and those around it in its matrix; the answer is `neighbours`. */
  neighbours: Type.Object({ kind: Type.Literal("neighbours"), request, ...block }, closed),
  /** Puts a block's values on the clipboard (csv) or into a file the person names (npy). */
  copy: Type.Object({ kind: Type.Literal("copy"), ...block, part, format: Type.Enum(["csv", "npy"]) }, closed),
  /** Opens the quick pick of the ranked list for a side. */
  pick: Type.Object({ kind: Type.Literal("pick"), side: Type.Enum(["left", "right"]) }, closed),
  problem: Type.Object({ kind: Type.Literal("problem"), message: Type.String({ maxLength: 10_000 }) }, closed),
};
export type FromInspector = {
  [Kind in keyof typeof fromInspectorSchemas]: Static<(typeof fromInspectorSchemas)[Kind]>;
}[keyof typeof fromInspectorSchemas];

/** Host → inspector. */
export type ToInspector =
  | {
      kind: "hydrate";
      strings: Record<string, string>;
      runName: string;
      blockSize: number;
      /** A core works on the run: `now` moves. */
      live: boolean;
      /** Steps of the checkpoints that can be looked at, oldest first. */
      steps: number[];
      /** In rank order, the first 10,000. */
      selected: SelectedBlock[];
      left: BlockPlace & { at: StepChoice };
      right: (BlockPlace & { at: StepChoice }) | null;
    }
  /** A block was picked for a side. */
  | { kind: "show"; side: "left" | "right"; block: BlockPlace }
  /** The live run has come to another step, or has ended; `now` may be read again. */
  | { kind: "moved"; live: boolean; step: number; steps: number[] }
  | {
      kind: "values";
      request: number;
      step: number;
      rows: number;
      columns: number;
      blockRows: number;
      blockColumns: number;
      /** Row-major. */
      values: Float32Array;
      /** Null for a block that is too large; undefined where it was not asked for. */
      analysis?: Analysis | null;
      analysisMs?: number;
    }
  | { kind: "history"; request: number; cells: Cell[] }
  /** Cells of the 3 × 3 blocks around one, row-major; null outside the matrix. */
  | { kind: "neighbours"; request: number; cells: (Cell | null)[] }
  /** What was not kept or could not be read, and why. */
  | { kind: "missing"; request: number; step: number | null; reason: string };
