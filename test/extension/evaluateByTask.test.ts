/** Evaluate by task, without a window: where the sets' files are looked for, and what the result says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import "./withVscode.ts";
import type { TaskResult } from "../../src/protocol/evaluationTasks.ts";

const { resultText, taskPlaces } = await import("../../src/extension/commands/evaluateByTask.ts");

const result = (more: Partial<TaskResult>): TaskResult => ({
  task: "arc_easy",
  title: "ARC-e",
  file: "/data/ARC-Easy/test.json",
  scoring: "logLikelihood",
  accuracy: 0.75,
  correct: 75,
  total: 100,
  skipped: 0,
  majorityFloor: 0.266,
  publishedFloor: 0.266,
  accuracyPerToken: 0.5,
  unanswered: null,
  trainedOn: null,
  notes: [],
  ...more,
});
const generated = result({
  title: "GSM8K",
  task: "gsm8k",
  scoring: "generation",
  accuracy: 0.25,
  correct: 25,
  majorityFloor: null,
  publishedFloor: null,
  accuracyPerToken: null,
  unanswered: 7,
});

test("a result shows each accuracy beside its floor, and says how it was found", () => {
  const text = resultText([result({ notes: ["Warning: seen."] })], "run-1", ["no native kernels"]);
  assert.match(text, /^# Tasks of run-1\n/);
  assert.match(text, /^\| ARC-e +\| +75\.0 % \| 4\.3 % \| 26\.6 % as published \| +75 \| +100 \|$/m);
  assert.match(text, /By the mean per token: ARC-e 50\.0 %\./);
  assert.match(text, /^- no native kernels\n- ARC-e: Warning: seen\.$/m);
  assert.match(text, /^- ARC-e: \/data\/ARC-Easy\/test\.json$/m);
  assert.doesNotMatch(text, /mean over tasks|generation/);
});

test("several have an unweighted mean, with a floor only where each has one; a floor of the file alone is not called published", () => {
  const both = resultText(
    [result({ total: 1000 }), result({ accuracy: 0.25, majorityFloor: 0.4, publishedFloor: null, title: "BoolQ", task: "boolq" })],
    "r",
    [],
  );
  assert.match(both, /^\| mean over tasks +\| +50\.0 % \| +\| +33\.3 % \|/m);
  assert.match(both, /^\| BoolQ +\| +25\.0 % \| 4\.3 % \| +40\.0 % \|/m);
  const seen = { notes: ["Other prompts.", "Warning: seen."] };
  const noted = resultText([result(seen), result({ notes: ["Other prompts."], title: "BoolQ", task: "boolq" })], "r", []);
  assert.match(noted, /^- Other prompts\.\n- ARC-e: Warning: seen\.$/m);
  const mixed = resultText([result({}), generated], "r", []);
  assert.match(mixed, /^\| mean over tasks +\| +50\.0 % \| +\| +– \|/m);
  assert.match(mixed, /No answer found, counted as wrong: GSM8K 7 of 100\./);
  assert.doesNotMatch(mixed, /## Notes/);
});

test("files are looked for by the names of the layout and of the tasks: one task's file, or the folder of several", () => {
  const files = [
    "/w/dataset/ARC-Easy/test.json",
    "/w/dataset/boolq/test.json",
    "/w/dataset/boolq/train.json",
    "/w/own/gsm8k.jsonl",
    "/w/other/test.json",
    "/w/rows.jsonl",
  ];
  assert.deepEqual(taskPlaces(["arc_easy"], files), ["/w/dataset/ARC-Easy/test.json"]);
  assert.deepEqual(taskPlaces(["gsm8k"], files), ["/w/own/gsm8k.jsonl"]);
  assert.deepEqual(taskPlaces(["arc_easy", "boolq"], files), ["/w/dataset"]);
  assert.deepEqual(taskPlaces(["boolq", "gsm8k"], files), ["/w/dataset", "/w/own"]);
  assert.deepEqual(taskPlaces(["piqa"], files), []);
});
