/**
 * Accuracy of an open model on one test set, by the protocol that published figures follow: the Alpaca prompt, the answers read by fixed rules, every
 * row counted. What is not known is null, and what the figure does not say stands in the notes.
 * The rule to keep: a figure is never without its floor where there is one, and rows that were left out are counted.
 */
import type { TaskName, TaskResult, TaskScoring } from "../../protocol/evaluationTasks.ts";
import { UserError } from "../../protocol/userError.ts";
import { padTokenId } from "../data/loadData.ts";
import type { OpenModel } from "../inference.ts";
import type { Llama } from "../model/llama.ts";
import { ropeTables } from "../model/rope.ts";
import { extractAnswer, isCorrect } from "./answers.ts";
import { candidateText, encodeCandidates, encodePrompt } from "./prompts.ts";
import { scoreByGeneration } from "./scoreByGeneration.ts";
import { scoreByLogLikelihood } from "./scoreByLogLikelihood.ts";
import { findTaskFile, readTaskRows, type TaskRow, type TaskRows } from "./taskFiles.ts";
import { type Task, taskOf } from "./taskTable.ts";
import { trainingOverlap } from "./trainingOverlap.ts";

export type { TaskName, TaskResult, TaskScoring };

export const defaultTaskBatch = 16;

export interface TaskOptions {
  task: TaskName;
  /** The task's file, or a folder in the LLM-Adapters layout. */
  data: string;
  /** The first so many rows; null for all. */
  rows: number | null;
  scoring: TaskScoring;
  /** Prompts that are worked on at once. */
  batchSize: number;
}

/** A task that is ready for a model: its file has been read, and it can be scored as asked. */
export interface PreparedTask {
  task: Task;
  options: TaskOptions;
  rows: TaskRows;
}

/** How a task is scored where nothing is said: by log-likelihood if it offers answers. */
export function defaultScoring(task: TaskName): TaskScoring {
  return taskOf(task).answer.kind === "number" ? "generation" : "logLikelihood";
}

/** Reads the task's file; no model is needed yet. Throws UserError `task/…` or `data/…`. */
export async function prepareTask(options: TaskOptions): Promise<PreparedTask> {
  const task = taskOf(options.task);
  if (options.scoring === "logLikelihood" && task.answer.kind === "number")
    throw new UserError("task/no-candidates", `${task.name} offers no answers to choose from.`, "Score it by generation.");
  return { task, options, rows: await readTaskRows(task, await findTaskFile(task, options.data), options.rows) };
}

/** Evaluates one task. Rejects with the signal's reason when it is given up. */
export async function evaluateTask(
  open: OpenModel,
  options: TaskOptions,
  onProgress: (done: number, of: number) => void,
  signal?: AbortSignal,
): Promise<TaskResult> {
  return evaluatePrepared(open, await prepareTask(options), onProgress, signal);
}

/** The same for a task whose file has been read. */
export async function evaluatePrepared(
  open: OpenModel,
  { task, options, rows }: PreparedTask,
  onProgress: (done: number, of: number) => void,
  signal?: AbortSignal,
): Promise<TaskResult> {
  const overlap = open.config ? await trainingOverlap(open.config, rows.rows) : null;
  const scored = await (options.scoring === "logLikelihood" ? likeliestAnswers : writtenAnswers)(open, { task, options, rows }, onProgress, signal);
  const { used, answers } = scored;
  if (used.length === 0)
    throw new UserError(
      "task/too-long",
      `No row of ${rows.file} fits into the ${open.model.config.maxPositions} positions of the model.`,
      "Evaluate a model with more positions.",
    );
  const right = (given: readonly (string | null)[]) => used.filter((row, i) => isCorrect(task.answer, given[i], row.answer)).length;
  const correct = right(answers);
  const tooLong = rows.rows.length - used.length;
  const { perToken } = scored;
  return {
    task: task.name,
    title: task.title,
    file: rows.file,
    scoring: options.scoring,
    accuracy: correct / used.length,
    correct,
    total: used.length,
    skipped: tooLong + rows.skipped.length,
    majorityFloor: rows.majorityFloor,
    publishedFloor: publishedFloor(task, rows.majorityFloor),
    accuracyPerToken: perToken ? right(perToken) / used.length : null,
    unanswered: perToken ? null : answers.filter((answer) => answer === null).length,
    trainedOn: overlap?.count ?? null,
    notes: [...(overlap?.notes ?? []), ...skippedNotes(rows, tooLong), ...scored.notes],
  };
}

function publishedFloor({ publishedFloor: published }: Task, floor: number | null): number | null {
  return published !== null && floor !== null && (100 * floor).toFixed(1) === published.toFixed(1) ? published / 100 : null;
}

function skippedNotes({ skipped, file }: TaskRows, tooLong: number): string[] {
  const listed = skipped.slice(0, 3).map(({ line, reason }) => `line ${line}: ${reason}`);
  return [
    ...(skipped.length > 0 ? [`${countOf(skipped.length)} of ${file} left out (${listed.join("; ")}).`] : []),
    ...(tooLong > 0 ? [`${countOf(tooLong)} of ${file} left out, longer than the model's positions.`] : []),
  ];
}

function countOf(rows: number): string {
  return `${rows} ${rows === 1 ? "row" : "rows"}`;
}

/** Answers of the rows that could be asked; null where the model gave none. */
interface Answers {
  used: readonly TaskRow[];
  answers: (string | null)[];
  /** By the likelihood per token. */
  perToken?: string[];
  notes: string[];
}

type Score = (open: OpenModel, task: PreparedTask, onProgress: (done: number, of: number) => void, signal?: AbortSignal) => Promise<Answers>;

const likeliestAnswers: Score = async (open, { task, options, rows }, onProgress, signal) => {
  const { model, tokenizer } = open;
  const encoded = rows.rows.map((row) => ({ row, ...encodeRow(open, task, row) }));
  const lengthOf = ({ prompt, candidates }: (typeof encoded)[number]) => prompt.length + Math.max(...candidates.map(({ length }) => length)) - 1;
  const asked = encoded.filter((one) => lengthOf(one) <= model.config.maxPositions);
  if (asked.length === 0) return { used: [], answers: [], notes: [] };
  const sums = await withPositions(model, Math.max(...asked.map(lengthOf)), (long) => {
    open.method.beginBatch?.(null);
    return scoreByLogLikelihood(long, open.method, asked, {
      batchSize: options.batchSize,
      padTokenId: padTokenId(tokenizer, model.config),
      onProgress: (done, of) => onProgress(Math.floor((done / of) * asked.length), asked.length),
      signal,
    });
  });
  const best = (scores: ArrayLike<number>, { offered }: TaskRow) => offered[Array.from(scores).indexOf(Math.max(...Array.from(scores)))];
  const perToken = asked.map(({ row, candidates }, i) =>
    best(
      sums[i].map((sum, candidate) => sum / candidates[candidate].length),
      row,
    ),
  );
  const answers = asked.map(({ row }, i) => best(sums[i], row));
  return { used: asked.map(({ row }) => row), answers, perToken, notes: [] };
};

function encodeRow({ tokenizer, model }: OpenModel, { answer }: Task, row: TaskRow) {
  const encoded = encodeCandidates(
    tokenizer,
    row,
    row.offered.map((offered) => candidateText(answer, offered)),
  );
  checkIds(encoded.prompt, model, row);
  for (const candidate of encoded.candidates) checkIds(candidate, model, row);
  return encoded;
}

const writtenAnswers: Score = async (open, { task, options, rows }, onProgress, signal) => {
  const { model, tokenizer } = open;
  const { maxPositions, eosTokenIds } = model.config;
  const prompts = rows.rows.map((row) => {
    const prompt = encodePrompt(tokenizer, row);
    checkIds(prompt, model, row);
    return { row, prompt };
  });
  const asked = prompts.filter(({ prompt }) => prompt.length < maxPositions);
  const cut = asked.filter(({ prompt }) => prompt.length + task.newTokens > maxPositions).length;
  open.method.beginBatch?.(null);
  const texts = await scoreByGeneration(
    model,
    open.method,
    tokenizer,
    asked.map(({ prompt }) => prompt),
    {
      tokens: task.newTokens,
      batchSize: options.batchSize,
      stopIds: tokenizer.eosTokenId === null ? eosTokenIds : [...eosTokenIds, tokenizer.eosTokenId],
      padTokenId: padTokenId(tokenizer, model.config),
      onProgress,
      signal,
    },
  );
  const answers = texts.map((text) => extractAnswer(task.answer, text));
  const short = `${countOf(cut)} had less room than ${task.newTokens} tokens for the answer: the model has ${maxPositions} positions.`;
  return { used: asked.map(({ row }) => row), answers, notes: cut > 0 ? [short] : [] };
};

function checkIds(ids: ArrayLike<number>, { config }: Llama, { line }: TaskRow): void {
  for (let place = 0; place < ids.length; place++) {
    if (ids[place] < config.vocabSize) continue;
    throw new UserError(
      "task/token-outside-vocabulary",
      `The row of line ${line} gives the token id ${ids[place]}, but the model has only ${config.vocabSize} tokens.`,
      "Use the tokenizer that belongs to the model.",
    );
  }
}

/** Runs the model with rotary tables that reach so many positions. */
export async function withPositions<T>(model: Llama, positions: number, work: (model: Llama) => Promise<T>): Promise<T> {
  const rope = ropeTables(model.device, model.config, positions);
  try {
    return await work({ ...model, rope });
  } finally {
    for (const tensor of [rope.cos, rope.sin]) model.device.free(tensor);
  }
}
