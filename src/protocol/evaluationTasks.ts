/**
 * The test sets that a model can be judged by, and what is found out about it: names, groups and results, as the command line, the service and the windows
 * share them. What a set asks and how its answers are read is in the core.
 */
import Type, { type Static } from "typebox";

/** The eight commonsense sets that papers average over. */
export const commonsenseTasks = ["boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "obqa"] as const;
/** The six maths sets that papers average over. */
export const mathsTasks = ["gsm8k", "svamp", "aqua", "addsub", "multiarith", "singleeq"] as const;
/** Further sets, by name only. */
export const otherTasks = ["mawps", "mathqa"] as const;

export const taskNames = [...commonsenseTasks, ...mathsTasks, ...otherTasks] as const;
export type TaskName = (typeof taskNames)[number];

/** A set's name as papers write it, and its folder in the LLM-Adapters layout: `<folder>/test.json`. */
export const taskSets: Readonly<Record<TaskName, { title: string; folder: string }>> = {
  boolq: { title: "BoolQ", folder: "boolq" },
  piqa: { title: "PIQA", folder: "piqa" },
  siqa: { title: "SIQA", folder: "social_i_qa" },
  hellaswag: { title: "HellaSwag", folder: "hellaswag" },
  winogrande: { title: "WinoGrande", folder: "winogrande" },
  arc_easy: { title: "ARC-e", folder: "ARC-Easy" },
  arc_challenge: { title: "ARC-c", folder: "ARC-Challenge" },
  obqa: { title: "OBQA", folder: "openbookqa" },
  gsm8k: { title: "GSM8K", folder: "gsm8k" },
  svamp: { title: "SVAMP", folder: "SVAMP" },
  aqua: { title: "AQuA", folder: "AQuA" },
  addsub: { title: "AddSub", folder: "AddSub" },
  multiarith: { title: "MultiArith", folder: "MultiArith" },
  singleeq: { title: "SingleEq", folder: "SingleEq" },
  mawps: { title: "MAWPS", folder: "mawps" },
  mathqa: { title: "MathQA", folder: "mathqa" },
};

export const taskGroups = { commonsense: commonsenseTasks, maths: mathsTasks } as const satisfies Record<string, readonly TaskName[]>;
export type TaskGroup = keyof typeof taskGroups;

/** logLikelihood: which candidate answer the model finds likeliest; generation: what it writes, read by a fixed rule. */
export const taskScorings = ["logLikelihood", "generation"] as const;
export type TaskScoring = (typeof taskScorings)[number];

const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const share = Type.Number({ minimum: 0, maximum: 1 });
const orNull = <Schema extends Type.TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** Shares are 0 to 1. */
export const taskResultSchema = Type.Object({
  task: Type.Enum([...taskNames]),
  /** As papers write it. */
  title: Type.String(),
  /** The file that was read. */
  file: Type.String(),
  scoring: Type.Enum([...taskScorings]),
  /** correct / total. */
  accuracy: share,
  correct: count,
  total: count,
  /** Rows that could not be used, and rows too long for the model. */
  skipped: count,
  /** Accuracy of always giving the file's most frequent answer; null where answers are numbers. */
  majorityFloor: orNull(share),
  /** The published one, where the file's equals it to a tenth of a percent. */
  publishedFloor: orNull(share),
  /** By log-likelihood: the accuracy when candidates are compared by the mean of their tokens instead of by the sum. */
  accuracyPerToken: orNull(share),
  /** By generation: rows in whose text no answer was found; they count as wrong. */
  unanswered: orNull(count),
  /** Of a run: questions that stand in its training data; null where that is not known. */
  trainedOn: orNull(count),
  /** Sentences to read beside the figures. */
  notes: Type.Array(Type.String()),
});
export type TaskResult = Static<typeof taskResultSchema>;

/** Standard error of a share of so many rows. */
export function standardError({ accuracy, total }: Pick<TaskResult, "accuracy" | "total">): number {
  return Math.sqrt((accuracy * (1 - accuracy)) / total);
}

/** Unweighted means over sets; the floor's is null unless every set has one. */
export function meanOver(results: readonly TaskResult[]): { accuracy: number; majorityFloor: number | null } {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const floors = results.map(({ majorityFloor }) => majorityFloor).filter((floor) => floor !== null);
  return { accuracy: mean(results.map(({ accuracy }) => accuracy)), majorityFloor: floors.length === results.length ? mean(floors) : null };
}

/** The notes of all results, each with its set's name in front; what holds of every set is said once. */
export function notesOf(results: readonly TaskResult[]): string[] {
  const common = new Set(results.length > 1 ? results[0].notes.filter((note) => results.every(({ notes }) => notes.includes(note))) : []);
  return [...common, ...results.flatMap(({ title, notes }) => notes.filter((note) => !common.has(note)).map((note) => `${title}: ${note}`))];
}
