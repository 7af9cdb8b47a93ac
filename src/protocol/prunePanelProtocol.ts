/**
 * What the extension host and the pruning view say to each other by postMessage: one pruning while it runs and when it has ended, or the report of an earlier
 * one. The view keeps nothing that the host cannot send again: it says `ready`, gets one `hydrate`, then changes. Types, and schemas for what comes from the
 * view; no I/O.
 * The rule to keep: the host checks every message of the view by these schemas.
 */
import Type, { type Static } from "typebox";
import type { Failure } from "./panelProtocol.ts";
import type { PrunedMatrix, PruningGrouping, PruningMethod, PruningProgress } from "./pruning.ts";

/** report: of an earlier pruning, read from its folder. */
export type PruneState = "running" | "done" | "cancelled" | "failed" | "report";

/** A pruning as the screen shows it. */
export interface PruneView {
  state: PruneState;
  /** Name of the base's folder. */
  base: string;
  method: PruningMethod;
  /** A share of all weights (`0.5`), or `n:m`. */
  pattern: string;
  /** Where the lowest scores are looked for, when that was chosen. */
  grouping: PruningGrouping | null;
  /** Whether channels are put into an order first in which an n:m pattern keeps more. */
  permuted: boolean;
  /** What it is calibrated on: the file's name, with windows and tokens once they were counted; null for nothing. */
  calibration: { file: string; samples: number; tokens: number | null } | null;
  /** Where the pruned model is, or will be, written. */
  folder: string;
  /** The newest report of how far it is; null before the first, and for an earlier pruning. */
  progress: Omit<PruningProgress, "finished"> | null;
  /** Those that are done, in their order. */
  matrices: PrunedMatrix[];
  /** Over all matrices; null before all are done. */
  total: { zeros: number; entries: number } | null;
  failure: Failure | null;
  /** What there is to know of it, as sentences; of an earlier pruning nothing is kept. */
  notes: string[];
}

/** Host → view. */
export type ToPrune =
  | { kind: "hydrate" /** English text → text of the display language; see webview strings. */; strings: Record<string, string>; view: PruneView }
  /** How far it is, with what was finished since. */
  | { kind: "progress"; progress: PruningProgress }
  | { kind: "notes"; notes: string[] }
  /** It has ended; `view` holds everything. */
  | { kind: "ended"; view: PruneView };

const closed = { additionalProperties: false };

/** startRun: a run file for LoRS on the pruned model. again: the questions of Prune Model once more. */
export const pruneActions = ["cancel", "startRun", "reveal", "again", "showLog"] as const;
export type PruneAction = (typeof pruneActions)[number];

/** View → host. */
export const fromPruneSchemas = {
  ready: Type.Object({ kind: Type.Literal("ready") }, closed),
  action: Type.Object({ kind: Type.Literal("action"), action: Type.Enum([...pruneActions]) }, closed),
  /** The table as CSV, to be saved where the person says. */
  save: Type.Object(
    {
      kind: Type.Literal("save"),
      name: Type.String({ pattern: "^[A-Za-z0-9._-]{1,80}\\.csv$" }),
      content: Type.String({ maxLength: 1 << 24 }),
      encoding: Type.Literal("text"),
    },
    closed,
  ),
  /** Something went wrong in the view: for the log. */
  problem: Type.Object({ kind: Type.Literal("problem"), message: Type.String({ maxLength: 10_000 }) }, closed),
};
export type FromPrune = { [Kind in keyof typeof fromPruneSchemas]: Static<(typeof fromPruneSchemas)[Kind]> }[keyof typeof fromPruneSchemas];
