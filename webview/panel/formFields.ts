/**
 * The form's fields: which keys of a run file it shows, under which words, and how each is entered. A table; it reads no file and draws nothing.
 * The rule to keep: choices are the run file's own words, and a test compares them with the run file's schema.
 */
import { t } from "../strings.ts";

/**
 * How a key is entered. `number`: an empty field takes the key out (with `section` the mapping around it), or, with `emptyIsNull`, sets null, which such a
 * key gives a meaning. `numbers` is a list of whole numbers, `ranks` a mapping of names to ranks; both are text with commas.
 */
export type FieldEntry =
  | { kind: "path" | "numbers" | "ranks" }
  | { kind: "number"; integer: boolean; emptyIsNull: boolean; section?: string }
  | { kind: "choice"; choices: readonly (string | number | boolean)[] }
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
  /** Only for these methods. */
  methods?: readonly MethodName[];
}

export interface FieldGroup {
  title: () => string;
  fields: readonly Field[];
}

/** As `method.name` says them, in the order that people choose from. */
export const methodNames = ["smt", "lors", "lora", "dora", "spp", "sqft", "full"] as const;
export type MethodName = (typeof methodNames)[number];

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
const choice = (...choices: (string | number | boolean)[]) => ({ kind: "choice", choices }) as const;

const smt = ["smt"] as const;
const lors = ["lors"] as const;
const lowRank = ["lora", "dora"] as const;
const ranked = ["lors", "lora", "dora", "sqft"] as const;
const dropping = ["lora", "dora", "spp", "sqft"] as const;

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

const blocks: readonly Field[] = [
  { path: "method.ratio", label: () => t("Budget"), entry: { kind: "budget" }, hasDefault: true, methods: smt },
  {
    path: "method.blockSize",
    label: () => t("Block size"),
    hint: () => t("Side of a block; auto: the largest power of two up to 256 that divides every matrix."),
    entry: choice("auto", 16, 32, 64, 128, 256),
    hasDefault: true,
    methods: smt,
  },
  {
    path: "method.score",
    label: () => t("Score of a block"),
    entry: choice("meanOfAbs", "absOfAccumulated", "absOfMean", "magnitude", "lowRankMagnitude", "activation", "random", "diagonal"),
    hasDefault: true,
    methods: smt,
  },
  {
    path: "method.selection",
    label: () => t("Blocks compete"),
    hint: () => t("global: over the whole model; perMatrix: within each matrix; perKind: among matrices of one kind."),
    entry: choice("global", "perMatrix", "perKind"),
    hasDefault: true,
    methods: smt,
  },
  { path: "method.warmup.steps", label: () => t("Warm-up steps"), entry: count, hasDefault: true, methods: smt },
  {
    path: "method.warmup.update",
    label: () => t("Train in the warm-up"),
    hint: () => t("true: as in the paper; takes full fine-tuning's memory."),
    entry: choice(false, true),
    hasDefault: true,
    methods: smt,
  },
  {
    path: "method.reselectEvery",
    label: () => t("Choose blocks anew every so many steps"),
    hint: () => t("Empty: the first choice stays."),
    entry: countOrOff,
    hasDefault: true,
    methods: smt,
  },
];

const adapters: readonly Field[] = [
  {
    path: "method.rank",
    label: () => t("Rank"),
    hint: () => t("Of each adapter: more trains more."),
    entry: count,
    hasDefault: true,
    methods: ranked,
  },
  {
    path: "method.alpha",
    label: () => t("Alpha"),
    hint: () => t("The adapter counts alpha / rank times; with lors and rankStabilized alpha / √rank."),
    entry: real,
    hasDefault: true,
    methods: ranked,
  },
  {
    path: "method.groups",
    label: () => t("Groups of rows"),
    hint: () => t("Rows of a group share their column scales; must divide the rows of each matrix."),
    entry: count,
    hasDefault: true,
    methods: ["spp"],
  },
  {
    path: "method.scaling",
    label: () => t("Scaling"),
    hint: () => t("The adapter counts so many times."),
    entry: real,
    hasDefault: true,
    methods: ["spp"],
  },
  { path: "method.dropout", label: () => t("Dropout"), hint: () => t("From 0 to below 1."), entry: real, hasDefault: true, methods: dropping },
  { path: "method.rankStabilized", label: () => t("Rank-stabilised scale"), entry: choice(false, true), hasDefault: true, methods: lowRank },
  {
    path: "method.ranks",
    label: () => t("Other ranks"),
    hint: () => t("By kind or by name, such as q_proj: 8, v_proj: 32. Empty: one rank for all."),
    entry: { kind: "ranks" },
    hasDefault: true,
    methods: lowRank,
  },
  {
    path: "method.normGradient",
    label: () => t("Gradient of the row norms"),
    entry: choice("detached", "full"),
    hasDefault: true,
    methods: ["dora"],
  },
  {
    path: "method.gradient",
    label: () => t("Gradient"),
    hint: () => t("ste: the paper's, cheap; exact: the mask counts in backward too."),
    entry: choice("ste", "exact"),
    hasDefault: true,
    methods: lors,
  },
  {
    path: "method.init",
    label: () => t("Start of the adapters"),
    hint: () => t("gradientSvd: the main directions of the gradient, found before the first step."),
    entry: choice("gradientSvd", "kaiming"),
    hasDefault: true,
    methods: lors,
  },
  {
    path: "method.initSamples",
    label: () => t("Rows that gradientSvd looks at"),
    entry: count,
    hasDefault: true,
    methods: lors,
  },
  {
    path: "method.neuralSearch",
    label: () => t("Ranks drawn at each step"),
    hint: () => t("Such as 32, 24, 16. Empty: always the rank above."),
    entry: { kind: "numbers" },
    hasDefault: true,
    methods: ["sqft"],
  },
  {
    path: "method.quantize.groupSize",
    label: () => t("4-bit base: columns of a group"),
    hint: () => t("Empty: the base is not quantised. Usual: 128."),
    entry: { ...count, section: "method.quantize" },
    hasDefault: true,
    methods: ["sqft"],
  },
];

const method: FieldGroup = {
  title: () => t("What is trained"),
  fields: [
    {
      path: "method.name",
      label: () => t("Method"),
      hint: () => t("On a pruned model, lors, spp, sqft and full with sparse: keep leave its zeros zero."),
      entry: { kind: "method" },
      hasDefault: true,
    },
    ...blocks,
    ...adapters,
    {
      path: "method.targets",
      label: () => t("Matrices"),
      hint: () => t("smt chooses its blocks out of them; the other methods give each of them an adapter."),
      entry: { kind: "targets" },
      hasDefault: true,
      methods: ["smt", "lors", "lora", "dora", "spp", "sqft"],
    },
    {
      path: "method.sparse",
      label: () => t("Zeros of a pruned model"),
      hint: () => t("keep: weights that are zero stay zero."),
      entry: choice("ignore", "keep"),
      hasDefault: true,
      methods: ["full"],
    },
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
