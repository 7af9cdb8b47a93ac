/**
 * The schema of a comparison: methods that are run on the same model and data, at the same budgets, each with the best learning rate of one grid, over
 * several seeds. Sections that a run file has too are the run file's own; what a comparison varies cannot be given in them.
 * The rule to keep: as in runSchema.ts, every key but `model`, `data` and `methods` has a default.
 */
import Type, { type Static, type TObject, type TProperties } from "typebox";
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

const methods = Type.Array(Type.Unsafe<LabelledMethod>(Type.Union((method.anyOf as TObject<TProperties>[]).map(labelled))), {
  minItems: 1,
  maxItems: 50,
  description: "What is compared: each entry as method in a run file, with an optional label.",
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
      description: "Learning rates that are tried for each method and budget, with the first seed; the one with the lowest held-out loss is kept.",
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
