/** What goes wrong in a folder: a readable sentence, a code, and buttons that lead on. And a forged run.lock, which nobody is killed by. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { panelTitle } from "./panelReading.ts";
import { processesOf } from "./processes.ts";
import { eventsOf, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { temporaryFolder } from "./temporaryFolder.ts";
import { until, type WorkbenchWindow } from "./window.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const method = "method: { name: smt, blocks: 40, blockSize: 16, warmup: { steps: 2 } }\n";
const good = "data: { train: data/gsm8k-train.jsonl }\n";
/** Where what the forged lock names lies. */
const forgery = temporaryFolder();
let victim: ChildProcess;
after(() => victim?.kill("SIGKILL"));
/** Who connects to the socket that the forged lock names. */
let callers = 0;
const trap = net.createServer((socket) => {
  callers++;
  socket.destroy();
});
after(() => trap.close());

/** Keys that give commands a forged target, as a link or another extension could. */
const forgedKeys = { start: "F6", kill: "F7" };

function fill(folder: string): void {
  cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") });
  writeFileSync(path.join(folder, "data/broken.jsonl"), '{"question": 1\n{"question": 2\n');
  writeFileSync(path.join(folder, "data/halfBroken.jsonl"), `${'{"question":"two and two?","answer":"four"}\n'.repeat(4)}{"question":\n`);
  const files = {
    noModel: `model: ./nope\n${good}${method}`,
    badFile: `model: ./model\n${good}${method}trian: { steps: 3 }\ntrain: { steps: -1 }\n`,
    noRow: `model: ./model\ndata: { train: data/broken.jsonl }\n${method}`,
    someRows: `model: ./model\ndata: { train: data/halfBroken.jsonl }\n${method}train: { steps: 2, sequenceLength: 64 }\n`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, `${name}.sparse-tuner.yaml`), text);
  const forged = path.join(folder, ".sparse-tuner/runs/forged");
  forgeLock(forged);
  const bindings = Object.entries(forgedKeys).map(([name, key]) => {
    const commands = [{ command: `sparseTuner.${name}`, args: { runFolder: forged } }];
    return { key: `ctrl+alt+${key.toLowerCase()}`, command: "runCommands", args: { commands } };
  });
  const userFolder = path.join(path.dirname(folder), "server/data/User");
  mkdirSync(userFolder, { recursive: true });
  writeFileSync(path.join(userFolder, "keybindings.json"), JSON.stringify(bindings));
}

/** A run folder whose lock names a process that is somebody else's. */
function forgeLock(runFolder: string): void {
  mkdirSync(runFolder, { recursive: true });
  victim = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  writeFileSync(path.join(runFolder, "run.yaml"), `model: ../../../model\n${good.replace("data/", "../../../data/")}${method}`);
  const socket = path.join(forgery, "forged.sock");
  trap.listen(socket);
  const lock = { pid: victim.pid, host: os.hostname(), processStart: null, timeMs: Date.now(), nonce: "forged-nonce", socket };
  writeFileSync(path.join(runFolder, "run.lock"), JSON.stringify(lock));
}

const inWorkbench = workbenchSession({ workspace: { name: "errors", fill } });

async function start(window: WorkbenchWindow, name: string): Promise<void> {
  await window.openFile(`${name}.sparse-tuner.yaml`);
  await window.runCommand("Sparse Tuner: Start");
}

async function press(window: WorkbenchWindow, notification: string, button: string): Promise<void> {
  await window.notification(notification).getByRole("button", { name: button }).click();
}

test(
  "a model folder that is not there: a sentence with its code; the log and the report",
  inWorkbench(async ({ window }) => {
    await start(window, "noModel");
    await window.notification("nope is missing").waitFor();
    await window.screenshot("error-model-folder");
    await window.page.evaluate(() => navigator.clipboard.writeText("nothing yet"));
    await press(window, "model/no-folder", "Copy Report");
    const report = await until("the report", async () => {
      const text = await window.page.evaluate(() => navigator.clipboard.readText());
      return text === "nothing yet" ? null : text;
    });
    assert.match(report, /model\/no-folder/);
    await start(window, "noModel");
    await press(window, "model/no-folder", "Show Log");
    await window.page.locator(".part.panel .view-lines").filter({ hasText: "model/no-folder" }).waitFor();
    await window.screenshot("error-log");
    await window.runCommand("View: Hide Panel");
  }),
);

test(
  "a run file with two errors: both are underlined, and the button leads to the first",
  inWorkbench(async ({ window }) => {
    await start(window, "badFile");
    await window.notification("config/invalid").waitFor();
    await until("both underlined", async () => (await window.page.locator(".squiggly-error").count()) === 2);
    await press(window, "config/invalid", "Open File at Line");
    await window.statusBarItem("Ln 4").waitFor();
    await window.screenshot("error-run-file");
  }),
);

test(
  "data without a usable row are refused, with the row",
  inWorkbench(async ({ workspace, window }) => {
    await start(window, "noRow");
    const toast = window.notification(/data\/[a-z-]+/);
    await toast.waitFor();
    assert.match(await toast.innerText(), /broken\.jsonl/);
    await window.screenshot("error-data");
    await press(window, "broken.jsonl", "Open File at Line");
    await window.tab("broken.jsonl").waitFor();
    assert.deepEqual(
      runFolders(workspace as string).map((folder) => path.basename(folder)),
      ["forged"],
    );
  }),
);

test(
  "a bad row among good ones is skipped, and the panel says so",
  inWorkbench(async ({ workspace, window }) => {
    await start(window, "someRows");
    const panel = await window.frame(panelTitle);
    await panel.locator(".badge").getByText("Finished").waitFor({ timeout: 60_000 });
    await panel
      .locator(".notices, [data-notices]")
      .first()
      .getByText(/skipped|row/i)
      .first()
      .waitFor();
    const started = eventsOf(runFolders(workspace as string)[0]).find(({ kind }) => kind === "started");
    assert.ok(started?.kind === "started" && started.skippedRows === 1);
  }),
);

test(
  "a forged lock: no start, no kill, and whom it names lives on",
  inWorkbench(async ({ window, workspace, home }) => {
    await window.openContainer("Sparse Tuner");
    const row = window.treeRows("Runs").filter({ hasText: "forged" });
    await row.waitFor();
    await window.screenshot("run-forged-lock");
    await row.click();
    const panel = await until("the panel of the forged run", async () => {
      const shown = await window.findFrame(panelTitle);
      return (
        shown &&
        (await shown
          .locator("h1")
          .innerText()
          .catch(() => "")) === "forged" &&
        shown
      );
    });
    for (const state of ["Running", "Paused", "Not responding"])
      assert.equal(await panel.locator(".badge").getByText(state, { exact: true }).count(), 0);
    await window.screenshot("panel-forged-lock");
    const actions = await panel
      .locator(".run-actions [data-action]")
      .evaluateAll((buttons) => buttons.map((button) => button.getAttribute("data-action")));
    assert.ok(!actions.includes("kill"), `offered: ${actions}`);

    const forged = path.join(workspace as string, ".sparse-tuner/runs/forged");
    const lock = readFileSync(path.join(forged, "run.lock"), "utf8");
    const give = async (name: keyof typeof forgedKeys, refusal: RegExp) => {
      await window.runCommand("Notifications: Clear All Notifications");
      await row.click();
      await window.page.keyboard.press(`Control+Alt+${forgedKeys[name]}`);
      // Whoever gives the command for this run by hand is asked; the answer is the worst one.
      if (name === "kill") await window.dialog("Kill the process of forged?").getByRole("button", { name: "Kill" }).click();
      await window.notification(refusal).waitFor();
    };
    await give("start", /run\/locked/);
    await window.screenshot("forged-lock-refused");
    await give("kill", /run\/not-live/);

    await until("no process for the run", () => processesOf(home).every(({ command }) => !/core\.js(?!.*--serve)/.test(command)));
    assert.equal(readFileSync(path.join(forged, "run.lock"), "utf8"), lock);
    assert.ok(!existsSync(path.join(forged, "events.jsonl")) || eventsOf(forged).length === 0, "the run was begun");
    assert.equal(callers, 0, "the socket that the lock names was called");
    assert.equal(victim.exitCode ?? victim.signalCode, null);
  }),
);
