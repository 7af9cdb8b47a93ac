/** What the screen shows of a run, out of events and of who works on it; places in sentences; the history of a block. Pure. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CoreClient } from "../../src/extension/coreClient.ts";
import { placeNamedIn } from "../../src/extension/runs/failures.ts";
import { HeatmapStore } from "../../src/extension/runs/heatmapStore.ts";
import type { LinkState } from "../../src/extension/runs/linkState.ts";
import { RunProgress } from "../../src/extension/runs/runProgress.ts";
import { type RunFacts, runView } from "../../src/extension/runs/runView.ts";
import type { CoreState } from "../../src/protocol/coreProtocol.ts";
import type { RunEvent, RunEventBody } from "../../src/protocol/events.ts";

const started: RunEventBody = {
  kind: "started",
  run: "r",
  method: "smt",
  device: "cpu",
  trainRows: 1,
  skippedRows: 0,
  totalSteps: 100,
  warmupSteps: 4,
  trainTokens: 1,
};
const step = (number: number): RunEventBody => ({ kind: "step", step: number, loss: number, learningRate: 1, gradNorm: 1, tokensPerSecond: 1 });
const warmup = (number: number): RunEventBody => ({ kind: "warmup", step: number, of: 4, afterStep: 0, loss: 7, tokensPerSecond: 1 });

/** A run after these events, each so many milliseconds after the one before. */
function progressOf(bodies: readonly (RunEventBody | [RunEventBody, number])[]): RunProgress {
  const progress = new RunProgress();
  let timeMs = 0;
  for (const [i, entry] of bodies.entries()) {
    const [body, ms] = Array.isArray(entry) ? entry : [entry, 1000];
    timeMs += ms;
    progress.apply({ sequence: i + 1, timeMs, ...body } as RunEvent);
  }
  return progress;
}

const attached = (state: CoreState): LinkState => ({
  kind: "attached",
  client: { hello: { pid: 77 } } as CoreClient,
  status: { state, step: 0, totalSteps: 100, lastSequence: 0, clients: 1 },
  responding: true,
});

function viewOf(progress: RunProgress, facts: Partial<RunFacts> = {}) {
  const usual = { runFolder: "/r", name: "r", trusted: true, silent: false, stopping: false, failure: null, logTail: [], holder: null };
  return runView({ ...usual, progress, link: { kind: "away" }, ...facts });
}

test("without a core the folder says how a run stands", () => {
  const steps = [started, step(1), step(2)];
  const failed: RunEventBody = { kind: "failed", code: "a/b", message: "m", action: "do" };
  const holder = { pid: 7, host: "there", here: false, file: "/r/run.lock" };
  const state = (bodies: RunEventBody[], facts: Partial<RunFacts> = {}) => viewOf(progressOf(bodies), facts).state;
  assert.equal(state([]), "interrupted");
  assert.equal(state(steps), "interrupted");
  assert.equal(state([...steps, { kind: "stopped", step: 2, reason: "" }]), "stopped");
  assert.equal(state([...steps, failed]), "failed");
  assert.equal(state([...steps, failed, { kind: "resumed", fromStep: 0 }]), "interrupted");
  assert.equal(state([...steps, { kind: "done", run: "r", step: 2 }]), "finished");
  assert.equal(state(steps, { holder }), "elsewhere");
  assert.equal(state([...steps, { kind: "done", run: "r", step: 2 }], { holder }), "finished");
  assert.deepEqual(viewOf(progressOf(steps), { holder }).holder, holder);
  assert.equal(viewOf(progressOf(steps), { holder, link: { kind: "refused", pid: 8 } }).holder, null);
  assert.equal(state(steps, { trusted: false }), "restricted");
  assert.equal(state([...steps, failed], { trusted: false }), "failed");
  assert.equal(state(steps, { failure: { code: "core/crashed", message: "", action: "", place: null } }), "failed");
  assert.deepEqual(viewOf(progressOf([...steps, failed])).failure, { code: "a/b", message: "m", action: "do", place: null });
});

test("a live core says what the run does now; silence comes before it", () => {
  const progress = progressOf([started, step(1)]);
  for (const state of ["opening", "running", "pausing", "paused", "waiting", "stopping"] as const) {
    assert.equal(viewOf(progress, { link: attached(state) }).state, state);
    assert.equal(viewOf(progress, { link: attached(state), silent: true }).state, "notResponding");
  }
  assert.equal(viewOf(progress, { link: attached("ended") }).state, "interrupted");
  assert.equal(viewOf(progress, { link: { kind: "starting" } }).state, "starting");
  assert.equal(viewOf(progress, { link: { kind: "starting" }, stopping: true }).state, "stopping");
  assert.equal(viewOf(progress, { link: { kind: "refused", pid: 8 } }).state, "elsewhere");
  const connecting = viewOf(progress, { link: { kind: "connecting", pid: 8, sinceMs: 0 } });
  assert.deepEqual([connecting.state, connecting.pid], ["opening", 8]);
  assert.equal(viewOf(progress, { link: attached("running") }).pid, 77);
});

test("step, loss and warm-up follow the events; a resume goes back, a warm-up shows only while it lasts", () => {
  const link = attached("running");
  const at = (...bodies: RunEventBody[]) => {
    const { step, totalSteps, warmup: phase, loss } = viewOf(progressOf(bodies), { link });
    return [step, totalSteps, phase, loss];
  };
  assert.deepEqual(at(), [0, 100, null, null]);
  assert.deepEqual(at(started, warmup(2)), [0, 100, { step: 2, of: 4 }, 7]);
  assert.deepEqual(
    at(started, warmup(4), { kind: "selection", step: 0, blockSize: 1, blocks: 1, trainableParameters: 1, shares: {}, sharesByLayer: [] }),
    [0, 100, null, 7],
  );
  assert.deepEqual(at(started, warmup(4), step(1), step(2)), [2, 100, null, 2]);
  assert.deepEqual(at(started, step(1), { kind: "skipped", step: 2, reason: "" }), [2, 100, null, 1]);
  assert.deepEqual(at(started, step(1), step(2), step(3), { kind: "resumed", fromStep: 1 }), [1, 100, null, 3]);
  assert.deepEqual(at(started, step(1), { kind: "resumed", fromStep: -1 }), [0, 100, null, 1]);
  assert.deepEqual(at(started, step(30), { kind: "done", run: "r", step: 30 }).slice(0, 2), [30, 30]);
  assert.equal(viewOf(progressOf([started, warmup(2)])).warmup, null, "interrupted in it");
});

test("the time that is left comes from steps, not from what lay between them", () => {
  const running = { link: attached("running") };
  const left = (bodies: readonly (RunEventBody | [RunEventBody, number])[], facts: Partial<RunFacts> = running) =>
    viewOf(progressOf(bodies), facts).remainingMs;
  const three: [RunEventBody, number][] = [2, 3, 4].map((number) => [step(number), 200]);
  assert.equal(left([started, step(1)]), null);
  assert.equal(left([started, step(1), ...three]), 96 * 200);
  const paused: RunEventBody = { kind: "paused", step: 4, reason: "" };
  const afterPause: [RunEventBody, number][] = [5, 6].map((number) => [step(number), number === 5 ? 1e6 : 200]);
  assert.equal(left([started, step(1), ...three, paused, ...afterPause]), 94 * 200);
  assert.equal(left([started, step(1), ...three, { kind: "resumed", fromStep: 2 }, [step(3), 5e5]]), 97 * 200);
  assert.equal(left([started, step(1), ...three, warmup(1)]), null);
  assert.equal(left([started, step(1), ...three], { link: attached("paused") }), null);
  assert.equal(left([started, step(1), ...three], {}), null);
});

test("the place in a file that a sentence names", () => {
  const cases: [string, { file: string; line: number } | null][] = [
    ["/a b/run#1.sparse-tuner.yaml:15:17: train.steps must be a number", { file: "/a b/run#1.sparse-tuner.yaml", line: 15 }],
    ["The run file has 2 errors:\n  /r/run.yaml:3:1: x\n  /r/run.yaml:9:1: y", { file: "/r/run.yaml", line: 3 }],
    ["Line 12 of /data/train rows.jsonl is longer than 8 MB.", { file: "/data/train rows.jsonl", line: 12 }],
    ["/d/t.jsonl has no usable row (line 3: no text; line 4: no text).", { file: "/d/t.jsonl", line: 3 }],
    ["C:\\d\\t.csv is not a readable CSV file: it ends early (line 7).", { file: "C:\\d\\t.csv", line: 7 }],
    ["/m/config.json is not supported.", null],
    ["The disk is full at line 3.", null],
  ];
  for (const [sentence, place] of cases) assert.deepEqual(placeNamedIn(sentence), place, sentence);
});

/** A selection of these blocks of one matrix with 8 columns, and magnitudes of them. */
function frames(stepNumber: number, blocks: [row: number, column: number][]) {
  const selection = new DataView(new ArrayBuffer(12 * blocks.length));
  for (const [i, [row, column]] of blocks.entries()) {
    selection.setUint32(12 * i, 8 * row + column, true);
    selection.setUint32(12 * i + 4, i, true);
    selection.setFloat32(12 * i + 8, i + 0.5, true);
  }
  const values = Float32Array.from({ length: 3 * blocks.length }, (_, i) => 100 * stepNumber + i);
  return {
    selection: {
      header: { kind: "selection" as const, step: 0, blockSize: 16, matrices: [{ name: "m", rows: 8, columns: 8, chosen: blocks.length }] },
      payload: new Uint8Array(selection.buffer),
    },
    magnitudes: { header: { kind: "magnitudes" as const, step: stepNumber, blocks: blocks.length }, payload: new Uint8Array(values.buffer) },
  };
}

test("a block's history joins checkpoints, cells that were read and frames that were shown, each choice with its own blocks", () => {
  const store = new HeatmapStore();
  const first = frames(1, [
    [0, 1],
    [2, 3],
  ]);
  const second = frames(5, [[2, 3]]);
  store.add(first.magnitudes); // before its selection nobody knows whose they are
  for (const frame of [first.selection, first.magnitudes, second.selection, second.magnitudes]) store.add(frame);
  const place = { name: "m", row: 2, column: 3 };
  const read = { step: 3, score: 1, selected: true, rank: 0, gradient: 1, delta: 1, secondMoment: 1 };
  store.addCell(place, read);
  const checkpoint = { ...read, step: 5, gradient: null };
  assert.deepEqual(store.history(place, [checkpoint]), [
    { step: 1, score: 1.5, selected: true, rank: 1, gradient: 101, delta: 103, secondMoment: 105 },
    read,
    checkpoint,
  ]);
  assert.deepEqual(
    store.history({ name: "m", row: 0, column: 1 }, []).map(({ step: at }) => at),
    [1],
  );
  assert.deepEqual(store.history({ name: "other", row: 2, column: 3 }, []), []);
  assert.deepEqual(
    store.frames.map(({ header }) => header.step),
    [0, 5],
  );
});

test("magnitudes kept for histories stay bounded and cover the whole time", () => {
  const store = new HeatmapStore();
  const blocks = Array.from({ length: 20_000 }, (_, i): [number, number] => [Math.floor(i / 8), i % 8]);
  store.add(frames(0, blocks).selection);
  for (let at = 1; at <= 400; at++) store.add(frames(at, blocks).magnitudes);
  const steps = store.history({ name: "m", row: 0, column: 0 }, []).map(({ step: at }) => at);
  assert.ok(steps.length > 20 && steps.length <= (1 << 24) / (12 * 20_000) + 1, `${steps.length}`);
  assert.ok(steps[0] < 40 && steps.at(-1) === 400);
});

test("LoRS' search for main directions is its own progress, and ends with the first step, the end or a resume", () => {
  const looking = (done: number): RunEventBody => ({ kind: "initialising", done, of: 8 });
  const view = (...bodies: RunEventBody[]) => viewOf(progressOf([started, ...bodies]), { link: attached("running") });
  assert.deepEqual(view(looking(3)).initialising, { done: 3, of: 8 });
  assert.equal(view(looking(3)).remainingMs, null);
  assert.equal(view(looking(8)).initialising, null, "all is found");
  assert.equal(view(looking(3), step(1)).initialising, null);
  assert.equal(view(looking(3), { kind: "resumed", fromStep: -1 }).initialising, null);
  assert.equal(viewOf(progressOf([started, looking(3)])).initialising, null, "nobody works on it");
  assert.notEqual(progressOf([started, looking(3)]).position, progressOf([started, looking(4)]).position);
});
