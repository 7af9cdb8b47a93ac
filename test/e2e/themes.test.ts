/** Views, panel and inspector in the dark, light and both high-contrast themes: drawn, and without a serious finding of axe. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import { bodyClass, seriousFindings } from "./accessibility.ts";
import { broughtRunFile, fillWithRun, openRun } from "./broughtRun.ts";
import { inspectorTitle } from "./inspectorReading.ts";
import { heatmapMatrices, panelTitle } from "./panelReading.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";
import { type Theme, themes } from "./workbench.ts";

const inWorkbench = workbenchSession({ workspace: { fill: fillWithRun }, viewport: { width: 1500, height: 1200 } });

async function panelOf(window: WorkbenchWindow): Promise<Frame> {
  const panel = await window.frame(panelTitle);
  await until("the heatmap of the run", async () => (await heatmapMatrices(panel)).length === 14);
  return panel;
}

test(
  "the panel of the finished run",
  inWorkbench(async ({ window }) => {
    await openRun(window, "brought");
    await panelOf(window);
  }),
);

for (const theme of Object.keys(themes) as Theme[]) {
  test(
    `${theme}: the panel`,
    inWorkbench(async ({ window }) => {
      await window.setTheme(themes[theme]);
      const panel = await panelOf(window);
      await panel.locator(`body.${bodyClass[theme]}`).waitFor();
      await window.screenshot(`theme-${theme}-panel`);
      assert.deepEqual(await seriousFindings(panel), []);
    }),
  );
}

test(
  "the inspector in every theme",
  inWorkbench(async ({ window }) => {
    await window.runCommandAndPick("Sparse Tuner: Inspect Sub-matrix", /^\s*1\. /);
    const inspector = await window.frame(inspectorTitle);
    await inspector.getByText("Frobenius norm").first().waitFor();
    for (const theme of Object.keys(themes) as Theme[]) {
      await window.setTheme(themes[theme]);
      await inspector.locator(`body.${bodyClass[theme]}`).waitFor();
      await window.screenshot(`theme-${theme}-inspector`);
      assert.deepEqual(await seriousFindings(inspector), [], theme);
    }
  }),
);

test(
  "the panel beside its run file, with the form",
  inWorkbench(async ({ window }) => {
    await window.runCommand("View: Close All Editors");
    await window.openFile(broughtRunFile);
    await window.page.locator(".codelens-decoration").getByText("Open panel").click();
    const panel = await window.frame(panelTitle);
    await panel.locator(".plan-part").first().waitFor();
    for (const theme of Object.keys(themes) as Theme[]) {
      await window.setTheme(themes[theme]);
      await panel.locator(`body.${bodyClass[theme]}`).waitFor();
      await window.screenshot(`theme-${theme}-form`);
      assert.deepEqual(await seriousFindings(panel), [], theme);
    }
  }),
);
