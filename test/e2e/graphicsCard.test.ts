/**
 * A graphics card's figures in the panel of a live run, from a program that stands for nvidia-smi: two cards, then a tool that dies, hangs and is not there;
 * its process lives only while the panel is looked at.
 */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import type { Frame } from "playwright-core";
import { type FakeOptions, fakeNvidiaSmi } from "../support/fakeNvidiaSmi.ts";
import { seriousFindings } from "./accessibility.ts";
import { openFromExplorer } from "./editorReading.ts";
import { choose, panelOfFile } from "./formReading.ts";
import { eventsOf, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const file = "card.sparse-tuner.yaml";
const patienceMs = 60_000;

const place = mkdtempSync(path.join(os.tmpdir(), "st-card-"));
const setTool = (output: string, options: FakeOptions = {}) => fakeNvidiaSmi(place, output, { everySeconds: 1, ...options });
const tool = setTool("two-cards");
after(() => rmSync(place, { recursive: true, force: true }));

const inWorkbench = workbenchSession({
  env: { SPARSE_TUNER_CARD_MONITOR: tool.file },
  viewport: { width: 1500, height: 1300 },
  settings: { "sparseTuner.notifications": "none" },
  workspace: {
    fill: (folder) => {
      cpSync(demo, folder, { recursive: true, filter: (name) => !name.endsWith(".sparse-tuner.yaml") });
      const run = `model: ./model\ndata: { train: data/gsm8k-train.jsonl }\nthreads: 1\nmethod: { name: smt, blocks: 40, blockSize: 16, warmup: { steps: 2 } }
train: { steps: 1000000, batchSize: 4, sequenceLength: 128 }\ncheckpoint: { every: null }\n`;
      writeFileSync(path.join(folder, file), run);
      writeFileSync(path.join(folder, "other.txt"), "beside the panel\n");
    },
  },
});

const figure = (panel: Frame, name: string) => panel.locator(`.memory-table td[data-figure="${name}"]`);
const sentence = (panel: Frame) => panel.locator(".memory-card");

/** Hides the panel behind a file, and shows it again when the tool has gone and is another one. */
async function lookAgain(window: WorkbenchWindow, output: string, options: FakeOptions = {}): Promise<Frame> {
  await openFromExplorer(window, "other.txt");
  await until("the tool to be gone", () => !tool.alive(), patienceMs);
  setTool(output, options);
  await window.runCommand("View: Close Editor");
  return panelOfFile(window, "run.yaml");
}

async function picture(window: WorkbenchWindow, panel: Frame, name: string): Promise<void> {
  await panel.locator(".charts.memory").evaluate((section) => {
    section.scrollIntoView({ block: "start" });
    // Below the header, which stays.
    globalThis.scrollBy(0, -200);
  });
  await window.screenshot(`card-${name}`);
}

test(
  "the card that the run's process is on, with each figure's source, beside the ledger",
  inWorkbench(async ({ window, workspace }) => {
    await openFromExplorer(window, file);
    await window.runCommand("Sparse Tuner: Open Training Panel");
    const draft = await panelOfFile(window, file);
    await draft.locator('.run-actions [data-action="start"]').click();
    await draft.locator(".badge").getByText("Running").waitFor({ timeout: patienceMs });
    const panel = await panelOfFile(window, "run.yaml");
    await until(
      "the card's second reading",
      async () => (await figure(panel, "cardUsed").getAttribute("data-bytes")) === String(9022 * 2 ** 20),
      patienceMs,
    );
    assert.equal(await figure(panel, "cardOwn").getAttribute("data-bytes"), String(3000 * 2 ** 20));
    assert.equal(await figure(panel, "cardTotal").textContent(), "79.6 GiB");
    assert.deepEqual([await figure(panel, "cardBusy").textContent(), await figure(panel, "cardTemperature").textContent()], ["64 %", "44 °C"]);
    assert.equal(await sentence(panel).textContent(), "Graphics card 2 of 2: NVIDIA H100 80GB HBM3");
    const legend = panel.locator('[data-chart="memory"] .chart-legend-entry:visible');
    await legend.getByText("card, all processes (nvidia-smi)").waitFor();
    await panel.getByText("Scale up to the graphics card").click();
    await until("the kept reading", () => eventsOf(runFolders(workspace ?? "")[0]).some((event) => event.kind === "card"), patienceMs);
    await picture(window, panel, "two-cards");
    assert.deepEqual(await seriousFindings(panel), []);
    assert.ok(tool.starts().length === 3, tool.starts().join());
  }),
);

test(
  "a hidden panel ends the tool; one that dies, hangs or is missing is told of, and the run goes on",
  inWorkbench(async ({ window, workspace }) => {
    const dying = await lookAgain(window, "one-card", { stream: "dies" });
    await sentence(dying).getByText("nvidia-smi ended with 9. It is not started again.").waitFor({ timeout: patienceMs });
    assert.equal(await figure(dying, "cardUsed").count(), 0);
    await picture(window, dying, "dying");

    const hanging = await lookAgain(window, "one-card", { stream: "hangs" });
    // A reading of before stands in the chart, and not as today's in the legend.
    const readings = hanging
      .locator('[data-chart="memory"] .chart-legend-entry')
      .filter({ hasText: "card, all processes" })
      .locator(".chart-reading");
    assert.equal(await readings.textContent(), "");
    await sentence(hanging).getByText("nvidia-smi printed nothing that can be read for 5 s.").waitFor({ timeout: patienceMs });
    await picture(window, hanging, "hanging");

    await openFromExplorer(window, "other.txt");
    await until("the tool to be gone", () => !tool.alive(), patienceMs);
    rmSync(tool.file);
    await window.runCommand("View: Close Editor");
    const panel = await panelOfFile(window, "run.yaml");
    await sentence(panel).getByText("nvidia-smi was found neither on the PATH").waitFor({ timeout: patienceMs });
    await picture(window, panel, "absent");
    await window.runCommand("Sparse Tuner: Doctor");
    await window.page.locator(".part.editor .view-lines").filter({ hasText: "card figures: not usable" }).waitFor({ timeout: patienceMs });
    await window.screenshot("card-doctor");
    const steps = eventsOf(runFolders(workspace ?? "")[0]).filter(({ kind }) => kind === "step").length;
    assert.ok(steps > 10 && !tool.starts().includes("overlap"), `${steps} steps; ${tool.starts().join()}`);
  }),
);

test(
  "without the tool a plan says that nothing is known of the card's memory",
  inWorkbench(async ({ window }) => {
    await openFromExplorer(window, file);
    await window.runCommand("Sparse Tuner: Open Training Panel");
    const draft = await panelOfFile(window, file);
    await choose(draft, "device", "webgpu");
    const verdict = draft.locator(".plan-verdict.unknown");
    await verdict
      .getByText("Whether they fit is not known. The card's free memory is not known: nvidia-smi was found neither")
      .waitFor({ timeout: patienceMs });
    assert.equal(await verdict.getAttribute("data-fits"), "null");
    await verdict.scrollIntoViewIfNeeded();
    await window.screenshot("card-unknown-memory");
  }),
);
