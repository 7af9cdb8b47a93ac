/**
 * `sparse-tuner evaluate --task` and `--perplexity`, and the service's: accuracy on test sets, each beside its floor, and perplexity as papers on pruning
 * measure it. How a set is scored is in tasks/.
 */
import { meanOver, notesOf, standardError, type TaskName, type TaskResult } from "../../protocol/evaluationTasks.ts";
import { UserError } from "../../protocol/userError.ts";
import { type KnownModel, openModel } from "../inference.ts";
import { defaultScoring, evaluatePrepared, type PreparedTask, prepareTask } from "../tasks/evaluateTask.ts";
import { type PerplexityResult, perplexity, textWindows } from "../tasks/perplexity.ts";
import { parseTasks } from "../tasks/taskTable.ts";
import { formatLoss } from "../terminal/format.ts";
import { ProgressBar } from "../terminal/progressBar.ts";
import { styleOf } from "../terminal/style.ts";
import { printNotes } from "./notes.ts";
import type { EvaluatePerplexityOptions, EvaluateTasksOptions, TaskListOptions, Waiting } from "./options.ts";

export type OnTaskProgress = (task: TaskName, done: number, of: number) => void;

/** Evaluates task after task. All files are read before the model is. Throws UserError for what cannot be read or scored as asked. */
export async function evaluateTasksOn(
  { modelOrRun, base, tasks, data, scoring, rows, batchSize }: Omit<EvaluateTasksOptions, "json" | "verbose">,
  { onNotes, onProgress, signal }: Waiting & { onProgress: OnTaskProgress },
): Promise<TaskResult[]> {
  const prepared: PreparedTask[] = [];
  for (const task of tasks) prepared.push(await prepareTask({ task, data, rows, scoring: scoring ?? defaultScoring(task), batchSize }));
  checkFiles(prepared);
  const opened = await openModel(modelOrRun, { device: "auto", threads: "auto", positions: 1, base });
  try {
    onNotes(opened.reasons);
    const results: TaskResult[] = [];
    for (const task of prepared) {
      onProgress(task.task.name, 0, task.rows.rows.length);
      results.push(await evaluatePrepared(opened, task, (done, of) => onProgress(task.task.name, done, of), signal));
    }
    return results;
  } finally {
    opened.close();
  }
}

/** One file is one task's. */
function checkFiles(prepared: readonly PreparedTask[]): void {
  for (const [i, { rows, task }] of prepared.entries()) {
    const other = prepared.slice(0, i).find((earlier) => earlier.rows.file === rows.file);
    if (!other) continue;
    throw new UserError(
      "task/one-file",
      `${rows.file} cannot be the file of both ${other.task.name} and ${task.name}.`,
      "Give a folder with a file for each task, or ask for one task.",
    );
  }
}

/** Perplexity of a text. */
export async function perplexityOn(
  { modelOrRun, base, text, sequenceLength }: Omit<EvaluatePerplexityOptions, "json" | "verbose">,
  { onNotes, onProgress, signal }: Waiting & { onProgress(done: number, of: number): void },
): Promise<PerplexityResult> {
  const prepare = (known: KnownModel) => textWindows(known, text, sequenceLength);
  const opened = await openModel(modelOrRun, { device: "auto", threads: "auto", positions: 1, base, prepare });
  try {
    onNotes(opened.reasons);
    return await perplexity(opened, opened.prepared, { onProgress, signal });
  } finally {
    opened.close();
  }
}

/** Prints a line a task and the mean over tasks. */
export async function evaluateTasks({ json, tasks: list, ...asked }: TaskListOptions): Promise<number> {
  const tasks = parseTasks(list);
  const bar = progress();
  const results = await evaluateTasksOn({ ...asked, tasks }, { onNotes: printNotes, onProgress: (task, done, of) => bar.update(task, done, of) });
  bar.finish();
  const mean = meanOver(results);
  process.stdout.write(json ? `${JSON.stringify({ results, mean })}\n` : `${resultLines(results).join("\n")}\n`);
  printNotes(notesOf(results));
  return 0;
}

/** Prints perplexity, mean NLL in nats and what it was measured on. */
export async function evaluatePerplexity({ json, ...asked }: EvaluatePerplexityOptions): Promise<number> {
  const bar = progress();
  const result = await perplexityOn(asked, { onNotes: printNotes, onProgress: (done, of) => bar.update("Windows", done, of) });
  bar.finish();
  const { windows, sequenceLength, droppedTokens } = result;
  const text = `perplexity ${result.perplexity.toFixed(3)}, loss ${formatLoss(result.loss)}, over ${windows} ${windows === 1 ? "window" : "windows"} of ${sequenceLength} tokens without overlap; ${droppedTokens} tokens at the end left out`;
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : `${text}\n`);
  return 0;
}

/** A bar on standard error where somebody watches; nothing else. */
function progress(): { update(label: string, step: number, of: number): void; finish(): void } {
  const style = styleOf(process.stderr);
  const bar = style.interactive ? new ProgressBar(process.stderr, style) : null;
  return { update: (label, step, of) => bar?.update({ label, step, of }), finish: () => bar?.finish() };
}

/** The results as a table of text, each accuracy with its standard error beside its floor, and what is compared said below. */
export function resultLines(results: readonly TaskResult[]): string[] {
  const mean = meanOver(results);
  const rows = [
    ["", "accuracy", "floor", "rows", "scored by"],
    ...results.map((result) => [
      result.title,
      `${percent(result.accuracy)} ± ${(100 * standardError(result)).toFixed(1)}`,
      floorText(result),
      String(result.total),
      result.scoring === "generation" ? "generation" : "log-likelihood",
    ]),
    ...(results.length > 1
      ? [["mean", percent(mean.accuracy), mean.majorityFloor === null ? "-" : percent(mean.majorityFloor), "", "unweighted, over sets"]]
      : []),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === 1 || column === 3 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))),
  );
  return [...lines.map((cells) => cells.join("  ").trimEnd()), ...explanations(results)];
}

function floorText({ majorityFloor, publishedFloor }: TaskResult): string {
  if (majorityFloor === null) return "-";
  return `${percent(majorityFloor)}${publishedFloor === null ? "" : " as published"}`;
}

function explanations(results: readonly TaskResult[]): string[] {
  const perToken = results.filter(({ accuracyPerToken }) => accuracyPerToken !== null);
  const unanswered = results.filter((result) => result.unanswered);
  const list = (all: readonly TaskResult[], figure: (result: TaskResult) => string) =>
    all.map((result) => `${result.title} ${figure(result)}`).join(", ");
  return [
    ...(results.some(({ majorityFloor }) => majorityFloor !== null) ? ["floor: always giving the file's most frequent answer"] : []),
    ...(perToken.length > 0
      ? [
          `log-likelihood: the candidate with the largest sum over its tokens; by the mean per token: ${list(perToken, ({ accuracyPerToken }) => percent(accuracyPerToken ?? 0))}`,
        ]
      : []),
    ...(unanswered.length > 0
      ? [`no answer found in the text, counted as wrong: ${list(unanswered, (result) => `${result.unanswered} of ${result.total}`)}`]
      : []),
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
