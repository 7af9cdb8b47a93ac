/** The newest VS Code, whose extension host and core run on another Node: the demo runs to its end, and a reload attaches to it again. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { heatmapMatrices, panelTitle } from "./panelReading.ts";
import { lastEvent, runFolders } from "./runFolder.ts";
import { releases } from "./server.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";

const inWorkbench = workbenchSession({ longRun: true, release: "newest", coreOnServersNode: true });

test(
  `the demo in VS Code ${releases.newest.vscode}, with a reload on the way`,
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.runCommand("Sparse Tuner: Run Demo");
    const first = await window.frame(panelTitle);
    await first.locator(".heatmap-toolbar").waitFor({ state: "visible" });
    const [runFolder] = runFolders(path.join(workbench.globalStorage("sparse-tuner.sparse-tuner"), "demo"));
    await window.stateSaved(path.join("runs", path.basename(runFolder)));
    await window.reload();
    const panel = await window.frame(panelTitle);
    await panel.locator(".badge").getByText("Finished").waitFor({ timeout: 120_000 });
    await until("the heatmap of the run", async () => (await heatmapMatrices(panel)).length === 14);
    assert.equal(lastEvent(runFolder, "step")?.step, 300);
    await window.screenshot("newest-finished");
    assert.deepEqual(window.policyViolations(), []);
  }),
);

test(
  "Doctor names the Node that runs the core",
  inWorkbench(async ({ window }) => {
    await window.runCommand("Sparse Tuner: Doctor");
    const text = await until("Doctor's answer", async () => {
      const shown = (await window.page.locator(".part.editor .view-lines").allInnerTexts()).join("\n").replaceAll("\u00a0", " ");
      return /Node \d+\.\d+/.test(shown) && shown;
    });
    assert.match(text, new RegExp(`Node ${releases.newest.nodeMajor}\\.`));
  }),
);
