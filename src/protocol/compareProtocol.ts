/**
 * What the extension host and the Compare Runs view say to each other by postMessage. The view keeps nothing that the host cannot send again: it says `ready`,
 * gets one `hydrate`, then the whole of what it shows whenever that has changed. Types, and schemas for what comes from the view; no I/O.
 * The rule to keep: the host checks every message of the view by these schemas; runs are named by ids that the host gave out, never by paths.
 */
import Type, { type Static } from "typebox";
import type { ComparisonLine, ComparisonProgress } from "./compareResults.ts";
import type { RunState } from "./panelProtocol.ts";

/** Values at steps. */
export interface Curve {
  steps: number[];
  values: number[];
}

/** One run beside others. What was not measured is null. */
export interface RunCard {
  id: string;
  name: string;
  method: string;
  state: RunState;
  trainableParameters: number | null;
  lossBefore: number | null;
  lossAfter: number | null;
  peakBytes: number | null;
  secondsPerStep: number | null;
  steps: number;
  training: Curve;
  heldOut: Curve;
}

/** What the view shows. */
export type CompareView =
  | { kind: "loading" }
  | { kind: "failed"; message: string; action: string }
  | { kind: "runs"; runs: RunCard[] }
  | {
      kind: "comparison";
      folder: string;
      name: string;
      lines: ComparisonLine[];
      progress: ComparisonProgress | null;
      /** A process works on it. */
      live: boolean;
      /** Starting and stopping is allowed. */
      trusted: boolean;
      /** What its last process ended with, where no line says it; empty otherwise. */
      failure: string;
    };

/** Host → view. */
export type ToCompare =
  | { kind: "hydrate"; strings: Record<string, string>; target: CompareTarget; view: CompareView }
  | { kind: "view"; view: CompareView };

/** What is compared: some runs, or a comparison's folder. Kept by the view over a reload of the window. */
export type CompareTarget = { runFolders: string[] } | { comparison: string };

const closed = { additionalProperties: false };

/** What the view's buttons do. */
export const compareActions = ["resume", "stop", "chooseRuns", "newComparison", "openTable", "reveal"] as const;
export type CompareAction = (typeof compareActions)[number];

const id = Type.String({ minLength: 1, maxLength: 200 });

/** View → host. */
export const fromCompareSchemas = {
  ready: Type.Object({ kind: Type.Literal("ready") }, closed),
  action: Type.Object({ kind: Type.Literal("action"), action: Type.Enum([...compareActions]) }, closed),
  /** Opens the training panel of a run. */
  openRun: Type.Object({ kind: Type.Literal("openRun"), id }, closed),
  openRunFile: Type.Object({ kind: Type.Literal("openRunFile"), id }, closed),
  /** Text (CSV, SVG) or a PNG's bytes in base64, to be saved where the person says. */
  save: Type.Object(
    {
      kind: Type.Literal("save"),
      name: Type.String({ pattern: "^[A-Za-z0-9._-]{1,80}\\.(csv|svg|png)$" }),
      content: Type.String({ maxLength: 1 << 26 }),
      encoding: Type.Enum(["text", "base64"]),
    },
    closed,
  ),
  /** Something went wrong in the view: for the log. */
  problem: Type.Object({ kind: Type.Literal("problem"), message: Type.String({ maxLength: 10_000 }) }, closed),
};

export type FromCompare = { [Kind in keyof typeof fromCompareSchemas]: Static<(typeof fromCompareSchemas)[Kind]> }[keyof typeof fromCompareSchemas];
