/**
 * A few updates of the bundled model on any device, by a method of each kind, to be set beside the cpu device's; and its logits with and without a cache.
 * The model's memory is given back.
 */
import assert from "node:assert/strict";
import type { Device, Tensor } from "../../src/core/devices/device.ts";
import { openCache } from "../../src/core/generate.ts";
import { attachAdapter } from "../../src/core/methods/adapters.ts";
import { Frozen } from "../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../src/core/methods/full.ts";
import type { TuningMethod } from "../../src/core/methods/method.ts";
import { SparseMatrixTuning } from "../../src/core/methods/smt/smt.ts";
import { type Llama, runBatch, runLogits } from "../../src/core/model/llama.ts";
import type { Precision } from "../../src/core/model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../src/core/optim/update.ts";
import { adapterConfig } from "./adapters.ts";
import { relativeL2 } from "./goldens.ts";
import { openStory, plainBatch } from "./storyModel.ts";

const tokens = 32;
const steps = 4;
const rates = { betas: [0.9, 0.95] as [number, number], epsilon: 1e-8, weightDecay: 0.01, clipGradNorm: 1 };

function batchOf(step: number) {
  const ids = Int32Array.from({ length: tokens + 1 }, (_, i) => (7919 * (step * tokens + i) + 13) % 2048);
  return plainBatch(1, tokens, ids.subarray(0, tokens), ids.slice(1));
}

type Attach = (model: Llama) => TuningMethod & { release(): void };

const blocks = [0, 1].flatMap((layer) =>
  ["self_attn.v_proj", "mlp.down_proj"].map((map) => ({ name: `model.layers.${layer}.${map}`, row: layer, column: 2 })),
);

/** A method of each kind. */
export const methodsOfEachKind: Record<string, Attach> = {
  smt: ({ device, tensors }) => new SparseMatrixTuning(device, tensors, blocks, 16),
  full: ({ device, tensors }) => new FullFineTuning(device, tensors),
  lors: ({ device, tensors }) => attachAdapter(device, tensors, adapterConfig("lors", { rank: 4, init: "kaiming" }), 1),
  dora: ({ device, tensors }) => attachAdapter(device, tensors, adapterConfig("dora", { rank: 4, dropout: 0.1 }), 1),
};

/** Losses and gradient norms of the updates, and what these changed of the trained parameters and of the model's weights; `afterStep` is called between them. */
export async function trained(device: Device, precision: Precision, attach: Attach, afterStep = () => {}) {
  const model = await openStory(device, precision, tokens);
  const method = attach(model);
  const tensors = { parameters: method.parameters.map(({ value }) => value), weights: [...model.tensors.byName.values()] };
  const before = { parameters: await valuesOf(device, tensors.parameters), weights: await valuesOf(device, tensors.weights) };
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const batch = batchOf(step);
    zeroGradients(device, method.parameters);
    method.beginBatch?.({ step, batch: step });
    losses.push((await runBatch(model, method, batch, 1 / batch.unmaskedTokens)) / batch.unmaskedTokens);
    norms.push(await gradientNorm(device, method.parameters));
    updateParameters(device, method.parameters, norms[step - 1], 1e-3, step, rates);
    method.afterUpdate();
    afterStep();
  }
  const changes = {
    parameters: difference(await valuesOf(device, tensors.parameters), before.parameters),
    weights: difference(await valuesOf(device, tensors.weights), before.weights),
  };
  method.release();
  for (const tensor of [...tensors.weights, model.rope.cos, model.rope.sin]) device.free(tensor);
  return { losses, norms, changes };
}

async function valuesOf(device: Device, tensors: readonly Tensor[]): Promise<Float32Array> {
  const parts = await Promise.all(tensors.map((tensor) => device.read(tensor) as Promise<Float32Array>));
  const values = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return values;
}

function difference(after: Float32Array, before: Float32Array): Float32Array {
  return after.map((value, i) => value - before[i]);
}

type Trained = Awaited<ReturnType<typeof trained>>;

/**
 * f32: rounding alone, which a few updates at this rate amplify little. bf16: what rounds to 8 bits may fall on either side. Whether the updates were made shows
 * in what they changed; the losses of a few alone would not tell.
 */
export function expectAlike(ours: Trained, theirs: Trained, precision: Precision): void {
  const [lossTolerance, normTolerance, changeTolerance] = precision === "f32" ? [1e-4, 1e-3, 1e-3] : [5e-2, 5e-2, 0.15];
  for (let i = 0; i < steps; i++) {
    assert.ok(Math.abs(ours.losses[i] - theirs.losses[i]) <= lossTolerance, `losses ${ours.losses} beside ${theirs.losses}`);
    assert.ok(Math.abs(ours.norms[i] / theirs.norms[i] - 1) <= normTolerance, `norms ${ours.norms} beside ${theirs.norms}`);
  }
  for (const what of ["parameters", "weights"] as const) {
    const [change, expected] = [ours.changes[what], theirs.changes[what]];
    if (expected.every((value) => value === 0))
      assert.ok(
        change.every((value) => value === 0),
        `the ${what} changed`,
      );
    else {
      const error = relativeL2(change, expected);
      assert.ok(error <= changeTolerance, `the change of the ${what}: relative L2 ${error}`);
    }
  }
}

/** The last position's logits out of a cache are those of the whole to rounding. */
export async function expectCachedLogits(device: Device): Promise<void> {
  const model = await openStory(device, "f32", tokens);
  const ids = batchOf(1).inputs;
  const whole = await runLogits(model, new Frozen(device), ids, 1, null);
  const cache = openCache(model, tokens);
  device.free(await runLogits(model, new Frozen(device), ids.slice(0, tokens - 1), 1, cache));
  const last = await runLogits(model, new Frozen(device), ids.slice(tokens - 1), 1, cache);
  const [a, b] = [await device.read(whole), await device.read(last)];
  assert.ok(
    a.every((value, i) => Math.abs(value - b[i]) <= 1e-4),
    "the last position's logits differ",
  );
}
