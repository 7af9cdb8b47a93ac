/** The panel's state: made from messages by a pure function, the same whether things came live or at once, and nothing lost on the way. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { history, type RunEvent, type RunEventBody } from "../../src/protocol/events.ts";
import { chartedKinds, type PlanView, type RunView, type ToPanel } from "../../src/protocol/panelProtocol.ts";
import { Series } from "../../webview/panel/series.ts";
import { initialState, type PanelState, reduce, Store } from "../../webview/panel/store.ts";
import { llamaGrids, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

const run: RunView = {
  runFolder: "/runs/a",
  name: "a",
  state: "running",
  step: 3,
  totalSteps: 10,
  warmup: null,
  initialising: null,
  loss: 1,
  remainingMs: null,
  failure: null,
  logTail: [],
  pid: 1,
  holder: null,
  machineBytes: 1e9,
};
const hydrate = (events: RunEvent[], more: Partial<Extract<ToPanel, { kind: "hydrate" }>> = {}): ToPanel => ({
  kind: "hydrate",
  strings: {},
  run,
  form: null,
  plan: { kind: "none" },
  events,
  frames: [],
  ...more,
});
const bytesByClass = { weights: 2 ** 52, trainable: 1, gradients: 2, optimizer: 3, activations: 4, workspace: 5 };

/** What a run could report, in an order that need make no sense. */
const bodies = fc.oneof(
  fc.record({
    kind: fc.constant("warmup" as const),
    step: fc.nat(5),
    of: fc.constant(5),
    afterStep: fc.nat(3),
    loss: fc.double(),
    tokensPerSecond: fc.nat(),
  }),
  fc.record({
    kind: fc.constant("selection" as const),
    step: fc.nat(3),
    blockSize: fc.constant(16),
    blocks: fc.nat(),
    trainableParameters: fc.nat(),
    shares: fc.constant({}),
    sharesByLayer: fc.constant([]),
  }),
  fc.record({
    kind: fc.constant("step" as const),
    step: fc.nat(3),
    loss: fc.double(),
    learningRate: fc.double(),
    gradNorm: fc.double(),
    tokensPerSecond: fc.double(),
  }),
  fc.record({
    kind: fc.constant("memory" as const),
    step: fc.nat(3),
    bytesByClass: fc.constant(bytesByClass),
    peakBytes: fc.nat(),
    processBytes: fc.nat(),
  }),
  fc.record({
    kind: fc.constant("card" as const),
    step: fc.nat(3),
    name: fc.constant("A card"),
    index: fc.nat(1),
    cards: fc.constant(2),
    chosenBy: fc.constant("process" as const),
    totalBytes: fc.option(fc.nat()),
    usedBytes: fc.option(fc.nat()),
    ownBytes: fc.option(fc.nat()),
    utilisation: fc.constant(null),
    temperatureC: fc.constant(null),
    source: fc.constant("nvidia-smi" as const),
  }),
  fc.record({ kind: fc.constant("evaluation" as const), step: fc.nat(3), loss: fc.double(), tokens: fc.nat() }),
  fc.record({
    kind: fc.constant("sparsity" as const),
    step: fc.nat(3),
    zeros: fc.nat(),
    entries: fc.nat(),
    lost: fc.nat(),
    byLayer: fc.constant([0.5]),
  }),
  fc.record({ kind: fc.constant("initialising" as const), done: fc.nat(3), of: fc.constant(3) }),
  fc.record({ kind: fc.constant("notice" as const), code: fc.constant("a/b"), message: fc.string() }),
  fc.record({ kind: fc.constant("skipped" as const), step: fc.nat(3), reason: fc.string() }),
  fc.record({ kind: fc.constant("paused" as const), step: fc.nat(3), reason: fc.string() }),
  fc.record({ kind: fc.constant("resumed" as const), fromStep: fc.integer({ min: -1, max: 3 }) }),
);
const eventLists = fc
  .array(bodies, { maxLength: 60 })
  .map((list) => list.map((body, i): RunEvent => ({ sequence: i + 1, timeMs: 1000 + i, ...(body as RunEventBody) })));

/** A state as plain values. */
function plain(state: PanelState): unknown {
  const series = (of: Series<string>) => Object.fromEntries(of.names.map((name) => [name, [...of.column(name)]]));
  const { steps, warmups, evaluations, memory, ...rest } = state;
  return { ...rest, steps: series(steps), warmups: series(warmups), evaluations: series(evaluations), memory: series(memory) };
}

test("the state after events that came live equals the state after one hydrate with the run's history", () => {
  fc.assert(
    fc.property(eventLists, fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 60 }), (events, sizes) => {
      let state = reduce(initialState, hydrate([]));
      for (let at = 0, i = 0; at < events.length; at += sizes[i % sizes.length], i++)
        state = reduce(state, { kind: "events", events: events.slice(at, at + sizes[i % sizes.length]) });
      assert.deepEqual(plain(state), plain(reduce(initialState, hydrate(history(events)))));
      // The protocol's own history has nothing to take back any more; only why the run waits is told by its newest events.
      const told = history(events).filter(({ kind }) => kind !== "resumed");
      const { pauseReason } = state;
      assert.deepEqual(plain(state), plain({ ...reduce(initialState, hydrate(told)), pauseReason }));
    }),
    { numRuns: 500 },
  );
});

test("so does the state after one hydrate without what charts alone read, which comes after it", () => {
  fc.assert(
    fc.property(eventLists, (events) => {
      const known = history(events);
      const first = reduce(initialState, hydrate(known.filter(({ kind }) => !chartedKinds.has(kind))));
      const whole = reduce(first, { kind: "events", events: known.filter(({ kind }) => chartedKinds.has(kind)) });
      assert.deepEqual(plain(whole), plain(reduce(initialState, hydrate(known))));
    }),
    { numRuns: 500 },
  );
});

test("a resume keeps what its checkpoint holds: the first choice belongs to step 0, a later one comes after its step", () => {
  const step = (at: number): RunEventBody => ({ kind: "step", step: at, loss: at, learningRate: 1, gradNorm: 1, tokensPerSecond: 1 });
  const warmup = (afterStep: number): RunEventBody => ({ kind: "warmup", step: 1, of: 1, afterStep, loss: 1, tokensPerSecond: 1 });
  const choice = (at: number): RunEventBody => ({
    kind: "selection",
    step: at,
    blockSize: 16,
    blocks: 1,
    trainableParameters: 256,
    shares: {},
    sharesByLayer: [],
  });
  const all: RunEventBody[] = [
    warmup(0),
    choice(0),
    step(1),
    step(2),
    { kind: "evaluation", step: 2, loss: 1, tokens: 1 },
    warmup(2),
    choice(2),
    step(3),
  ];
  const after = (fromStep: number) => {
    const events = [...all, { kind: "resumed" as const, fromStep }].map((body, i): RunEvent => ({ sequence: i + 1, timeMs: i, ...body }));
    const { steps, warmups, selection, evaluations } = reduce(initialState, hydrate(events));
    return [steps.length, warmups.length, selection?.step ?? null, evaluations.length];
  };
  assert.deepEqual([3, 2, 1, 0, -1].map(after), [
    [3, 2, 2, 1],
    [2, 1, 0, 1],
    [1, 1, 0, 0],
    [0, 1, 0, 0],
    [0, 0, null, 0],
  ]);
});

test("reducing changes no earlier state", () => {
  fc.assert(
    fc.property(eventLists, eventLists, (first, second) => {
      const before = reduce(initialState, hydrate(first));
      const kept = structuredClone(plain(before));
      reduce(before, { kind: "events", events: second });
      reduce(before, { kind: "events", events: first });
      assert.deepEqual(plain(before), kept);
    }),
  );
});

test("200,000 steps are kept, every one, and coming one by one costs little", () => {
  let state = reduce(initialState, hydrate([]));
  const started = performance.now();
  for (let step = 1; step <= 200_000; step++)
    state = reduce(state, {
      kind: "events",
      events: [{ sequence: step, timeMs: step, kind: "step", step, loss: 1 / step, learningRate: 1e-4, gradNorm: step, tokensPerSecond: 5 }],
    });
  assert.ok(performance.now() - started < 20_000);
  assert.equal(state.steps.length, 200_000);
  const [steps, losses] = [state.steps.column("step"), state.steps.column("loss")];
  for (let i = 0; i < 200_000; i++) assert.ok(steps[i] === i + 1 && losses[i] === 1 / (i + 1), `row ${i}`);
});

test("bytes of the ledger are exact", () => {
  const state = reduce(
    initialState,
    hydrate([{ sequence: 1, timeMs: 1, kind: "memory", step: 1, bytesByClass, peakBytes: 2 ** 53 - 1, processBytes: 7 }]),
  );
  assert.equal(state.memory.at("peakBytes", -1), 2 ** 53 - 1);
  assert.equal(state.memory.at("weights", 0), 2 ** 52);
});

test("a plan in the making does not take the last one off the screen", () => {
  const problem: PlanView = { kind: "problem", failure: { code: "a", message: "b", action: "c", place: null } };
  const state = reduce(initialState, { kind: "plan", plan: problem });
  assert.equal(reduce(state, { kind: "plan", plan: { kind: "planning" } }), state);
  assert.equal(reduce(initialState, { kind: "plan", plan: { kind: "planning" } }).plan.kind, "planning");
});

test("frames of a hydrate count in whatever order they come", () => {
  const grids = llamaGrids(1, 2, 2);
  const frames = [selectionFrame(grids, [{ matrix: 0, row: 0, column: 0, rank: 0, score: 1 }]), scoresFrame(grids, new Uint8Array(28))];
  for (const order of [frames, [...frames].reverse()]) {
    const { heatmap } = reduce(initialState, hydrate([], { frames: order }));
    assert.equal(heatmap.chosen?.count, 1);
    assert.equal(heatmap.scores?.step, 1);
  }
});

test("a hydrate replaces everything, also what an earlier run left", () => {
  const old = reduce(
    initialState,
    hydrate([{ sequence: 1, timeMs: 1, kind: "notice", code: "x", message: "y" }], { frames: [scoresFrame(llamaGrids(1, 1, 1), new Uint8Array(7))] }),
  );
  assert.deepEqual(plain(reduce(old, hydrate([]))), plain(reduce(initialState, hydrate([]))));
});

test("the store tells what changed, and a broken frame changes nothing", () => {
  const store = new Store();
  const seen: string[] = [];
  const stop = store.subscribe((state, changed) => {
    assert.equal(state, store.state);
    seen.push(changed);
  });
  store.receive(hydrate([]));
  const before = store.state;
  assert.throws(() => store.receive({ kind: "frame", frame: scoresFrame(llamaGrids(1, 2, 2), new Uint8Array(3)) }));
  assert.equal(store.state, before);
  store.receive({ kind: "cell", request: 4, cell: null, reason: "gone" });
  assert.deepEqual(store.state.cell, { request: 4, cell: null, reason: "gone" });
  stop();
  store.receive({ kind: "run", run: { ...run, step: 4 } });
  assert.deepEqual(seen, ["hydrate", "cell"]);
});

test("a series shares its memory between versions without one changing another", () => {
  const row = (a: number) => ({ a, b: -a });
  const one = Series.empty("a", "b").append([row(1), row(2)]);
  const left = one.append([row(3)]);
  const right = one.append([row(4), row(5)]);
  const values = (series: Series<"a" | "b">) => [...series.column("a")];
  assert.deepEqual(
    [values(one), values(left), values(right)],
    [
      [1, 2],
      [1, 2, 3],
      [1, 2, 4, 5],
    ],
  );
  assert.deepEqual([...right.column("b")], [-1, -2, -4, -5]);
  const cut = right.filter((index) => index < 3);
  assert.deepEqual(
    [values(cut), values(cut.append([row(9)])), values(right)],
    [
      [1, 2, 4],
      [1, 2, 4, 9],
      [1, 2, 4, 5],
    ],
  );
  assert.deepEqual(values(right.filter((index) => index % 2 === 1)), [2, 5]);
  assert.deepEqual([right.at("a", -1), right.at("a", 4), one.append([]) === one], [5, undefined, true]);
});
