/** SQFT beyond its gradients: 4-bit levels that keep zero, gradients that pass through the rounding, and searched ranks that are truncated adapters. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Device } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import type { AdapterMethod } from "../../../src/core/methods/method.ts";
import { adapterConfig, attachTo, forwardOf, gradientsOf, type LinearCase, linearCase, somePlace, unsettle } from "../../support/adapters.ts";
import { testDevices } from "../../support/devices.ts";
import { relativeL2 } from "../../support/goldens.ts";
import { lostZeros } from "../../support/tinyModel.ts";

async function merged(c: LinearCase, method: AdapterMethod): Promise<Float32Array> {
  const out = c.device.allocate([c.out, c.width], "f32", "workspace");
  method.mergedWeight(out, c.linear);
  const values = (await c.device.read(out)) as Float32Array;
  c.device.free(out);
  return values;
}

const config = adapterConfig("sqft", { rank: 4, alpha: 8 });
const quantized = { ...config, quantize: { groupSize: 8 } };

for (const { name, open } of testDevices({ reference: true }))
  describe(name, () => {
    test("the quantised base: at most 16 levels a group, zero among them, half a step off, and quantising it again changes nothing", async () => {
      const c = linearCase(open());
      const weight = (await c.device.read(c.linear.weight)) as Float32Array;
      const once = await merged(c, attachTo(c.device, [c.linear], quantized));
      for (let at = 0; at < weight.length; at += 8) {
        const [was, now] = [weight.subarray(at, at + 8), once.subarray(at, at + 8)];
        const step = (Math.max(0, ...was) - Math.min(0, ...was)) / 15;
        was.forEach((x, i) => {
          // The zero point is rounded to a level, which can push an end of the range half a step out of it.
          assert.ok(Math.abs(now[i] - x) <= 1.001 * step, `${now[i]} for ${x}, step ${step}`);
          assert.ok(Math.abs(now[i] / step - Math.round(now[i] / step)) < 1e-3, "a whole number of steps from zero");
          if (x === 0) assert.equal(now[i], 0);
        });
      }
      assert.ok(relativeL2(once, weight) < 0.15 && relativeL2(once, weight) > 1e-3);
      c.device.close();
    });

    test("levels are those of the base: a trained weight is clamped at both ends and keeps its zeros", async () => {
      const c = linearCase(open());
      const method = attachTo(c.device, [c.linear], quantized);
      const base = await merged(c, method);
      const weight = await c.device.read(c.linear.weight);
      await unsettle(c.device, method, 3);
      const now = await merged(c, method);
      assert.equal(lostZeros(weight, now).lost, 0);
      for (let at = 0; at < weight.length; at += 8) {
        const step = (Math.max(0, ...weight.subarray(at, at + 8)) - Math.min(0, ...weight.subarray(at, at + 8))) / 15;
        const zero = Math.round(-Math.min(0, ...weight.subarray(at, at + 8)) / step);
        for (const x of now.subarray(at, at + 8)) assert.ok(x >= -(zero + 1e-3) * step && x <= (15 - zero + 1e-3) * step, `${x}`);
      }
      assert.ok(relativeL2(now, base) > 0.5);
      assert.ok(relativeL2(await c.device.read(forwardOf(c, method)), await productOf(c, now)) < 1e-5);
      c.device.close();
    });
  });

/** x·Wᵀ + bias of these weights, in float64. */
async function productOf(c: LinearCase, weight: Float32Array): Promise<Float64Array> {
  const [x, bias] = [await c.device.read(c.x), c.linear.bias ? await c.device.read(c.linear.bias) : new Float32Array(c.out)];
  return Float64Array.from({ length: c.tokens * c.out }, (_, at) => {
    const [n, i] = [Math.floor(at / c.out), at % c.out];
    let sum = bias[i];
    for (let j = 0; j < c.width; j++) sum += x[n * c.width + j] * weight[i * c.width + j];
    return sum;
  });
}

test("what is rounded to a level stays there", async () => {
  const device = openReferenceDevice();
  const c = linearCase(device);
  const method = attachTo(device, [c.linear], quantized);
  const once = device.allocate([c.out, c.width], "f32", "workspace");
  method.mergedWeight(once, c.linear);
  // The same levels over the weights they gave.
  const { quantization, ...weight } = adaptedWeightOf(device, method, c);
  const twice = device.allocate([c.out, c.width], "f32", "workspace");
  device.formAdapted(twice, { ...weight, weight: once, quantization });
  assert.deepEqual(device.readExact(twice), device.readExact(once));
});

/** The weight as SQFT forms it, with the levels of a fit of its own. */
function adaptedWeightOf(device: Device, method: AdapterMethod, c: LinearCase) {
  const [a, b] = method.parameters.map(({ value }) => value);
  const shape = [c.out, c.width / 8];
  const quantization = { scales: device.allocate(shape, "f32", "workspace"), zeros: device.allocate(shape, "f32", "workspace"), groupSize: 8 };
  device.fitQuantization(quantization, c.linear.weight);
  return { kind: "maskedLowRank", weight: c.linear.weight, scale: 2, base: true, left: b, right: a, rank: 4, quantization } as const;
}

test("gradients pass straight through the rounding, clamped entries included", async () => {
  const device = openReferenceDevice();
  const c = linearCase(device);
  const [plain, rounded] = [config, quantized].map((given) => attachTo(device, [c.linear], given));
  await unsettle(device, plain, 3);
  for (const [i, { value }] of rounded.parameters.entries()) device.copy(value, plain.parameters[i].value);
  // The same gradient of the output reaches both.
  const results = [];
  for (const method of [plain, rounded]) {
    const dOut = device.allocate([c.tokens, c.out], "f32", "activations");
    device.write(dOut, c.target);
    for (const { gradient } of method.parameters) device.fill(gradient, 0);
    method.linearBackward(null, c.linear, dOut, method.saveInput(c.linear.stage, c.x), false, null);
    results.push(method.parameters.map(({ gradient }) => device.readExact(gradient)));
  }
  assert.deepEqual(results[0], results[1]);
  assert.ok(results[0].every((values) => values.every((value) => value !== 0)));
});

test("a searched rank is the adapter cut to it: LoRA's where nothing is masked, no gradient beyond", async () => {
  const device = openReferenceDevice();
  const c = linearCase(device, { mask: "full" });
  const method = attachTo(device, [c.linear], { ...config, neuralSearch: [3] });
  await unsettle(device, method);
  method.beginBatch?.(somePlace);
  const ours = await gradientsOf(c, method);
  // Same factor alpha / rank = 2 with three directions.
  const lora = attachTo(device, [c.linear], adapterConfig("lora", { rank: 3, alpha: 6 }));
  const [a, b] = method.parameters.map(({ value }) => device.readExact(value));
  device.writeExact(lora.parameters[0].value, a.subarray(0, 3 * c.width));
  device.writeExact(
    lora.parameters[1].value,
    b.filter((_, i) => i % 4 < 3),
  );
  const theirs = await gradientsOf(c, lora);
  const near = (x: ArrayLike<number>, y: ArrayLike<number>) => assert.ok(relativeL2(x, y) < 1e-12);
  near(ours.out, theirs.out);
  near(ours.dX, theirs.dX);
  const [dA, dB] = ["sqft_A", "sqft_B"].map((name) => ours.gradients.get(name) as Float64Array);
  near(dA.subarray(0, 3 * c.width), theirs.gradients.get("lora_A") as Float64Array);
  near(
    dB.filter((_, i) => i % 4 < 3),
    theirs.gradients.get("lora_B") as Float64Array,
  );
  assert.ok(dA.subarray(3 * c.width).every((value) => value === 0) && dB.every((value, i) => i % 4 < 3 || value === 0));
  // Evaluation uses the whole adapter.
  method.beginBatch?.(null);
  const whole = await device.read(forwardOf(c, method));
  assert.ok(relativeL2(whole, ours.out) > 1e-3);
  assert.ok(relativeL2(whole, await productOf(c, await merged(c, method))) < 1e-6);
});
