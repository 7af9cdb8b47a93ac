/** Evaluate by task: a run that came with the workspace is judged by two sets, and the result stands in a document, each accuracy beside its floor. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { TaskResult } from "../../src/protocol/evaluationTasks.ts";
import { fillWithRun, openRun } from "./broughtRun.ts";
import { editorLines } from "./editorReading.ts";
import { commandLine, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";

const inWorkbench = workbenchSession({
  viewport: { width: 1600, height: 1000 },
  settings: { "editor.minimap.enabled": false },
  workspace: {
    fill(folder) {
      fillWithRun(folder);
      cpSync(path.resolve(import.meta.dirname, "../fixtures/tasks"), path.join(folder, "dataset"), { recursive: true });
    },
  },
});

/** Ticks tasks one after the other, each looked for by its name, so that the list shows no other. */
async function chooseTasks(window: WorkbenchWindow, names: readonly string[]): Promise<void> {
  const input = window.quickInput.locator('input[placeholder="Choose the tasks"]');
  await input.waitFor();
  const rows = window.quickInput.locator(".monaco-list-row");
  for (const name of names) {
    await input.fill(name);
    await until(`${name} alone`, async () => (await rows.count()) === 1 && (await rows.first().innerText()).includes(name));
    await rows.first().click();
  }
  await input.fill("");
  await window.quickInput.getByText(`${names.length} Selected`).waitFor();
  await window.screenshot(`evaluate-tasks-${names[0]}`);
  await window.quickInput.getByRole("button", { name: "OK" }).click();
}

test(
  "the tasks, their folder and the scoring are picked, and the result is the command line's",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await openRun(window, "brought");
    await window.runCommandAndPick("Sparse Tuner: Evaluate", "By task…");
    await chooseTasks(window, ["boolq", "arc_easy"]);
    await window.pick("dataset");
    await window.screenshot("evaluate-scoring");
    await window.pick("As suits each task");
    await window.pick("All rows");
    const text = await until(
      "the result's document",
      async () => {
        const lines = (await editorLines(window, "Tasks of").catch(() => [])).join("\n");
        return lines.includes("mean over tasks") && lines;
      },
      90_000,
    );
    await window.screenshot("evaluate-result");

    const [runFolder] = runFolders(workbench.workspace as string);
    const dataset = path.join(workbench.workspace as string, "dataset");
    const { results } = commandLine<{ results: TaskResult[] }>(
      workbench,
      "evaluate",
      runFolder,
      "--task",
      "boolq,arc_easy",
      "--data",
      dataset,
      "--json",
    );
    for (const { title, accuracy, correct, total, majorityFloor } of results) {
      const row = text.split("\n").find((line) => line.startsWith(`| ${title}`)) ?? "";
      const cells = row.split("|").map((cell) => cell.trim());
      const percent = (share: number | null) => `${(100 * (share ?? 0)).toFixed(1)} %`;
      assert.deepEqual([cells[2], cells[4], cells[5], cells[6]], [percent(accuracy), percent(majorityFloor), String(correct), String(total)], row);
    }
  }),
);

test(
  "a task whose file is not there is refused by what was looked for",
  inWorkbench(async ({ window }) => {
    await openRun(window, "brought");
    await window.runCommandAndPick("Sparse Tuner: Evaluate", "By task…");
    await chooseTasks(window, ["piqa", "arc_easy"]);
    await window.pick("dataset");
    await window.pick("As suits each task");
    await window.pick("All rows");
    await window.notification(/no file of the task piqa: looked for piqa/).waitFor({ timeout: 60_000 });
    await window.screenshot("evaluate-refused");
  }),
);
