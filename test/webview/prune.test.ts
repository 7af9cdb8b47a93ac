/** The pruning view's state and words: the same whether reports came live or at once, and numbers as they were measured. The drawing is the e2e tests' business. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { fromPruneSchemas, type PruneState, type PruneView, pruneActions } from "../../src/protocol/prunePanelProtocol.ts";
import { type PrunedMatrix, type PruningProgress, patternTitle } from "../../src/protocol/pruning.ts";
import { csvOf, gridOf, meanError, reduce, sparsityOf, walked } from "../../webview/prune/store.ts";
import { actionText, errorText, matrixSentence, stageText, stateText, subjectText } from "../../webview/prune/texts.ts";

const matrix = (layer: number, projection: string, error: number | null = 0.25): PrunedMatrix => ({
  name: `model.layers.${layer}.self_attn.${projection}`,
  layer,
  projection,
  zeros: 8,
  entries: 16,
  error,
});
const progress = (layer: number, finished: PrunedMatrix[], stage: PruningProgress["stage"] = "pruning"): PruningProgress => ({
  stage,
  layer,
  layers: 3,
  done: layer / 3,
  remainingMs: 1000,
  finished,
});
const running: PruneView = {
  state: "running",
  base: "tiny",
  method: "wanda",
  pattern: "2:4",
  grouping: null,
  permuted: false,
  calibration: { file: "text.jsonl", samples: 8, tokens: null },
  folder: "/w/tiny-wanda-2of4",
  progress: null,
  matrices: [],
  total: null,
  failure: null,
  notes: [],
};

test("reports one by one give what one later hydrate gives", () => {
  const reports = [progress(0, [matrix(0, "q_proj"), matrix(0, "k_proj")]), progress(1, []), progress(1, [matrix(1, "q_proj")])];
  let view = reduce(null, { kind: "hydrate", strings: {}, view: running });
  for (const report of reports) view = reduce(view, { kind: "progress", progress: report });
  const { finished: _, ...last } = reports[2];
  view = reduce(view, { kind: "notes", notes: ["One row was left out."] });
  const whole = { ...running, notes: ["One row was left out."], progress: last, matrices: reports.flatMap(({ finished }) => finished) };
  assert.deepEqual(view, whole);
  assert.deepEqual(reduce(null, { kind: "hydrate", strings: {}, view: whole }), view);
});

test("a report that comes before the first message or after the end changes nothing", () => {
  assert.equal(reduce(null, { kind: "progress", progress: progress(0, []) }), null);
  const ended: PruneView = { ...running, state: "cancelled" };
  assert.equal(reduce(ended, { kind: "progress", progress: progress(1, [matrix(1, "q_proj")]) }), ended);
  assert.deepEqual(reduce(running, { kind: "ended", view: ended }), ended);
});

test("matrices stand in the order of a layer's computation; what is not done is told from what was not measured", () => {
  const grid = gridOf([matrix(1, "down_proj", null), matrix(0, "q_proj"), matrix(0, "odd_proj")], 4);
  assert.deepEqual(grid.projections, ["q_proj", "down_proj", "odd_proj"]);
  assert.equal(grid.layers, 4);
  assert.deepEqual(
    grid.cells.map((row) => row.map((cell) => cell?.layer ?? null)),
    [
      [0, null, null, null],
      [null, 1, null, null],
      [0, null, null, null],
    ],
  );
  assert.equal(gridOf([matrix(5, "q_proj")], 0).layers, 6, "a report does not say how many layers there are");
});

test("sums are over entries, means over what was measured", () => {
  assert.equal(sparsityOf([]), null);
  assert.equal(
    sparsityOf([
      { zeros: 1, entries: 2 },
      { zeros: 0, entries: 6 },
    ]),
    0.125,
  );
  assert.equal(meanError([{ error: null }]), null);
  assert.equal(meanError([{ error: 0.5 }, { error: null }, { error: 0.25 }]), 0.375);
});

test("arrow keys stay on the chart", () => {
  const at = { row: 1, column: 2 };
  assert.deepEqual(walked(at, "ArrowUp", 3, 4), { row: 0, column: 2 });
  assert.deepEqual(walked(at, "ArrowRight", 3, 3), at);
  assert.deepEqual(walked({ row: 0, column: 0 }, "ArrowLeft", 3, 4), { row: 0, column: 0 });
  assert.deepEqual(walked(at, "End", 3, 4), { row: 1, column: 3 });
  assert.equal(walked(at, "Tab", 3, 4), null);
});

test("every state has words of its own and actions of the protocol", () => {
  const states: PruneState[] = ["running", "done", "cancelled", "failed", "report"];
  const texts = states.map(stateText);
  assert.equal(new Set(texts.map(({ label }) => label)).size, states.length);
  assert.equal(new Set(texts.map(({ sentence }) => sentence)).size, states.length);
  for (const { actions } of texts) {
    assert.ok(actions.length > 0);
    for (const action of actions) assert.ok(Value.Check(fromPruneSchemas.action, { kind: "action", action }));
  }
  assert.deepEqual(stateText("running").actions, ["cancel"]);
  assert.equal(new Set(pruneActions.map(actionText)).size, pruneActions.length);
});

test("what is said of a pruning names method, pattern, calibration and stage", () => {
  assert.equal(subjectText(running), "tiny, by Wanda to 2:4. Calibrated on 8 windows of text.jsonl.");
  const report = { ...running, pattern: "0.5", method: "magnitude" as const, calibration: null };
  assert.equal(subjectText(report), "tiny, by Magnitude to 50 %. Not calibrated.");
  assert.match(subjectText({ ...running, permuted: true }), /^tiny, by Wanda to 2:4, with channels in another order\. /);
  assert.match(subjectText({ ...running, method: "ria", pattern: "0.5", grouping: "row" }), /^tiny, by RIA to 50 %, of each row\. /);
  assert.deepEqual(["0.5", "0.625", ".1", "4:8"].map(patternTitle), ["50 %", "62.5 %", "10 %", "4:8"]);
  assert.match(stageText({ progress: progress(1, []) }), /^Layer 2 of 3/);
  assert.match(stageText({ progress: progress(3, []) }), /^Layer 3 of 3/);
  assert.equal(stageText({ progress: null }), "Starting");
  assert.deepEqual([null, 0, 0.25, 1e-5].map(errorText), ["not measured", "0", "0.250", "1.00e-5"]);
  assert.equal(matrixSentence(matrix(2, "q_proj")), "Layer 2, Q: 50.00 % zeros (8 of 16), reconstruction error 0.250");
});

test("the CSV holds every number unrounded, whatever a matrix is called", () => {
  const odd = { ...matrix(0, "q_proj", 0.1 + 0.2), name: 'a,"b"' };
  assert.equal(csvOf([odd, matrix(1, "k_proj", null)]).split("\n")[1], '"a,""b""",0,q_proj,8,16,0.30000000000000004');
  assert.ok(csvOf([matrix(1, "k_proj", null)]).endsWith(",8,16,\n"));
});
