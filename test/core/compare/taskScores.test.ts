/**
 * A comparison that is scored on a test set too: its scores are those of `evaluate --task` on the same run folders, killed at any moment it goes on with the
 * same figures, and what cannot be scored is refused before the first run or said.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { ScoreLine } from "../../../src/protocol/compareResults.ts";
import type { TaskResult } from "../../../src/protocol/evaluationTasks.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { jsonLines, sparseTuner, temporaryFolder } from "../commands/commandLine.ts";
import { fixtures } from "../tasks/openStory.ts";
import { linesOf, onlyComparison, writeComparison } from "./smallComparison.ts";

const cli = path.resolve(import.meta.dirname, "../../../src/core/cli.ts");
const folder = temporaryFolder(after);
const task = { name: "arc_easy", data: fixtures, rows: 8, batchSize: 4 };
const settings = { methods: [{ name: "full" }], budgets: [], task };
const scoresOf = (comparison: string) => linesOf(comparison).flatMap((line) => (line.kind === "score" ? [line] : []));
const numbersOf = (scores: readonly ScoreLine[]) => scores.map(({ timeMs: _time, seconds: _seconds, ...rest }) => rest);
const hasCheckpoints = (comparison: string, run: string) => existsSync(path.join(comparison, "runs", run, "checkpoints"));
let undisturbed = "";

before(() => {
  const file = writeComparison(path.join(folder, "undisturbed"), settings);
  const { status, stderr } = sparseTuner(folder, "compare", file);
  assert.equal(status, 0, stderr);
  undisturbed = onlyComparison(file) as string;
});

/** What `evaluate` says of the same model and questions. */
function evaluated(modelOrRun: string): TaskResult {
  const given = ["--task", task.name, "--data", fixtures, "--rows", String(task.rows), "--json"];
  return jsonLines<{ results: TaskResult[] }>(sparseTuner(folder, "evaluate", modelOrRun, ...given))[0].results[0];
}

test("the untrained model and the runs at the chosen rate are scored, as evaluate scores them", () => {
  const results = linesOf(undisturbed).flatMap((line) => (line.kind === "result" ? [line] : []));
  const scores = scoresOf(undisturbed);
  const best = results.filter(({ seed }) => seed === 1).sort((a, b) => (a.lossAfter ?? 9) - (b.lossAfter ?? 9))[0];
  const chosen = results.filter(({ learningRate }) => learningRate === best.learningRate).map(({ run }) => run);
  assert.deepEqual(scores.map(({ run }) => run).sort(), [...chosen, "untrained"].sort());
  for (const { run, accuracy, correct, total, majorityFloor } of scores) {
    const alone = evaluated(run === "untrained" ? storyFolder : path.join(undisturbed, "runs", run));
    assert.deepEqual(
      { accuracy, correct, total, majorityFloor },
      (({ accuracy: a, correct: c, total: t, majorityFloor: m }) => ({ accuracy: a, correct: c, total: t, majorityFloor: m }))(alone),
      run,
    );
  }
  assert.match(readFileSync(path.join(undisturbed, "table.md"), "utf8"), /ARC-e \(floor 41\.7 %\)/);
  assert.match(readFileSync(path.join(undisturbed, "results.svg"), "utf8"), /ARC-e accuracy/);
});

test("killed while it scores, it goes on to the same figures and does no run again", { skip: process.platform === "win32" }, async () => {
  const file = writeComparison(path.join(folder, "killed"), settings);
  const child = spawn(process.execPath, [cli, "compare", file], { stdio: "ignore" });
  const exit = new Promise((resolve) => child.once("close", resolve));
  const progress = () => {
    try {
      return JSON.parse(readFileSync(path.join(onlyComparison(file) ?? "", "progress.json"), "utf8")) as { run: string; scoring?: string };
    } catch {
      return null;
    }
  };
  for (let waited = 0; ; waited += 2) {
    const now = progress();
    if (now?.scoring && now.run !== "untrained") break;
    assert.ok(child.exitCode === null && waited < 120_000, "a run that is being scored");
    await delay(2);
  }
  child.kill("SIGKILL");
  await exit;
  const comparison = onlyComparison(file) as string;
  const done = linesOf(comparison).filter(({ kind }) => kind === "result").length;
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  assert.deepEqual(numbersOf(scoresOf(comparison)), numbersOf(scoresOf(undisturbed)));
  assert.ok(done < 4 && linesOf(comparison).filter(({ kind }) => kind === "result").length === 3);
});

test("a task that is added to a finished comparison is scored then; with other questions, anew", () => {
  const file = writeComparison(path.join(folder, "added"), { ...settings, task: null, learningRates: [1e-3] });
  assert.equal(sparseTuner(folder, "compare", file).status, 0);
  const comparison = onlyComparison(file) as string;
  const config = path.join(comparison, "compare.yaml");
  const text = readFileSync(config, "utf8");
  for (const [rows, scores] of [
    [2, 3],
    [3, 6],
  ]) {
    writeFileSync(config, text.replace("task: null", `task: { name: arc_easy, data: ${JSON.stringify(fixtures)}, rows: ${rows} }`));
    const { status, stderr } = sparseTuner(folder, "compare", comparison);
    assert.equal(status, 0, stderr);
    assert.equal(scoresOf(comparison).length, scores);
    assert.equal(scoresOf(comparison).at(-1)?.total, rows);
  }
});

test("where accuracy chooses, every rate is scored; checkpoints go once nobody needs them", () => {
  const file = writeComparison(path.join(folder, "accuracy"), { ...settings, criterion: "accuracy", keepCheckpoints: "none", seeds: [1] });
  const { status, stdout, stderr } = sparseTuner(folder, "compare", file);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /highest accuracy on ARC-e/);
  const comparison = onlyComparison(file) as string;
  assert.deepEqual(
    scoresOf(comparison)
      .map(({ run }) => run)
      .sort(),
    ["full-lr0.001-seed1", "full-lr0.003-seed1", "untrained"],
  );
  for (const run of ["full-lr0.001-seed1", "full-lr0.003-seed1"]) assert.equal(hasCheckpoints(comparison, run), false, run);
});

test("a run that cannot be scored is said with its reason, and scored when the comparison is resumed", () => {
  const file = writeComparison(path.join(folder, "lost"), { ...settings, task: null, learningRates: [1e-3], seeds: [1] });
  assert.equal(sparseTuner(folder, "compare", file).status, 0);
  const comparison = onlyComparison(file) as string;
  const config = path.join(comparison, "compare.yaml");
  writeFileSync(config, readFileSync(config, "utf8").replace("task: null", `task: { name: arc_easy, data: ${JSON.stringify(fixtures)}, rows: 2 }`));
  rmSync(path.join(comparison, "runs", "full-lr0.001-seed1", "checkpoints"), { recursive: true });
  const { status, stderr } = sparseTuner(folder, "compare", comparison);
  assert.equal(status, 1);
  assert.match(stderr, /could not be scored for 1 of 2 models: full-lr0\.001-seed1: .* has no checkpoint/);
  assert.match(readFileSync(path.join(comparison, "results.csv"), "utf8"), /^full-lr0\.001-seed1,.*,done,.*,,,,,$/m);
});

test("a task's file that is not there, a scoring it has not and a criterion without a task are refused before the first run", () => {
  const cases: [object, RegExp][] = [
    [{ task: { name: "siqa", data: fixtures } }, /no file of the task siqa/],
    [{ task: { name: "addsub", data: fixtures, scoring: "logLikelihood" } }, /addsub offers no answers to choose from/],
    [{ task: { name: "bolq", data: fixtures } }, /task\.name must be .*did you mean boolq/],
    [{ task: null, criterion: "accuracy" }, /criterion must be loss where there is no task/],
  ];
  for (const [index, [overrides, said]] of cases.entries()) {
    const file = writeComparison(path.join(folder, `refused-${index}`), { ...settings, ...overrides });
    const { status, stderr } = sparseTuner(folder, "compare", file);
    assert.equal(status, 2);
    assert.match(stderr, said);
    assert.equal(onlyComparison(file), null);
  }
});
