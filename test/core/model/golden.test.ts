/**
 * The whole model against PyTorch: losses, logits, every gradient and 20 AdamW steps of a real tiny Llama, on every device.
 * The goldens were made by another program (see the fixtures' SOURCE.txt); gradients and weights are compared with samples of
 * theirs, and with all of them where these are at hand.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Batch } from "../../../src/core/data/batch.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import { type Llama, runBatch, runLogits } from "../../../src/core/model/llama.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../../src/core/optim/update.ts";
import { type ModelDevice, modelDevices } from "../../support/devices.ts";
import { distanceFromGolden, readF32, readI32, relativeL2 } from "../../support/goldens.ts";
import { openStory, plainBatch } from "../../support/storyModel.ts";

const forward = new URL("../../fixtures/golden-torch/story_forward.safetensors", import.meta.url).pathname;
const tokens = new URL("../../fixtures/golden-torch/story_token_ids.safetensors", import.meta.url).pathname;
const training = new URL("../../fixtures/golden-torch/story_training.json", import.meta.url);

async function forwardBatch(): Promise<Batch> {
  return plainBatch(4, 64, await readI32(forward, "input_ids"), await readI32(forward, "target_ids"));
}

for (const device of modelDevices())
  if (device.software) console.log(`not run: PyTorch goldens of the bundled model on ${device.name}, a software card; it does those of the families`);
  else describe(`PyTorch goldens on ${device.name}`, () => suite(device));

function suite(device: ModelDevice): void {
  let model: Llama;
  before(async () => {
    model = await openStory(await device.open(), "f32", 64);
  });
  after(() => model.device.close());

  test("loss of the forward batch", async () => {
    const batch = await forwardBatch();
    const loss = (await runBatch(model, new Frozen(model.device), batch, null)) / batch.unmaskedTokens;
    assert.ok(Math.abs(loss - 4.0335164070129395) <= 1e-5, `loss ${loss}`);
  });

  test("loss in bf16, and its gradients against those of f32", async () => {
    const narrow = await openStory(await device.open(), "bf16", 64);
    const batch = await forwardBatch();
    const gradients = async (llama: Llama) => {
      const method = new FullFineTuning(llama.device, llama.tensors);
      const loss = (await runBatch(llama, method, batch, 1 / batch.unmaskedTokens)) / batch.unmaskedTokens;
      const values = new Map<string, ArrayLike<number>>();
      for (const { name, gradient } of method.parameters) values.set(name, await llama.device.read(gradient));
      method.release();
      return { loss, values };
    };
    const ours = await gradients(narrow);
    const wide = await gradients(model);
    narrow.device.close();
    assert.ok(Math.abs(ours.loss - 4.0335164070129395) <= 2e-2, `loss ${ours.loss}`);
    // Every operand carries 8 bits of mantissa (2^-9 relative) through some twenty roundings a layer.
    for (const [name, values] of ours.values) assert.ok(relativeL2(values, wide.values.get(name) as ArrayLike<number>) <= 5e-2, name);
  });

  test("logits of the first row", async () => {
    const ids = (await readI32(forward, "input_ids")).subarray(0, 64);
    const logits = await runLogits(model, new Frozen(model.device), ids, 64, null);
    const ours = await model.device.read(logits);
    const theirs = await readF32(forward, "logits_b0");
    model.device.free(logits);
    let worst = 0;
    for (let i = 0; i < theirs.length; i++) worst = Math.max(worst, Math.abs(ours[i] - theirs[i]));
    assert.ok(worst <= 1e-4, `largest difference ${worst}`);
  });

  test("every gradient", async () => {
    const live = model.device.ledger.liveBytes;
    const method = new FullFineTuning(model.device, model.tensors);
    const batch = await forwardBatch();
    await runBatch(model, method, batch, 1 / batch.unmaskedTokens);
    for (const { name, gradient } of method.parameters) {
      const error = await distanceFromGolden("gradient", name, await model.device.read(gradient));
      assert.ok(error <= 1e-4, `${name}: relative L2 ${error}`);
    }
    method.release();
    assert.equal(model.device.ledger.liveBytes, live, "everything the step allocated was freed");
  });

  test("20 AdamW steps", async () => {
    const { loss_and_gradnorm_per_step: curve } = JSON.parse(await (await import("node:fs/promises")).readFile(training, "utf8"));
    const own = await openStory(await device.open(), "f32", 64);
    const method = new FullFineTuning(own.device, own.tensors);
    const ids = await readI32(tokens, "ids");
    for (let step = 0; step < 20; step++) {
      const batch = stepBatch(ids, step);
      zeroGradients(own.device, method.parameters);
      const loss = (await runBatch(own, method, batch, 1 / batch.unmaskedTokens)) / batch.unmaskedTokens;
      const gradNorm = await gradientNorm(own.device, method.parameters);
      assert.ok(Math.abs(loss - curve[step][0]) <= 1e-4, `step ${step}: loss ${loss}, golden ${curve[step][0]}`);
      assert.ok(Math.abs(gradNorm - curve[step][1]) <= 1e-3, `step ${step}: norm ${gradNorm}, golden ${curve[step][1]}`);
      updateParameters(own.device, method.parameters, gradNorm, 1e-3, step + 1, {
        betas: [0.9, 0.95],
        epsilon: 1e-8,
        weightDecay: 0.1,
        clipGradNorm: 1,
      });
      method.afterUpdate();
    }
    for (const [name, weight] of own.tensors.byName) {
      const error = await distanceFromGolden("final", name, await own.device.read(weight));
      assert.ok(error <= 1e-3, `${name}: relative L2 ${error}`);
    }
    own.device.close();
  });
}

/** Batch k of the golden run: rows r = 0…3 are tokens (4k + r)·64 … of the stored text. */
function stepBatch(ids: Int32Array, step: number): Batch {
  const inputs = new Int32Array(256);
  const targets = new Int32Array(256);
  for (let row = 0; row < 4; row++) {
    const start = (step * 4 + row) * 64;
    inputs.set(ids.subarray(start, start + 64), row * 64);
    targets.set(ids.subarray(start + 1, start + 65), row * 64);
  }
  return plainBatch(4, 64, inputs, targets);
}
