/** Events are what their schemas say, in types and at run time; histories forget what a resume went back behind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { asRunEvent, eventSchemas } from "../../src/protocol/eventSchemas.ts";
import { extendHistory, history, type RunEvent, type RunEventBody } from "../../src/protocol/events.ts";
import { session, temporaryFolder, writeRunFile } from "../core/run/smallRuns.ts";

/** One event of each kind; that these compile shows that the types are what people write. */
const bodies: { [Kind in RunEventBody["kind"]]: Extract<RunEventBody, { kind: Kind }> } = {
  started: {
    kind: "started",
    run: "/r",
    method: "smt",
    device: "cpu",
    trainRows: 3,
    skippedRows: 0,
    totalSteps: 12,
    warmupSteps: 3,
    trainTokens: 99,
  },
  warmup: { kind: "warmup", step: 1, of: 3, afterStep: 0, loss: 2.5, tokensPerSecond: 10.5 },
  selection: {
    kind: "selection",
    step: 0,
    blockSize: 16,
    blocks: 2,
    trainableParameters: 512,
    shares: { q_proj: 1 },
    sharesByLayer: [{ q_proj: 1 }, {}],
  },
  adapters: { kind: "adapters", matrices: 2, trainableParameters: 30, parameters: { q_proj: 30 }, parametersByLayer: [{ q_proj: 30 }, {}] },
  step: { kind: "step", step: 1, loss: 2.5, learningRate: 1e-4, gradNorm: 0.5, tokensPerSecond: 10 },
  memory: {
    kind: "memory",
    step: 1,
    bytesByClass: { weights: 1, trainable: 2, gradients: 3, optimizer: 4, activations: 5, workspace: 6 },
    peakBytes: 21,
    processBytes: 100,
  },
  card: {
    kind: "card",
    step: 2,
    name: "A card",
    index: 0,
    cards: 1,
    chosenBy: "only",
    totalBytes: 100,
    usedBytes: 50,
    ownBytes: 25,
    utilisation: 0.5,
    temperatureC: 40,
    source: "nvidia-smi",
  },
  evaluation: { kind: "evaluation", step: 4, loss: 2.25, tokens: 10 },
  sparsity: { kind: "sparsity", step: 4, zeros: 50, entries: 100, lost: 0, byLayer: [0.5, 0.5] },
  initialising: { kind: "initialising", done: 3, of: 64 },
  checkpoint: { kind: "checkpoint", step: 3, folder: "/r/checkpoints/step-3" },
  notice: { kind: "notice", code: "a/b", message: "m" },
  skipped: { kind: "skipped", step: 2, reason: "the loss is NaN" },
  paused: { kind: "paused", step: 2, reason: "r" },
  resumed: { kind: "resumed", fromStep: -1 },
  stopped: { kind: "stopped", step: 2, reason: "r" },
  command: { kind: "command", name: "pause", id: "1", by: "window" },
  failed: { kind: "failed", code: "a/b", message: "m", action: "do" },
  done: { kind: "done", run: "/r", step: 12 },
};

test("every kind has a schema and every schema a kind", () => {
  assert.deepEqual(Object.keys(eventSchemas).sort(), Object.keys(bodies).sort());
});

test("whole events are taken as they are, with keys of a later version too", () => {
  for (const body of Object.values(bodies)) {
    const event = { sequence: 1, timeMs: 1.5, ...body, later: { anything: true } };
    assert.equal(asRunEvent(event), event, body.kind);
  }
});

/** Figures that a driver may not tell. */
const mayBeUnknown = new Set(["totalBytes", "usedBytes", "ownBytes", "utilisation", "temperatureC"]);

test("an event without one of its keys, or with another type there, is none", () => {
  const wrong = (value: unknown) =>
    typeof value === "number" ? [null, "1", Number.NaN, {}] : typeof value === "string" ? [null, 7, {}] : [null, 7, "x"];
  for (const body of Object.values(bodies)) {
    const event: Record<string, unknown> = { sequence: 1, timeMs: 1, ...body };
    for (const key of Object.keys(event)) {
      const { [key]: value, ...without } = event;
      assert.equal(asRunEvent(without), null, `${body.kind} without ${key}`);
      const others = wrong(value).filter((other) => other !== null || !mayBeUnknown.has(key));
      for (const other of others) assert.equal(asRunEvent({ ...event, [key]: other }), null, `${body.kind} with ${key} ${String(other)}`);
    }
  }
  for (const sequence of [0, -1, 1.5, 2 ** 53]) assert.equal(asRunEvent({ sequence, timeMs: 1, ...bodies.done }), null);
  for (const value of [null, 7, "done", [], { sequence: 1, timeMs: 1, kind: "other" }, { sequence: 1, timeMs: 1, kind: "__proto__" }])
    assert.equal(asRunEvent(value), null);
  assert.equal(asRunEvent({ sequence: 1, timeMs: 1, ...bodies.memory, bytesByClass: { weights: 1 } }), null);
});

test("every event of a real run is one", async (t) => {
  const { events } = await session(writeRunFile(temporaryFolder(t)));
  assert.ok(events.length > 30);
  for (const event of events) assert.ok(asRunEvent(JSON.parse(JSON.stringify(event))), JSON.stringify(event));
});

test("a history that grows piece by piece is that of all events, wherever it is cut", () => {
  const kinds: RunEventBody[] = [];
  for (const fromStep of [-1, 0, 3, 6]) {
    if (fromStep > -1) kinds.push({ kind: "resumed", fromStep });
    kinds.push({ ...bodies.warmup, afterStep: 0 }, bodies.selection);
    for (let step = Math.max(0, fromStep) + 1; step < fromStep + 6; step++) kinds.push({ ...bodies.step, step }, { ...bodies.memory, step });
    kinds.push({ ...bodies.warmup, afterStep: 6 }, { ...bodies.selection, step: 6 }, bodies.notice);
  }
  const events = kinds.map((body, i) => ({ sequence: i + 1, timeMs: i, ...body }) as RunEvent);
  const whole = history(events);
  assert.ok(whole.length < events.length - 5);
  for (let cut = 0; cut <= events.length; cut++) {
    const kept = history(events.slice(0, cut));
    extendHistory(kept, events.slice(cut));
    assert.deepEqual(kept, whole);
  }
});
