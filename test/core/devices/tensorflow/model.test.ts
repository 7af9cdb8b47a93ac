/**
 * The TensorFlow device with a whole model: losses and gradient norms of a few updates beside the cpu device's, for a method of each kind; as many engine
 * tensors after every step, and all given back at the end. Op by op it is judged by the conformance suite.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Device } from "../../../../src/core/devices/device.ts";
import { openDevice } from "../../../../src/core/devices/open.ts";
import { openEngine } from "../../../../src/core/devices/tensorflow/engine.ts";
import { openCache } from "../../../../src/core/generate.ts";
import { attachAdapter } from "../../../../src/core/methods/adapters.ts";
import { Frozen } from "../../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../../src/core/methods/full.ts";
import type { TuningMethod } from "../../../../src/core/methods/method.ts";
import { SparseMatrixTuning } from "../../../../src/core/methods/smt/smt.ts";
import { type Llama, runBatch, runLogits } from "../../../../src/core/model/llama.ts";
import type { Precision } from "../../../../src/core/model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../../../src/core/optim/update.ts";
import { adapterConfig } from "../../../support/adapters.ts";
import { fastDevice } from "../../../support/devices.ts";
import { openStory, plainBatch } from "../../../support/storyModel.ts";

const tokens = 32;
const steps = 4;
const rates = { betas: [0.9, 0.95] as [number, number], epsilon: 1e-8, weightDecay: 0.01, clipGradNorm: 1 };

const { device, reasons } = await openDevice("tensorflow", "auto");
const { tf } = (await openEngine()).engine;
after(() => device.close());

function batchOf(step: number) {
  const ids = Int32Array.from({ length: tokens + 1 }, (_, i) => (7919 * (step * tokens + i) + 13) % 2048);
  return plainBatch(1, tokens, ids.subarray(0, tokens), ids.slice(1));
}

/** Losses, gradient norms and the engine's tensors after each of a few updates; the model's memory is given back. */
async function trained(device: Device, precision: Precision, attach: (model: Llama) => TuningMethod & { release(): void }) {
  const model = await openStory(device, precision, tokens);
  const method = attach(model);
  const losses: number[] = [];
  const norms: number[] = [];
  const counts: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const batch = batchOf(step);
    zeroGradients(device, method.parameters);
    method.beginBatch?.({ step, batch: step });
    losses.push((await runBatch(model, method, batch, 1 / batch.unmaskedTokens)) / batch.unmaskedTokens);
    norms.push(await gradientNorm(device, method.parameters));
    updateParameters(device, method.parameters, norms[step - 1], 1e-3, step, rates);
    method.afterUpdate();
    counts.push(tf.memory().numTensors);
  }
  method.release();
  for (const tensor of [...model.tensors.byName.values(), model.rope.cos, model.rope.sin]) device.free(tensor);
  return { losses, norms, counts };
}

const blocks = [0, 1].flatMap((layer) =>
  ["self_attn.v_proj", "mlp.down_proj"].map((map) => ({ name: `model.layers.${layer}.${map}`, row: layer, column: 2 })),
);
const methods: Record<string, (model: Llama) => TuningMethod & { release(): void }> = {
  smt: ({ device, tensors }) => new SparseMatrixTuning(device, tensors, blocks, 16),
  full: ({ device, tensors }) => new FullFineTuning(device, tensors),
  lors: ({ device, tensors }) => attachAdapter(device, tensors, adapterConfig("lors", { rank: 4, init: "kaiming" }), 1),
  dora: ({ device, tensors }) => attachAdapter(device, tensors, adapterConfig("dora", { rank: 4, dropout: 0.1 }), 1),
};

test("the device says which engine computes and what weights cost", () => {
  assert.match(device.description, /^tensorflow: tfjs 4\.22\.0 on WebAssembly.*; each weight takes 4 bytes$/);
  assert.deepEqual(reasons, ["@tensorflow/tfjs-node-gpu is not installed.", "@tensorflow/tfjs-node is not installed."]);
});

for (const [name, attach] of Object.entries(methods))
  for (const precision of ["f32", "bf16"] as const)
    test(`${name} in ${precision}: losses and gradient norms are the cpu's, and no engine tensor is left`, async () => {
      const cpu = fastDevice();
      const [before, tensorsBefore] = [device.ledger.liveBytes, tf.memory().numTensors];
      const [ours, theirs] = [await trained(device, precision, attach), await trained(cpu, precision, attach)];
      cpu.close();
      assert.equal(device.ledger.liveBytes, before);
      assert.equal(tf.memory().numTensors, tensorsBefore);
      assert.ok(ours.counts[0] > tensorsBefore);
      assert.deepEqual(ours.counts, Array(steps).fill(ours.counts[0]));
      // f32: rounding alone, which a few updates at this rate amplify little. bf16: what rounds to 8 bits may fall on either side.
      const [lossTolerance, normTolerance] = precision === "f32" ? [1e-4, 1e-3] : [5e-2, 5e-2];
      for (let i = 0; i < steps; i++) {
        assert.ok(Math.abs(ours.losses[i] - theirs.losses[i]) <= lossTolerance, `losses ${ours.losses} beside ${theirs.losses}`);
        assert.ok(Math.abs(ours.norms[i] / theirs.norms[i] - 1) <= normTolerance, `norms ${ours.norms} beside ${theirs.norms}`);
      }
    });

test("logits with and without a cache are the same to rounding", async () => {
  const model = await openStory(device, "f32", tokens);
  const ids = batchOf(1).inputs;
  const whole = await runLogits(model, new Frozen(model.device), ids, 1, null);
  const cache = openCache(model, tokens);
  model.device.free(await runLogits(model, new Frozen(model.device), ids.slice(0, tokens - 1), 1, cache));
  const last = await runLogits(model, new Frozen(model.device), ids.slice(tokens - 1), 1, cache);
  const [a, b] = [await model.device.read(whole), await model.device.read(last)];
  assert.ok(
    a.every((value, i) => Math.abs(value - b[i]) <= 1e-4),
    "the last position's logits differ",
  );
});
