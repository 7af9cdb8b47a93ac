/**
 * What a comparison has found, one JSON object a line in results.jsonl, and what the lines say together: for each method at each budget the learning rate
 * that was chosen, mean and spread over the seeds. Readers check every line: the folder may come from anywhere.
 * The rules to keep: lines are only added, and the last one about a run counts; a figure that was not measured is null, and no mean is given over fewer
 * runs than are said.
 */
import Type, { type Static } from "typebox";
import { Compile } from "typebox/compile";

/** Files of a comparison folder. */
export const comparisonFiles = {
  config: "compare.yaml",
  results: "results.jsonl",
  progress: "progress.json",
  table: "table.md",
  csv: "results.csv",
  chart: "results.svg",
  runs: "runs",
  log: "log.txt",
  /** Put there by who wants it to stop at the next step. */
  stop: "stop.request",
} as const;

const text = Type.String({ maxLength: 10_000 });
const name = Type.String({ maxLength: 200, pattern: "^[A-Za-z0-9._-]*$" });
const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const orNull = <Schema extends Parameters<typeof Type.Union>[0][number]>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** A method at a budget. */
const point = Type.Object({
  id: name,
  label: text,
  /** Name of the method. */
  method: text,
  /** Asked for; null where the method is taken as it is given. */
  budget: orNull(count),
  /** What it trains, as far as its configuration says. */
  trainableParameters: count,
  /** How it came to that number, e.g. `rank 4`. */
  setting: text,
  /** Something to know of it; empty where nothing is. */
  note: text,
});

const share = Type.Number({ minimum: 0, maximum: 1 });

/** The test set that is scored beside the held-out loss. `id` changes with all that its figures depend on: file, rows, scoring. */
const plannedTask = Type.Object({ id: name, name: text, title: text, file: text, scoring: text });

const kinds = {
  /** Of every session, at its start. The hashes are of base model and data. */
  plan: Type.Object({
    kind: Type.Literal("plan"),
    timeMs: Type.Number(),
    model: text,
    base: text,
    data: text,
    steps: orNull(count),
    points: Type.Array(point, { maxItems: 3000 }),
    learningRates: Type.Array(Type.Number(), { maxItems: 100 }),
    seeds: Type.Array(count, { maxItems: 100 }),
    task: Type.Optional(orNull(plannedTask)),
    /** What learning rates are chosen by; loss where it is not said. */
    criterion: Type.Optional(Type.Enum(["loss", "accuracy"])),
  }),
  /** A run has ended. diverged: its loss was no number in the end. failed: something else kept it from ending; it is tried again when the comparison is resumed. */
  result: Type.Object({
    kind: Type.Literal("result"),
    timeMs: Type.Number(),
    run: name,
    point: name,
    learningRate: Type.Number(),
    seed: count,
    status: Type.Enum(["done", "diverged", "failed"]),
    /** Updates. */
    steps: count,
    /** Held-out loss before the first and after the last update. */
    lossBefore: orNull(Type.Number()),
    lossAfter: orNull(Type.Number()),
    trainableParameters: count,
    peakBytes: orNull(count),
    secondsPerStep: orNull(Type.Number()),
    /** Of work, without interruptions. */
    seconds: Type.Number(),
    /** Zeros of a pruned base that no longer are; null where it was not measured. */
    lostZeros: orNull(count),
    /** Why it did not end well. */
    message: text,
  }),
  /** A finished run, or the untrained model (`untrained`), on the task. It is tried again when it failed. */
  score: Type.Object({
    kind: Type.Literal("score"),
    timeMs: Type.Number(),
    run: name,
    /** The id of the plan's task. */
    task: name,
    /** correct / total; null when it failed. */
    accuracy: orNull(share),
    correct: count,
    total: count,
    /** Accuracy of always giving the file's most frequent answer; null where answers are numbers. */
    majorityFloor: orNull(share),
    seconds: Type.Number(),
    notes: Type.Array(text, { maxItems: 20 }),
    /** Why it failed. */
    message: text,
  }),
  ended: Type.Object({ kind: Type.Literal("ended"), timeMs: Type.Number(), outcome: Type.Enum(["done", "stopped", "failed"]), message: text }),
};

export type ComparisonPoint = Static<typeof point>;
export type PlanLine = Static<typeof kinds.plan>;
export type ResultLine = Static<typeof kinds.result>;
export type ScoreLine = Static<typeof kinds.score>;
export type ComparisonLine = { [Kind in keyof typeof kinds]: Static<(typeof kinds)[Kind]> }[keyof typeof kinds];

const checks = new Map<string, { Check(value: unknown): boolean }>();

/** The value as a line of results.jsonl, or null when it is none that is known. */
export function asComparisonLine(value: unknown): ComparisonLine | null {
  const kind = typeof value === "object" && value !== null ? (value as { kind?: unknown }).kind : undefined;
  if (typeof kind !== "string" || !Object.hasOwn(kinds, kind)) return null;
  let check = checks.get(kind);
  if (!check) {
    check = Compile(kinds[kind as keyof typeof kinds]);
    checks.set(kind, check);
  }
  return check.Check(value) ? (value as ComparisonLine) : null;
}

/** Lines of a results.jsonl; one that was cut, or is none, is passed over. */
export function parseComparisonLines(content: string): ComparisonLine[] {
  return content.split("\n").flatMap((line) => {
    try {
      return asComparisonLine(JSON.parse(line)) ?? [];
    } catch {
      return [];
    }
  });
}

/** How far a comparison is, rewritten while it works. */
export const progressSchema = Type.Object({
  /** waiting: the disk is full, and it goes on when it no longer is. */
  state: Type.Enum(["running", "waiting", "done", "stopped", "failed"]),
  timeMs: Type.Number(),
  /** The run that is being done, or scored; empty between two. */
  run: name,
  /** Updates; of the task, when that is being scored, questions. */
  step: count,
  of: count,
  /** Title of the task that is being scored; empty while it trains. */
  scoring: Type.Optional(text),
  runsDone: count,
  runsInAll: count,
  etaMs: orNull(Type.Number()),
  message: text,
});
export type ComparisonProgress = Static<typeof progressSchema>;
