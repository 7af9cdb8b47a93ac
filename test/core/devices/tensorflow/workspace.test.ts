/**
 * What the engine takes of WebAssembly's memory in a training step is within what the ledger counts, the tensors that ops make on their way among it. Counted
 * where the backend asks for memory and gives it back.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Tensor } from "../../../../src/core/devices/device.ts";
import { openDevice } from "../../../../src/core/devices/open.ts";
import { openEngine } from "../../../../src/core/devices/tensorflow/engine.ts";
import { runBatch } from "../../../../src/core/model/llama.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../../../src/core/optim/update.ts";
import { openStory, plainBatch } from "../../../support/storyModel.ts";
import { methodsOfEachKind } from "../../../support/trainedStory.ts";

const { device } = await openDevice("tensorflow", "auto");
after(() => device.close());
const used = await watchMemory();

async function watchMemory(): Promise<{ bytes: number; peakBytes: number }> {
  const { tf } = (await openEngine()).engine;
  const { wasm } = tf.backend() as unknown as { wasm: { _malloc(bytes: number): number; _free(address: number): void } };
  const { _malloc: malloc, _free: free } = wasm;
  const held = new Map<number, number>();
  const counted = { bytes: 0, peakBytes: 0 };
  wasm._malloc = (bytes) => {
    const address = malloc(bytes);
    held.set(address, bytes);
    counted.bytes += bytes;
    counted.peakBytes = Math.max(counted.peakBytes, counted.bytes);
    return address;
  };
  wasm._free = (address) => {
    counted.bytes -= held.get(address) ?? 0;
    held.delete(address);
    free(address);
  };
  return counted;
}

/** Does it, and gives the engine's peak and the ledger's. */
async function peaks(work: () => Promise<void>): Promise<{ engine: number; ledger: number }> {
  device.ledger.resetPeak();
  used.peakBytes = used.bytes;
  await work();
  return { engine: used.peakBytes, ledger: device.ledger.peakBytes };
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const [batchSize, sequenceLength] = [4, 256];

function batch() {
  const ids = Int32Array.from({ length: batchSize * sequenceLength + 1 }, (_, i) => (7919 * i + 13) % 2048);
  return plainBatch(batchSize, sequenceLength, ids.subarray(0, -1), ids.slice(1));
}

for (const [name, precision] of [
  ["full", "f32"],
  ["dora", "bf16"],
] as const)
  test(`a step of ${name} in ${precision} takes no more than is counted`, async (t) => {
    const { engine, ledger } = await peaks(async () => {
      const model = await openStory(device, precision, sequenceLength);
      const method = methodsOfEachKind[name](model);
      zeroGradients(device, method.parameters);
      method.beginBatch?.({ step: 1, batch: 0 });
      await runBatch(model, method, batch(), 1 / 1024);
      const rates = { betas: [0.9, 0.95] as [number, number], epsilon: 1e-8, weightDecay: 0, clipGradNorm: 1 };
      updateParameters(device, method.parameters, await gradientNorm(device, method.parameters), 1e-3, 1, rates);
      method.afterUpdate();
      method.release();
      for (const tensor of [...model.tensors.byName.values(), model.rope.cos, model.rope.sin]) device.free(tensor);
    });
    assert.ok(engine <= ledger, `the engine took ${mib(engine)}, ${mib(ledger)} are counted`);
    assert.ok(engine > ledger / 3, `the engine took ${mib(engine)}, ${mib(ledger)} are counted`);
    t.diagnostic(`${mib(engine)} of ${mib(ledger)}`);
  });

/** Ops on a matrix of 32 MiB, and how many MiB of the engine's they may take beside their tensors. */
const wide: [what: string, mostMiB: number, op: (tensors: Record<"weight" | "gradient" | "x" | "y" | "scores", Tensor>) => void][] = [
  ["a product with a transposed weight", 34, ({ weight, x, y }) => device.matmul(y, x, weight, { transposeB: true })],
  ["a weight's gradient, added", 66, ({ gradient, x, y }) => device.matmul(gradient, y, x, { transposeA: true, accumulate: true })],
  ["scores of its blocks, whose gradients never are all there", 20, ({ scores, x, y }) => device.blockScores(scores, y, x, 64, false)],
  ["a conversion to bf16", 72, ({ weight, gradient }) => device.copy(weight, gradient)],
];

test("ops on a large matrix hold little beside it, and the ledger counts it", () => {
  const made = (shape: number[], dtype: "f32" | "bf16") => {
    const tensor = device.allocate(shape, dtype, "weights");
    device.fill(tensor, 0.5);
    return tensor;
  };
  const tensors = {
    ...{ weight: made([8192, 1024], "bf16"), gradient: made([8192, 1024], "f32") },
    ...{ x: made([8, 1024], "f32"), y: made([8, 8192], "f32"), scores: made([128, 16], "f32") },
  };
  for (const [what, mostMiB, op] of wide) {
    used.peakBytes = used.bytes;
    const before = used.bytes;
    op(tensors);
    assert.ok(used.peakBytes - before <= mostMiB * 2 ** 20, `${what} took ${mib(used.peakBytes - before)}`);
    assert.ok(used.peakBytes <= device.ledger.liveBytes, `${what}: ${mib(used.peakBytes)} of ${mib(device.ledger.liveBytes)}`);
  }
  for (const tensor of Object.values(tensors)) device.free(tensor);
});
