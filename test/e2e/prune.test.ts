/**
 * Prune Model in the real VS Code: from the questions over progress and charts to a model that LoRS tunes on. What the view shows equals pruning.json, and
 * that equals the zeros in the file's bytes. Cancelled or refused, there is no folder.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { localAddon } from "../../package.mjs";
import type { PruningReport } from "../../src/protocol/pruning.ts";
import { bodyClass, seriousFindings } from "./accessibility.ts";
import { panelOfFile } from "./formReading.ts";
import { fillWithDemo } from "./prunedModel.ts";
import { answerPruning, barsOf, pruneView, stateOf } from "./pruneReading.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import { type Theme, themes } from "./workbench.ts";

const patienceMs = 120_000;
/** So many that the pruning is seen at its work. */
const manyWindows = localAddon() === null ? 20 : 250;
const wanda = { model: /^\s*model/, method: "Wanda", pattern: "2:4", calibration: "gsm8k-train.jsonl", samples: 8 };
const pruned = "model-wanda-2of4";

const inWorkbench = workbenchSession({
  viewport: { width: 1400, height: 1000 },
  settings: { "sparseTuner.notifications": "none" },
  workspace: { fill: fillWithDemo },
});

const reportIn = (folder: string) => JSON.parse(readFileSync(path.join(folder, "pruning.json"), "utf8")) as PruningReport;

/** Zeros of a tensor in a safetensors file, of whatever dtype: all bytes of an entry but its sign are 0. */
function zerosInFile(file: string, name: string): { zeros: number; entries: number } {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes));
  const {
    dtype,
    data_offsets: [from, to],
  } = header[name];
  const size = dtype === "F32" ? 4 : 2;
  const data = bytes.subarray(8 + headerBytes + from, 8 + headerBytes + to);
  let zeros = 0;
  for (let at = 0; at < data.length; at += size) {
    const isZero = (data[at + size - 1] & 0x7f) === 0 && data.subarray(at, at + size - 1).every((byte) => byte === 0);
    if (isZero) zeros++;
  }
  return { zeros, entries: data.length / size };
}

test(
  "from the palette: the questions, then a pruned model, with charts that equal its report and its bytes",
  inWorkbench(async ({ window, workspace }) => {
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, wanda, null);
    await window.screenshot("prune-target");
    await window.pick(pruned);
    const view = await pruneView(window, pruned);
    await until("the end", async () => (await stateOf(view)) === "done", patienceMs);
    await view.locator("[data-action=startRun]").waitFor();
    const folder = path.join(workspace ?? "", pruned);
    const report = reportIn(folder);
    assert.equal(report.matrices.length, 14);
    for (const { name, zeros, entries } of report.matrices) {
      assert.deepEqual(zerosInFile(path.join(folder, "model.safetensors"), `${name}.weight`), { zeros, entries }, name);
      assert.equal(zeros * 2, entries);
    }
    const [sparsity, errors] = [await barsOf(view, "sparsity"), await barsOf(view, "error")];
    for (const { layer, projection, zeros, entries, error } of report.matrices) {
      assert.equal(sparsity[projection][layer], zeros / entries);
      assert.equal(errors[projection][layer], error);
    }
    assert.ok(report.matrices.every(({ error }) => error !== null && error > 0 && error < 1));
    await window.screenshot("prune-done");
  }),
);

test(
  "its bars are walked with the keyboard, and stand in a table with the same numbers",
  inWorkbench(async ({ window, workspace }) => {
    const view = await pruneView(window, pruned);
    const { matrices } = reportIn(path.join(workspace ?? "", pruned));
    const grid = view.locator("[data-chart=error] [role=grid]");
    await grid.focus();
    await grid.press("ArrowRight");
    await grid.press("ArrowDown");
    const wanted = matrices.find(({ layer, projection }) => layer === 1 && projection === "k_proj");
    const error = wanted?.error?.toPrecision(3) ?? "";
    await view
      .locator(".readout")
      .getByText(`Layer 1, K: 50.00 % zeros (${wanted?.zeros.toLocaleString("en-US")}`)
      .waitFor();
    await view.locator(".readout").getByText(`reconstruction error ${error}`).waitFor();
    await view.locator("[data-tool=table]").click();
    const rows = await view
      .locator("tbody tr")
      .evaluateAll((elements) => elements.map((row) => ({ ...(row as HTMLElement).dataset })) as Record<string, string>[]);
    assert.deepEqual(
      rows.map(({ name, zeros, entries, error: shown }) => [name, Number(zeros), Number(entries), Number(shown)]),
      matrices.map(({ name, zeros, entries, error: measured }) => [name, zeros, entries, measured]),
    );
    await window.screenshot("prune-table");
    assert.deepEqual(await seriousFindings(view), []);
    await view.locator("[data-tool=table]").click();
  }),
);

for (const theme of Object.keys(themes) as Theme[]) {
  test(
    `${theme}: the pruning view`,
    inWorkbench(async ({ window }) => {
      await window.setTheme(themes[theme]);
      const view = await pruneView(window, pruned);
      await view.locator(`body.${bodyClass[theme]}`).waitFor();
      await view.locator("[data-chart=error] .bar[data-state=measured]").first().waitFor();
      await window.screenshot(`theme-${theme}-prune`);
      assert.deepEqual(await seriousFindings(view), []);
    }),
  );
}

test(
  "narrow: no part of the view is cut off",
  inWorkbench(async ({ window }) => {
    await window.setTheme(themes.dark);
    await window.page.setViewportSize({ width: 620, height: 1000 });
    const view = await pruneView(window, pruned);
    await until("no part that is wider", () => view.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth));
    await window.screenshot("prune-narrow");
    await window.page.setViewportSize({ width: 1400, height: 1000 });
  }),
);

test(
  "the next action writes a run file for LoRS on the pruned model",
  inWorkbench(async ({ window, workspace }) => {
    const view = await pruneView(window, pruned);
    await view.locator("[data-action=startRun]").click();
    const asked = (question: string) => window.quickInput.locator(`input[placeholder="${question}"]`).waitFor({ timeout: patienceMs });
    await asked("Choose the training data");
    await window.pick("gsm8k-train.jsonl");
    await asked("Choose a method");
    assert.equal(
      await window.quickPickRows.filter({ hasText: "fills the zeros of this pruned model" }).count(),
      3,
      "SMT, LoRA and DoRA are warned of",
    );
    await window.screenshot("prune-method-choice");
    await window.page.keyboard.press("Enter");
    await asked("Choose the rank of the adapters");
    await window.pick("Rank 8");
    await asked("Choose where the run file and its runs are saved");
    await window.pick("workspace");
    await window.quickInput.getByText("Name of the run").waitFor();
    await window.answer("sparse");
    const file = path.join(workspace ?? "", "sparse.sparse-tuner.yaml");
    await until("the run file", () => existsSync(file) && readFileSync(file, "utf8").includes("precision"), patienceMs);
    const written = parse(readFileSync(file, "utf8"));
    assert.deepEqual([written.model, written.method], [`./${pruned}`, { name: "lors", rank: 8, alpha: 8 }]);
    const panel = await panelOfFile(window, "sparse.sparse-tuner.yaml");
    await panel.locator(".plan[data-plan=plan]").waitFor({ timeout: patienceMs });
    assert.equal(await panel.locator(".plan-warning").count(), 0);
  }),
);

test(
  "the Models view knows the pruned model, and opens its report in the same view",
  inWorkbench(async ({ window }) => {
    await window.runCommand("View: Close All Editors");
    await window.openContainer("Sparse Tuner");
    const row = window.treeRows("Models").filter({ hasText: pruned }).first();
    await row.getByText("pruned", { exact: false }).first().waitFor({ timeout: patienceMs });
    await row.click({ button: "right" });
    await window.page.getByRole("menuitem", { name: "Open Pruning Report" }).hover();
    await window.page.keyboard.press("Enter");
    const view = await pruneView(window, pruned);
    assert.equal(await stateOf(view), "report");
    assert.equal(Object.values(await barsOf(view, "error")).flat().length, 14);
    await window.screenshot("prune-report");
  }),
);

test(
  "a folder that holds something is never proposed, and refused when it is chosen; a bad report says so",
  inWorkbench(async ({ window, workspace }) => {
    const bad = path.join(workspace ?? "", "bad-model");
    mkdirSync(bad);
    for (const name of ["config.json", "model.safetensors"])
      writeFileSync(path.join(bad, name), readFileSync(path.join(workspace ?? "", "model", name)));
    writeFileSync(path.join(bad, "pruning.json"), '{ "method": "magic" }');
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, wanda, null);
    await window.quickPickRows
      .filter({ hasText: `${pruned}-2` })
      .first()
      .waitFor();
    await window.page.keyboard.press("Escape");
    await window.runCommand("Sparse Tuner: Refresh Views");
    await window.runCommandAndPick("Sparse Tuner: Open Pruning Report", "bad-model");
    await window.notification("is no pruning report that this version understands").waitFor({ timeout: patienceMs });
    await window.screenshot("prune-bad-report");
    await window.runCommand("Notifications: Clear All Notifications");
  }),
);

test(
  "while it runs the view shows how far it is; Cancel ends it and leaves nothing",
  inWorkbench(async ({ window, workspace }) => {
    const name = "model-sparsegpt-4of8";
    await window.runCommand("Sparse Tuner: Prune Model");
    const slow = { ...wanda, method: "SparseGPT", pattern: "4:8", samples: manyWindows };
    await answerPruning(window, slow, name);
    const view = await pruneView(window, name);
    await view.locator("main[data-state=running] [data-fact=stage]").waitFor({ timeout: patienceMs });
    await until("progress", () => view.locator("progress").evaluate((bar) => (bar as HTMLProgressElement).value > 0), patienceMs);
    await window.statusBarItem("Pruning model").waitFor();
    await window.screenshot("prune-running");
    await view.locator("[data-action=cancel]").click();
    await until("the cancelled state", async () => (await stateOf(view)) === "cancelled", patienceMs);
    await view.getByText("Nothing was written.").waitFor();
    await window.screenshot("prune-cancelled");
    assert.equal(existsSync(path.join(workspace ?? "", name)), false);
  }),
);

test(
  "closing its view ends no pruning: it is told, and can be shown again",
  inWorkbench(async ({ window, workspace }) => {
    const name = "model-sparsegpt-50";
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, { ...wanda, method: "SparseGPT", pattern: "50 %", samples: manyWindows }, name);
    const view = await pruneView(window, name);
    await view.locator("main[data-state=running]").waitFor({ timeout: patienceMs });
    await window.runCommand("View: Close All Editors");
    await window.notification("The pruning of model goes on.").waitFor({ timeout: patienceMs });
    const done = window.notification("was pruned by SparseGPT to 50 %");
    await done.waitFor({ timeout: patienceMs });
    await window.screenshot("prune-told");
    await done.getByText("Show", { exact: true }).click();
    const again = await pruneView(window, name);
    assert.equal(await stateOf(again), "done");
    assert.ok(existsSync(path.join(workspace ?? "", name, "model.safetensors")));
    await window.runCommand("Notifications: Clear All Notifications");
  }),
);

test(
  "too little text is refused with how much is missing and what to do, and nothing is written",
  inWorkbench(async ({ window, workspace }) => {
    const name = "model-wanda-4of8";
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, { ...wanda, pattern: "4:8", calibration: "gsm8k-test.jsonl", samples: "128 windows" }, name);
    const view = await pruneView(window, name);
    await until("the failed state", async () => (await stateOf(view)) === "failed", patienceMs);
    await view.locator(".failure").getByText("are missing").waitFor();
    await view.locator("[data-action=again]").waitFor();
    await window.screenshot("prune-failed");
    assert.deepEqual(await seriousFindings(view), []);
    assert.equal(existsSync(path.join(workspace ?? "", name)), false);
    assert.deepEqual(window.policyViolations(), []);
  }),
);

test(
  "RIA by row says so, and what there is to know of its calibration",
  inWorkbench(async ({ window, workspace }) => {
    const name = "model-ria-50";
    const rows = readFileSync(path.join(workspace ?? "", "data/gsm8k-train.jsonl"), "utf8");
    writeFileSync(path.join(workspace ?? "", "data/noted.jsonl"), `{ no row\n${rows}`);
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, { ...wanda, method: "RIA", pattern: "50 %", grouping: "Each row", calibration: "noted.jsonl" }, name);
    const view = await pruneView(window, name);
    await until("the end", async () => (await stateOf(view)) === "done", patienceMs);
    await view.locator(".notes li", { hasText: "1 of the rows of noted.jsonl left out" }).waitFor();
    await view.getByText("by RIA to 50 %, of each row.").waitFor();
    assert.equal(reportIn(path.join(workspace ?? "", name)).grouping, "row");
    await window.screenshot("prune-notes");
    assert.deepEqual(await seriousFindings(view), []);
  }),
);

test(
  "magnitude without calibration measures no error, and says so; channels in another order",
  inWorkbench(async ({ window, workspace }) => {
    const name = "model-magnitude-2of4-permuted";
    await window.runCommand("Sparse Tuner: Prune Model");
    await answerPruning(window, { ...wanda, method: "Magnitude", order: "Permuted", calibration: "No calibration" }, name);
    const view = await pruneView(window, name);
    await until("the end", async () => (await stateOf(view)) === "done", patienceMs);
    assert.ok(
      Object.values(await barsOf(view, "error"))
        .flat()
        .every((value) => value === null),
    );
    await view.getByText("Not measured: nothing was calibrated on.").waitFor();
    await view.getByText("by Magnitude to 2:4, with channels in another order.").waitFor();
    assert.equal(reportIn(path.join(workspace ?? "", name)).permuted, true);
    await window.screenshot("prune-no-calibration");
  }),
);
