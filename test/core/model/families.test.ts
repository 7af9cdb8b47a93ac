/**
 * Every supported family against transformers: logits, loss and the gradient of every parameter of tiny random models (see the fixtures' SOURCE.txt).
 * They cover llama3 and linear rope scaling, biases, q/k norms, grouped-query attention, head sizes that are not hidden / heads, tied and untied heads.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { Device } from "../../../src/core/devices/device.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { readHeader } from "../../../src/core/files/safetensors.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import { type Llama, runBatch, runLogits } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import { allocateTensors, loadWeights } from "../../../src/core/model/tensors.ts";
import { modelDevices } from "../../support/devices.ts";
import { readF32, readI32, relativeL2 } from "../../support/goldens.ts";
import { plainBatch } from "../../support/storyModel.ts";

const fixtures = path.join(import.meta.dirname, "../../fixtures/families");
const tokens = 24;

async function open(device: Device, family: string, recompute: Llama["recompute"]): Promise<Llama> {
  const folder = await openModelFolder(path.join(fixtures, family));
  const tensors = allocateTensors(device, folder.config, "f32");
  await loadWeights(device, tensors, folder);
  await folder.close();
  return { device, config: folder.config, tensors, rope: ropeTables(device, folder.config, tokens), precision: "f32", recompute };
}

/** What a software card computes of them, gradients with recomputation alone: biases and scaled rope, norms of q and k. */
const onSoftwareCard = ["linear-rope-biases", "qwen3"];

for (const { name, open: openDevice, software } of modelDevices())
  describe(`transformers' goldens on ${name}`, () => {
    for (const entry of readdirSync(fixtures, { withFileTypes: true })) {
      if (!entry.isDirectory() || (software && !onSoftwareCard.includes(entry.name))) continue;
      const golden = path.join(fixtures, entry.name, "golden.safetensors");

      const skip = software && "not run: gradients are all that a software card is asked for";
      test(`${entry.name}: logits, whole and token by token through the cache`, { skip }, async () => {
        const model = await open(await openDevice(), entry.name, "none");
        const ids = await readI32(golden, "input_ids");
        const theirs = await readF32(golden, "logits");
        const whole = await model.device.read(await runLogits(model, new Frozen(model.device), ids, tokens, null));
        assertClose(whole, theirs);
        const width = model.config.numKeyValueHeads * model.config.headSize;
        const allocate = () => model.device.allocate([tokens, width], "f32", "activations");
        const cache = { layers: model.tensors.layers.map(() => ({ k: allocate(), v: allocate() })), length: 0, capacity: tokens };
        const vocabulary = model.config.vocabSize;
        for (const [first, end] of [
          [0, 5],
          [5, 6],
          [6, 24],
        ]) {
          const part = await model.device.read(await runLogits(model, new Frozen(model.device), ids.slice(first, end), end - first, cache));
          assertClose(part, theirs.subarray(first * vocabulary, end * vocabulary));
        }
        model.device.close();
      });

      for (const recompute of software ? (["layer"] as const) : (["none", "layer"] as const))
        test(`${entry.name}: loss and every gradient, recompute ${recompute}`, async () => {
          const model = await open(await openDevice(), entry.name, recompute);
          const batch = plainBatch(1, tokens, await readI32(golden, "input_ids"), await readI32(golden, "target_ids"));
          const method = new FullFineTuning(model.device, model.tensors);
          const loss = (await runBatch(model, method, batch, 1 / tokens)) / tokens;
          const expected = Number((await readHeader(golden)).metadata.get("loss"));
          assert.ok(Math.abs(loss - expected) <= 1e-5 * expected, `loss ${loss}, golden ${expected}`);
          for (const { name: parameter, gradient } of method.parameters) {
            const error = relativeL2(await model.device.read(gradient), await readF32(golden, `grad.${parameter}`));
            // Both sides are f32 over a handful of layers: 1e-4 is what the project promises for every gradient.
            assert.ok(error <= 1e-4, `${parameter}: relative L2 ${error}`);
          }
          model.device.close();
        });
    }
  });

function assertClose(ours: ArrayLike<number>, theirs: ArrayLike<number>): void {
  for (let i = 0; i < theirs.length; i++) assert.ok(Math.abs(ours[i] - theirs[i]) <= 1e-4, `entry ${i}: ${ours[i]} instead of ${theirs[i]}`);
}
