/** progress.json of a comparison: what it says of training, scoring and waiting, and that a full disk does not keep it from saying so. */
import assert from "node:assert/strict";
import fs, { readdirSync, readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { Value } from "typebox/value";
import { ProgressFile } from "../../../src/core/compare/progress.ts";
import { type ComparisonProgress, progressSchema } from "../../../src/protocol/compareResults.ts";
import { type ComparisonSummary, summarise } from "../../../src/protocol/compareSummary.ts";
import { temporaryFolder } from "../commands/commandLine.ts";
import { planWithTask, point, result, score } from "./comparisonLines.ts";

const folder = temporaryFolder(after);
const a = point("A", null, 100);
const lines = [planWithTask([a], [1e-3], [1, 2]), score("untrained", 0.5), result(a, 1e-3, 1, 2)];
const summary = summarise(lines) as ComparisonSummary;

function said(): ComparisonProgress {
  const value: unknown = JSON.parse(readFileSync(path.join(folder, "progress.json"), "utf8"));
  assert.ok(Value.Check(progressSchema, value), JSON.stringify(value));
  return value as ComparisonProgress;
}

test("training, scoring and the end are told apart; what is left counts the scores", () => {
  const progress = new ProgressFile(folder);
  progress.open(summary);
  assert.deepEqual([said().state, said().run], ["running", ""]);
  const [run] = summary.points[0].runs;
  progress.begin(run, summary);
  assert.deepEqual([said().run, said().scoring], [run.run, undefined]);
  // A run of 60 s and two scores of 5 s are left.
  assert.equal(Math.round((said().etaMs ?? 0) / 1000), 70);
  progress.beginScore("untrained", "BoolQ", summary);
  assert.deepEqual([said().run, said().scoring, said().step], ["untrained", "BoolQ", 0]);
  progress.end("done", summary, "");
  assert.deepEqual([said().state, said().run, said().scoring, said().etaMs], ["done", "", undefined, null]);
});

test("a full disk is said in the room that the file has", (context) => {
  const progress = new ProgressFile(folder);
  progress.begin(summary.points[0].runs[1], summary);
  // Nothing new can be written; what is there can be written over.
  const { writeFileSync } = fs;
  const full = (file: Parameters<typeof writeFileSync>[0], data: string, options?: { flag?: string }) => {
    if (options?.flag !== "r+") throw Object.assign(new Error("no space left"), { code: "ENOSPC" });
    writeFileSync(file, data, options);
  };
  const mocked = context.mock.method(fs, "writeFileSync", full as typeof writeFileSync);
  syncBuiltinESMExports();
  progress.waiting("The disk is full.");
  assert.equal(mocked.mock.callCount(), 2);
  context.mock.restoreAll();
  syncBuiltinESMExports();
  assert.deepEqual([said().state, said().message, said().run], ["waiting", "The disk is full.", "a-lr0.001-seed2"]);
  assert.deepEqual(readdirSync(folder), ["progress.json"]);
});
