/**
 * A task from its file to its accuracy: the figures are those of every row judged alone, rows that do not fit are counted, training on the questions is
 * found out, and what cannot be scored as asked is refused.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { generate } from "../../../src/core/generate.ts";
import type { OpenModel } from "../../../src/core/inference.ts";
import { extractAnswer, isCorrect } from "../../../src/core/tasks/answers.ts";
import { defaultScoring, evaluateTask, type TaskOptions } from "../../../src/core/tasks/evaluateTask.ts";
import { candidateText, promptText } from "../../../src/core/tasks/prompts.ts";
import { findTaskFile, readTaskRows } from "../../../src/core/tasks/taskFiles.ts";
import { taskOf } from "../../../src/core/tasks/taskTable.ts";
import { parseRunFile } from "../../../src/protocol/runConfig.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice } from "../../support/devices.ts";
import { sharedData } from "../../support/sharedData.ts";
import { candidateLogLikelihood } from "./directScores.ts";
import { fixtures, storyForTasks } from "./openStory.ts";

let open: OpenModel;
before(async () => {
  open = await storyForTasks(fastDevice(), "f32");
});
after(() => open.close());
const home = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-tasks-"));
after(() => rmSync(home, { recursive: true, force: true }));

const asked = (options: Partial<TaskOptions>): TaskOptions => ({
  task: "arc_easy",
  data: fixtures,
  rows: null,
  scoring: "logLikelihood",
  batchSize: 4,
  ...options,
});

/** Right rows by the sum and by the mean per token, each candidate scored alone. */
async function directly({ tokenizer }: OpenModel, { task: name, data, rows: limit }: TaskOptions): Promise<[number, number]> {
  const task = taskOf(name);
  const { rows } = await readTaskRows(task, await findTaskFile(task, data), limit);
  const right = [0, 0];
  for (const row of rows) {
    const scores: [number, number][] = [];
    for (const offered of row.offered) {
      const [prompt, candidate] = tokenizer.encodeSegments([promptText(row), candidateText(task.answer, offered)]);
      const sum = await candidateLogLikelihood(open, [...tokenizer.prefixIds, ...prompt], candidate);
      scores.push([sum, sum / candidate.length]);
    }
    for (const by of [0, 1]) {
      const best = scores.reduce((best, score, i) => (score[by] > scores[best][by] ? i : best), 0);
      if (row.offered[best] === row.answer) right[by]++;
    }
  }
  return right as [number, number];
}

test("by log-likelihood, a set's accuracy is that of its rows judged one by one", async () => {
  const totals = { arc_easy: 12, boolq: 10, hellaswag: 4, mathqa: 4 };
  const floors = { arc_easy: 5 / 12, boolq: 0.6, hellaswag: 0.25, mathqa: 0.25 };
  for (const task of ["arc_easy", "boolq", "hellaswag", "mathqa"] as const) {
    const progress: [number, number][] = [];
    const options = asked({ task });
    const result = await evaluateTask(open, options, (done, of) => progress.push([done, of]));
    const [bySum, perToken] = await directly(open, options);
    const total = totals[task];
    assert.deepEqual([result.correct, result.total, result.accuracy], [bySum, total, bySum / total], task);
    assert.equal(result.accuracyPerToken, perToken / total);
    assert.deepEqual([result.skipped, result.unanswered, result.trainedOn, result.notes, result.scoring], [0, null, null, [], "logLikelihood"]);
    assert.deepEqual([result.majorityFloor, result.publishedFloor], [floors[task], null]);
    assert.ok(progress.length >= total / 4 && progress.every(([done], i) => i === 0 || done >= progress[i - 1][0]));
    assert.deepEqual(progress.at(-1), [total, total]);
  }
});

test("by generation, it is that of what the model writes for each row alone", async () => {
  for (const task of ["boolq", "addsub", "gsm8k", "hellaswag"] as const) {
    const { answer, newTokens } = taskOf(task);
    const result = await evaluateTask(open, asked({ task, scoring: "generation", batchSize: 3 }), () => {});
    const { rows } = await readTaskRows(taskOf(task), await findTaskFile(taskOf(task), fixtures), null);
    const given: (string | null)[] = [];
    for (const row of rows) {
      const prompt = Int32Array.from(open.tokenizer.encode(promptText(row), { addSpecialTokens: true }));
      const stopIds = [open.tokenizer.eosTokenId ?? 2];
      const ids = await generate(open.model, prompt, { tokens: newTokens, temperature: 0, seed: 1, stopIds });
      given.push(extractAnswer(answer, open.tokenizer.decode(ids, { skipSpecial: true })));
    }
    assert.equal(result.correct, rows.filter((row, i) => isCorrect(answer, given[i], row.answer)).length, task);
    assert.deepEqual([result.total, result.unanswered], [rows.length, given.filter((one) => one === null).length], task);
    assert.deepEqual([result.accuracyPerToken, result.scoring], [null, "generation"]);
  }
});

test("the first rows alone are asked for, and the floor stays the file's", async () => {
  const result = await evaluateTask(open, asked({ rows: 3 }), () => {});
  assert.deepEqual([result.total, result.majorityFloor], [3, 5 / 12]);
});

test("rows too long for the model are left out and counted; when none fits it is refused", async () => {
  const lengths = (await readTaskRows(taskOf("boolq"), await findTaskFile(taskOf("boolq"), fixtures), null)).rows.map(
    (row) => open.tokenizer.encode(promptText(row), { addSpecialTokens: true }).length,
  );
  const [shortest, longest] = [Math.min(...lengths), Math.max(...lengths)];
  const within = (maxPositions: number): OpenModel => ({ ...open, model: { ...open.model, config: { ...open.model.config, maxPositions } } });
  const written = await evaluateTask(within(longest), asked({ task: "boolq", scoring: "generation" }), () => {});
  const fitting = lengths.filter((length) => length < longest).length;
  assert.deepEqual([written.total, written.skipped], [fitting, 10 - fitting]);
  assert.match(written.notes.join("\n"), /left out, longer than the model's positions/);
  assert.match(written.notes.join("\n"), /less room than 32 tokens/);
  // The last token of an answer is predicted, not read.
  const answers = ["true", "false"].map((word) => open.tokenizer.encodeSegments(["\n", candidateText(taskOf("boolq").answer, word)])[1].length);
  const scored = await evaluateTask(within(longest + Math.max(...answers) - 2), asked({ task: "boolq" }), () => {});
  assert.deepEqual([scored.total, scored.skipped], [fitting, 10 - fitting]);
  for (const scoring of ["generation", "logLikelihood"] as const)
    await assert.rejects(
      evaluateTask(within(shortest), asked({ task: "boolq", scoring }), () => {}),
      (error) => error instanceof UserError && error.code === "task/too-long",
    );
});

test("numbers cannot be scored by log-likelihood; a task's own way is found", async () => {
  await assert.rejects(
    evaluateTask(open, asked({ task: "gsm8k" }), () => {}),
    (error) => error instanceof UserError && error.code === "task/no-candidates" && /generation/.test(error.action),
  );
  assert.deepEqual([defaultScoring("gsm8k"), defaultScoring("aqua"), defaultScoring("boolq")], ["generation", "logLikelihood", "logLikelihood"]);
});

test("a run that was trained on the questions is told, in whatever layout it read them; one that was not is not", async () => {
  const rows = JSON.parse(readFileSync(path.join(fixtures, "AddSub/test.json"), "utf8")) as { instruction: string; output: string }[];
  const layouts: Record<string, (row: (typeof rows)[number]) => object> = {
    alpaca: (row) => row,
    questionAnswer: ({ instruction }) => ({ question: `  ${instruction.toUpperCase()}`, answer: "another answer" }),
    chat: ({ instruction, output }) => ({
      messages: [
        { role: "user", content: instruction },
        { role: "assistant", content: output },
      ],
    }),
  };
  const config = (file: string, more = "") => parseRunFile(`model: m\ndata: { train: ${file}${more} }\n`, path.join(home, "run.yaml"));
  const task = (ofRun: OpenModel["config"]) => evaluateTask({ ...open, config: ofRun }, asked({ task: "addsub", scoring: "generation" }), () => {});
  const other = { instruction: "Say hello.", output: "Hello." };
  for (const [name, layout] of Object.entries(layouts)) {
    const file = path.join(home, `${name}.jsonl`);
    writeFileSync(file, [other, rows[1], rows[3]].map((row) => JSON.stringify(layout(row))).join("\n"));
    const { trainedOn, notes } = await task(config(file));
    assert.equal(trainedOn, 2, name);
    assert.match(notes[0], /^Warning: 2 of these 4 questions stand in the run's training data/, name);
    assert.equal(/other prompts than the task's/.test(notes.join()), name !== "alpaca", name);
  }
  const alpaca = path.join(home, "alpaca.jsonl");
  assert.deepEqual(await task(config(alpaca, ", maxRows: 1")).then(({ trainedOn, notes }) => [trainedOn, notes]), [0, []]);
  const gone = await task(config(path.join(home, "gone.jsonl")));
  assert.equal(gone.trainedOn, null);
  assert.match(gone.notes[0], /is not known/);
});

const real = sharedData("data-llm-adapters");

test("rows of the published files are scored as each alone", { skip: real === null && "not run: no shared data" }, async () => {
  for (const task of ["arc_challenge", "boolq", "piqa", "winogrande", "aqua"] as const) {
    const options = asked({ task, data: real as string, rows: 12, batchSize: 8 });
    const result = await evaluateTask(open, options, () => {});
    const [bySum, perToken] = await directly(open, options);
    assert.deepEqual([result.correct, result.accuracyPerToken, result.total], [bySum, perToken / 12, 12], task);
  }
});
