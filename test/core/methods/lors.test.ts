/** LoRS: what W̃ is, what is kept between forward and backward, that the mask is the base's for good, that merging loses nothing, and its first update. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Tensor } from "../../../src/core/devices/device.ts";
import { roundToBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { LoRS } from "../../../src/core/methods/lors.ts";
import { principalDirections } from "../../../src/core/methods/lorsInit.ts";
import type { AdapterMethod } from "../../../src/core/methods/method.ts";
import { updateParameters } from "../../../src/core/optim/update.ts";
import { expectSameBits } from "../../conformance/harness.ts";
import { adapterConfig, attachTo, forwardOf, gradientsOf, type LinearCase, linearCase, referenceLoss, unsettle } from "../../support/adapters.ts";
import { testDevices } from "../../support/devices.ts";
import { relativeL2 } from "../../support/goldens.ts";
import { normals } from "../../support/randomTensors.ts";
import { bitsOf, lostZeros } from "../../support/tinyModel.ts";

const adam = { betas: [0.9, 0.95] as const, epsilon: 1e-8, weightDecay: 0, clipGradNorm: null };

/** W + s·A·B as plain loops, masked. */
async function byHand(c: LinearCase, method: LoRS): Promise<Float64Array> {
  const [w, a, b] = await Promise.all([c.linear.weight, ...method.parameters.map(({ value }) => value)].map((tensor) => c.device.read(tensor)));
  const rank = b.length / c.width;
  return Float64Array.from({ length: c.out * c.width }, (_, at) => {
    const [i, j] = [Math.floor(at / c.width), at % c.width];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += a[i * rank + k] * b[k * c.width + j];
    return w[at] === 0 ? 0 : w[at] + method.scale * sum;
  });
}

async function merged(c: LinearCase, method: AdapterMethod): Promise<Float32Array> {
  const out = c.device.allocate([c.out, c.width], "f32", "workspace");
  method.mergedWeight(out, c.linear);
  const values = (await c.device.read(out)) as Float32Array;
  c.device.free(out);
  return values;
}

for (const { name, open } of testDevices({ reference: true }))
  describe(name, () => {
    test("W̃ = (W + s·A·B) ∘ M, y = x·W̃ᵀ + bias", async () => {
      const c = linearCase(open());
      const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 3, alpha: 5 })) as LoRS;
      await unsettle(c.device, method);
      assert.equal(method.scale, 5 / Math.sqrt(3));
      const expected = await byHand(c, method);
      const values = await merged(c, method);
      assert.ok(relativeL2(values, expected) < 1e-6);
      const weight = await c.device.read(c.linear.weight);
      assert.equal(lostZeros(weight, values).lost, 0);
      assert.ok(values.some((value, i) => weight[i] !== 0 && value !== weight[i]));
      const [x, bias] = [await c.device.read(c.x), await c.device.read(c.linear.bias as Tensor)];
      const y = Float64Array.from({ length: c.tokens * c.out }, (_, at) => {
        const [n, i] = [Math.floor(at / c.out), at % c.out];
        let sum = bias[i];
        for (let j = 0; j < c.width; j++) sum += x[n * c.width + j] * expected[i * c.width + j];
        return sum;
      });
      assert.ok(relativeL2(await c.device.read(forwardOf(c, method)), y) < 1e-6);
      c.device.close();
    });

    test("between forward and backward a map keeps the bytes of x, and no temporary reaches the size of a weight", async () => {
      for (const gradient of ["ste", "exact"] as const) {
        const c = linearCase(open(), { out: 640, width: 512, tokens: 6, bias: false });
        const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 2, gradient }));
        const y = c.device.allocate([c.tokens, c.out], "f32", "activations");
        const dX = c.device.allocate([c.tokens, c.width], "f32", "activations");
        const live = c.device.ledger.liveBytes;
        c.device.ledger.resetPeak();
        method.linearForward(y, c.linear, c.x, false, () => assert.fail("a tensor was kept beside the input"));
        assert.equal(c.device.ledger.liveBytes, live);
        assert.equal(method.saveInput(c.linear.stage, c.x), c.x);
        method.linearBackward(dX, c.linear, y, c.x, false, null);
        assert.equal(c.device.ledger.liveBytes, live);
        assert.ok(c.device.ledger.peakBytes - live <= 4 * c.tokens * 2, `${c.device.ledger.peakBytes - live} bytes`);
        c.device.close();
      }
    });

    test("an A·B that cancels a weight does not change the mask", async () => {
      const c = linearCase(open());
      const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 1, alpha: 1 }));
      const [a, b] = method.parameters.map(({ value }) => value);
      const weight = await c.device.read(c.linear.weight);
      const at = weight.findIndex((x) => x !== 0);
      const unit = (size: number, i: number, value: number) => Float32Array.from({ length: size }, (_, k) => (k === i ? value : 0));
      c.device.write(b, unit(c.width, at % c.width, 1));
      c.device.write(a, unit(c.out, Math.floor(at / c.width), -weight[at]));
      assert.equal((await merged(c, method))[at], 0);
      const { gradients } = await gradientsOf(c, method);
      assert.notEqual((gradients.get("lors_A") as Float64Array)[Math.floor(at / c.width)], 0);
      c.device.write(a, unit(c.out, Math.floor(at / c.width), 1));
      assert.ok(Math.abs((await merged(c, method))[at] - (weight[at] + 1)) < 1e-6);
      c.device.close();
    });

    test("small changes of a bf16 weight are merged in f32, and kept in the mean by a bf16 merge, which is what products compute with", async () => {
      const c = linearCase(open(), { out: 64, width: 64, dtype: "bf16", bias: false });
      const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 4, alpha: 4 })) as LoRS;
      await unsettle(c.device, method, 1);
      const weight = await c.device.read(c.linear.weight);
      const size = (values: ArrayLike<number>) => Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0));
      // Scale A so that the change is a thousandth of the weight.
      const before = await byHand(c, method);
      const a = method.parameters[0].value;
      const factor = (1e-3 * size(weight)) / size(before.map((x, i) => x - weight[i]));
      c.device.write(
        a,
        ((await c.device.read(a)) as Float32Array).map((x) => factor * x),
      );
      const wanted = (await byHand(c, method)).map((x, i) => x - weight[i]);
      const given = (await merged(c, method)).map((x, i) => x - weight[i]);
      assert.ok(relativeL2(given, wanted) < 1e-3, `the change came out with an error of ${relativeL2(given, wanted)}`);
      // In bf16 the mean of the change is kept, where rounding to nearest would leave little of it.
      const narrow = c.device.allocate([64, 64], "bf16", "workspace");
      method.mergedWeight(narrow, c.linear);
      const stored = (await c.device.read(narrow)) as Float32Array;
      const share = (values: Float32Array) => values.reduce((sum, x, i) => sum + (x - weight[i]) * wanted[i], 0) / size(wanted) ** 2;
      assert.ok(stored.every((x) => x === roundToBfloat16(x)));
      assert.ok(Math.abs(share(stored) - 1) < 0.2, `${share(stored)} of the change is there`);
      assert.ok(share(Float32Array.from(wanted, (x, i) => roundToBfloat16(weight[i] + x))) < 0.5);
      // A forward and backward in bf16 computes with just these numbers.
      const kept = c.device.allocate([64, 64], "bf16", "workspace");
      c.device.copy(kept, narrow);
      const x = c.device.allocate([c.tokens, 64], "bf16", "activations");
      c.device.copy(x, c.x);
      const outputs = Array.from({ length: 4 }, () => c.device.allocate([c.tokens, 64], "f32", "activations"));
      method.linearForward(outputs[0], c.linear, x, false, null);
      c.device.matmul(outputs[1], x, kept, { transposeB: true });
      method.linearBackward(outputs[2], c.linear, x, x, false, null);
      c.device.matmul(outputs[3], x, kept, {});
      const [forward, mergedForward, backward, mergedBackward] = await Promise.all(outputs.map((tensor) => c.device.read(tensor)));
      expectSameBits("forward", forward, mergedForward);
      expectSameBits("backward", backward, mergedBackward);
      c.device.close();
    });

    test("the first AdamW step leaves B's bits and moves every entry of A by the learning rate", async () => {
      const c = linearCase(open());
      const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 3 }));
      const [a, b] = method.parameters;
      const before = await bitsOf(c.device, b.value);
      const { gradients } = await gradientsOf(c, method);
      updateParameters(c.device, method.parameters, 1, 1e-3, 1, adam);
      assert.equal(await bitsOf(c.device, b.value), before);
      const moved = await c.device.read(a.value);
      const g = gradients.get("lors_A") as Float64Array;
      assert.ok(moved.length === 36 && g.every((x) => x !== 0));
      for (const [i, x] of moved.entries()) assert.ok(Math.abs(x + 1e-3 * Math.sign(g[i])) < 1e-8, `A[${i}] = ${x}`);
      c.device.close();
    });
  });

test("a small first step lowers the loss", async () => {
  const c = linearCase(openReferenceDevice());
  const method = attachTo(c.device, [c.linear], adapterConfig("lors", { rank: 3 }));
  const before = referenceLoss(c, method);
  await gradientsOf(c, method);
  updateParameters(c.device, method.parameters, 1, 1e-4, 1, adam);
  assert.ok(referenceLoss(c, method) < before);
});

test("started at the gradient's main directions, the first update is its main part; started at random, it is not", async () => {
  // Inputs and errors of low rank, as real ones are: the gradient's spectrum falls fast.
  const device = openReferenceDevice();
  const [out, width, tokens, inner, rank] = [48, 64, 120, 24, 8];
  const c = linearCase(device, { out, width, tokens, bias: false });
  const [mix, spread] = [normals(30, tokens * inner), normals(31, inner * width)];
  const x = Float32Array.from({ length: tokens * width }, (_, at) => {
    let sum = 0.02 * normals(32, 1)[0];
    for (let k = 0; k < inner; k++) sum += mix[Math.floor(at / width) * inner + k] * 0.7 ** k * spread[k * width + (at % width)];
    return sum;
  });
  device.write(c.x, x);
  const gradient = device.allocate([out, width], "f32", "gradients");
  const cosines = new Map<string, number>();
  for (const init of ["gradientSvd", "kaiming"] as const) {
    const method = new LoRS(device, [c.linear], adapterConfig("lors", { rank, alpha: rank }), 3);
    const { dOut } = await gradientsOf(c, method);
    const dy = device.allocate([tokens, out], "f32", "activations");
    device.writeExact(dy, dOut);
    device.matmul(gradient, dy, c.x, { transposeA: true });
    const [a, b] = method.parameters;
    if (init === "gradientSvd") await principalDirections(device, b.value, gradient, 1);
    const { gradients } = await gradientsOf(c, method);
    // One step of plain gradient descent.
    device.writeExact(
      a.value,
      (gradients.get("lors_A") as Float64Array).map((g) => -1e-3 * g),
    );
    const weight = device.readExact(c.linear.weight);
    const change = (await byHand(c, method)).map((value, i) => value - weight[i]);
    const masked = device.readExact(gradient).map((g, i) => (weight[i] === 0 ? 0 : -g));
    const dot = (u: Float64Array, v: Float64Array) => u.reduce((sum, value, i) => sum + value * v[i], 0);
    cosines.set(init, dot(change, masked) / Math.sqrt(dot(change, change) * dot(masked, masked)));
  }
  assert.ok((cosines.get("gradientSvd") as number) > 0.95 && (cosines.get("kaiming") as number) < 0.4, JSON.stringify([...cosines]));
});
