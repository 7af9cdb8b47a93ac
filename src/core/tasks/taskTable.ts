/**
 * The test sets: what their answers are, how long one may be, and the accuracy of always giving the most frequent answer as papers publish it.
 * Plain data; how an answer is read from a text is in answers.ts.
 */
import { type TaskName, taskGroups, taskNames, taskSets } from "../../protocol/evaluationTasks.ts";
import { nearest } from "../../protocol/spelling.ts";
import { UserError } from "../../protocol/userError.ts";

/** What an answer is: one of some words; a letter of those the question offers; a number. */
export type AnswerKind = { kind: "choice"; answers: readonly string[] } | { kind: "letter" } | { kind: "number" };

export interface Task {
  name: TaskName;
  /** As papers write it. */
  title: string;
  /** Its folder in the LLM-Adapters layout: `<folder>/test.json`. */
  folder: string;
  answer: AnswerKind;
  /** Tokens a generated answer may have. */
  newTokens: number;
  /** Share of the most frequent answer in the published test set, in percent. */
  publishedFloor: number | null;
}

const numbered = (word: string, count: number) => Array.from({ length: count }, (_, i) => `${word}${i + 1}`);
const choice = (answers: readonly string[], publishedFloor: number | null) => ({
  answer: { kind: "choice" as const, answers },
  newTokens: 32,
  publishedFloor,
});
const maths = (kind: "letter" | "number") => ({ answer: { kind }, newTokens: 256, publishedFloor: null });

const particulars: Record<TaskName, Omit<Task, "name" | "title" | "folder">> = {
  boolq: choice(["true", "false"], 62.2),
  piqa: choice(numbered("solution", 2), 50.5),
  siqa: choice(numbered("answer", 5), 33.6),
  hellaswag: choice(numbered("ending", 4), null),
  winogrande: choice(numbered("option", 2), 50.4),
  arc_easy: choice(numbered("answer", 5), 26.6),
  arc_challenge: choice(numbered("answer", 5), 26.5),
  obqa: choice(numbered("answer", 5), 27.6),
  gsm8k: maths("number"),
  svamp: maths("number"),
  aqua: maths("letter"),
  addsub: maths("number"),
  multiarith: maths("number"),
  singleeq: maths("number"),
  mawps: maths("number"),
  mathqa: maths("letter"),
};

export const tasks: readonly Task[] = taskNames.map(taskOf);

export function taskOf(name: TaskName): Task {
  return { name, ...taskSets[name], ...particulars[name] };
}

/** Tasks of a list such as `boolq,arc_easy` or `commonsense`, each once. Throws UserError `task/unknown` for a name that is none. */
export function parseTasks(list: string): TaskName[] {
  const names = list.split(",").map((name) => name.trim());
  return [...new Set(names.flatMap(tasksNamed))];
}

function tasksNamed(name: string): readonly TaskName[] {
  if (Object.hasOwn(taskGroups, name)) return taskGroups[name as keyof typeof taskGroups];
  const known = taskNames.find((task) => task === name);
  if (known) return [known];
  const names = [...Object.keys(taskGroups), ...taskNames];
  const near = nearest(name, names);
  throw new UserError("task/unknown", `There is no task ${JSON.stringify(name)}.`, near ? `Did you mean ${near}?` : `Use ${names.join(", ")}.`);
}
