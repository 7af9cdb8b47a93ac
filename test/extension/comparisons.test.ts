/**
 * The comparisons of a window: found by the register while a process works on them, followed to their end, told of as runs are; and the register itself, which a
 * second window reads. With a real core, without VS Code's window.
 */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createComparison, requestStop, startComparison } from "../../src/extension/compare/comparisonFolder.ts";
import { Comparisons, stateOf } from "../../src/extension/compare/comparisons.ts";
import { comparisonsRegister, liveComparisons } from "../../src/extension/liveRuns.ts";
import type { ComparisonProgress } from "../../src/protocol/compareResults.ts";
import type { RunState } from "../../src/protocol/panelProtocol.ts";
import { writeComparison } from "../core/compare/smallComparison.ts";
import { seen, state } from "./vscodeStandIn.ts";

const { ComparisonNotices } = await import("../../src/extension/compare/comparisonNotices.ts");
const { comparisonDescription } = await import("../../src/extension/compare/comparisonText.ts");

const root = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-comparisons-"));
after(() => rmSync(root, { recursive: true, force: true }));
process.env.XDG_STATE_HOME = path.join(root, "state");
const program = { node: process.execPath, core: path.resolve(import.meta.dirname, "../../src/core/main.ts") };

async function until(what: string, check: () => Promise<boolean> | boolean): Promise<void> {
  for (let waited = 0; !(await check()); waited += 20) {
    assert.ok(waited < 120_000, `waited in vain for ${what}`);
    await delay(20);
  }
}

/** A window over a folder of comparisons. */
function openWindow(output: string): { comparisons: Comparisons; visible: Set<string>; close(): void } {
  const visible = new Set<string>();
  const comparisons = new Comparisons({
    liveFolders: async () => (await liveComparisons()).map(({ runFolder }) => runFolder),
    outputs: async () => [output],
    isTrusted: () => true,
  });
  const compare = { isVisible: (folder: string) => visible.has(folder), open: () => undefined };
  const notices = new ComparisonNotices({ comparisons, compare } as unknown as ConstructorParameters<typeof ComparisonNotices>[0]);
  return {
    comparisons,
    visible,
    close() {
      notices.dispose();
      comparisons.dispose();
    },
  };
}

const progress = (changes: Partial<ComparisonProgress>): ComparisonProgress => ({
  state: "running",
  timeMs: 1,
  run: "",
  step: 0,
  of: 0,
  runsDone: 2,
  runsInAll: 6,
  etaMs: null,
  message: "",
  ...changes,
});

test("a comparison's state is that of its process and its last progress", () => {
  const states = (live: boolean) =>
    (["running", "waiting", "done", "stopped", "failed"] as const).map((own): RunState => stateOf(progress({ state: own }), live));
  assert.deepEqual(states(true), ["running", "waiting", "running", "running", "running"]);
  assert.deepEqual(states(false), ["interrupted", "interrupted", "finished", "stopped", "failed"]);
  assert.deepEqual([stateOf(null, true), stateOf(null, false)], ["running", "draft"]);
});

test("a row says runs done of all and the time that is left", () => {
  const view = { folder: "/w/20261121-170000-plateau", name: "plateau", failure: "", state: "running" as RunState };
  const text = (etaMs: number | null, now: RunState = "running") => comparisonDescription({ ...view, state: now, progress: progress({ etaMs }) });
  assert.equal(text(90_000), "running · 2 / 6 runs · about 2 min left · 2026-11-21 17:00");
  assert.equal(text(3_700_000), "running · 2 / 6 runs · about 1 h 2 min left · 2026-11-21 17:00");
  assert.equal(text(90_000, "stopped"), "stopped · 2 / 6 runs · 2026-11-21 17:00");
  assert.equal(comparisonDescription({ ...view, state: "draft", progress: null }), "not started · 2026-11-21 17:00");
});

test("changes of a live one are told once, by the setting, and not while its view is on the screen", async () => {
  const output = path.join(root, "told");
  const window = openWindow(output);
  try {
    // Each comparison is live by the lock of this process, and ends when it is taken away.
    const told = async (name: string, end: "done" | "failed" | "stopped" | "waiting"): Promise<string[][]> => {
      const folder = path.join(output, name);
      mkdirSync(folder, { recursive: true });
      writeFileSync(path.join(folder, "compare.yaml"), "model: m\n");
      const write = (changes: Partial<ComparisonProgress>) => writeFileSync(path.join(folder, "progress.json"), JSON.stringify(progress(changes)));
      const lock = path.join(folder, "run.lock");
      write({});
      writeFileSync(lock, JSON.stringify({ pid: process.pid, host: os.hostname(), processStart: null, timeMs: 1, nonce: "n" }));
      await window.comparisons.look(folder);
      seen.messages.length = 0;
      write({ state: end, message: end === "failed" ? "No memory." : "" });
      if (end !== "waiting") rmSync(lock);
      if (name.endsWith("seen")) window.visible.add(folder);
      await window.comparisons.look(folder);
      await window.comparisons.look(folder);
      await delay(0);
      rmSync(folder, { recursive: true });
      await window.comparisons.look(folder);
      return [...seen.messages];
    };
    assert.deepEqual(await told("done", "done"), [["The comparison done is finished: 2 runs.", "Open Comparison"]]);
    assert.deepEqual(await told("bad", "failed"), [["The comparison bad failed: No memory.", "Open Comparison", "Resume"]]);
    assert.deepEqual(await told("full", "waiting"), [
      ["full waits: its disk is full. Free space, and it goes on by itself.", "Open Comparison", "Stop"],
    ]);
    assert.deepEqual(await told("halted", "stopped"), []);
    assert.deepEqual(await told("seen", "done"), []);
    state.settings["sparseTuner.notifications"] = "failures";
    assert.deepEqual([await told("done2", "done"), (await told("bad2", "failed")).length], [[], 1]);
    state.settings["sparseTuner.notifications"] = "none";
    assert.deepEqual([await told("done3", "done"), await told("bad3", "failed")], [[], []]);
  } finally {
    delete state.settings["sparseTuner.notifications"];
    window.close();
  }
});

test("a live one is found by the register in any window, outlives the one that started it, and goes on after a stop and a kill", async () => {
  const file = writeComparison(path.join(root, "real"), {
    methods: [{ name: "full" }],
    budgets: [],
    learningRates: [1e-3],
    seeds: [1],
    checkpoint: { every: null },
    train: { steps: 800, batchSize: 2, sequenceLength: 32 },
  });
  const folder = await createComparison(program, file);
  const first = openWindow(path.dirname(folder));
  assert.deepEqual(await first.comparisons.folders(), [folder]);
  assert.equal(first.comparisons.all()[0].state, "draft");
  await startComparison(program, folder);
  await first.comparisons.look(folder);
  await until("its record", async () => (await liveComparisons()).length === 1);
  const [record] = await liveComparisons();
  assert.equal(record.runFolder, folder);
  first.close();

  // The window was closed or reloaded: the next one knows no folder, and finds it.
  const second = openWindow(path.join(root, "nothing here"));
  try {
    await second.comparisons.attachLive();
    const view = () => second.comparisons.all()[0];
    assert.equal(view().state, "running");
    await until("a step", () => (view().progress?.step ?? 0) > 0);
    assert.equal((await liveComparisons())[0].pid, record.pid, "the same process");
    await requestStop(folder);
    await until("the stop", () => view().state === "stopped");
    await until("its leaving the register", () => readdirSync(comparisonsRegister()).length === 0);
    await startComparison(program, folder);
    // Told by the register: nobody looked.
    await until("its being followed again", () => view().state === "running" && view().progress?.state === "running");
    await until("its new record", async () => (await liveComparisons()).length === 1);
    const again = (await liveComparisons())[0];
    assert.notEqual(again.pid, record.pid);
    process.kill(again.pid, "SIGKILL");
    await until("its being interrupted", () => view().state === "interrupted");
    await startComparison(program, folder);
    await until("the end of all", () => view().state === "finished");
    assert.deepEqual([view().progress?.runsDone, view().progress?.runsInAll], [1, 1]);
  } finally {
    second.close();
  }
  await until("an empty register", () => readdirSync(comparisonsRegister()).length === 0);
  assert.ok(existsSync(path.join(folder, "table.md")) && readFileSync(path.join(folder, "results.csv"), "utf8").split("\n").length === 3);
});
