/**
 * The schema of a comparison: methods that are run on the same model and data, at the same budgets, each with the best learning rate of one grid, over
 * several seeds. Sections that a run file has too are the run file's own; what a comparison varies cannot be given in them.
 * The rule to keep: as in runSchema.ts, every key but `model`, `data` and `methods` has a default.
 */
import Type, { type Static, type TObject, type TProperties } from "typebox";
import { taskNames, taskScorings } from "./evaluationTasks.ts";
import { type MethodConfig, type RunConfig, runSchema } from "./runSchema.ts";

const closed = { additionalProperties: false };
const { model, data, method, train, evaluate, checkpoint, device, threads } = runSchema.properties;

/** A method of a run file, and what it is called in tables and charts. */
export type LabelledMethod = MethodConfig & { label: string | null };

const label = Type.Union([Type.String({ minLength: 1, maxLength: 40, pattern: "\\S" }), Type.Null()], {
  default: null,
  description: "What it is called in tables and charts; null takes the method's name.",
});

function labelled(branch: TObject<TProperties>) {
  const { name, ...others } = branch.properties;
  return Type.Object({ name, label, ...others }, { ...closed, description: (branch as { description?: string }).description });
}

const branches = (method.anyOf as TObject<TProperties>[]).map(labelled);
const { description: ofMethod } = method as { description?: string };
const methods = Type.Array(Type.Unsafe<LabelledMethod>(Type.Union(branches, { description: ofMethod })), {
  minItems: 1,
  maxItems: 50,
  description: "What is compared: each entry as method in a run file, with an optional label.",
});

const taskKeys = Type.Object(
  {
    name: Type.Enum([...taskNames], { description: "The test set." }),
    data: Type.String({ minLength: 1, description: "The test set's file, or a folder that holds test sets in the LLM-Adapters layout." }),
    rows: Type.Union([Type.Integer({ minimum: 1, maximum: 1e15 }), Type.Null()], {
      default: null,
      description: "Use the first so many rows of the test set; null uses all.",
    }),
    scoring: Type.Enum(["auto", ...taskScorings], {
      default: "auto",
      description: "How answers are found: auto is logLikelihood where the set offers answers, and generation for numbers.",
    }),
    batchSize: Type.Integer({ minimum: 1, maximum: 4096, default: 16, description: "Prompts that are worked on at once." }),
  },
  closed,
);
const task = Type.Union([taskKeys, Type.Null()], {
  default: null,
  description: "A test set on which the untrained model, and each method with its learning rate, are scored too; null for held-out loss alone.",
});

const { learningRate: _learningRate, seed: _seed, ...sharedTrain } = train.properties;

/** The schema of a comparison's file. */
export const compareSchema = Type.Object(
  {
    model,
    data: Type.Object(
      { ...data.properties, eval: Type.String({ minLength: 1, description: "Held-out rows: their loss is what methods are compared by." }) },
      { ...closed, description: "What is trained on, and what methods are compared on." },
    ),
    methods,
    budgets: Type.Array(Type.Integer({ minimum: 1, maximum: 1e15 }), {
      maxItems: 50,
      uniqueItems: true,
      default: [],
      description: "Numbers of trainable parameters that every method gets, as near as it can; none compares the methods as they are given.",
    }),
    learningRates: Type.Array(Type.Number({ exclusiveMinimum: 0, maximum: 10 }), {
      minItems: 1,
      maxItems: 50,
      uniqueItems: true,
      default: [1e-4, 3e-4, 1e-3, 3e-3],
      description: "Learning rates that are tried for each method and budget, with the first seed; the best by criterion is kept.",
    }),
    seeds: Type.Array(Type.Integer({ minimum: 0, maximum: 0xffffffff }), {
      minItems: 1,
      maxItems: 100,
      uniqueItems: true,
      default: [1, 2, 3],
      description: "Seeds that the best learning rate is run with; their mean and spread are the result.",
    }),
    train: Type.Object(sharedTrain, { ...closed, default: {}, description: "How all are trained: as in a run file, without learningRate and seed." }),
    evaluate,
    task,
    criterion: Type.Enum(["loss", "accuracy"], {
      default: "loss",
      description: "What learning rates are chosen by: the held-out loss, or the accuracy on the task.",
    }),
    checkpoint,
    keepCheckpoints: Type.Enum(["best", "all", "none"], {
      default: "best",
      description: "Checkpoints of finished runs: best keeps those at the learning rate that was chosen.",
    }),
    device,
    threads,
    output: Type.String({ minLength: 1, default: ".sparse-tuner/comparisons", description: "Folder that holds comparison folders." }),
  },
  closed,
);

/** A comparison as resolved: every key present. */
export type CompareConfig = Static<typeof compareSchema>;

/** The keys that a comparison varies, which a run of it gets. */
export type VariedTrain = Pick<RunConfig["train"], "learningRate" | "seed">;
