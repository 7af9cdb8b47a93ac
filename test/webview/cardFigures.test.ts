/** The graphics card beside the ledger: its lines hold only where somebody looked, the ledger's stay what they were, and every figure names its source. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CardReading } from "../../src/protocol/cardReading.ts";
import type { RunEvent, RunEventBody } from "../../src/protocol/events.ts";
import { cardFigures, cardSentence, nearTo, withCardLines } from "../../webview/panel/cardFigures.ts";
import { stackMemory } from "../../webview/panel/memoryStack.ts";
import { Store } from "../../webview/panel/store.ts";

const reading = (more: Partial<CardReading> = {}): CardReading => ({
  name: "NVIDIA H100",
  index: 1,
  cards: 2,
  chosenBy: "process",
  totalBytes: 80_000,
  usedBytes: 500,
  ownBytes: 400,
  utilisation: 0.375,
  temperatureC: 44.4,
  source: "nvidia-smi",
  ...more,
});
const bytesByClass = (weights: number) => ({ weights, trainable: 0, gradients: 0, optimizer: 0, activations: 0, workspace: 0 });
const memory = (step: number, weights: number): RunEventBody => ({
  kind: "memory",
  step,
  bytesByClass: bytesByClass(weights),
  peakBytes: weights,
  processBytes: 7,
});

/** A store that was told these events, at these seconds. */
function storeOf(...told: [seconds: number, RunEventBody][]): Store {
  const store = new Store();
  const events = told.map(([seconds, body], i): RunEvent => ({ sequence: i + 1, timeMs: Date.now() - 1e6 + 1000 * seconds, ...body }));
  store.receive({ kind: "events", events });
  return store;
}

const linesOf = (store: Store, lastStep: number) =>
  withCardLines(stackMemory(store.state.memory, lastStep), store.state.cards, store.state.card?.reading ?? null);
const card = (step: number, usedBytes: number | null): RunEventBody => ({ kind: "card", step, ...reading({ usedBytes }) });
const N = Number.NaN;

test("the card's line holds between readings while somebody looked, and has a gap where nobody did", () => {
  const store = storeOf(
    [0, memory(10, 100)],
    [1, card(12, 500)],
    [11, card(20, 600)],
    [12, memory(22, 130)],
    [300, card(50, 700)],
    [301, memory(60, 130)],
  );
  const { stack, lines } = linesOf(store, 70);
  assert.deepEqual([...stack.steps], [10, 12, 20, 22, 50, 60, 70]);
  assert.deepEqual([...lines.used], [N, 500, 600, N, 700, N, N]);
  assert.deepEqual([...lines.own], [N, 400, 400, N, 400, N, N]);
  // The ledger is what its last event said.
  assert.deepEqual([...stack.peak], [100, 100, 100, 130, 130, 130, 130]);
  assert.deepEqual([...stack.edges[5]], [...stack.peak]);
  assert.deepEqual([...stack.process], [7, 7, 7, 7, 7, 7, N]);
});

test("what the card tells now stands at the last step; what it does not tell is no line", () => {
  const store = storeOf([0, memory(10, 100)], [1, card(12, null)]);
  store.receive({ kind: "card", card: { reading: reading({ usedBytes: 900, ownBytes: null }), problem: "" } });
  const { stack, lines } = linesOf(store, 40);
  assert.deepEqual([...stack.steps], [10, 12, 40]);
  assert.deepEqual(
    [[...lines.used], [...lines.own], [...lines.total]],
    [
      [N, N, 900],
      [N, 400, N],
      [N, 80_000, 80_000],
    ],
  );
});

test("without a card the stack is the ledger's own", () => {
  const own = stackMemory(storeOf([0, memory(10, 100)]).state.memory, 40);
  const { stack, lines } = withCardLines(own, new Store().state.cards, null);
  assert.equal(stack, own);
  assert.deepEqual([...lines.used, ...lines.own, ...lines.total], [N, N, N, N, N, N]);
  assert.equal(withCardLines(stackMemory(new Store().state.memory, 4), storeOf([0, card(1, 5)]).state.cards, null).stack.length, 0);
});

test("readings that a resume went back behind are forgotten", () => {
  const store = storeOf([0, memory(10, 100)], [1, card(5, 400)], [2, card(12, 500)], [3, { kind: "resumed", fromStep: 10 }]);
  assert.deepEqual(
    store.state.cards.map(({ usedBytes }) => usedBytes),
    [400],
  );
});

test("every figure of the table names its source, and unknown ones are shown as unknown", () => {
  const store = storeOf([0, card(5, 900)]);
  const told = () => cardFigures(store.state).map(({ name, label, bytes, text }) => [name, label, bytes ?? text ?? null]);
  assert.deepEqual(told(), [["cardHighest", "graphics card, most in use seen (nvidia-smi)", 900]]);
  store.receive({ kind: "card", card: { reading: reading({ ownBytes: null, temperatureC: null }), problem: "" } });
  assert.deepEqual(told(), [
    ["cardUsed", "graphics card, in use by all processes (nvidia-smi)", 500],
    ["cardOwn", "graphics card, in use by this run (nvidia-smi)", null],
    ["cardTotal", "graphics card, total (nvidia-smi)", 80_000],
    ["cardBusy", "graphics card, busy (nvidia-smi)", "38 %"],
    ["cardTemperature", "graphics card, temperature (nvidia-smi)", null],
    ["cardHighest", "graphics card, most in use seen (nvidia-smi)", 900],
  ]);
  store.receive({ kind: "card", card: { reading: reading({ source: "unifiedMemory" }), problem: "" } });
  assert.ok(cardFigures(store.state).every(({ label }) => label.endsWith("(operating system)")));
  assert.deepEqual(cardFigures(new Store().state), []);
});

test("which card it is, or why there are no figures", () => {
  const store = new Store();
  const said = (given: CardReading | null, problem = "") => {
    store.receive({ kind: "card", card: { reading: given, problem } });
    return cardSentence(store.state);
  };
  assert.equal(cardSentence(store.state), "");
  assert.equal(said(reading({ cards: 1, chosenBy: "only" })), "Graphics card: NVIDIA H100");
  assert.equal(said(reading()), "Graphics card 2 of 2: NVIDIA H100");
  assert.match(said(reading({ index: 0, chosenBy: "guess" })), /^Graphics card 1 of 2: NVIDIA H100; which one computes is not told/);
  assert.equal(said(null, "nvidia-smi was not found."), "No figures of the graphics card: nvidia-smi was not found. Doctor says what to do.");
  store.receive({ kind: "card", card: null });
  assert.equal(cardSentence(store.state), "");
  assert.equal(cardSentence(storeOf([0, card(5, 900)]).state), "Graphics card 2 of 2: NVIDIA H100");
});

test("a card that others fill does not press the ledger flat", () => {
  assert.deepEqual([...Array.from(nearTo(new Float64Array([N, 150, 199]), 100))], [N, 150, 199]);
  assert.deepEqual(nearTo(new Float64Array([150, 201]), 100), []);
});
