/**
 * What the extension host and the training panel say to each other by postMessage. The panel keeps nothing that the host cannot send again: it says `ready`,
 * gets one `hydrate` with all that is looked at first, when that is on the screen the rest of the run's history, and then changes. Types, and schemas for what
 * comes from the panel; no I/O.
 * The rules to keep: the host checks every message of the panel by these schemas; typed arrays cross as they are, never as JSON; of frames only the latest
 * waits, and the next one is sent when the panel has shown the last, or the whole that it began with (`frameShown`).
 */
import Type, { type Static } from "typebox";
import type { CardReport } from "./cardReading.ts";
import { blockPlaceSchema, type Cell, type HeatmapHeader } from "./coreProtocol.ts";
import type { RunEvent } from "./events.ts";
import type { ServiceResults } from "./serviceProtocol.ts";

/**
 * What is known of a run, for views and commands alike.
 * draft: a run file that was not started. starting: its process was asked for. interrupted: no process, not done, can be resumed. notResponding: silent for
 * 10 s. elsewhere: locked by another machine, or by a process that no register knows. restricted: the workspace is not trusted.
 */
export const runStates = [
  "draft",
  "starting",
  "opening",
  "running",
  "pausing",
  "paused",
  "waiting",
  "stopping",
  "stopped",
  "interrupted",
  "failed",
  "finished",
  "notResponding",
  "elsewhere",
  "restricted",
] as const;
export type RunState = (typeof runStates)[number];

/** A failure as people see it; `code` is stable, e.g. `data/no-usable-row`. */
export interface Failure {
  code: string;
  message: string;
  action: string;
  /** Where it lies, when it is a place in a file. */
  place: { file: string; line: number } | null;
}

/** Whom the lock of a run names where no register knows the process. Anybody may have written it: it is shown, and no process or socket is used. */
export interface LockHolder {
  pid: number;
  host: string;
  /** On this machine. */
  here: boolean;
  /** Absolute path of the lock. */
  file: string;
}

/** One run as the screen shows it, made anew from its folder and its core at any time. */
export interface RunView {
  /** Null for a draft. */
  runFolder: string | null;
  name: string;
  state: RunState;
  step: number;
  totalSteps: number;
  /** Scoring steps of the warm-up that is going on; null outside one. */
  warmup: { step: number; of: number } | null;
  /** How far LoRS has come with looking for the gradient's main directions; null outside that. */
  initialising: { done: number; of: number } | null;
  loss: number | null;
  /** Of the step's own progress; null while unknown. */
  remainingMs: number | null;
  failure: Failure | null;
  /** Last lines of the log of a core that crashed. */
  logTail: string[];
  pid: number | null;
  /** In state `elsewhere`, unless it is a core that does not let this window in. */
  holder: LockHolder | null;
  /** RAM of the machine the core runs on. */
  machineBytes: number;
}

/** The run file as the form shows it. */
export interface FormView {
  file: string;
  /** False for a started run: its run.yaml is a fact. */
  editable: boolean;
  /** The file's values with defaults filled in, as far as it can be read; what is wrong stays as it stands there. */
  values: Record<string, unknown>;
  /** Paths, joined by dots, that stand in the file; the others are defaults. */
  given: string[];
  problems: { path: string; message: string; line: number }[];
}

/** A plan, why there is none, or that it is being made. */
export type PlanView =
  | { kind: "plan"; plan: ServiceResults["plan"] }
  | { kind: "problem"; failure: Failure }
  | { kind: "planning" }
  | { kind: "none" };

export interface HeatmapFrame {
  header: HeatmapHeader;
  payload: Uint8Array;
}

/** Host → panel. */
export type ToPanel =
  | {
      kind: "hydrate";
      /** English text → text of the display language; see webview strings. */
      strings: Record<string, string>;
      run: RunView;
      form: FormView | null;
      plan: PlanView;
      /** As if the run had never been interrupted (see `history`), without the kinds in `chartedKinds`: those follow in at least one message of `events`. */
      events: RunEvent[];
      /** The latest of each kind. */
      frames: HeatmapFrame[];
      /** The graphics card's newest figures; null or left out where none are watched. */
      card?: CardReport | null;
    }
  | { kind: "run"; run: RunView }
  | { kind: "form"; form: FormView }
  | { kind: "plan"; plan: PlanView }
  | { kind: "events"; events: RunEvent[] }
  | { kind: "frame"; frame: HeatmapFrame }
  | { kind: "card"; card: CardReport | null }
  /** The answer to `readCell`; null when it could not be read, with the reason. */
  | { kind: "cell"; request: number; cell: Cell | null; reason: string };

/** What grows with every step of a run and is read in charts alone: of a long run tens of thousands, whose way to the panel takes longer than all the rest. */
export const chartedKinds: ReadonlySet<RunEvent["kind"]> = new Set(["step", "warmup", "evaluation", "memory", "card"]);

const closed = { additionalProperties: false };
const request = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });

/** What the panel's buttons do; each is a command of the palette too. */
export const panelActions = [
  "start",
  "pause",
  "resume",
  "stop",
  "kill",
  "showLog",
  "copyReport",
  "lowerBatch",
  "openAtLine",
  "openRunFile",
  "duplicate",
  "previewData",
  "evaluate",
  "tryModel",
  "export",
  "inspect",
  "newRun",
  "manageTrust",
  "installRuntime",
  "removeLock",
] as const;
export type PanelAction = (typeof panelActions)[number];

const formValue = Type.Union([
  Type.Null(),
  Type.Boolean(),
  Type.Number(),
  Type.String({ maxLength: 10_000 }),
  Type.Array(Type.Union([Type.String({ maxLength: 1000 }), Type.Number()]), { maxItems: 10_000 }),
]);

/** Panel → host. */
export const fromPanelSchemas = {
  ready: Type.Object({ kind: Type.Literal("ready") }, closed),
  action: Type.Object({ kind: Type.Literal("action"), action: Type.Enum([...panelActions]) }, closed),
  /** Sets keys of the run file in one undoable edit; `value` undefined (left out) takes the key out, so that its default holds. */
  edit: Type.Object(
    {
      kind: Type.Literal("edit"),
      changes: Type.Array(
        Type.Object({ path: Type.Array(Type.String({ maxLength: 100 }), { minItems: 1, maxItems: 5 }), value: Type.Optional(formValue) }, closed),
        { minItems: 1, maxItems: 200 },
      ),
    },
    closed,
  ),
  /** Opens a file or folder dialog for a path of the run file, and edits it. */
  browse: Type.Object({ kind: Type.Literal("browse"), path: Type.Enum(["model", "data.train", "data.eval"]) }, closed),
  frameShown: Type.Object({ kind: Type.Literal("frameShown") }, closed),
  readCell: Type.Object({ kind: Type.Literal("readCell"), request, ...blockPlaceSchema.properties }, closed),
  inspect: Type.Object({ kind: Type.Literal("inspect"), ...blockPlaceSchema.properties }, closed),
  /** Text (CSV) or a PNG's bytes in base64, to be saved where the person says. */
  save: Type.Object(
    {
      kind: Type.Literal("save"),
      name: Type.String({ pattern: "^[A-Za-z0-9._-]{1,80}\\.(csv|png)$" }),
      content: Type.String({ maxLength: 1 << 26 }),
      encoding: Type.Enum(["text", "base64"]),
    },
    closed,
  ),
  /** Something went wrong in the panel: for the log. */
  problem: Type.Object({ kind: Type.Literal("problem"), message: Type.String({ maxLength: 10_000 }) }, closed),
};

export type FromPanel = { [Kind in keyof typeof fromPanelSchemas]: Static<(typeof fromPanelSchemas)[Kind]> }[keyof typeof fromPanelSchemas];
