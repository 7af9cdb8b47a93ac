/** What the lines of a comparison say together, and what is run next: decided from the lines alone, in any state of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { nextWork, remainingMs, workName } from "../../../src/core/compare/queue.ts";
import { asComparisonLine, type ComparisonLine, parseComparisonLines } from "../../../src/protocol/compareResults.ts";
import { type ComparisonSummary, summarise } from "../../../src/protocol/compareSummary.ts";
import { finishedLines, plan, planWithTask, point, result, score } from "./comparisonLines.ts";

const [a, b] = [point("A", 100, 96), point("B", 100, 104)];
const rates = [1e-3, 1e-2];
const seeds = [1, 2, 3];
const start: ComparisonLine[] = [plan([a, b], rates, seeds)];
const of = (lines: readonly ComparisonLine[]) => summarise(lines) as ComparisonSummary;
const none = new Set<string>();
const nextRun = (summary: ComparisonSummary, tried: ReadonlySet<string>) => nextWork(summary, tried)?.run ?? null;
const close = (actual: number | null, expected: number) =>
  assert.ok(actual !== null && Math.abs(actual - expected) < 1e-12, `${actual}, not ${expected}`);

test("first the learning rates with the first seed, then the other seeds at the best one, point after point", () => {
  const lines = [...start];
  const order: string[] = [];
  const loss: Record<string, number> = { "a-100-lr0.001-seed1": 2, "a-100-lr0.01-seed1": 1, "b-100-lr0.001-seed1": 1, "b-100-lr0.01-seed1": 2 };
  for (let run = nextRun(of(lines), none); run; run = nextRun(of(lines), none)) {
    order.push(run.run);
    lines.push(result(run.point, run.learningRate, run.seed, loss[run.run] ?? 1.5));
  }
  assert.deepEqual(order, [
    "a-100-lr0.001-seed1",
    "a-100-lr0.01-seed1",
    "a-100-lr0.01-seed2",
    "a-100-lr0.01-seed3",
    "b-100-lr0.001-seed1",
    "b-100-lr0.01-seed1",
    "b-100-lr0.001-seed2",
    "b-100-lr0.001-seed3",
  ]);
  const { points, runsDone, runsInAll } = of(lines);
  assert.deepEqual([runsDone, runsInAll], [8, 8]);
  assert.deepEqual(
    points.map(({ learningRate, atEdge }) => [learningRate, atEdge]),
    [
      [1e-2, "highest"],
      [1e-3, "lowest"],
    ],
  );
});

test("mean and sample deviation over the seeds of the chosen rate; none before it is chosen", () => {
  const searching = of([...start, result(a, 1e-3, 1, 2)]).points[0];
  assert.deepEqual([searching.mean, searching.learningRate, searching.runs], [null, null, []]);
  const one = of([...start, result(a, 1e-3, 1, 2), result(a, 1e-2, 1, 1)]).points[0];
  assert.deepEqual([one.mean, one.spread, one.seedsDone], [1, null, 1]);
  const all = of([...start, result(a, 1e-3, 1, 2), result(a, 1e-2, 1, 1), result(a, 1e-2, 2, 1.5), result(a, 1e-2, 3, 2)]).points[0];
  close(all.mean, 1.5);
  close(all.spread, 0.5);
  assert.equal(all.lossBefore, 3);
});

test("a rate that diverged is never chosen, a point at which all diverged has no seeds to run", () => {
  const some = of([...start, result(a, 1e-3, 1, 2), result(a, 1e-2, 1, null)]).points[0];
  assert.equal(some.learningRate, 1e-3);
  assert.deepEqual(some.ended, { diverged: 1, failed: 0 });
  const hopeless = of([...start, result(a, 1e-3, 1, null), result(a, 1e-2, 1, null)]);
  assert.equal(hopeless.points[0].learningRate, null);
  assert.equal(nextRun(hopeless, none)?.point.id, "b-100");
  assert.deepEqual([hopeless.runsDone, hopeless.runsInAll], [2, 6]);
});

test("a diverged seed does not count in the mean, and is said", () => {
  const lines = [...start, result(a, 1e-3, 1, 2), result(a, 1e-2, 1, 1), result(a, 1e-2, 2, null), result(a, 1e-2, 3, 2)];
  const [summary] = of(lines).points;
  close(summary.mean, 1.5);
  assert.deepEqual([summary.seedsDone, summary.ended.diverged], [2, 1]);
});

test("a run that failed is tried again in another session, once", () => {
  const failed = result(a, 1e-3, 1, null, { status: "failed", message: "no memory" });
  const lines = [...start, failed];
  assert.equal(nextRun(of(lines), none)?.run, "a-100-lr0.001-seed1");
  assert.equal(nextRun(of(lines), new Set(["train a-100-lr0.001-seed1"]))?.run, "a-100-lr0.01-seed1");
  const again = of([...lines, result(a, 1e-3, 1, 2)]);
  assert.equal(again.points[0].search[0].result?.status, "done", "the last line about a run counts");
});

test("one learning rate is no search", () => {
  const lines = [plan([a], [1e-3], [4, 5])];
  const summary = of(lines);
  assert.deepEqual(
    [summary.points[0].search.length, summary.points[0].learningRate, summary.runsInAll, summary.points[0].atEdge],
    [0, 1e-3, 2, null],
  );
  assert.equal(nextRun(summary, none)?.run, "a-100-lr0.001-seed4");
});

test("what is left takes the mean time of the same method's runs", () => {
  assert.equal(remainingMs(of(start), null), null);
  const lines = [...start, result(a, 1e-3, 1, 2, { seconds: 10 }), result(a, 1e-2, 1, 1, { seconds: 20 })];
  // Of A two seeds at 15 s; of B, which has no time yet, two rates and two seeds at A's.
  assert.equal(remainingMs(of(lines), null), 6 * 15_000);
  const run = nextRun(of(lines), none);
  assert.ok(run);
  assert.equal(remainingMs(of(lines), { run, doneShare: 0.05, elapsedMs: 5000 }), 6 * 15_000 - 5000);
});

test("every line is checked: what is none is passed over by readers", () => {
  const text = finishedLines()
    .map((line) => JSON.stringify(line))
    .join("\n");
  assert.deepEqual(parseComparisonLines(`${text}\n{"kind":"result"}\nnot json\n{"kind":"plan","poin`), finishedLines());
  assert.equal(asComparisonLine({ ...finishedLines()[1], run: "../../etc" }), null, "a run's name leads nowhere else");
  assert.equal(asComparisonLine({ kind: "toString" }), null);
});

test("the end is the last line's word", () => {
  assert.equal(of(finishedLines()).outcome, "done");
  assert.equal(of([...finishedLines(), plan([a], rates, seeds)]).outcome, null, "a session that began after it has not ended");
});

test("with a task the untrained model is scored first, then each run at the chosen learning rate as soon as it is known", () => {
  const lines: ComparisonLine[] = [planWithTask([a], rates, [1, 2])];
  const order: string[] = [];
  for (let work = nextWork(of(lines), none); work; work = nextWork(of(lines), none)) {
    order.push(workName(work));
    if (work.kind === "score") lines.push(score(work.run?.run ?? "untrained", 0.5));
    else lines.push(result(work.run.point, work.run.learningRate, work.run.seed, work.run.learningRate === 1e-2 ? 1 : 2));
  }
  assert.deepEqual(order, [
    "score untrained",
    "train a-100-lr0.001-seed1",
    "train a-100-lr0.01-seed1",
    "score a-100-lr0.01-seed1",
    "train a-100-lr0.01-seed2",
    "score a-100-lr0.01-seed2",
  ]);
});

test("where accuracy is the criterion every rate is scored and the most accurate is kept; of equals the one with the lower loss", () => {
  const lines: ComparisonLine[] = [planWithTask([a], [1e-3, 1e-2, 0.1], [1, 2], "accuracy"), score("untrained", 0.4)];
  const losses = new Map([
    [1e-3, 1],
    [1e-2, 3],
    [0.1, 2],
  ]);
  for (const [rate, loss] of losses) lines.push(result(a, rate, 1, loss));
  assert.equal(of(lines).points[0].learningRate, null, "nothing is chosen before the scores are there");
  assert.equal(of(lines).runsInAll, 4);
  lines.push(score("a-100-lr0.001-seed1", 0.5), score("a-100-lr0.01-seed1", 0.7), score("a-100-lr0.1-seed1", 0.7));
  assert.equal(of(lines).points[0].learningRate, 0.1);
  lines.push(score("a-100-lr0.01-seed1", null));
  assert.equal(of(lines).points[0].learningRate, null, "a score that failed is tried again");
  assert.equal(nextRun(of(lines), none)?.run, "a-100-lr0.01-seed1");
});

test("accuracy has mean, spread and number of its own; scores of another task do not count", () => {
  const lines: ComparisonLine[] = [planWithTask([a], [1e-2], [1, 2, 3]), score("untrained", 0.4)];
  for (const seed of [1, 2, 3]) lines.push(result(a, 1e-2, seed, 1));
  lines.push(score("a-100-lr0.01-seed1", 0.5), score("a-100-lr0.01-seed2", 0.7), { ...score("a-100-lr0.01-seed3", 0.9), task: "another" });
  const { points, task } = of(lines);
  close(points[0].accuracy, 0.6);
  close(points[0].accuracySpread, Math.sqrt(0.02));
  assert.deepEqual([points[0].scored, points[0].seedsDone], [2, 3]);
  assert.deepEqual([task?.before?.accuracy, task?.majorityFloor], [0.4, 0.6]);
  assert.equal(nextRun(of(lines), none)?.run, "a-100-lr0.01-seed3");
});
