/**
 * The planner's device counts what a real one allocates: a sequence of allocations, views and frees, drawn at random, leaves the same ledger
 * on meta as on every device that computes, at every step and at the peak.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { AdaptedWeight, Device, DType, Tensor } from "../../src/core/devices/device.ts";
import { openMetaDevice } from "../../src/core/devices/meta.ts";
import { Random } from "../../src/core/random.ts";
import { memoryClasses } from "../../src/protocol/memory.ts";
import { openDevices } from "./devices.ts";

const { devices, notRun } = await openDevices();
for (const line of notRun) console.log(line);
after(() => {
  for (const { device } of devices) device.close();
});

test("the ledger counts dtypes, classes, views and the peak", () => {
  const meta = openMetaDevice({ workspaceBytes: 100, description: "a plan" });
  assert.equal(meta.description, "a plan");
  const weights = meta.allocate([10, 3], "bf16", "weights");
  const activation = meta.allocate([10], "f32", "activations");
  meta.rows(weights, 2, 3);
  assert.equal(meta.ledger.liveBytes, 100 + 60 + 40);
  meta.free(activation);
  meta.allocate([5], "i32", "activations");
  assert.equal(meta.ledger.liveBytes, 100 + 60 + 20);
  assert.equal(meta.ledger.peakBytes, 200);
  assert.deepEqual(meta.ledger.peakBytesByClass, { weights: 60, trainable: 0, gradients: 0, optimizer: 0, activations: 40, workspace: 100 });
  meta.close();
  assert.equal(meta.ledger.liveBytes, 0);
});

test("read gives zeros of the asked length, sumSquares and countZeros a zero a tensor", async () => {
  const meta = openMetaDevice({ workspaceBytes: 0, description: "" });
  assert.deepEqual(await meta.read(meta.allocate([2, 3], "bf16", "weights"), 1), new Float32Array(5));
  assert.deepEqual(await meta.read(meta.allocate([4], "i32", "weights")), new Int32Array(4));
  assert.deepEqual(await meta.countZeros([meta.allocate([2], "f32", "weights")]), new Float64Array(1));
  assert.deepEqual(await meta.sumSquares([meta.allocate([2], "f32", "weights"), meta.allocate([1], "bf16", "weights")]), new Float64Array(2));
});

for (const { label, device } of devices) {
  test(`${label}: a random life of tensors leaves the same ledger on meta`, () => {
    const { bytesByClass, elementBytes, largestTensors } = device.ledger;
    const meta = openMetaDevice({ workspaceBytes: bytesByClass.workspace, description: label, elementBytes, largestTensors });
    const random = new Random(5);
    const live: { real: Tensor; planned: Tensor }[] = [];
    for (let step = 0; step < 400; step++) {
      if (live.length > 0 && random.uniform() < 0.48) {
        const [{ real, planned }] = live.splice(random.below(live.length), 1);
        device.free(real);
        meta.free(planned);
      } else {
        const shape = [1 + random.below(50), 1 + random.below(70)];
        const dtype = (["f32", "bf16", "i32"] as const)[random.below(3)];
        const memoryClass = memoryClasses[random.below(memoryClasses.length)];
        live.push({ real: device.allocate(shape, dtype, memoryClass), planned: meta.allocate(shape, dtype, memoryClass) });
        const first = random.below(shape[0]);
        device.rows(live[live.length - 1].real, first, shape[0] - first);
      }
      assert.deepEqual(device.ledger.bytesByClass, meta.ledger.bytesByClass, `step ${step}`);
    }
    assert.equal(device.ledger.peakBytes, meta.ledger.peakBytes);
    assert.deepEqual(device.ledger.peakBytesByClass, meta.ledger.peakBytesByClass);
    for (const { real } of live) device.free(real);
  });
}

const floats = (count: number): DType[] => new Array(count).fill("f32");
const lowRank = ([weight, left, right]: Tensor[]): AdaptedWeight => {
  return { kind: "maskedLowRank", weight, left, right, rank: 64, scale: 1, base: true, quantization: null };
};

/** An op, and how many tensors it takes of which shape. */
const ops: [name: string, dtypes: DType[], call: (d: Device, t: Tensor[]) => void][] = [
  ["matmul", ["f32", "f32", "f32"], (d, [a, b, c]) => d.matmul(a, b, c)],
  ["swigluBackward", ["f32", "f32", "f32", "f32", "f32"], (d, [a, b, c, e, f]) => d.swigluBackward(a, b, c, e, f)],
  ["blockScores", ["f32", "f32", "f32"], (d, [a, b, c]) => d.blockScores(a, b, c, 1, false)],
  ["adaptedMatmul", floats(5), (d, [out, a, ...rest]) => d.adaptedMatmul(out, a, lowRank(rest))],
  ["adaptedGradients", floats(7), (d, [dFirst, dSecond, dOut, x, ...rest]) => d.adaptedGradients(dFirst, dSecond, dOut, x, lowRank(rest))],
  ["formAdapted", floats(4), (d, [out, ...rest]) => d.formAdapted(out, lowRank(rest))],
  ["dropout", floats(2), (d, [out, x]) => d.dropout(out, x, { probability: 0.5, seed: 1 })],
  ["rowDots", floats(2), (d, [a, b]) => d.rowDots(d.rows(a, 0, 1), b, b)],
];

for (const { label, device } of devices) {
  test(`${label}: no op allocates in the ledger`, () => {
    for (const [name, dtypes, call] of ops) {
      const tensors = dtypes.map((dtype) => device.allocate([64, 64], dtype, "activations"));
      for (const tensor of tensors) device.fill(tensor, 1);
      device.ledger.resetPeak();
      const before = device.ledger.liveBytes;
      call(device, tensors);
      assert.equal(device.ledger.peakBytes, before, name);
      for (const tensor of tensors) device.free(tensor);
    }
  });
}
