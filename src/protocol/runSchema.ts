/**
 * The schema of a run file: what may stand in it, its defaults and bounds, and a sentence on each key. The type `RunConfig` is derived from it, runConfig.ts
 * validates with it, and media/run.schema.json (completion and hover in editors) is printed from it, so the three cannot disagree.
 * It knows no file and no model: what depends on them is refused later, by name.
 * The rule to keep: every key but `model` and `data.train` has a default, and null means "not limited" or "off".
 */
import Type, { type Static, type TSchema } from "typebox";

const closed = { additionalProperties: false };
const count = (description: string, defaultValue: number, minimum = 1, maximum = 1e9) =>
  Type.Integer({ minimum, maximum, default: defaultValue, description });
const countOrNull = (description: string, defaultValue: number | null = null) =>
  Type.Union([Type.Integer({ minimum: 1, maximum: 1e15 }), Type.Null()], { default: defaultValue, description });
const flag = (description: string, defaultValue: boolean) => Type.Boolean({ default: defaultValue, description });

/** Layouts of a data row; `auto` looks at the first rows. */
export const dataFormats = ["auto", "promptCompletion", "alpaca", "questionAnswer", "chat", "text"] as const;

/** What a block's importance is; METHODS names them the same way. */
export const scoreNames = [
  "meanOfAbs",
  "absOfAccumulated",
  "absOfMean",
  "magnitude",
  "lowRankMagnitude",
  "activation",
  "random",
  "diagonal",
] as const;

/** Over what blocks are ranked against each other. */
export const selectionScopes = ["global", "perMatrix", "perKind"] as const;

const data = Type.Object(
  {
    train: Type.String({ minLength: 1, description: "Training rows: a .jsonl, .json, .csv or .txt file." }),
    eval: Type.Union([Type.String({ minLength: 1 }), Type.Null()], { default: null, description: "Held-out rows, or null for no evaluation." }),
    format: Type.Enum([...dataFormats], { default: "auto", description: "Layout of the rows; auto recognises it from the first ones." }),
    template: Type.String({
      minLength: 1,
      default: "auto",
      description: "Chat template: auto (the model's own), none, a .jinja file, or the template itself.",
    }),
    maxRows: countOrNull("Use at most this many training rows; null uses all."),
    trainOnPrompt: flag("Count prompt tokens in the loss, not only the response.", false),
    packing: flag("Put several documents into one row; attention never crosses from one to another.", true),
  },
  { ...closed, description: "What is trained on." },
);

const warmup = Type.Object(
  {
    steps: count("Micro-batches, or updates, that score the blocks before they are chosen.", 100, 0, 1e6),
    update: flag("Train the whole model during the warm-up, as the paper does; needs full fine-tuning's memory.", false),
  },
  { ...closed, default: {}, description: "How blocks are scored before training." },
);

const targets = (what: string) =>
  Type.Union([Type.Literal("auto"), Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: 10000, uniqueItems: true })], {
    default: "auto",
    description: `${what}: auto is q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.`,
  });
const rank = (defaultValue: number) => count("Rank of each adapter.", defaultValue, 1, 65536);
const alpha = (defaultValue: number, scale: string) =>
  Type.Number({ exclusiveMinimum: 0, maximum: 1e6, default: defaultValue, description: `The adapter counts ${scale} times.` });
const dropout = Type.Number({ minimum: 0, exclusiveMaximum: 1, default: 0, description: "Share of the adapter's inputs that is dropped." });

const smt = Type.Object(
  {
    name: Type.Literal("smt"),
    ratio: Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: 1 }), Type.Null()], {
      default: null,
      description: "Share of the model's 2-D parameters to train; 0.0084 where neither blocks nor trainableParameters is given.",
    }),
    blocks: countOrNull("Number of blocks to train, instead of ratio."),
    trainableParameters: countOrNull("Number of parameters to train, instead of ratio."),
    blockSize: Type.Union([Type.Literal("auto"), Type.Integer({ minimum: 1, maximum: 65536 })], {
      default: "auto",
      description:
        "Side of a block; auto is the largest power of two up to 256 that divides every target, for the score diagonal the one at which whole diagonals come nearest to the budget.",
    }),
    targets: targets("Matrices to choose from"),
    score: Type.Enum([...scoreNames], { default: "meanOfAbs", description: "What makes a block important." }),
    selection: Type.Union([Type.Enum([...selectionScopes]), Type.String({ pattern: "\\.json$" })], {
      default: "global",
      description: "Rank blocks over the whole model, per matrix, or per kind of matrix; or take the blocks of a selection.json.",
    }),
    warmup,
    reselectEvery: countOrNull("Choose the blocks anew every so many updates; null keeps the first choice."),
  },
  { ...closed, description: "Sparse Matrix Tuning: train only the most important blocks." },
);

const full = Type.Object(
  {
    name: Type.Literal("full"),
    sparse: Type.Enum(["ignore", "keep"], { default: "ignore", description: "keep: weights that are zero stay zero, for a pruned model." }),
  },
  { ...closed, description: "Train every weight." },
);

const lors = Type.Object(
  {
    name: Type.Literal("lors"),
    rank: rank(16),
    alpha: alpha(16, "alpha / √rank"),
    targets: targets("Matrices that get an adapter"),
    gradient: Type.Enum(["ste", "exact"], {
      default: "ste",
      description: "ste: the paper's straight-through gradient, cheap; exact: the mask counts in backward too.",
    }),
    init: Type.Enum(["gradientSvd", "kaiming"], {
      default: "gradientSvd",
      description: "Start of B: the main directions of the gradient, or random.",
    }),
    initSamples: count("Training rows whose gradient gradientSvd looks at.", 128, 1, 1e6),
  },
  { ...closed, description: "LoRS: low-rank adapters that keep a pruned model's zeros." },
);

const lowRank = {
  rank: rank(16),
  alpha: alpha(32, "alpha / rank"),
  dropout,
  rankStabilized: flag("Scale by alpha / √rank instead of alpha / rank.", false),
  targets: targets("Matrices that get an adapter"),
  ranks: Type.Record(Type.String(), Type.Integer({ minimum: 1, maximum: 65536 }), {
    default: {},
    description: "Another rank for some matrices: by kind (q_proj) or by name (model.layers.3.self_attn.q_proj).",
  }),
};
const lora = Type.Object({ name: Type.Literal("lora"), ...lowRank }, { ...closed, description: "LoRA: dense low-rank adapters." });
const dora = Type.Object(
  {
    name: Type.Literal("dora"),
    ...lowRank,
    normGradient: Type.Enum(["detached", "full"], { default: "detached", description: "Whether the row norms' gradient counts." }),
  },
  { ...closed, description: "DoRA: LoRA with a trained length of each weight row." },
);

const spp = Type.Object(
  {
    name: Type.Literal("spp"),
    groups: count("Groups of rows that share scales; must divide each target's rows.", 16, 1, 65536),
    scaling: Type.Number({ exclusiveMinimum: 0, maximum: 1e6, default: 2, description: "The adapter counts so many times." }),
    dropout,
    targets: targets("Matrices that get an adapter"),
  },
  { ...closed, description: "SPP: scales each remaining weight of a pruned model by row and column." },
);

const sqft = Type.Object(
  {
    name: Type.Literal("sqft"),
    rank: rank(32),
    alpha: alpha(64, "alpha / rank"),
    dropout,
    neuralSearch: Type.Union([Type.Array(Type.Integer({ minimum: 1, maximum: 65536 }), { minItems: 1, maxItems: 16 }), Type.Null()], {
      default: null,
      description: "Ranks that each layer draws from at each step, such as [32, 24, 16]; null always uses rank.",
    }),
    quantize: Type.Union([Type.Object({ groupSize: count("Input columns of a group.", 128, 1, 65536) }, closed), Type.Null()], {
      default: null,
      description: "Train against a base of 4-bit weights, quantised in groups; null leaves it as it is.",
    }),
    targets: targets("Matrices that get an adapter"),
  },
  { ...closed, description: "SQFT: low-rank adapters under the base's mask." },
);

const train = Type.Object(
  {
    steps: countOrNull("Updates after the warm-up; 500 where epochs is not given."),
    epochs: Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: 1e6 }), Type.Null()], {
      default: null,
      description: "Passes over the training data, instead of steps.",
    }),
    batchSize: count("Rows of a micro-batch.", 4, 1, 65536),
    sequenceLength: count("Tokens of a row.", 512, 2, 1 << 20),
    gradientAccumulation: count("Micro-batches of one update.", 1, 1, 65536),
    learningRate: Type.Number({ minimum: 0, maximum: 10, default: 1e-4, description: "Highest learning rate." }),
    schedule: Type.Enum(["constant", "linear", "cosine"], { default: "cosine", description: "How the learning rate falls after its warm-up." }),
    learningRateWarmupSteps: count("Updates over which the learning rate rises linearly.", 20, 0),
    minLearningRate: Type.Number({ minimum: 0, maximum: 10, default: 0, description: "Learning rate at the last update." }),
    betas: Type.Tuple([Type.Number({ minimum: 0, exclusiveMaximum: 1 }), Type.Number({ minimum: 0, exclusiveMaximum: 1 })], {
      default: [0.9, 0.95],
      description: "AdamW's decay of the first and second moment.",
    }),
    epsilon: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 1e-8, description: "AdamW's epsilon." }),
    weightDecay: Type.Number({ minimum: 0, maximum: 10, default: 0, description: "Decoupled weight decay, on every trained tensor." }),
    clipGradNorm: Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: 1e9 }), Type.Null()], {
      default: 1,
      description: "Largest L2 norm of the gradient, or null for no clipping.",
    }),
    seed: count("Seed of the data order and of random choices.", 1, 0, 0xffffffff),
    precision: Type.Enum(["f32", "bf16"], { default: "bf16", description: "Storage of frozen weights and activations; sums are f32 in both." }),
    recompute: Type.Enum(["none", "layer"], {
      default: "none",
      description: "Recompute each layer in backward: less memory, more time, the same losses.",
    }),
  },
  { ...closed, default: {}, description: "How it is trained." },
);

const evaluate = Type.Object(
  {
    every: countOrNull("Evaluate every so many updates; null only at the start and the end.", 50),
    rows: countOrNull("Rows of the held-out file to use; null uses all.", 200),
    earlyStopping: countOrNull("Stop after so many evaluations without improvement."),
  },
  { ...closed, default: {}, description: "When the held-out rows are evaluated." },
);

const checkpoint = Type.Object(
  {
    every: countOrNull("Save every so many updates; null only at the end or when stopped.", 100),
    keep: count("Checkpoints to keep.", 2, 1, 10000),
  },
  { ...closed, default: {}, description: "When the run is saved." },
);

/** The schema of a run file. */
export const runSchema = Type.Object(
  {
    model: Type.String({ minLength: 1, description: "Folder of a Hugging Face model: config.json, tokenizer.json, safetensors." }),
    data,
    method: Type.Union([smt, full, lors, lora, dora, spp, sqft], {
      default: { name: "smt" },
      description: "What is trained: method.name is smt, full, lors, lora, dora, spp or sqft.",
    }),
    train,
    evaluate,
    checkpoint,
    device: Type.Enum(["auto", "cpu", "webgpu", "tensorflow"], {
      default: "auto",
      description: "What computes; auto takes a graphics card that computes right, else the cpu.",
    }),
    threads: Type.Union([Type.Literal("auto"), Type.Integer({ minimum: 1, maximum: 1024 })], {
      default: "auto",
      description: "Threads of the cpu device.",
    }),
    output: Type.String({ minLength: 1, default: ".sparse-tuner/runs", description: "Folder that holds run folders." }),
  },
  closed,
);

/** A run file as resolved: every key present. */
export type RunConfig = Static<typeof runSchema>;
export type MethodConfig = RunConfig["method"];
export type SmtConfig = Extract<MethodConfig, { name: "smt" }>;
/** Methods whose parameters stand beside frozen weights. */
export type AdapterConfig = Exclude<MethodConfig, { name: "smt" | "full" }>;
export type DataConfig = RunConfig["data"];
export type TrainConfig = RunConfig["train"];

/** The schema as a JSON Schema of the file: a key with a default need not stand there. */
export function runJsonSchema(): object {
  const plain = JSON.parse(JSON.stringify(runSchema));
  withoutDefaultedRequirements(plain);
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Sparse Tuner run file",
    description: "What `sparse-tuner train` reads. Relative paths count from the file's folder.",
    ...plain,
  };
}

function withoutDefaultedRequirements(
  schema: TSchema & { required?: string[]; properties?: Record<string, TSchema & { default?: unknown }>; anyOf?: TSchema[] },
): void {
  const { properties, required } = schema;
  if (properties && required) schema.required = required.filter((key) => !("default" in properties[key]));
  for (const child of [...Object.values(properties ?? {}), ...(schema.anyOf ?? [])]) withoutDefaultedRequirements(child);
}
