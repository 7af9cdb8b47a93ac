/** What the panel says: of a run in every state, of a cell, of shares and numbers; and how texts are translated. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import fc from "fast-check";
import { abilitiesOf } from "../../src/extension/views/runAbilities.ts";
import { panelActions, type RunView, runStates } from "../../src/protocol/panelProtocol.ts";
import { applyFrame, emptyHeatmap } from "../../webview/panel/heatmap/model.ts";
import { exactText, numberText, valueText } from "../../webview/panel/heatmap/numberText.ts";
import { cellSentence, cellText, emptyText, missingText, rankText, sourceText } from "../../webview/panel/heatmap/texts.ts";
import { choosesBlocks, methodOf } from "../../webview/panel/methodTexts.ts";
import { noticeText } from "../../webview/panel/noticeTexts.ts";
import { actionText, durationText, progressOf, progressText, runStatus } from "../../webview/panel/runStatus.ts";
import { holdsLabel, percentText, pieSlices, projectionText, shareFigure, shownProjections, slicePath } from "../../webview/panel/shares.ts";
import { initialState, type PanelState } from "../../webview/panel/store.ts";
import { shareText, zerosOf, zerosSentence } from "../../webview/panel/zeros.ts";
import { setStrings, t } from "../../webview/strings.ts";
import { readableOn } from "../../webview/themeColors.ts";
import { llamaGrids, magnitudesFrame, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

afterEach(() => setStrings({}));

const run: RunView = {
  runFolder: "/runs/a",
  name: "a",
  state: "running",
  step: 25,
  totalSteps: 100,
  warmup: null,
  initialising: null,
  loss: null,
  remainingMs: null,
  failure: null,
  logTail: [],
  pid: null,
  holder: null,
  machineBytes: 1,
};

test("texts are translated whole, with their arguments, and are English where no translation is", () => {
  assert.equal(t("Step {0} of {1}", 3, 10), "Step 3 of 10");
  setStrings({ "Step {0} of {1}": "共 {1} 步，第 {0} 步" });
  assert.equal(t("Step {0} of {1}", 3, 10), "共 10 步，第 3 步");
  assert.equal(t("Pause"), "Pause");
  assert.equal(t("{0} and {2}", "{1}", "x"), "{1} and {2}", "what an argument holds is no placeholder, and a missing one stays");
  for (const name of ["constructor", "__proto__", "toString"]) assert.equal(t(name), name);
});

test("every state has a label and a sentence of its own, and an action of the protocol", () => {
  const labels = new Set<string>();
  const sentences = new Set<string>();
  for (const state of runStates) {
    const status = runStatus({ ...run, state }, "");
    labels.add(status.label);
    sentences.add(status.sentence);
    assert.match(status.sentence, /\.$/, state);
    assert.ok(status.actions.length > 0, `${state} offers nothing`);
    for (const action of status.actions) assert.ok((panelActions as readonly string[]).includes(action), `${state}: ${action}`);
    assert.equal(new Set(status.actions).size, status.actions.length);
  }
  assert.equal(labels.size, runStates.length);
  assert.equal(sentences.size, runStates.length);
});

test("what cannot help is not offered", () => {
  const actions = (view: Partial<RunView>) => runStatus({ ...run, ...view }, "").actions;
  for (const state of ["restricted", "elsewhere", "draft"] as const)
    for (const command of ["pause", "resume", "stop", "kill"] as const) assert.ok(!actions({ state }).includes(command), `${state}: ${command}`);
  assert.ok(!actions({ state: "restricted" }).includes("start"));
  for (const state of runStates)
    for (const command of ["pause", "resume", "stop", "kill"] as const)
      if (actions({ state }).includes(command)) assert.ok(abilitiesOf(state).includes(command), `${state} would refuse ${command}`);
  assert.deepEqual(actions({ state: "draft", runFolder: null }), ["start", "previewData", "openRunFile"]);
  assert.equal(actions({ state: "notResponding" })[0], "kill");
  const holder = { pid: 41, host: "old-container", here: false, file: "/runs/a/run.lock" };
  assert.ok(!actions({ state: "elsewhere" }).includes("removeLock"), "a core that lives is nobody's to unlock");
  assert.equal(actions({ state: "elsewhere", holder })[0], "removeLock");
  for (const here of [true, false]) {
    const { sentence } = runStatus({ ...run, state: "elsewhere", holder: { ...holder, here } }, "");
    assert.match(sentence, /\b41\b.* \/runs\/a\/run\.lock\./);
    assert.equal(sentence.includes("old-container"), !here);
  }
  assert.equal(actions({ state: "interrupted" })[0], "resume");
});

test("a failure offers first what helps against it", () => {
  const failed = (code: string, place: { file: string; line: number } | null = null) =>
    runStatus({ ...run, state: "failed", failure: { code, message: "m", action: "a", place } }, "").actions[0];
  assert.equal(failed("device/out-of-memory"), "lowerBatch");
  assert.equal(failed("data/no-usable-row", { file: "x", line: 3 }), "openAtLine");
  assert.equal(failed("core/crashed"), "resume");
});

test("the warm-up looks different from training, and a full disk says its reason", () => {
  const warm = { ...run, warmup: { step: 3, of: 20 } };
  assert.notEqual(runStatus(warm, "").label, runStatus(run, "").label);
  assert.equal(progressOf(warm), 0.15);
  assert.equal(progressText(warm), "Warm-up step 3 of 20");
  assert.equal(progressOf(run), 0.25);
  assert.equal(progressOf({ ...run, totalSteps: 0 }), null);
  assert.equal(progressOf({ ...run, state: "finished", step: 0 }), 1);
  assert.equal(runStatus({ ...run, state: "waiting" }, "No room for the checkpoint.").sentence, "No room for the checkpoint.");
});

test("every action has a name", () => {
  assert.equal(new Set(panelActions.map(actionText)).size, panelActions.length);
});

test("times are said in two units", () => {
  const texts = [0, 59_400, 60_000, 3_599_000, 3_600_000, 90_000_000, 200_000_000].map(durationText);
  assert.deepEqual(texts, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h", "2 d 7 h"]);
});

test("numbers are short, and what they leave out is in the error", () => {
  assert.deepEqual([0, 1, 0.00123456, 0.000123456, 123456.7, 1.5e9, Number.NaN, Number.NEGATIVE_INFINITY].map(numberText), [
    "0",
    "1",
    "0.001235",
    "1.235e-4",
    "123500",
    "1.500e9",
    "NaN",
    "−∞",
  ]);
  assert.equal(valueText({ value: 0.5, error: 0 }), "0.5");
  assert.equal(valueText({ value: 0.5, error: 0.00196 }), "0.5 ± 0.002");
  fc.assert(
    fc.property(fc.double({ min: 1e-12, max: 1e12, noNaN: true }), (error) => {
      const shown = Number(valueText({ value: 1, error }).split("± ")[1]);
      assert.ok(shown >= error * (1 - 1e-12) && shown <= error * 1.11, `${shown} for ${error}`);
    }),
  );
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => Math.abs(Number(exactText(value)) - value) <= Math.abs(value) * 1e-7),
  );
});

const grids = llamaGrids(1, 2, 2);
const selection = selectionFrame(grids, [{ matrix: 0, row: 1, column: 0, rank: 5, score: 0.5 }]);

test("a cell is described as drawn until it was read, and what was not kept is never a number", () => {
  const model = [scoresFrame(grids, new Uint8Array(28).fill(128)), selection, magnitudesFrame([[0.25, Number.NaN, 1]], 4)].reduce(
    applyFrame,
    emptyHeatmap,
  );
  const drawn = cellText(model, { matrix: 0, row: 1, column: 0 }, null);
  assert.deepEqual(drawn, {
    name: grids[0].name,
    row: "1",
    column: "0",
    chosen: "yes, rank 6",
    values: { score: "0.502 ± 0.002", gradient: "0.25", delta: "unknown", secondMoment: "1" },
    source: "As drawn",
  });
  const exact = { step: 7, score: 0.5017, selected: true, rank: 5, gradient: 0.3, delta: null, secondMoment: 0 };
  const read = cellText(model, { matrix: 0, row: 1, column: 0 }, exact);
  assert.deepEqual(read.values, { score: "0.5017", gradient: "0.3", delta: "not kept", secondMoment: "0" });
  assert.equal(read.source, "Exact, at step 7");
  assert.equal(cellText(model, { matrix: 1, row: 0, column: 0 }, null).chosen, "no");
  const sentence = cellSentence(read);
  for (const part of [grids[0].name, "row 1", "column 0", "rank 6", "0.5017", "not kept", "step 7"]) assert.ok(sentence.includes(part), part);
});

test("ranks are counted from 1 wherever they are shown: as drawn, as read, in the table", () => {
  const model = applyFrame(emptyHeatmap, selectionFrame(grids, [{ matrix: 0, row: 1, column: 0, rank: 0, score: 0.5 }]));
  const exact = { step: 7, score: 0.5, selected: true, rank: 0, gradient: null, delta: null, secondMoment: null };
  for (const known of [null, exact]) assert.equal(cellText(model, { matrix: 0, row: 1, column: 0 }, known).chosen, "yes, rank 1");
  assert.deepEqual(
    [0, 1, 2, 3].map((cell) => rankText(model, cell)),
    ["–", "–", "1", "–"],
  );
  assert.equal(rankText(emptyHeatmap, 2), "–");
});

test("the heatmap says which step it shows, or why it shows none", () => {
  const scored = applyFrame(emptyHeatmap, scoresFrame(grids, new Uint8Array(28), { step: 12 }));
  assert.match(sourceText(scored, "score"), /warm-up step 12/);
  assert.equal(sourceText(scored, "delta"), "");
  assert.match(missingText(scored, "delta"), /none are chosen/);
  const chosen = applyFrame(scored, selection);
  assert.match(sourceText(chosen, "selected"), /Chosen at step 0: 1 blocks of 256 × 256/);
  assert.match(missingText(chosen, "delta"), /Not measured yet/);
  assert.match(emptyText(initialState), /Start the run/);
  assert.match(emptyText({ ...initialState, run }), /Waiting/);
  assert.match(emptyText({ ...initialState, run: { ...run, state: "finished" } }), /kept no scores/);
});

test("a method without blocks says so, by its name, as a draft and as a run", () => {
  const form = (name: string): PanelState["form"] => ({ file: "a", editable: true, values: { method: { name } }, given: [], problems: [] });
  assert.match(emptyText({ ...initialState, run: { ...run, state: "draft" }, form: form("lora") }), /^LoRA trains adapters/);
  assert.match(emptyText({ ...initialState, run: { ...run, state: "draft" }, form: form("full") }), /^Full fine-tuning/);
  assert.match(emptyText({ ...initialState, run: { ...run, state: "draft" }, form: form("smt") }), /^Start the run/);
  assert.equal(choosesBlocks({ started: null, form: form("spp") }), false);
  assert.equal(choosesBlocks({ started: null, form: null }), true, "what is not known may have some");
  const started = { kind: "started", method: "lors" } as PanelState["started"];
  assert.equal(methodOf({ started, form: form("smt") }), "lors", "what runs counts, not what its file says now");
  assert.ok(!runStatus({ ...run, state: "finished" }, "", false).actions.includes("inspect"));
  assert.ok(runStatus({ ...run, state: "finished" }, "").actions.includes("inspect"));
});

test("before its first step LoRS says how far it is with the gradient's main directions", () => {
  const preparing = { ...run, initialising: { done: 12, of: 32 } };
  assert.notEqual(runStatus(preparing, "").label, runStatus(run, "").label);
  assert.equal(progressOf(preparing), 0.375);
  assert.equal(progressText(preparing), "Looking for the gradient's main directions: 12 of 32");
});

test("zeros are told as they were measured, and one that is lost is told with its number", () => {
  const event = (step: number, zeros: number, lost: number, byLayer: number[]) =>
    ({ sequence: 1, timeMs: 1, kind: "sparsity", step, zeros, entries: 200, lost, byLayer }) as const;
  assert.equal(zerosOf([]), null);
  const flat = zerosOf([event(0, 100, 0, [0.5, 0.5]), event(10, 100, 0, [0.5, 0.5])]);
  assert.deepEqual([flat?.share, flat?.lost, flat?.step], [0.5, 0, 10]);
  assert.match(zerosSentence(flat!), /^Every zero .* at step 10\.$/);
  const lost = zerosOf([event(0, 100, 0, [0.5, 0.5]), event(10, 97, 3, [0.5, 0.47])]);
  assert.deepEqual(lost?.layers[1], { share: 0.47, baseShare: 0.5 });
  assert.deepEqual(
    lost?.measured.map((one) => one.lost),
    [0, 3],
  );
  assert.match(zerosSentence(lost!), /^3 zeros .* at step 10\.$/);
  assert.equal(zerosOf([event(0, 0, 0, [])])?.share, 0);
  assert.deepEqual([0, 1, 0.5, 1e-6, 0.9999999].map(shareText), ["0.00 %", "100.00 %", "50.00 %", "< 0.01 %", "> 99.99 %"]);
});

test("adapters' parameters are shared out as blocks are, with the counts behind the shares; a choice of blocks comes first", () => {
  const parametersByLayer: Record<string, number>[] = [{ q_proj: 100, down_proj: 200 }, { q_proj: 100 }];
  const adapters = {
    sequence: 2,
    timeMs: 1,
    kind: "adapters",
    matrices: 3,
    trainableParameters: 400,
    parameters: { q_proj: 200, down_proj: 200 },
    parametersByLayer,
  } as const;
  const figure = shareFigure({ selection: null, adapters: { ...adapters, parametersByLayer } });
  assert.deepEqual(figure?.shares, { q_proj: 0.5, down_proj: 0.5 });
  assert.deepEqual(figure?.sharesByLayer, [{ q_proj: 0.25, down_proj: 0.5 }, { q_proj: 0.25 }]);
  assert.equal(figure?.summary, "400 trained parameters in adapters beside 3 matrices.");
  assert.deepEqual([figure?.parameters?.total, figure?.parameters?.all], [400, { q_proj: 200, down_proj: 200 }]);
  const selection = {
    sequence: 1,
    timeMs: 1,
    kind: "selection",
    step: 0,
    blockSize: 16,
    blocks: 1,
    trainableParameters: 256,
    shares: { q_proj: 1 },
    sharesByLayer: [{ q_proj: 1 }],
  } as const;
  assert.equal(shareFigure({ selection: { ...selection, sharesByLayer: [] }, adapters: null })?.parameters, null);
  assert.equal(shareFigure({ selection: null, adapters: null }), null);
});

test("shares: Q, K and V always, others when they hold any; the pie is a whole circle", () => {
  const shares = { q_proj: 0.5, k_proj: 0, v_proj: 0.25, o_proj: 0, gate_proj: 0.25, up_proj: 0, down_proj: 0 };
  assert.deepEqual(shownProjections(shares), ["q_proj", "k_proj", "v_proj", "gate_proj"]);
  assert.deepEqual(shownProjections(shares).map(projectionText), ["Q", "K", "V", "MLP gate"]);
  const slices = pieSlices(shares);
  assert.equal(slices[0].from, 0);
  for (let i = 1; i < slices.length; i++) assert.equal(slices[i].from, slices[i - 1].to);
  assert.equal(slices.at(-1)?.to, 1);
  assert.equal(slicePath({ from: 0, to: 0.25 }, 100), "M 0 0 L 0.000 -100.000 A 100 100 0 0 1 100.000 -0.000 Z");
  assert.match(slicePath({ from: 0, to: 0.75 }, 100), /A 100 100 0 1 1 -100\.000/);
  assert.equal(slicePath({ from: 0, to: 1 }, 100).match(/A /g)?.length, 2, "a whole circle is no empty path");
  const held = [0.05, 0.1, 0.2, 0.5, 1].map((share) => [36, 48].map((width) => holdsLabel(share, width, 60)));
  assert.deepEqual(
    held,
    [
      [false, false],
      [true, false],
      [true, true],
      [true, true],
      [true, true],
    ],
    "a label stays within its slice",
  );
  assert.deepEqual([0, 0.0001, 0.30556, 1].map(percentText), ["0.0 %", "< 0.1 %", "30.6 %", "100.0 %"]);
});

test("text on a colour is black or white, by what is read better", () => {
  assert.equal(readableOn("#ffff00"), "#000000");
  assert.equal(readableOn("#0000a0"), "#ffffff");
});

test("a notice of the core begins with what it is about where the window is not English", () => {
  const said = "3 rows of /d.jsonl left out (lines 1, 2, 3).";
  assert.equal(noticeText("data/bad-rows", said), said);
  setStrings({ "Rows that cannot be used were left out.": "无法使用的行已略去。" });
  assert.equal(noticeText("data/bad-rows", said), `无法使用的行已略去。 ${said}`);
  assert.equal(noticeText("no/such", said), said);
});
