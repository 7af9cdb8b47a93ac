/** Restricted Mode: a run that a folder brings along can be looked at; nothing is started, and trusting the folder lets it start. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { broughtRunFile, fillWithRun, openRun } from "./broughtRun.ts";
import { heatmapMatrices } from "./panelReading.ts";
import { processesOf } from "./processes.ts";
import { runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const inWorkbench = workbenchSession({ trusted: false, workspace: { name: "brought", fill: fillWithRun } });
const cores = ({ home }: OpenWorkbench) => processesOf(home).filter(({ command }) => /core\.js(?!.*--serve)/.test(command));

test(
  "the run's history is shown, Start is refused with a way to trust, and no core is started",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.openContainer("Sparse Tuner");
    const row = window.treeRows("Runs").filter({ hasText: "brought" }).first();
    await row.waitFor();
    await window.screenshot("restricted-views");
    const panel = await openRun(window, "brought");
    await until("the heatmap of the run", async () => (await heatmapMatrices(panel)).length === 14);
    await window.screenshot("restricted-panel");
    await window.openFile(broughtRunFile);
    await window.runCommand("Sparse Tuner: Start");
    await window.notification("Restricted Mode").waitFor();
    await window.screenshot("restricted-start");
    assert.deepEqual(cores(workbench), []);
    assert.equal(runFolders(workbench.workspace as string).length, 1);
    await window.notification("Restricted Mode").getByRole("button", { name: "Manage Workspace Trust" }).click();
    await window.page.locator(".workspace-trust-editor").getByText("Trust", { exact: true }).first().click();
  }),
);

test(
  "once the folder is trusted, it starts",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.ready();
    await window.openFile(broughtRunFile);
    await window.runCommand("Sparse Tuner: Start");
    await until("a second run", () => runFolders(workbench.workspace as string).length === 2);
  }),
);
