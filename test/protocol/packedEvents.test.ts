/** Events packed for their way to a panel are the same when they arrive. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { RunEvent } from "../../src/protocol/events.ts";
import { packEvents, unpackEvents } from "../../src/protocol/packedEvents.ts";

const numbers = fc.oneof(fc.double(), fc.constantFrom(0, -0, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53 - 1));
const shares = fc.dictionary(fc.string(), numbers, { maxKeys: 3, noNullPrototype: true });
/** Of numbers, of objects of numbers, of neither; of one kind with other numbers, too. */
const bodies = fc.oneof(
  fc.record({ kind: fc.constant("step"), step: fc.nat(), loss: numbers, gradNorm: numbers }),
  fc.record({ kind: fc.constant("step"), step: fc.nat(), loss: fc.option(numbers), more: numbers }),
  fc.record({ kind: fc.constant("memory"), step: fc.nat(), bytesByClass: shares, peakBytes: fc.nat() }),
  fc.record({ kind: fc.constant("selection"), shares, sharesByLayer: fc.array(shares, { maxLength: 2 }) }),
  fc.record({ kind: fc.constant("notice"), code: fc.string(), message: fc.string() }),
);
const histories = fc
  .array(bodies, { maxLength: 40 })
  .map((list) => list.map((body, i) => ({ sequence: 2 * i + 1, timeMs: 1.7e12 + i, ...body }) as unknown as RunEvent));

test("what is unpacked is what was packed, in its order", () => {
  fc.assert(
    fc.property(histories, (events) => {
      // As VS Code passes it on: a copy.
      assert.deepEqual(unpackEvents(structuredClone(packEvents(events))), events);
    }),
    { examples: [[[]]] },
  );
});

test("events of numbers go as bytes, wherever these begin", () => {
  const step = (sequence: number) =>
    ({ sequence, timeMs: 5, kind: "step", step: sequence, loss: 0.1, learningRate: 1e-4, gradNorm: 1, tokensPerSecond: 9 }) as const;
  const events: RunEvent[] = [step(1), { sequence: 2, timeMs: 6, kind: "notice", code: "a", message: "b" }, step(3)];
  const { tables, others } = packEvents(events);
  assert.deepEqual(
    tables.map(({ kind, payload }) => [kind, payload.length]),
    [["step", 2 * 7 * 8]],
  );
  assert.deepEqual(others, [events[1]]);
  const [{ payload, ...table }] = tables;
  const within = new Uint8Array(payload.length + 3);
  within.set(payload, 3);
  assert.deepEqual(unpackEvents({ tables: [{ ...table, payload: within.subarray(3) }], others }), events);
});
