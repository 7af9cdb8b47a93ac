/**
 * A run belongs to its folder: paused, resumed and stopped from the panel; inspected while it lives; and not disturbed by windows that are reloaded or
 * extension hosts that are killed. Its result is, byte for byte, that of a run that nobody watched.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Frame } from "playwright-core";
import { blockParts } from "../../src/protocol/coreProtocol.ts";
import type { Selection } from "../../src/protocol/selection.ts";
import { blockOfCheckpoint } from "./checkpointBytes.ts";
import { chooseBlock, copiedValues, inspectorTitle, type RankedPlace } from "./inspectorReading.ts";
import { panelTitle, receivedSequences } from "./panelReading.ts";
import { isRunning, processesOf } from "./processes.ts";
import { corePids, eventsOf, lastEvent, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { temporaryFolder } from "./temporaryFolder.ts";
import { until } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const cli = path.resolve(import.meta.dirname, "../../dist/cli.js");
const demo = path.resolve(import.meta.dirname, "../../media/demo");
/** As long as ten disturbances take on a machine that is not busy. */
const runSeconds = 40;
const disturbances = 10;

function runFile(steps: number): string {
  return [
    "model: ./model",
    "data: { train: data/gsm8k-train.jsonl }",
    "method: { name: smt, blocks: 40, blockSize: 16, warmup: { steps: 5 } }",
    `train: { steps: ${steps}, batchSize: 1, sequenceLength: 256, learningRate: 1.0e-3, precision: bf16 }`,
    "evaluate: { every: null }",
    "checkpoint: { every: 1000, keep: 3 }",
    "",
  ].join("\n");
}

function fillWith(folder: string, steps: number): void {
  cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") });
  writeFileSync(path.join(folder, "long.sparse-tuner.yaml"), runFile(steps));
}

/** Trains without any window; returns the run folder. */
async function trainAlone(folder: string, steps: number): Promise<string> {
  fillWith(folder, steps);
  await promisify(execFile)(process.execPath, [cli, "train", path.join(folder, "long.sparse-tuner.yaml")], { maxBuffer: 1 << 26 });
  return runFolders(folder)[0];
}

let steps = 2000;
const folder = temporaryFolder();

/** As many steps as take so long on this machine. */
async function chooseSteps(): Promise<number> {
  const times = eventsOf(await trainAlone(path.join(folder, "short"), 100)).flatMap(({ kind, timeMs }) => (kind === "step" ? [timeMs] : []));
  // What else runs here now may have ended when it counts: the quicker steps tell how quick they can be.
  const intervals = times.slice(1).map((time, index) => time - times[index]);
  const msPerStep = Math.max(1, intervals.toSorted((a, b) => a - b)[Math.floor(intervals.length / 10)]);
  return Math.max(2000, Math.round((1000 * runSeconds) / msPerStep));
}

async function fill(place: string): Promise<void> {
  steps = await chooseSteps();
  fillWith(place, steps);
}

const inWorkbench = workbenchSession({
  longRun: true,
  recordFrames: true,
  workspace: { name: "a folder with # and spaces", fill },
  viewport: { width: 1300, height: 900 },
});

const runOf = ({ workspace }: OpenWorkbench) => {
  const [runFolder] = runFolders(workspace as string);
  assert.ok(runFolder, "there is a run folder");
  return runFolder;
};
const stepOf = (runFolder: string) => lastEvent(runFolder, "step")?.step ?? 0;
const badge = (panel: Frame, text: string) => panel.locator(".badge").getByText(text, { exact: true });
const action = (panel: Frame, name: string) => panel.locator(`.run-actions [data-action="${name}"]`);
const later = (runFolder: string, count: number) => {
  const from = stepOf(runFolder);
  return until(`${count} more steps`, () => stepOf(runFolder) >= from + count, 60_000);
};

test(
  "Start, then Pause: no step for five seconds",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.runCommand("Sparse Tuner: Start");
    const panel = await window.frame(panelTitle);
    await badge(panel, "Running").waitFor();
    await until("the first steps", () => stepOf(runOf(workbench)) > 20);
    await action(panel, "pause").click();
    await badge(panel, "Paused").waitFor();
    const paused = stepOf(runOf(workbench));
    await window.screenshot("panel-paused");
    // The time itself is what is tested.
    await delay(5000);
    assert.equal(stepOf(runOf(workbench)), paused);
  }),
);

test(
  "five blocks of the live run equal the checkpoint of that step; then Stop and Resume",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const runFolder = runOf(workbench);
    const { blocks } = JSON.parse(readFileSync(path.join(runFolder, "selection.json"), "utf8")) as Selection;
    const some: RankedPlace[] = [0, 9, 20, 31, 39].map((rank) => blocks[rank]);
    const live = new Map<string, Float32Array>();
    const at = stepOf(runFolder);
    await window.runCommandAndPick("Sparse Tuner: Inspect Sub-matrix", `1. ${blocks[0].name}`);
    const inspector = await window.frame(inspectorTitle);
    for (const block of some) {
      await chooseBlock(window, inspector, block);
      for (const part of blockParts) live.set(`${block.rank} ${part}`, await copiedValues(window, inspector, part));
    }
    await inspector.locator("option").getByText("Now (live").waitFor({ state: "attached" });
    await window.screenshot("inspector-live");
    await window.tab("long").first().click();

    const panel = await window.frame(panelTitle);
    await action(panel, "stop").click();
    await badge(panel, "Stopped").waitFor();
    assert.equal(stepOf(runFolder), at);
    await until("its process to end", () => corePids(workbench, runFolder).every((pid) => !isRunning(pid)));
    const files = { checkpoint: path.join(runFolder, `checkpoints/step-${at}`), model: path.join(workbench.workspace as string, "model") };
    for (const block of some)
      for (const part of blockParts) {
        const expected = blockOfCheckpoint(files, block, part);
        const shown = live.get(`${block.rank} ${part}`);
        assert.deepEqual(
          shown?.findIndex((value, index) => value !== expected[index]),
          -1,
          `${part} of ${block.name} at step ${at}`,
        );
      }
    await window.screenshot("panel-stopped");
    await action(panel, "resume").click();
    await badge(panel, "Running").waitFor();
    await later(runFolder, 20);
  }),
);

test(
  `${disturbances} times a reload or an extension host killed with -9: the same core, no gap`,
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const runFolder = runOf(workbench);
    const [pid, ...others] = corePids(workbench, runFolder).filter(isRunning);
    assert.ok(pid && others.length === 0);
    await window.stateSaved("sparseTuner.trainingPanel");
    for (let disturbance = 0; disturbance < disturbances; disturbance++) {
      if (disturbance % 2 === 1) for (const host of workbench.extensionHosts()) process.kill(host, "SIGKILL");
      await window.reload();
      const panel = await window.frame(panelTitle);
      await badge(panel, "Running")
        .waitFor()
        .catch((error) => {
          throw new Error(`after disturbance ${disturbance}, at step ${stepOf(runFolder)} of ${steps}: ${error.message}`);
        });
      const known = eventsOf(runFolder).length;
      await until("later events in the panel", async () => ((await receivedSequences(panel)).at(-1) ?? 0) > known);
      const sequences = await receivedSequences(panel);
      const gap = sequences.findIndex((sequence, index) => sequence !== index + 1);
      assert.equal(gap, -1, `after disturbance ${disturbance} event ${sequences[gap]} follows ${sequences[gap - 1]}`);
      const cores = processesOf(workbench.home).filter(({ command }) => /core\.js(?!.*--serve)/.test(command));
      assert.deepEqual(
        cores.map((core) => core.pid),
        [pid],
      );
      // At a step that nobody has chosen.
      await later(runFolder, 1 + ((disturbance * 7919) % 23));
    }
    assert.ok(stepOf(runFolder) < steps, `the run of ${steps} steps is over before the last disturbance`);
    await window.screenshot("panel-reattached");
  }),
);

test(
  "it ends with the weights of a run that nobody disturbed",
  inWorkbench(async (workbench) => {
    const runFolder = runOf(workbench);
    const panel = await workbench.window.frame(panelTitle);
    const [alone] = await Promise.all([trainAlone(path.join(folder, "alone"), steps), badge(panel, "Finished").waitFor({ timeout: 240_000 })]);
    const sequences = eventsOf(runFolder).map(({ sequence }) => sequence);
    assert.deepEqual(
      sequences,
      Array.from({ length: sequences.length }, (_, index) => index + 1),
    );
    for (const name of ["smt.safetensors", "selection.json"])
      assert.ok(readFileSync(path.join(runFolder, name)).equals(readFileSync(path.join(alone, name))), `${name} differs`);
  }),
);
