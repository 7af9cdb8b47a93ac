/**
 * Finds a task's file and reads its rows: {instruction, input, output, answer} of LLM-Adapters, or {question, answer} of GSM8K itself.
 * The rule to keep: every row is either a question with its right answer or accounted for; a file of another task is refused, not scored as wrong.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { identifyFile, readRows } from "../data/datasets.ts";
import { offeredAnswers, readRightAnswer } from "./answers.ts";
import type { Question } from "./prompts.ts";
import { type Task, tasks } from "./taskTable.ts";

/** One question with its right answer. */
export interface TaskRow extends Question {
  line: number;
  answer: string;
  /** What the question offers to choose from; empty for numbers. */
  offered: readonly string[];
}

export interface TaskRows {
  file: string;
  rows: TaskRow[];
  /** Rows that could not be used, with the reason. */
  skipped: { line: number; reason: string }[];
  /** Share of the most frequent right answer among all rows, 0 to 1; null for numbers. */
  majorityFloor: number | null;
}

/** Rows that may be unusable before a file is taken for another one: 1 %, and one in any case. */
const badShare = 0.01;

/** The task's file: `data` itself, or the one in that folder. Throws UserError `task/missing-file`, which names what was looked for. */
export async function findTaskFile(task: Task, data: string): Promise<string> {
  const kind = await kindOf(data);
  if (kind === "file") return data;
  const candidates = kind === "folder" ? candidateFiles(task, data) : [];
  for (const candidate of candidates) if ((await kindOf(candidate)) === "file") return candidate;
  const looked = candidates.map((file) => path.relative(data, file)).join(", ");
  throw new UserError(
    "task/missing-file",
    kind === null ? `There is no ${data}.` : `${data} has no file of the task ${task.name}: looked for ${looked}.`,
    kind === null
      ? "Name the task's JSON or JSON lines file, or a folder with it."
      : `Put it there, or ask for the tasks that are there: ${(await tasksIn(data)).join(",") || "none is"}.`,
  );
}

function candidateFiles({ name, folder }: Task, data: string): string[] {
  const names = [`${folder}/test.json`, `${folder}/test.jsonl`, `${name}.json`, `${name}.jsonl`];
  // The task's own folder.
  if ([name, folder.toLowerCase()].includes(path.basename(path.resolve(data)).toLowerCase())) names.push("test.json", "test.jsonl");
  return names.map((file) => path.join(data, file));
}

/** Names of the tasks whose file a folder has. */
async function tasksIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const task of tasks)
    for (const file of candidateFiles(task, folder))
      if ((await kindOf(file)) === "file") {
        found.push(task.name);
        break;
      }
  return found;
}

async function kindOf(file: string): Promise<"file" | "folder" | null> {
  const found = await stat(file).catch(() => null);
  return found === null ? null : found.isDirectory() ? "folder" : "file";
}

/** Reads a task's rows, at most `limit` of them. Throws UserError `data/…`, `task/no-usable-row` or `task/wrong-rows`. */
export async function readTaskRows(task: Task, file: string, limit: number | null): Promise<TaskRows> {
  const rows: TaskRow[] = [];
  const skipped: TaskRows["skipped"] = [];
  for await (const row of readRows(file, await identifyFile(file))) {
    const read = "problem" in row ? row.problem : readRow(task, row.value);
    if (typeof read === "string") skipped.push({ line: row.line, reason: read });
    else rows.push({ ...read, line: row.line });
  }
  const reasons = skipped.slice(0, 3).map(({ line, reason }) => `line ${line}: ${reason}`);
  const layouts = `Give rows of ${task.title}: {instruction, answer}, or {question, answer}.`;
  const found = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";
  if (rows.length === 0) throw new UserError("task/no-usable-row", `${file} has no usable row of the task ${task.name}${found}.`, layouts);
  const allowed = Math.max(1, Math.floor(badShare * (rows.length + skipped.length)));
  if (skipped.length > allowed) {
    const message = `${skipped.length} of ${rows.length + skipped.length} rows of ${file} are no rows of the task ${task.name}${found}.`;
    throw new UserError("task/wrong-rows", message, layouts);
  }
  const majorityFloor = task.answer.kind === "number" ? null : majorityShare(rows.map(({ answer }) => answer));
  return { file, rows: limit === null ? rows : rows.slice(0, limit), skipped, majorityFloor };
}

/** A row, or why it is none. */
function readRow({ answer: kind }: Task, value: unknown): Omit<TaskRow, "line"> | string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "it is not an object";
  const { instruction, question, input, answer } = value as Record<string, unknown>;
  const asked = instruction ?? question;
  if (typeof asked !== "string" || asked.trim() === "") return '"instruction" is missing';
  if (input !== undefined && input !== null && typeof input !== "string") return '"input" is not text';
  const right = readRightAnswer(kind, answer);
  if ("problem" in right) return right.problem;
  const offered = offeredAnswers(kind, asked);
  if (offered.length > 0 && !offered.includes(right.answer)) return `its answer ${JSON.stringify(right.answer)} is not among those it offers`;
  return { instruction: asked, input: input ?? "", answer: right.answer, offered };
}

function majorityShare(answers: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  return Math.max(...counts.values()) / answers.length;
}
