/** Device memory as the chart stacks it equals the events to the byte, and notices as they are listed count all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type BytesByClass, memoryClasses } from "../../src/protocol/memory.ts";
import { bytesAt, scaleTopBytes, stackMemory, stackOrder, unstacked } from "../../webview/panel/memoryStack.ts";
import { noticeGroups } from "../../webview/panel/noticeGroups.ts";
import { Store } from "../../webview/panel/store.ts";

const bytes = fc.nat({ max: 2 ** 31 - 1 }).map((n) => n * 2 ** 15 + (n % 7));
const byClass = fc.record(Object.fromEntries(memoryClasses.map((name) => [name, bytes])) as Record<keyof BytesByClass, typeof bytes>, {
  noNullPrototype: true,
});
const sum = (classes: BytesByClass) => memoryClasses.reduce((total, name) => total + classes[name], 0);

/** A store that was told of these samples by events. */
function storeOf(samples: readonly BytesByClass[]): Store {
  const store = new Store();
  const events = samples.map((bytesByClass, i) => ({
    kind: "memory" as const,
    sequence: i + 1,
    timeMs: i,
    step: 10 * (i + 1),
    bytesByClass,
    peakBytes: sum(bytesByClass),
    processBytes: 1000 + i,
  }));
  store.receive({ kind: "events", events });
  return store;
}

test("the stack's edges and its readings equal the events to the byte", () => {
  fc.assert(
    fc.property(fc.array(byClass, { minLength: 1, maxLength: 30 }), fc.nat({ max: 400 }), (samples, lastStep) => {
      const { memory } = storeOf(samples).state;
      const stack = stackMemory(memory, lastStep);
      const held = lastStep > 10 * samples.length ? 1 : 0;
      assert.equal(stack.length, samples.length + held);
      for (let row = 0; row < stack.length; row++) {
        const sample = samples[Math.min(row, samples.length - 1)];
        const fromTop = stack.edges.map((edge) => edge[row]).toReversed();
        assert.equal(fromTop[0], sum(sample), "the top is the sum");
        assert.deepEqual(unstacked(fromTop), stackOrder.map((name) => sample[name]).toReversed());
        assert.equal(stack.peak[row], sum(sample));
      }
      if (held) assert.deepEqual([stack.steps.at(-1), stack.process.at(-1)], [lastStep, Number.NaN]);
      assert.deepEqual(bytesAt(memory, -1), samples.at(-1));
      assert.equal(bytesAt(memory, samples.length), null);
    }),
  );
});

test("without a sample there is nothing to stack", () => {
  const { memory } = new Store().state;
  assert.equal(stackMemory(memory, 50).length, 0);
  assert.equal(bytesAt(memory, -1), null);
});

test("the scale has room for the highest thing that is seen, and takes no notice of what is none", () => {
  assert.ok(scaleTopBytes([5, Number.NaN, 100], [7]) > 100);
  assert.ok(scaleTopBytes([5], [], [200]) > 200);
  assert.ok(scaleTopBytes([]) > 0);
});

test("equal notices are one line with a count, the one last said first", () => {
  const store = new Store();
  const notice = (sequence: number, message: string) => ({ kind: "notice" as const, sequence, timeMs: sequence, code: "data/skipped", message });
  const skipped = (sequence: number, step: number) => ({ kind: "skipped" as const, sequence, timeMs: sequence, step, reason: "the loss is NaN" });
  store.receive({ kind: "events", events: [notice(1, "a"), skipped(2, 70), notice(3, "b"), skipped(4, 90), notice(5, "a")] });
  const groups = noticeGroups(store.state.notices);
  assert.deepEqual(
    groups.map(({ message, count, sequence, steps }) => [message, count, sequence, steps]),
    [
      ["a", 2, 5, null],
      ["the loss is NaN", 2, 4, { first: 70, last: 90 }],
      ["b", 1, 3, null],
    ],
  );
  assert.equal(
    groups.reduce((total, { count }) => total + count, 0),
    store.state.notices.length,
  );
});
