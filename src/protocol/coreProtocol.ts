/**
 * What a host (the extension, a test, a script) and a core say to each other. JSON-RPC on one connection to the core's socket: requests with their
 * schemas, results, notifications. Arrays on a second connection, as frames: heatmaps and values of blocks. Types and schemas only; no I/O.
 * The rules to keep: both sides check what they get by these schemas; arrays never travel as JSON; a command has an id and acts once.
 */
import Type, { type Static } from "typebox";
import { type CardReport, cardReportSchema } from "./cardReading.ts";
import type { RunEvent } from "./events.ts";

/** Raised whenever a message changes so that an older side would misread it. */
export const protocolVersion = 1;
/** A core says that it lives this often, also while a step computes, as long as one layer takes less. */
export const heartbeatMs = 1000;
/** Without a heartbeat for so long a core counts as not responding. */
export const notRespondingMs = 10_000;
/** Values of a tensor file that may be asked for at once. */
export const maxWindowValues = 1 << 18;
/** Values of a block that are read, analysed or copied at once: a block of 2048 × 2048. */
export const maxBlockValues = 1 << 22;

const closed = { additionalProperties: false };
const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const index = Type.Integer({ minimum: 0, maximum: 1e9 });

/** What of a block can be read: its f32 value, value − base, and what the optimizer holds for it. */
export const blockParts = ["weight", "delta", "gradient", "firstMoment", "secondMoment"] as const;
export type BlockPart = (typeof blockParts)[number];

/** Entries of a block, counted from its upper left corner. What reaches beyond the block's edges is left out: the answer says what it holds. */
export const windowSchema = Type.Object(
  { row: index, column: index, rows: Type.Integer({ minimum: 1, maximum: 65536 }), columns: Type.Integer({ minimum: 1, maximum: 65536 }) },
  closed,
);
export type BlockWindow = Static<typeof windowSchema>;

/** A block of a linear map: its Hugging Face name without `.weight`; row and column count blocks. */
export const blockPlaceSchema = Type.Object({ name: Type.String({ minLength: 1, maxLength: 300 }), row: index, column: index }, closed);
export type BlockPlace = Static<typeof blockPlaceSchema>;

const numberOrNull = Type.Union([Type.Number(), Type.Null()]);

/** One block's value in every mode of the heatmap; null where the run has none at that step. */
export const cellSchema = Type.Object({
  step: count,
  /** What ranked it, or ranks it during a warm-up. */
  score: numberOrNull,
  selected: Type.Boolean(),
  /** 0 is the best. */
  rank: Type.Union([count, Type.Null()]),
  /** Means over the block's entries: |gradient| of the last update before clipping, |value − base|, Adam's second moment. */
  gradient: numberOrNull,
  delta: numberOrNull,
  secondMoment: numberOrNull,
});
export type Cell = Static<typeof cellSchema>;

/** Statistics of all values of a block. All but `nonFinite` count finite values only. */
export const analysisSchema = Type.Object({
  mean: Type.Number(),
  standardDeviation: Type.Number(),
  minimum: Type.Number(),
  maximum: Type.Number(),
  /** Frobenius norm. */
  norm: Type.Number(),
  zeros: count,
  nonFinite: count,
  /** Counts of equally wide bins from minimum to maximum. */
  histogram: Type.Array(count),
  /** Descending; empty where values are not finite or a side is longer than `maxSpectrumSide`. */
  singularValues: Type.Array(Type.Number()),
  /** exp of the entropy of the normalised singular values (Roy & Vetterli 2007); 0 for a zero matrix. */
  effectiveRank: Type.Number(),
});
export type Analysis = Static<typeof analysisSchema>;
/** Sides of a block whose singular values are found; those of larger ones would take many seconds. */
export const maxSpectrumSide = 512;

/** What came of `analyze` beside the values, of the same step: null for a block of more than `maxBlockValues`. */
const analysed = {
  analysis: Type.Optional(Type.Union([analysisSchema, Type.Null()])),
  /** What that took; who looks again and again waits accordingly. */
  analysisMs: Type.Optional(Type.Number()),
};
/** A window of a block as it was read at one step. */
export const readingFields = {
  step: count,
  /** Of the window. */
  rows: count,
  columns: count,
  /** Of the whole block, smaller at a matrix's edge. */
  blockRows: count,
  blockColumns: count,
  ...analysed,
};

/** `id` makes a repeated command act once. */
const command = Type.Object({ id: Type.String({ minLength: 1, maxLength: 80 }) }, closed);
const nothing = Type.Object({}, closed);

/** Parameters of every request. `hello` comes first; anything before it ends the connection. */
export const requestSchemas = {
  /** Who the host is and which run it means. */
  hello: Type.Object(
    { version: Type.Integer(), nonce: Type.String({ maxLength: 80 }), client: Type.String({ minLength: 1, maxLength: 80 }) },
    closed,
  ),
  /** Holds the run at its next step boundary, until `resume`. */
  pause: command,
  resume: command,
  /** Saves at the next step boundary and ends the process. */
  stop: command,
  /** Saves a checkpoint at the next step boundary. */
  save: command,
  /** Sends every event after this number, then those to come, as `events`, without a gap. Once a connection. */
  follow: Type.Object({ after: count }, closed),
  status: nothing,
  /** Asks for heatmap frames on the bulk connection, or for no more. A host asks only while somebody looks. */
  watchHeatmap: Type.Object({ on: Type.Boolean() }, closed),
  /** Asks for the graphics card's figures as `card` notifications, or for no more. A host asks only while somebody looks. */
  watchCard: Type.Object({ on: Type.Boolean() }, closed),
  /**
   * After how long without a host the run is saved and stopped; null: never. Who says it last decides. A core of an earlier version does not know it, and
   * keeps what it was started with.
   */
  stopWhenAlone: Type.Object({ afterMs: Type.Union([Type.Integer({ minimum: 0, maximum: 1e9 }), Type.Null()]) }, closed),
  /** Reads entries of a block of a linear map at the next step boundary; `row` and `column` count blocks. The values come as a `block` frame. */
  readBlock: Type.Object(
    {
      ...blockPlaceSchema.properties,
      part: Type.Enum([...blockParts]),
      /** The whole block by default. */
      window: Type.Optional(windowSchema),
      /** Asks for statistics of the whole block too. */
      analyze: Type.Optional(Type.Boolean()),
    },
    closed,
  ),
  /** What the heatmaps show of one block, exactly, at the next step boundary. */
  readCell: blockPlaceSchema,
};

export type CoreRequest = keyof typeof requestSchemas;
export type CoreParams = { [Name in CoreRequest]: Static<(typeof requestSchemas)[Name]> };
export const commandNames = ["pause", "resume", "stop", "save"] as const;
export type CommandName = (typeof commandNames)[number];

const status = Type.Object({
  /** waiting: for room on the disk. pausing, stopping: asked to, the step is being finished. */
  state: Type.Enum(["opening", "running", "pausing", "paused", "waiting", "stopping", "ended"]),
  /** Updates done. */
  step: count,
  totalSteps: count,
  /** Number of the newest event. */
  lastSequence: count,
  clients: count,
});
export type CoreStatus = Static<typeof status>;
export type CoreState = CoreStatus["state"];

const commandResult = Type.Object({ repeated: Type.Boolean() });

export const resultSchemas = {
  hello: Type.Object({
    version: Type.Integer(),
    runFolder: Type.String(),
    pid: count,
    /** To be named by the bulk connection's `attach` frame. */
    attachment: Type.String(),
    status,
  }),
  pause: commandResult,
  resume: commandResult,
  stop: commandResult,
  save: commandResult,
  follow: nothing,
  status,
  watchHeatmap: nothing,
  watchCard: nothing,
  stopWhenAlone: nothing,
  /** `frame` is the `id` of the frame that holds the values, row-major f32. Or what was not kept, and why: never zeros. */
  readBlock: Type.Union([
    Type.Object({ available: Type.Literal(true), frame: count, ...readingFields }),
    Type.Object({ available: Type.Literal(false), step: count, reason: Type.String() }),
  ]),
  readCell: cellSchema,
};
export type CoreResults = { [Name in CoreRequest]: Static<(typeof resultSchemas)[Name]> };
export type BlockReading = CoreResults["readBlock"];

/** An event as far as both sides rely on it; its kind says the rest. */
const event = Type.Object({ sequence: count, timeMs: Type.Number(), kind: Type.String() });

export const notificationSchemas = {
  events: Type.Object({ events: Type.Array(event) }),
  heartbeat: Type.Object({ timeMs: Type.Number(), status }),
  /** Once a second at most, latest wins; nothing comes of a run whose device is no graphics card. */
  card: cardReportSchema,
  /** The last message of a core that ends by itself; the host closes its connections then. */
  ended: Type.Object({
    outcome: Type.Enum(["done", "stopped", "failed"]),
    error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String(), action: Type.String() })),
  }),
};
export type CoreNotifications = {
  events: { events: RunEvent[] };
  heartbeat: Static<typeof notificationSchemas.heartbeat>;
  card: CardReport;
  ended: Static<typeof notificationSchemas.ended>;
};
export type CoreNotification = keyof CoreNotifications;

/** The first frame of the bulk connection, host → core. */
export const attachSchema = Type.Object({ kind: Type.Literal("attach"), attachment: Type.String({ maxLength: 80 }) }, closed);

const grid = { name: Type.String(), rows: count, columns: count };

/** Headers of the frames that a core sends on the bulk connection. */
export const frameSchemas = {
  /**
   * Scores of all blocks after a warm-up step, and once more when blocks were chosen from them (`final`). Payload: one byte a block, matrix after matrix,
   * row-major; byte b of a matrix means low + b · (high − low) / 255.
   */
  scores: Type.Object({
    kind: Type.Literal("scores"),
    step: count,
    /** Updates before this warm-up. */
    afterStep: count,
    final: Type.Boolean(),
    matrices: Type.Array(Type.Object({ ...grid, low: Type.Number(), high: Type.Number() })),
  }),
  /** The chosen blocks. Payload: per matrix `chosen` × {u32 row · columns + column, u32 rank, f32 score}, in rank order. */
  selection: Type.Object({
    kind: Type.Literal("selection"),
    step: count,
    blockSize: count,
    matrices: Type.Array(Type.Object({ ...grid, chosen: count })),
  }),
  /**
   * How the chosen blocks fare after an update. Payload: three arrays of f32, each one value a chosen block, blocks in the order of the `selection` frame:
   * means of |gradient|, |value − base| and Adam's second moment, as in a `Cell`; NaN where that has none. Sent only while somebody watches, and seldom enough to cost the run
   * no more than a fiftieth of its time.
   */
  magnitudes: Type.Object({ kind: Type.Literal("magnitudes"), step: count, blocks: count }),
  /** Payload: the values of a `readBlock`, f32 row-major. */
  block: Type.Object({ kind: Type.Literal("block"), id: count }),
};
export type FrameKind = keyof typeof frameSchemas;
export type FrameHeader = { [Kind in FrameKind]: Static<(typeof frameSchemas)[Kind]> }[FrameKind];

/** Frames that draw the heatmap of a run, from a live core or read from its folder. */
export type HeatmapHeader = Extract<FrameHeader, { kind: "scores" | "selection" | "magnitudes" }>;

/** What each side accepts: hosts send small messages and no payloads. */
export const hostToCoreLimits = { headerBytes: 1 << 16, payloadBytes: 0 };
export const coreToHostLimits = { headerBytes: 1 << 24, payloadBytes: 1 << 26 };
