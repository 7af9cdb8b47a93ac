/** What the Compare Runs view makes of the host's messages: states, rows, curves over each other. No DOM. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RunCard } from "../../src/protocol/compareProtocol.ts";
import type { ComparisonLine } from "../../src/protocol/compareResults.ts";
import { cardsCsv } from "../../webview/compare/csv.ts";
import {
  bestRun,
  type ComparisonView,
  canResume,
  curveData,
  gain,
  runRows,
  shownComparison,
  smoothed,
  stepsOf,
  valueNear,
} from "../../webview/compare/store.ts";
import { durationText, lossText } from "../../webview/compare/texts.ts";
import { finishedLines, plan, point, result } from "../core/compare/comparisonLines.ts";

const a = point("A", null, 100);
const lines: ComparisonLine[] = [plan([a], [1e-3, 1e-2], [1, 2]), result(a, 1e-3, 1, 2)];

function view(changes: Partial<ComparisonView> = {}): ComparisonView {
  return { kind: "comparison", folder: "/c", name: "c", lines, progress: null, live: false, trusted: true, failure: "", ...changes };
}

test("a comparison's state is told by its process, its last line and its log", () => {
  const state = (changes: Partial<ComparisonView>) => shownComparison(view(changes)).state;
  const ended = (outcome: "done" | "stopped" | "failed"): ComparisonLine[] => [...lines, { kind: "ended", timeMs: 1, outcome, message: "m" }];
  assert.equal(state({ lines: [], live: true }), "waiting");
  assert.equal(state({ lines: lines.slice(0, 1), live: true }), "waiting");
  assert.equal(state({ live: true }), "running");
  assert.equal(state({}), "interrupted");
  assert.equal(state({ lines: [] }), "notStarted");
  assert.equal(state({ lines: [], failure: "no model" }), "failed");
  assert.equal(state({ failure: "no model" }), "failed");
  for (const outcome of ["done", "stopped", "failed"] as const) assert.equal(state({ lines: ended(outcome) }), outcome);
  assert.equal(state({ lines: ended("stopped"), live: true }), "running", "resumed");
});

test("it can be resumed unless it lives, is done, or the workspace is not trusted", () => {
  const can = (changes: Partial<ComparisonView>) => canResume(shownComparison(view(changes)));
  assert.equal(can({}), true);
  assert.equal(can({ live: true }), false);
  assert.equal(can({ trusted: false }), false);
  assert.equal(can({ lines: finishedLines() }), false);
});

test("the rows are the runs that have ended and the one that is being done", () => {
  const progress = {
    state: "running",
    timeMs: 1,
    run: "a-lr0.01-seed1",
    step: 3,
    of: 10,
    runsDone: 1,
    runsInAll: 3,
    etaMs: null,
    message: "",
  } as const;
  const rows = (changes: Partial<ComparisonView>) => runRows(shownComparison(view(changes))).map(({ run, result: has }) => [run, has !== null]);
  assert.deepEqual(rows({ live: true, progress }), [
    ["a-lr0.001-seed1", true],
    ["a-lr0.01-seed1", false],
  ]);
  assert.deepEqual(rows({ progress }), [["a-lr0.001-seed1", true]], "without a process none is being done");
  assert.equal(rows({ lines: finishedLines() }).length, 20);
});

function card(id: string, lossBefore: number | null, lossAfter: number | null): RunCard {
  const none = { steps: [], values: [] };
  return {
    id,
    name: id,
    method: "smt",
    state: "finished",
    trainableParameters: null,
    lossBefore,
    lossAfter,
    peakBytes: 5,
    secondsPerStep: null,
    steps: 3,
    training: none,
    heldOut: none,
  };
}

test("the best run is the one with the lowest loss in the end, of at least two that have one", () => {
  assert.equal(bestRun([card("a", 3, 2), card("b", 3, null), card("c", 3, 1.5)]), 2);
  assert.equal(bestRun([card("a", 3, 2), card("b", 3, null)]), -1);
  assert.equal(bestRun([]), -1);
  assert.equal(gain(card("a", 3, 2)), -1);
  assert.equal(gain(card("a", null, 2)), null);
});

test("the CSV of runs side by side leaves out what was not measured", () => {
  assert.equal(
    cardsCsv([card("a,b", 3, null)]),
    'name,method,trainableParameters,lossBefore,lossAfter,peakBytes,secondsPerStep,steps\n"a,b",smt,,3,,5,,3\n',
  );
});

test("curves keep their own steps: a step that another one lacks is no gap in it", () => {
  const curves = [
    { steps: [1, 2, 3, 4], values: [4, 3, Number.NaN, 1] },
    { steps: [2, 4], values: [9, 8] },
  ];
  assert.deepEqual(stepsOf(curves), { first: 1, last: 4 });
  assert.deepEqual(curveData(curves, { from: 1, to: 4 }, 500, false), [
    [1, 2, 3, 4],
    [4, 3, null, 1],
    [undefined, 9, undefined, 8],
  ]);
  assert.deepEqual(curveData([{ steps: [1, 2], values: [0, 5] }], { from: 1, to: 2 }, 500, true)[1], [null, 5], "no logarithm of 0");
  assert.deepEqual(stepsOf([{ steps: [], values: [] }]), { first: 0, last: 0 });
});

test("a long curve is thinned to the pixels, to values that it has", () => {
  const steps = Array.from({ length: 50_000 }, (_, i) => i + 1);
  const values = steps.map((step) => Math.sin(step));
  const [drawn, column] = curveData([{ steps, values }], { from: 1, to: 50_000 }, 400, false);
  assert.ok(drawn.length > 400 && drawn.length < 2000, `${drawn.length}`);
  for (const [i, step] of drawn.entries()) assert.equal(column[i], values[step - 1]);
});

test("the value at the cursor is that of the nearest step, and none beyond the ends", () => {
  const curve = { steps: [10, 20, 40], values: [1, 2, Number.NaN] };
  assert.deepEqual(
    [10, 14, 16, 20, 29].map((step) => valueNear(curve, step)),
    [1, 1, 2, 2, 2],
  );
  assert.deepEqual(
    [valueNear(curve, 9), valueNear(curve, 41), valueNear(curve, 40), valueNear({ steps: [], values: [] }, 1)],
    [null, null, null, null],
  );
});

test("smoothing is a moving average, and 0 leaves the curve as it is", () => {
  const curve = { steps: [1, 2, 3], values: [4, 2, 2] };
  assert.deepEqual(smoothed(curve, 0), curve);
  const { values } = smoothed(curve, 0.5);
  assert.equal(values[0], 4);
  assert.ok(Math.abs(values[1] - (0.25 * 4 + 0.5 * 2) / 0.75) < 1e-12);
});

test("figures are those of the other views", () => {
  assert.deepEqual([null, 0.0034, 0.84, 4.2, 42, 185, 7620, Number.NaN].map(durationText), [
    "",
    "3.4 ms",
    "840 ms",
    "4.2 s",
    "42 s",
    "3 min 5 s",
    "2 h 7 min",
    "",
  ]);
  assert.deepEqual([null, 2.34567].map(lossText), ["", "2.3457"]);
});
