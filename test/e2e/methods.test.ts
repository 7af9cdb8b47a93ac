/**
 * Every method in the panel: choosing one shows its own fields with its defaults and leaves a clean mapping in the file; the plan follows and equals the
 * command line's, with its warnings; a run on a pruned model shows its zeros as its events have them: flat with LoRS, an alarm with LoRA.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import { parse } from "yaml";
import type { ServiceResults } from "../../src/protocol/serviceProtocol.ts";
import { bodyClass, seriousFindings } from "./accessibility.ts";
import { editorText, openFromExplorer } from "./editorReading.ts";
import { choice, choose, enter, fieldValue, formRow, panelOfFile, shownPlan } from "./formReading.ts";
import { fillWithPruned, runFileOf } from "./prunedModel.ts";
import { commandLine, eventsOf, lastEvent, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import { type OpenWorkbench, type Theme, themes } from "./workbench.ts";

const name = runFileOf("lors");
const patienceMs = 90_000;

const inWorkbench = workbenchSession({
  viewport: { width: 1700, height: 1300 },
  settings: { "files.autoSave": "off", "editor.minimap.enabled": false, "sparseTuner.notifications": "none" },
  workspace: {
    fill: (folder) => fillWithPruned(folder, { lors: "{ name: lors, rank: 4, initSamples: 8 }", lora: "{ name: lora, rank: 4 }" }),
  },
});

/** What the form shows of the method: its keys, and what stands in their fields. */
async function methodFields(panel: Frame): Promise<Record<string, string>> {
  const rows = await panel.locator('.run-form .form-row[data-path^="method."]:visible').evaluateAll((elements) =>
    elements.map((row) => {
      const control = row.querySelector("vscode-text-field, vscode-dropdown") as (HTMLElement & { value?: string }) | null;
      return [(row as HTMLElement).dataset.path ?? "", control?.value ?? ""] as const;
    }),
  );
  return Object.fromEntries(rows);
}

const adapterTargets = { "method.targets": "" };
const fieldsOf: Record<string, Record<string, string>> = {
  lora: { rank: "4", alpha: "32", dropout: "0", rankStabilized: "false", ranks: "" },
  dora: { rank: "4", alpha: "32", dropout: "0", rankStabilized: "false", ranks: "", normGradient: "detached" },
  spp: { groups: "16", scaling: "2", dropout: "0" },
  sqft: { rank: "32", alpha: "64", dropout: "0", neuralSearch: "", "quantize.groupSize": "" },
  full: { sparse: "ignore" },
  lors: { rank: "16", alpha: "16", gradient: "ste", init: "gradientSvd", initSamples: "128" },
};

const methodIn = async ({ window }: OpenWorkbench) => parse(await editorText(window, name)).method as Record<string, unknown>;

/** The plan on the screen is the command line's for the text in the editor. */
async function assertPlanned(workbench: OpenWorkbench, panel: Frame, method: string): Promise<ServiceResults["plan"]> {
  const file = path.join(workbench.workspace ?? "", ".planned.sparse-tuner.yaml");
  writeFileSync(file, await editorText(workbench.window, name));
  const planned = commandLine<ServiceResults["plan"]>(workbench, "plan", file, "--json");
  const warnings = () => panel.locator(".plan-warning bdi").allTextContents();
  const same = async () => (await shownPlan(panel))?.plan.peakBytes === planned.peakBytes && (await warnings()).length === planned.warnings.length;
  await until(`the plan of ${method}`, same, patienceMs);
  assert.deepEqual((await shownPlan(panel))?.plan.bytesByClass, planned.bytesByClass, method);
  assert.deepEqual(await warnings(), planned.warnings, method);
  return planned;
}

test(
  "choosing a method shows exactly its own fields with its defaults, and writes a clean mapping; the plan follows",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await openFromExplorer(window, name);
    await window.runCommand("Sparse Tuner: Open Training Panel");
    const panel = await panelOfFile(window, name);
    await until("the form", async () => (await choice(panel, "method.name")) === "lors", patienceMs);
    const peaks = new Set<number>();
    for (const [method, own] of Object.entries(fieldsOf)) {
      await choose(panel, "method.name", method);
      await until(`${method} in the text`, async () => (await methodIn(workbench)).name === method, patienceMs);
      const expected = Object.fromEntries(Object.entries(own).map(([key, value]) => [`method.${key}`, value]));
      const targets = method === "full" ? {} : adapterTargets;
      const all: Record<string, string> = { "method.name": method, ...expected, ...targets };
      const same = async () => JSON.stringify(Object.entries(await methodFields(panel)).sort()) === JSON.stringify(Object.entries(all).sort());
      await until(`the fields of ${method}`, same, patienceMs).catch(() => undefined);
      assert.deepEqual(await methodFields(panel), all, method);
      // The rank that was given stays only where it means the same; nothing of another method is left.
      const kept = method === "lora" || method === "dora" ? { name: method, rank: 4 } : { name: method };
      assert.deepEqual(await methodIn(workbench), kept);
      assert.ok((await editorText(window, name)).includes(" # mine"), "the comment stays");
      peaks.add((await assertPlanned(workbench, panel, method)).peakBytes);
      await window.screenshot(`method-form-${method}`);
    }
    assert.ok(peaks.size >= 5, "the plans differ");
  }),
);

test(
  "a method that fills a pruned model's zeros is warned of beside the plan, with its name",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    await choose(panel, "method.name", "lora");
    const warning = panel.locator(".plan-warning");
    await warning.getByText("Warning for LoRA").waitFor({ timeout: patienceMs });
    assert.equal(await warning.count(), 1);
    await choose(panel, "method.name", "lors");
    await warning.waitFor({ state: "detached", timeout: patienceMs });
  }),
);

test(
  "what a method's odd fields take reaches the file, and goes again",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    const method = (expected: Record<string, unknown>) =>
      until(JSON.stringify(expected), async () => JSON.stringify(await methodIn(workbench)) === JSON.stringify(expected), patienceMs);
    await choose(panel, "method.name", "lora");
    await method({ name: "lora" });
    await enter(panel, "method.ranks", "q_proj: 2, v_proj: 8");
    await method({ name: "lora", ranks: { q_proj: 2, v_proj: 8 } });
    await enter(panel, "method.ranks", "v_proj: 6");
    await method({ name: "lora", ranks: { v_proj: 6 } });
    await formRow(panel, "method.ranks").locator("vscode-text-field input").fill("v_proj");
    await formRow(panel, "method.ranks").getByText("Write it like").waitFor();
    await enter(panel, "method.ranks", "");
    await method({ name: "lora" });
    await choose(panel, "method.rankStabilized", "true");
    await method({ name: "lora", rankStabilized: true });
    await choose(panel, "method.name", "sqft");
    await method({ name: "sqft" });
    await enter(panel, "method.neuralSearch", "32, 16");
    await enter(panel, "method.quantize.groupSize", 32);
    await method({ name: "sqft", neuralSearch: [32, 16], quantize: { groupSize: 32 } });
    await until("the field to show the list", async () => (await fieldValue(panel, "method.neuralSearch")) === "32, 16");
    await assertPlanned(workbench, panel, "sqft");
    await enter(panel, "method.quantize.groupSize", "");
    await method({ name: "sqft", neuralSearch: [32, 16] });
    await choose(panel, "method.name", "lors");
    await method({ name: "lors" });
  }),
);

/** Starts what the panel shows, waits for its end, and gives its panel and folder. */
async function trained(workbench: OpenWorkbench, panel: Frame): Promise<{ panel: Frame; runFolder: string }> {
  await workbench.window.page.mouse.move(5, 5);
  await panel.locator('.run-actions [data-action="start"]').click();
  await panel.locator(".badge").getByText("Finished").waitFor({ timeout: 180_000 });
  return { panel: await panelOfFile(workbench.window, "run.yaml"), runFolder: runFolders(workbench.workspace ?? "").at(-1) ?? "" };
}

const meterOf = (panel: Frame) => panel.locator(".sparsity");

/** The meter's numbers are those of the run's last measurement. */
async function assertMeter(panel: Frame, runFolder: string): Promise<{ lost: number; measurements: number }> {
  const events = eventsOf(runFolder).filter((event) => event.kind === "sparsity");
  const last = lastEvent(runFolder, "sparsity");
  assert.ok(last && events.length >= 3, `${events.length} measurements`);
  const shown = () => meterOf(panel).evaluate((section) => ({ ...(section as HTMLElement).dataset }));
  await until("the last measurement", async () => (await shown()).step === String(last.step), patienceMs);
  const { zeros, entries, lost, step } = await shown();
  assert.deepEqual([zeros, entries, lost, step].map(Number), [last.zeros, last.entries, last.lost, last.step]);
  const bars = await meterOf(panel)
    .locator("[data-layer]")
    .evaluateAll((elements) => elements.map((bar) => Number((bar as HTMLElement).dataset.share)));
  assert.deepEqual(bars, last.byLayer);
  assert.equal(await meterOf(panel).locator("circle").count(), events.length);
  return { lost: last.lost, measurements: events.length };
}

/** The share view's bars and table are the parameters that the run said it trains. */
async function assertAdapterShares(panel: Frame, runFolder: string): Promise<void> {
  const said = lastEvent(runFolder, "adapters") ?? assert.fail("the run said nothing of its adapters");
  const view = panel.locator(".qkv-share");
  await view
    .getByText(`${said.trainableParameters.toLocaleString("en-US")} trained parameters in adapters beside ${said.matrices} matrices.`)
    .waitFor();
  for (const [layer, own] of said.parametersByLayer.entries()) {
    const bars = await view
      .locator(`.share-part[data-layer="${layer}"]`)
      .evaluateAll((parts) => parts.map((part) => [part.getAttribute("data-projection"), Number(part.getAttribute("data-share"))]));
    assert.deepEqual(
      Object.fromEntries(bars),
      Object.fromEntries(Object.entries(own).map(([projection, count]) => [projection, count / said.trainableParameters])),
    );
  }
  const all = await view.locator("tbody tr").first().locator("td").last().textContent();
  assert.equal(all, said.trainableParameters.toLocaleString("en-US"));
  await view.scrollIntoViewIfNeeded();
}

test(
  "a LoRS run on the pruned model: its meter stays flat, and nothing of blocks is offered",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const draft = await panelOfFile(window, name);
    await enter(draft, "method.initSamples", 8);
    await until("eight rows", async () => (await methodIn(workbench)).initSamples === 8, patienceMs);
    const { panel, runFolder } = await trained(workbench, draft);
    const { lost } = await assertMeter(panel, runFolder);
    assert.equal(lost, 0);
    await meterOf(panel).getByText("Every zero of the pruned base is still zero").waitFor();
    assert.equal(await meterOf(panel).locator(".sparsity-alarm").isVisible(), false);
    await panel.getByText("LoRS trains adapters beside the frozen matrices").waitFor();
    await assertAdapterShares(panel, runFolder);
    assert.equal(await panel.locator('.run-actions [data-action="inspect"]').count(), 0);
    const directions = eventsOf(runFolder).filter((event) => event.kind === "initialising");
    assert.ok(directions.length > 0 && directions.at(-1)?.done === directions.at(-1)?.of);
    await window.runCommand("View: Close Other Editors in Group");
    for (const theme of Object.keys(themes) as Theme[]) {
      await window.setTheme(themes[theme]);
      await panel.locator(`body.${bodyClass[theme]}`).waitFor();
      await window.screenshot(`sparsity-meter-${theme}`);
      if (theme === "dark" || theme === "light") {
        await panel.locator(".qkv-share").scrollIntoViewIfNeeded();
        await window.screenshot(`adapter-shares-${theme}`);
      }
      assert.deepEqual(await seriousFindings(panel), [], theme);
    }
    await window.setTheme(themes.dark);
  }),
);

test(
  "a hidden and shown panel holds the same measurements again",
  inWorkbench(async ({ window, workspace }) => {
    const runFolder = runFolders(workspace ?? "").at(-1) ?? "";
    await window.openFile(runFileOf("lora"));
    await window.runCommand("Sparse Tuner: Open Training Panel");
    await panelOfFile(window, runFileOf("lora"));
    await window.runCommand("View: Close All Editors");
    await window.openContainer("Sparse Tuner");
    await window.treeRows("Runs").filter({ hasText: "lors" }).filter({ hasText: "finished" }).first().click();
    const panel = await panelOfFile(window, "run.yaml");
    await assertMeter(panel, runFolder);
  }),
);

test(
  "a LoRA run on the pruned model: the meter says how many zeros are lost, and what keeps them",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.runCommand("View: Close All Editors");
    await openFromExplorer(window, runFileOf("lora"));
    await window.runCommand("Sparse Tuner: Open Training Panel");
    const { panel, runFolder } = await trained(workbench, await panelOfFile(window, runFileOf("lora")));
    const { lost } = await assertMeter(panel, runFolder);
    assert.ok(lost > 0);
    const alarm = meterOf(panel).locator(".sparsity-alarm");
    await alarm.getByText(`${lost.toLocaleString("en-US")} zeros of the pruned base are zero no more`).waitFor();
    await alarm.getByText("Methods that keep them").waitFor();
    await panel.locator(".notice[data-code='method/loses-zeros']").waitFor();
    await window.screenshot("sparsity-meter-lost");
    assert.deepEqual(await seriousFindings(panel), []);
  }),
);

test(
  "narrow: the meter and the form stay whole",
  inWorkbench(async ({ window }) => {
    const panel = await panelOfFile(window, "run.yaml");
    await window.runCommand("View: Close Editors in Other Groups");
    await window.runCommand("View: Toggle Primary Side Bar Visibility");
    await window.page.setViewportSize({ width: 560, height: 1000 });
    await meterOf(panel).scrollIntoViewIfNeeded();
    const fits = () => panel.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
    await until("no part that is wider than the panel", fits);
    await window.screenshot("sparsity-meter-narrow");
  }),
);
