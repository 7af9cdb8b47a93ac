/**
 * Runs in trouble, as the panel shows them, each with what it offers next: failed in training, crashed twice at one place, hanging, interrupted while no
 * window looked, held by a machine that is gone. Nothing is simulated: cores get real signals, and the numbers really overflow.
 */
import assert from "node:assert/strict";
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import { panelTitle } from "./panelReading.ts";
import { isRunning } from "./processes.ts";
import { corePids, eventsOf, lastEvent, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const method = "method: { name: smt, blocks: 40, blockSize: 16, warmup: { steps: 2 } }";
const rest = "evaluate: { every: null }\ncheckpoint: { every: null }\n";
const runText = (model: string, train: string) => `model: ${model}\ndata: { train: data/gsm8k-train.jsonl }\n${method}\ntrain: ${train}\n${rest}`;

function fill(folder: string): void {
  cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") });
  cpSync(path.join(folder, "model"), path.join(folder, "overflowing"), { recursive: true });
  overflow(path.join(folder, "overflowing/model.safetensors"), "model.norm.weight");
  const texts = {
    diverging: runText("./overflowing", "{ steps: 20, sequenceLength: 64 }"),
    // Its first step outlasts the test, so that every crash comes before it.
    heavy: runText("./model", "{ steps: 20, batchSize: 8, sequenceLength: 256, gradientAccumulation: 1000 }"),
    lasting: runText("./model", "{ steps: 1000000, sequenceLength: 64 }"),
  };
  for (const [name, text] of Object.entries(texts)) writeFileSync(path.join(folder, `${name}.sparse-tuner.yaml`), text);
  const abandoned = path.join(folder, ".sparse-tuner/runs/abandoned");
  mkdirSync(abandoned, { recursive: true });
  writeFileSync(path.join(abandoned, "run.yaml"), texts.lasting.replace("./model", "../../../model").replace("data/", "../../../data/"));
  const lock = { pid: 4242, host: "container-of-yesterday", processStart: null, timeMs: 0, nonce: "left-behind" };
  writeFileSync(path.join(abandoned, "run.lock"), JSON.stringify(lock));
}

/** Every value of a bf16 tensor becomes the largest there is: finite in the file, too large for what is computed from it. */
function overflow(file: string, name: string): void {
  const bytes = readFileSync(file);
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const [from, to] = JSON.parse(bytes.toString("utf8", 8, headerEnd))[name].data_offsets;
  writeFileSync(file, bytes.fill(0x7f, headerEnd + from, headerEnd + to));
}

const inWorkbench = workbenchSession({ workspace: { name: "trouble", fill }, viewport: { width: 1300, height: 900 } });

async function start(window: WorkbenchWindow, name: string): Promise<void> {
  await window.runCommand("View: Close All Editors");
  await window.openFile(`${name}.sparse-tuner.yaml`);
  await window.runCommand("Sparse Tuner: Start");
}

const runOf = ({ workspace }: OpenWorkbench, name: string) =>
  until(`the run folder of ${name}`, () => runFolders(workspace as string).find((folder) => folder.endsWith(name)));

/** Opens a run's panel from the Runs view, as the only editor. */
async function shown(window: WorkbenchWindow, name: string): Promise<Frame> {
  await window.runCommand("View: Close All Editors");
  await window.openContainer("Sparse Tuner");
  // Run files that were not started stand above runs; a row that is made anew under the pointer has lost its command.
  const row = window.treeRows("Runs").filter({ hasText: name }).last();
  return until(`the panel of ${name}`, async () => {
    await row.click();
    const panel = await window.frame(panelTitle, 5000).catch(() => null);
    const title = await panel
      ?.locator("h1")
      .innerText({ timeout: 2000 })
      .catch(() => "");
    return title?.endsWith(name) ? panel : null;
  });
}

const badge = (panel: Frame, text: string) => panel.locator(".badge").getByText(text, { exact: true });
const action = (panel: Frame, name: string) => panel.locator(`.run-actions [data-action="${name}"]`);
const offered = (panel: Frame) =>
  panel.locator(".run-actions [data-action]").evaluateAll((buttons) => buttons.map((button) => button.getAttribute("data-action")));

/** The process of a run, once its model is loaded and the panel shows it at work. */
async function working(workbench: OpenWorkbench, panel: Frame, runFolder: string, starts: number): Promise<number> {
  await until("the run to begin", () => eventsOf(runFolder).filter(({ kind }) => kind === "started").length === starts, 60_000);
  await panel.locator('[data-state="running"]').waitFor();
  const [pid, ...others] = corePids(workbench, runFolder).filter(isRunning);
  assert.ok(pid && others.length === 0);
  return pid;
}

test(
  "numbers that overflow: Failed, with the reason and its buttons",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await start(window, "diverging");
    const runFolder = await runOf(workbench, "diverging");
    await until("the failure", () => lastEvent(runFolder, "failed"), 60_000);
    const panel = await shown(window, "diverging");
    await badge(panel, "Failed").waitFor();
    assert.equal(await panel.locator(".failure-code").innerText(), "method/score-not-finite");
    assert.deepEqual(await offered(panel), ["resume", "showLog", "copyReport", "duplicate"]);
    await window.screenshot("panel-failed");
    await window.page.evaluate(() => navigator.clipboard.writeText("nothing yet"));
    await action(panel, "copyReport").click();
    const read = () => window.page.evaluate(() => navigator.clipboard.readText());
    await until("the report", async () => (await read()).includes("method/score-not-finite"));
  }),
);

test(
  "a core that is killed twice at one place: started again once, then Failed with the end of its log",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await start(window, "heavy");
    const panel = await window.frame(panelTitle);
    const runFolder = await runOf(workbench, "heavy");
    const first = await working(workbench, panel, runFolder, 1);
    process.kill(first, "SIGKILL");
    await panel.locator('[data-state="starting"]').waitFor();
    assert.deepEqual(await offered(panel), ["stop", "showLog"]);
    const second = await working(workbench, panel, runFolder, 2);
    assert.notEqual(second, first);
    appendFileSync(path.join(runFolder, "log.txt"), "the last words of a library\n");
    process.kill(second, "SIGKILL");
    await badge(panel, "Failed").waitFor();
    assert.equal(await panel.locator(".failure-code").innerText(), "core/crashed");
    assert.deepEqual(await offered(panel), ["resume", "showLog", "copyReport", "duplicate"]);
    await panel.locator("details summary").getByText("Last lines of the log").click();
    assert.match(await panel.locator(".log-tail").innerText(), /the last words of a library$/);
    await window.screenshot("panel-crashed");
  }),
);

test(
  "a core that hangs: Not responding after ten seconds; Kill, then Interrupted, and Resume",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await start(window, "lasting");
    const panel = await window.frame(panelTitle);
    const runFolder = await runOf(workbench, "lasting");
    const pid = await working(workbench, panel, runFolder, 1);
    await until("the first steps", () => lastEvent(runFolder, "step"), 60_000);
    process.kill(pid, "SIGSTOP");
    await badge(panel, "Not responding").waitFor();
    assert.deepEqual(await offered(panel), ["kill", "showLog", "copyReport"]);
    await window.screenshot("panel-not-responding");
    await action(panel, "kill").click();
    await window.dialog("Kill the process of lasting?").getByRole("button", { name: "Kill" }).click();
    await badge(panel, "Interrupted").waitFor();
    assert.ok(!isRunning(pid));
    assert.deepEqual(await offered(panel), ["resume", "showLog", "duplicate"]);
    await action(panel, "resume").click();
    await working(workbench, panel, runFolder, 2);
  }),
);

test(
  "a core that ends while no window looks: the next one says Interrupted and starts nothing",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const runFolder = await runOf(workbench, "lasting");
    const url = window.page.url();
    await window.page.goto("about:blank");
    for (const host of workbench.extensionHosts()) process.kill(host, "SIGKILL");
    const [pid] = corePids(workbench, runFolder).filter(isRunning);
    process.kill(pid, "SIGKILL");
    await until("its end", () => !isRunning(pid));
    await window.page.goto(url);
    await window.ready();
    const panel = await shown(window, "lasting");
    await badge(panel, "Interrupted").waitFor();
    assert.deepEqual(await offered(panel), ["resume", "showLog", "duplicate"]);
    assert.deepEqual(corePids(workbench, runFolder).filter(isRunning), []);
    await window.screenshot("panel-interrupted");
  }),
);

test(
  "a run that a machine holds which is gone: named with its lock, and free once that is removed",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const lock = path.join(await runOf(workbench, "abandoned"), "run.lock");
    const panel = await shown(window, "abandoned");
    await badge(panel, "Running elsewhere").waitFor();
    const sentence = await panel.locator(".run-sentence").innerText();
    for (const part of ["4242", "container-of-yesterday", lock]) assert.ok(sentence.includes(part), sentence);
    assert.deepEqual(await offered(panel), ["removeLock", "duplicate", "showLog"]);
    await window.screenshot("panel-elsewhere");
    await action(panel, "removeLock").click();
    const dialog = window.dialog("Remove the lock of abandoned?");
    await dialog.getByText("container-of-yesterday").waitFor();
    assert.ok(existsSync(lock), "a question comes first");
    await window.screenshot("question-remove-lock");
    await dialog.getByRole("button", { name: "Remove Lock" }).click();
    await badge(panel, "Interrupted").waitFor();
    assert.ok(!existsSync(lock));
  }),
);
