/**
 * What a host asks of the service process (`core.js --serve`): everything that needs the core's code but no live run. Plans, previews, reads of runs,
 * checkpoints and tensor files, evaluation, generation, export, and what of this machine is usable. JSON-RPC over frames on the process's standard
 * input and output; arrays follow as frames of their own on the same stream. Types and schemas only; no I/O.
 * The rules to keep: both sides check what they get by these schemas; the service writes only where it was told to; it ends when its input does.
 */
import Type, { type Static } from "typebox";
import { blockParts, blockPlaceSchema, cellSchema, readingFields, windowSchema } from "./coreProtocol.ts";
import { taskNames, taskResultSchema, taskScorings } from "./evaluationTasks.ts";
import { memoryClasses } from "./memory.ts";
import { patternText, pruningGroupings, pruningMethods, pruningNotesSchema, pruningProgressSchema, pruningReportSchema } from "./pruning.ts";

const closed = { additionalProperties: false };
const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const file = Type.String({ minLength: 1, maxLength: 4096 });
const text = Type.String({ maxLength: 1 << 20 });
/** The checkpoint of this step; null for the newest whole one. */
const atStep = Type.Union([count, Type.Null()]);

export const serviceRequestSchemas = {
  /**
   * Plans a run from the text of a run file, which need not be saved; `runFile` is where its relative paths count from, `runFolder` the run that was begun
   * with it.
   */
  plan: Type.Object({ runFile: file, text, runFolder: Type.Optional(file) }, closed),
  /** The real first batch of a run file, token by token, and the rows that were left out. */
  preview: Type.Object({ runFile: file, text }, closed),
  /** What a model folder is, from its config.json and headers alone. */
  describeModel: Type.Object({ folder: file }, closed),
  /** The whole checkpoints of a run folder, and the matrices whose blocks can be looked at. */
  describeRun: Type.Object({ runFolder: file }, closed),
  /** Sends what a heatmap shows of a run as frames `scores`, `selection`, `magnitudes`, those that the run has, before the answer. */
  heatmap: Type.Object({ runFolder: file, step: atStep }, closed),
  readCell: Type.Object({ runFolder: file, step: atStep, ...blockPlaceSchema.properties }, closed),
  readBlock: Type.Object(
    {
      runFolder: file,
      step: atStep,
      ...blockPlaceSchema.properties,
      part: Type.Enum([...blockParts]),
      /** As a core's. */
      window: Type.Optional(windowSchema),
      analyze: Type.Optional(Type.Boolean()),
    },
    closed,
  ),
  /** A block's cell at every checkpoint that is kept, oldest first. */
  blockHistory: Type.Object({ runFolder: file, ...blockPlaceSchema.properties }, closed),
  /** The header of a safetensors file. */
  describeTensors: Type.Object({ file }, closed),
  /** Entries of a tensor seen as a matrix: all but its last dimension are rows. */
  readTensor: Type.Object({ file, name: Type.String({ maxLength: 1000 }), window: windowSchema }, closed),
  evaluate: Type.Object({ modelOrRun: file, data: file, rows: Type.Union([count, Type.Null()]) }, closed),
  /** Accuracy on test sets; `evaluating` notifications say how far it is. */
  evaluateTasks: Type.Object(
    {
      modelOrRun: file,
      tasks: Type.Array(Type.Enum([...taskNames]), { minItems: 1, maxItems: taskNames.length, uniqueItems: true }),
      /** The file of the one task, or a folder with a file for each. */
      data: file,
      /** Null: by log-likelihood where a task offers answers, else by generation. */
      scoring: Type.Union([Type.Enum([...taskScorings]), Type.Null()]),
      rows: Type.Union([count, Type.Null()]),
      /** Prompts worked on at once. */
      batchSize: Type.Integer({ minimum: 1, maximum: 4096 }),
      /** Named by the `evaluating` notifications of this request. */
      stream: count,
    },
    closed,
  ),
  /** Continues a prompt; `generated` notifications carry the text as it comes. */
  generate: Type.Object(
    {
      modelOrRun: file,
      prompt: text,
      tokens: Type.Integer({ minimum: 1, maximum: 1 << 16 }),
      temperature: Type.Number({ minimum: 0, maximum: 100 }),
      seed: Type.Integer({ minimum: 0, maximum: 0xffffffff }),
      /** Named by the `generated` notifications of this request. */
      stream: count,
    },
    closed,
  ),
  /** Writes into a folder that must not exist or be empty. */
  export: Type.Object(
    {
      /** A run's folder, or an adapter's, which needs `base`. */
      runFolder: file,
      format: Type.Enum(["merged", "delta", "adapter", "peft"]),
      to: file,
      base: Type.Optional(file),
      /** For `peft` of an SMT run. */
      rank: Type.Optional(Type.Integer({ minimum: 1, maximum: 65536 })),
      /** For `merged`: what all weights are stored as; by default as the base's. */
      dtype: Type.Optional(Type.Enum(["f32", "bf16"])),
    },
    closed,
  ),
  /** Writes a pruned copy of a model into a folder that must not exist or be empty; `pruning` notifications say how far it is. Cancelled, it leaves nothing. */
  prune: Type.Object(
    {
      model: file,
      method: Type.Enum([...pruningMethods]),
      pattern: patternText,
      /** Null: what the method does by itself; only RIA with a share has a choice. */
      grouping: Type.Union([Type.Enum([...pruningGroupings]), Type.Null()]),
      /** Whether channels are put into an order first in which an n:m pattern keeps more. */
      permute: Type.Boolean(),
      /** Text or rows to calibrate on; null only where the method needs none. */
      calibration: Type.Union([file, Type.Null()]),
      /** Windows of text that it calibrates on. */
      samples: Type.Integer({ minimum: 1, maximum: 1 << 20 }),
      /** Tokens of a window; null: the model's most, up to 2048. */
      sequenceLength: Type.Union([Type.Integer({ minimum: 2, maximum: 1 << 20 }), Type.Null()]),
      to: file,
      /** Named by the `pruning` notifications of this request. */
      stream: count,
    },
    closed,
  ),
  /** What of this machine is used and what is not; `folder` is where runs would be written. */
  doctor: Type.Object({ folder: file }, closed),
};

export type ServiceRequest = keyof typeof serviceRequestSchemas;
export type ServiceParams = { [Name in ServiceRequest]: Static<(typeof serviceRequestSchemas)[Name]> };

const bytesByClass = Type.Object(
  Object.fromEntries(memoryClasses.map((name) => [name, count])) as Record<(typeof memoryClasses)[number], typeof count>,
);
const peak = { peakBytes: count, bytesByClass, bytesPerParameter: Type.Number() };
const notKept = Type.Object({ available: Type.Literal(false), step: count, reason: Type.String() });
const matrixGrid = Type.Object({ name: Type.String(), rows: count, columns: count });

export const serviceResultSchemas = {
  plan: Type.Object({
    ...peak,
    /** False before the selection is known: then it is the worst case. */
    exact: Type.Boolean(),
    fullFineTuning: Type.Object(peak),
    /** What it is planned for, and on which card. */
    device: Type.String(),
    /** Null where nobody tells what is free. */
    availableBytes: Type.Union([count, Type.Null()]),
    fits: Type.Union([Type.Boolean(), Type.Null()]),
    /** Why it is not known what is free, a sentence; null where it is. */
    memoryProblem: Type.Union([Type.String(), Type.Null()]),
    /** The smallest change that makes it cheaper, a sentence; null where it fits, or where that is not known. */
    cheapestChange: Type.Union([Type.String(), Type.Null()]),
    trainableParameters: count,
    totalParameters: count,
    /** Sentences about what the run would do that its giver may not want, such as filling a pruned model's zeros. */
    warnings: Type.Array(Type.String()),
  }),
  preview: Type.Object({
    batchSize: count,
    sequenceLength: count,
    unmaskedTokens: count,
    tokens: count,
    rows: Type.Array(
      Type.Object({
        /** Each document's line in the data file, and its tokens. */
        documents: Type.Array(
          Type.Object({
            line: count,
            tokens: Type.Array(Type.Object({ id: count, text: Type.String(), role: Type.String(), loss: Type.Boolean() })),
          }),
        ),
        padding: count,
      }),
    ),
    notices: Type.Array(Type.String()),
    /** The first of them, and how many there are in all. */
    skipped: Type.Array(Type.Object({ file: Type.String(), line: count, reason: Type.String() })),
    skippedRows: count,
  }),
  describeModel: Type.Union([
    Type.Object({
      supported: Type.Literal(true),
      architecture: Type.String(),
      parameters: count,
      layers: count,
      hiddenSize: count,
      maxPositions: count,
      /** Of the files on the disk. */
      bytes: count,
      dtype: Type.String(),
    }),
    Type.Object({ supported: Type.Literal(false), reason: Type.String() }),
  ]),
  describeRun: Type.Object({
    /** Steps of the whole checkpoints, oldest first. */
    checkpoints: Type.Array(count),
    blockSize: Type.Union([count, Type.Null()]),
    matrices: Type.Array(matrixGrid),
  }),
  /** The step shown; null when the run has chosen no blocks yet. */
  heatmap: Type.Object({ step: Type.Union([count, Type.Null()]) }),
  readCell: cellSchema,
  readBlock: Type.Union([
    Type.Object({
      available: Type.Literal(true),
      /** `id` of the `values` frame that holds the window, f32 row-major. */
      frame: count,
      ...readingFields,
    }),
    notKept,
  ]),
  blockHistory: Type.Object({ cells: Type.Array(cellSchema) }),
  describeTensors: Type.Object({
    bytes: count,
    headerBytes: count,
    metadata: Type.Record(Type.String(), Type.String()),
    tensors: Type.Array(Type.Object({ name: Type.String(), dtype: Type.String(), shape: Type.Array(count), bytes: count })),
  }),
  readTensor: Type.Object({ frame: count, rows: count, columns: count }),
  evaluate: Type.Object({ loss: Type.Number(), perplexity: Type.Number(), tokens: count, rows: count, notes: Type.Array(Type.String()) }),
  evaluateTasks: Type.Object({ results: Type.Array(taskResultSchema), notes: Type.Array(Type.String()) }),
  generate: Type.Object({ text: Type.String(), ids: Type.Array(count), notes: Type.Array(Type.String()) }),
  /** `relativeError`: of a `peft` adapter of an SMT run, ‖change − product‖ / ‖change‖; null for everything else. */
  export: Type.Object({ folder: Type.String(), notes: Type.Array(Type.String()), relativeError: Type.Union([Type.Number(), Type.Null()]) }),
  prune: pruningReportSchema,
  doctor: Type.Object({
    healthy: Type.Boolean(),
    findings: Type.Array(
      Type.Object({
        subject: Type.String(),
        usable: Type.Boolean(),
        probe: Type.String(),
        result: Type.String(),
        fix: Type.Union([Type.String(), Type.Null()]),
      }),
    ),
  }),
};

export type ServiceResults = { [Name in ServiceRequest]: Static<(typeof serviceResultSchemas)[Name]> };

export const serviceNotificationSchemas = {
  /** What was generated since the last one. */
  generated: Type.Object({ stream: count, text: Type.String() }),
  /** Rows of a task that are done; at most a few a second. */
  evaluating: Type.Object({ stream: count, task: Type.Enum([...taskNames]), done: count, of: count }),
  /** How far it is, or what there is to know of it. */
  pruning: Type.Object({ stream: count, said: Type.Union([pruningProgressSchema, pruningNotesSchema]) }),
};
export type ServiceNotifications = { [Name in keyof typeof serviceNotificationSchemas]: Static<(typeof serviceNotificationSchemas)[Name]> };

/** Frames beside those of the core's bulk connection, service → host for reads. Payload: f32. */
export const valuesFrameSchema = Type.Object({ kind: Type.Literal("values"), id: count });

/** What each side accepts: hosts send no payloads. */
export const hostToServiceLimits = { headerBytes: 1 << 22, payloadBytes: 0 };
export const serviceToHostLimits = { headerBytes: 1 << 24, payloadBytes: 1 << 26 };
