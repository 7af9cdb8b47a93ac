/**
 * The schemas of a run's events, by kind. Hosts check every event by them, read from a folder or received from a core: a run folder may come from anywhere.
 * They are also the events' types, which events.ts gives out without a run-time import, so that the webview carries no schema library.
 * The rule to keep: keys may be added, and an unknown key or kind harms nobody; what a key means never changes.
 */
import Type, { type Static } from "typebox";
import { cardFields } from "./cardReading.ts";
import { fits } from "./compiledCheck.ts";
import type { RunEvent } from "./events.ts";
import { memoryClasses } from "./memory.ts";

const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const text = Type.String();
const shares = Type.Record(Type.String(), Type.Number());
const bytesByClass = Type.Object(
  Object.fromEntries(memoryClasses.map((name) => [name, count])) as Record<(typeof memoryClasses)[number], typeof count>,
);

export const eventSchemas = {
  started: Type.Object({
    kind: Type.Literal("started"),
    run: text,
    method: text,
    device: text,
    trainRows: count,
    skippedRows: count,
    totalSteps: count,
    warmupSteps: count,
    trainTokens: count,
  }),
  /** One scoring step of a warm-up, which starts after update `afterStep`; `loss` as in `step`. */
  warmup: Type.Object({
    kind: Type.Literal("warmup"),
    step: count,
    of: count,
    afterStep: count,
    loss: Type.Number(),
    tokensPerSecond: Type.Number(),
  }),
  selection: Type.Object({
    kind: Type.Literal("selection"),
    step: count,
    blockSize: count,
    blocks: count,
    trainableParameters: count,
    shares,
    sharesByLayer: Type.Array(shares),
  }),
  /** What adapters train, said whenever a process begins: parameters by kind of matrix, in all and by layer. `matrices`: how many have an adapter. */
  adapters: Type.Object({
    kind: Type.Literal("adapters"),
    matrices: count,
    trainableParameters: count,
    parameters: Type.Record(Type.String(), count),
    parametersByLayer: Type.Array(Type.Record(Type.String(), count)),
  }),
  /** loss: mean NLL over the unmasked targets of the whole update, before it. gradNorm: L2 over the trainables before clipping. */
  step: Type.Object({
    kind: Type.Literal("step"),
    step: count,
    loss: Type.Number(),
    learningRate: Type.Number(),
    gradNorm: Type.Number(),
    tokensPerSecond: Type.Number(),
  }),
  memory: Type.Object({ kind: Type.Literal("memory"), step: count, bytesByClass, peakBytes: count, processBytes: count }),
  /** The graphics card's figures while somebody looked: every ten seconds, and when its memory was fuller than ever. */
  card: Type.Object({ kind: Type.Literal("card"), step: count, ...cardFields }),
  evaluation: Type.Object({ kind: Type.Literal("evaluation"), step: count, loss: Type.Number(), tokens: count }),
  /**
   * Zeros of the weights as trained, adapters merged, over the linear maps of a pruned base; `step` 0 is the base itself. `lost`: zeros of the base that
   * no longer are. `byLayer`: share of zeros in each decoder layer.
   */
  sparsity: Type.Object({
    kind: Type.Literal("sparsity"),
    step: count,
    zeros: count,
    entries: count,
    lost: count,
    byLayer: Type.Array(Type.Number()),
  }),
  /** LoRS looks for the main directions of the gradient before its first update. */
  initialising: Type.Object({ kind: Type.Literal("initialising"), done: count, of: count }),
  checkpoint: Type.Object({ kind: Type.Literal("checkpoint"), step: count, folder: text }),
  /** Something other than asked was done, or a thing to know, with its reason. */
  notice: Type.Object({ kind: Type.Literal("notice"), code: text, message: text }),
  /** A NaN or infinity appeared: the update of this step was skipped. */
  skipped: Type.Object({ kind: Type.Literal("skipped"), step: count, reason: text }),
  paused: Type.Object({ kind: Type.Literal("paused"), step: count, reason: text }),
  /** fromStep: of the checkpoint it goes on from; −1 when there was none and it begins again. */
  resumed: Type.Object({ kind: Type.Literal("resumed"), fromStep: Type.Integer({ minimum: -1, maximum: 2 ** 53 - 1 }) }),
  stopped: Type.Object({ kind: Type.Literal("stopped"), step: count, reason: text }),
  /** A host asked for something; what came of it follows as an event of its own. `by` names the host; `id` is the command's. */
  command: Type.Object({ kind: Type.Literal("command"), name: Type.Enum(["pause", "resume", "stop", "save"]), id: text, by: text }),
  /** The run ended with an error; a checkpoint before it can be resumed from. */
  failed: Type.Object({ kind: Type.Literal("failed"), code: text, message: text, action: text }),
  done: Type.Object({ kind: Type.Literal("done"), run: text, step: count }),
};

export type EventKind = keyof typeof eventSchemas;
export type EventBodies = { [Kind in EventKind]: Static<(typeof eventSchemas)[Kind]> }[EventKind];

const numbering = Type.Object({ sequence: Type.Integer({ minimum: 1, maximum: 2 ** 53 - 1 }), timeMs: Type.Number() });

const numbered = Object.fromEntries(Object.entries(eventSchemas).map(([kind, schema]) => [kind, Type.Intersect([numbering, schema])]));

/** The value as an event, or null when it is none that is known. */
export function asRunEvent(value: unknown): RunEvent | null {
  const kind = typeof value === "object" && value !== null ? (value as { kind?: unknown }).kind : undefined;
  if (typeof kind !== "string" || !Object.hasOwn(eventSchemas, kind)) return null;
  return fits(numbered[kind], value) ? (value as RunEvent) : null;
}
