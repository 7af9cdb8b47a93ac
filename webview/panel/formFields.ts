/**
 * The form's fields: which keys of a run file it shows, under which words, and how each is entered. A table; it reads no file and draws nothing.
 * The rule to keep: choices are the run file's own words, and a test compares them with the run file's schema.
 */
import { t } from "../strings.ts";

/** How a key is entered. `number`: an empty field takes the key out, or, with `emptyIsNull`, sets null, which such a key gives a meaning. */
export type FieldEntry =
  | { kind: "path" }
  | { kind: "number"; integer: boolean; emptyIsNull: boolean }
  | { kind: "choice"; choices: readonly (string | number)[] }
  | { kind: "method" | "budget" | "targets" };

export interface Field {
  /** Joined by dots, as in `FormView.given`. */
  path: string;
  label: () => string;
  /** A sentence under it. */
  hint?: () => string;
  entry: FieldEntry;
  /** False where the key must stand in the file, so that there is no default to go back to. */
  hasDefault: boolean;
  /** Only for this method. */
  method?: "smt" | "full";
}

export interface FieldGroup {
  title: () => string;
  fields: readonly Field[];
}

export const methodNames = ["smt", "full"] as const;

/** Projections of a layer, as `method.targets` names them. */
export const projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;

/** Ways to say how much is trained; they exclude each other. */
export const budgetKeys = ["ratio", "blocks", "trainableParameters"] as const;
export type BudgetKey = (typeof budgetKeys)[number];

/** Ratios of the slider. 0.0084 is the smallest of the method's paper. */
export const ratioSteps = [0.0005, 0.001, 0.002, 0.005, 0.0084, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1] as const;

const count = { kind: "number", integer: true, emptyIsNull: false } as const;
const real = { kind: "number", integer: false, emptyIsNull: false } as const;
const countOrOff = { kind: "number", integer: true, emptyIsNull: true } as const;
const choice = (...choices: (string | number)[]) => ({ kind: "choice", choices }) as const;

const data: FieldGroup = {
  title: () => t("Model and data"),
  fields: [
    { path: "model", label: () => t("Model folder"), entry: { kind: "path" }, hasDefault: false },
    { path: "data.train", label: () => t("Training data"), entry: { kind: "path" }, hasDefault: false },
    {
      path: "data.eval",
      label: () => t("Held-out data"),
      hint: () => t("Empty: the run is not evaluated."),
      entry: { kind: "path" },
      hasDefault: true,
    },
  ],
};

const method: FieldGroup = {
  title: () => t("What is trained"),
  fields: [
    { path: "method.name", label: () => t("Method"), entry: { kind: "method" }, hasDefault: true },
    { path: "method.ratio", label: () => t("Budget"), entry: { kind: "budget" }, hasDefault: true, method: "smt" },
    {
      path: "method.blockSize",
      label: () => t("Block size"),
      hint: () => t("Side of a block; auto: the largest power of two up to 256 that divides every matrix."),
      entry: choice("auto", 16, 32, 64, 128, 256),
      hasDefault: true,
      method: "smt",
    },
    { path: "method.targets", label: () => t("Matrices to choose from"), entry: { kind: "targets" }, hasDefault: true, method: "smt" },
    {
      path: "method.score",
      label: () => t("Score of a block"),
      entry: choice("meanOfAbs", "absOfAccumulated", "absOfMean", "magnitude", "lowRankMagnitude", "activation", "random", "diagonal"),
      hasDefault: true,
      method: "smt",
    },
    {
      path: "method.selection",
      label: () => t("Blocks compete"),
      hint: () => t("global: over the whole model; perMatrix: within each matrix; perKind: among matrices of one kind."),
      entry: choice("global", "perMatrix", "perKind"),
      hasDefault: true,
      method: "smt",
    },
    { path: "method.warmup.steps", label: () => t("Warm-up steps"), entry: count, hasDefault: true, method: "smt" },
  ],
};

const train: FieldGroup = {
  title: () => t("Training"),
  fields: [
    { path: "train.steps", label: () => t("Steps"), entry: count, hasDefault: true },
    { path: "train.batchSize", label: () => t("Batch size"), entry: count, hasDefault: true },
    { path: "train.sequenceLength", label: () => t("Sequence length"), entry: count, hasDefault: true },
    { path: "train.gradientAccumulation", label: () => t("Gradient accumulation"), entry: count, hasDefault: true },
    { path: "train.learningRate", label: () => t("Learning rate"), entry: real, hasDefault: true },
    { path: "train.schedule", label: () => t("Learning rate schedule"), entry: choice("constant", "linear", "cosine"), hasDefault: true },
    { path: "train.precision", label: () => t("Precision"), entry: choice("f32", "bf16"), hasDefault: true },
    {
      path: "train.recompute",
      label: () => t("Recompute in backward"),
      hint: () => t("layer: less memory, more time, the same losses."),
      entry: choice("none", "layer"),
      hasDefault: true,
    },
    { path: "train.seed", label: () => t("Seed"), entry: count, hasDefault: true },
  ],
};

const rhythm: FieldGroup = {
  title: () => t("Evaluation, checkpoints, device"),
  fields: [
    {
      path: "evaluate.every",
      label: () => t("Evaluate every so many steps"),
      hint: () => t("Empty: only at the start and the end."),
      entry: countOrOff,
      hasDefault: true,
    },
    {
      path: "checkpoint.every",
      label: () => t("Save every so many steps"),
      hint: () => t("Empty: only at the end or when stopped."),
      entry: countOrOff,
      hasDefault: true,
    },
    { path: "device", label: () => t("Device"), entry: choice("auto", "cpu", "webgpu", "tensorflow"), hasDefault: true },
  ],
};

/** All fields, in the order of the screen. */
export const fieldGroups: readonly FieldGroup[] = [data, method, train, rhythm];
