/**
 * Kinds of windows: a folder whose name has a space and a `#`, a workspace of two folders, and an empty window. In each a run file is written or found,
 * planned and run, and its run lies where its run file is.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import type { Selection } from "../../src/protocol/selection.ts";
import { openFromExplorer } from "./editorReading.ts";
import { enter, panelOfFile } from "./formReading.ts";
import { decodeBlocks, showMode } from "./panelReading.ts";
import { lastEvent, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const patienceMs = 120_000;
const ending = ".sparse-tuner.yaml";
const extensionId = "sparse-tuner.sparse-tuner";

const inWorkbench = workbenchSession({
  settings: { "sparseTuner.modelFolders": [path.join(demo, "model")], "sparseTuner.notifications": "none" },
  workspace: {
    name: "tune # here",
    fill: (folder) => cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(ending) }),
  },
});

const tinyRun = (name: string) => `# ${name}
model: ${JSON.stringify(path.join(demo, "model"))}
data: { train: rows.jsonl }
method: { name: smt, blocks: 8, blockSize: 16, warmup: { steps: 1 } }
train: { steps: 2, batchSize: 1, sequenceLength: 32 }
`;

/** A picture of the window that a test failed in, which need not be the first. */
function seen(window: WorkbenchWindow, name: string) {
  return async (error: unknown) => {
    await window.screenshot(`failed-${name}`);
    throw error;
  };
}

/** Answers the questions of New Run up to the name; the folder's by the label of its entry. */
async function newRun(window: WorkbenchWindow, answers: { model: string; data: () => Promise<void>; folder: string; name: string }): Promise<void> {
  await window.runCommand("Sparse Tuner: New Run");
  const asked = (question: string) => window.quickInput.locator(`input[placeholder="${question}"]`).waitFor({ timeout: patienceMs });
  await asked("Choose the model to fine-tune");
  await window.pick(answers.model);
  await asked("Choose the training data");
  await answers.data();
  await asked("Choose a method");
  await window.pick("SMT");
  await asked("Choose how much is trained");
  await window.pick("0.84 %");
  await asked("Choose where the run file and its runs are saved");
  await window.screenshot(`new-run-folder-${answers.name}`);
  await window.pick(answers.folder);
  await window.quickInput.getByText("Name of the run").waitFor();
  await window.answer(answers.name);
}

/** Makes the run of a panel short, starts it and waits for its end. */
async function runShortly(window: WorkbenchWindow, name: string): Promise<void> {
  const panel = await panelOfFile(window, name + ending);
  await panel.locator(".plan[data-plan=plan]").waitFor({ timeout: patienceMs });
  for (const [key, value] of [
    ["train.steps", 2],
    ["train.batchSize", 1],
    ["train.sequenceLength", 256],
    ["method.warmup.steps", 1],
  ] as const)
    await enter(panel, key, value);
  // Away from where a hover could lie over the button.
  await window.page.mouse.move(5, 5);
  await panel.locator('.run-actions [data-action="start"]').click();
  await panel.locator(".badge").getByText("Finished").waitFor({ timeout: patienceMs });
}

test(
  "a folder with a space and a # in its name: New Run writes a file with relative paths, and it runs",
  inWorkbench(async ({ window, workspace }) => {
    const folder = workspace ?? "";
    await newRun(window, { model: path.join(folder, "model"), data: () => window.pick("gsm8k-train.jsonl"), folder: "tune # here", name: "named" });
    const file = path.join(folder, `named${ending}`);
    await until("the run file", () => existsSync(file), patienceMs);
    await runShortly(window, "named");
    await window.screenshot("window-folder-with-hash");
    const [runFolder] = runFolders(folder);
    assert.equal(lastEvent(runFolder, "step")?.step, 2);
    assert.match(readFileSync(file, "utf8"), /^model: \.\/model\s[\s\S]*train: \.\/data\/gsm8k-train\.jsonl/m);
    // Every field that was typed into the form, one right after the other.
    assert.match(readFileSync(file, "utf8"), /warmup:\s+steps: 1\s[\s\S]*steps: 2\s+batchSize: 1\s+sequenceLength: 256\s/);
  }),
);

test(
  "New Run does not write over a run file that exists",
  inWorkbench(async ({ window, workspace }) => {
    const file = path.join(workspace ?? "", `named${ending}`);
    const before = readFileSync(file, "utf8");
    await newRun(window, { model: "media/demo/model", data: () => window.pick("gsm8k-train.jsonl"), folder: "tune # here", name: "named" });
    await window.quickInput.getByText(/exists already/).waitFor();
    await window.screenshot("new-run-exists");
    await window.page.keyboard.press("Escape");
    assert.equal(readFileSync(file, "utf8"), before);
  }),
);

test(
  "an export does not go into a folder that holds something, and a deleted run is asked for twice where there is no trash",
  inWorkbench(async ({ window, workspace }) => {
    const folder = workspace ?? "";
    const press = (question: string, button: string) => window.dialog(question).getByRole("button", { name: button }).click();
    await window.runCommandAndPick("Sparse Tuner: Merge and Export", "Merged model");
    await window.pick("As the base");
    const proposed = window.quickPickRows.filter({ hasText: "named-merged" });
    await proposed.waitFor();
    // It was free when it was proposed.
    const taken = path.join(folder, "named-merged");
    mkdirSync(taken);
    writeFileSync(path.join(taken, "mine.txt"), "mine");
    await proposed.click();
    await window.dialog("is not empty").waitFor();
    await window.screenshot("export-not-empty");
    await press("is not empty", "Choose Another Folder");
    await proposed.waitFor();
    await window.page.keyboard.press("Escape");
    assert.deepEqual(readdirSync(taken), ["mine.txt"]);

    const [runFolder] = runFolders(folder);
    await window.runCommand("Sparse Tuner: Delete Run");
    await press("Delete the run named?", "Cancel");
    await window.runCommand("Sparse Tuner: Delete Run");
    await press("Delete the run named?", "Move to Trash");
    // The server of a web workbench has none.
    await press("for good? This cannot be undone.", "Cancel");
    assert.ok(existsSync(path.join(runFolder, "run.yaml")));
    await window.runCommand("Sparse Tuner: Delete Run");
    await press("Delete the run named?", "Move to Trash");
    await window.dialog("for good? This cannot be undone.").waitFor();
    await window.screenshot("delete-for-good");
    await press("for good? This cannot be undone.", "Delete for Good");
    await until("the folder to go", () => !existsSync(runFolder));
    assert.ok(existsSync(path.join(folder, `named${ending}`)));
  }),
);

/** The heatmap shows the blocks that the run chose, however short it was. */
async function assertShowsChoice(panel: Frame, runFolder: string): Promise<void> {
  const { blocks } = JSON.parse(readFileSync(path.join(runFolder, "selection.json"), "utf8")) as Selection;
  await panel.locator(".heatmap-toolbar").waitFor();
  await showMode(panel, "selected");
  const all = async () => (await decodeBlocks(panel, blocks)).every((shown) => shown?.low === 1 && shown.high === 1);
  await until("the chosen blocks", all);
}

/** A workspace file with two folders, each with data and a run file. */
function twoFolders(workbench: OpenWorkbench): string {
  const folders = ["left", "right side"].map((name) => {
    const folder = path.join(workbench.home, name);
    mkdirSync(folder);
    writeFileSync(path.join(folder, "rows.jsonl"), '{"prompt":"One and one?","completion":"Two."}\n');
    writeFileSync(path.join(folder, `${name.split(" ")[0]}-run${ending}`), tinyRun(name));
    return folder;
  });
  const file = path.join(workbench.home, "two.code-workspace");
  writeFileSync(file, JSON.stringify({ folders: folders.map((folder) => ({ path: folder })) }));
  return file;
}

/** In a browser VS Code now and then opens a workspace file without its folders, and its explorer says that there are none. */
async function untilFoldersAreOpen(window: WorkbenchWindow): Promise<void> {
  const { page } = window;
  const none = page.getByText("You have not yet added a folder to the workspace.");
  const rows = page.locator(".explorer-folders-view .monaco-list-row");
  for (let tries = 0; tries < 5; tries++) {
    await window.openContainer("Explorer");
    await none.or(rows.first()).first().waitFor({ timeout: patienceMs });
    if ((await rows.count()) > 0) return;
    await window.reload();
  }
}

test(
  "a workspace of two folders: run files of both are listed, and a run lies in the folder of its run file",
  inWorkbench(async (workbench) => {
    const window = await workbench.openWindow(twoFolders(workbench));
    await untilFoldersAreOpen(window);
    await window.openContainer("Sparse Tuner");
    for (const name of ["left-run", "right-run"]) {
      const row = window.treeRows("Runs").filter({ hasText: name });
      const listed = async () => {
        // A window that has only just opened may still go back to the explorer.
        await window.openContainer("Sparse Tuner");
        return (await row.count()) === 1;
      };
      await until(`${name} in the list`, listed, 60_000).catch(seen(window, "window-two-folders"));
    }
    const right = path.join(workbench.home, "right side");
    await openFromExplorer(window, `right-run${ending}`);
    await window.runCommand("Sparse Tuner: Start");
    const panel = await window.frame("Sparse Tuner Training Panel", patienceMs);
    await panel.locator(".badge").getByText("Finished").waitFor({ timeout: patienceMs });
    assert.equal(runFolders(right).length, 1);
    await assertShowsChoice(panel, runFolders(right)[0]).catch(seen(window, "window-two-folders"));
    await window.openContainer("Sparse Tuner");
    await window.treeRows("Runs").filter({ hasText: "right-run" }).filter({ hasText: "finished" }).waitFor({ timeout: patienceMs });
    await window.screenshot("window-two-folders");
    assert.equal(runFolders(path.join(workbench.home, "left")).length, 0);
    // The other window's runs are not this one's.
    assert.equal(await window.treeRows("Runs").filter({ hasText: "named" }).count(), 0);
  }),
);

test(
  "an empty window: New Run keeps the run file and its run in the extension's storage",
  inWorkbench(async (workbench) => {
    const window = await workbench.openWindow(null);
    const data = path.join(workbench.home, "rows.jsonl");
    writeFileSync(data, '{"prompt":"One and one?","completion":"Two."}\n');
    await newRun(window, {
      model: path.join(demo, "model"),
      data: async () => {
        await window.pick("Browse…");
        const input = window.quickInput.locator("input").first();
        await until("the file dialog", async () => (await input.inputValue()).startsWith("/"), patienceMs);
        await window.screenshot("new-run-browse");
        // The dialog completes what is typed, and while it opens puts its folder there; until it has looked, Enter would only go to a folder.
        const listed = async () => {
          if ((await input.inputValue()) !== data) await input.fill(data);
          return (await window.quickPickRows.filter({ hasText: "rows.jsonl" }).count()) > 0;
        };
        await until("the file in the dialog", listed, patienceMs);
        await input.press("Enter");
      },
      folder: "Storage of the extension",
      name: "stored",
    }).catch(seen(window, "window-empty"));
    const storage = workbench.globalStorage(extensionId);
    await until("the run file", () => existsSync(path.join(storage, `stored${ending}`)), patienceMs);
    await runShortly(window, "stored");
    await window.openContainer("Sparse Tuner");
    await window.treeRows("Runs").filter({ hasText: "stored" }).first().waitFor({ timeout: patienceMs });
    await window.screenshot("window-empty");
    const [runFolder] = runFolders(storage);
    assert.equal(lastEvent(runFolder, "step")?.step, 2);
  }),
);
