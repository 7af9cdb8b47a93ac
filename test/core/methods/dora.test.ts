/** DoRA beyond its gradients: W itself at the start, norms without the weight they are norms of, one dropout mask for both branches, merged row norms. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import type { AdapterMethod } from "../../../src/core/methods/method.ts";
import { adapterConfig, attachTo, forwardOf, gradientsOf, type LinearCase, linearCase, somePlace, unsettle } from "../../support/adapters.ts";
import { testDevices } from "../../support/devices.ts";
import { bitsOf } from "../../support/tinyModel.ts";

async function merged(c: LinearCase, method: AdapterMethod, dtype: "f32" | "bf16" = "f32"): Promise<Float32Array> {
  const out = c.device.allocate([c.out, c.width], dtype, "workspace");
  method.mergedWeight(out, c.linear);
  const values = (await c.device.read(out)) as Float32Array;
  c.device.free(out);
  return values;
}

const rowNorms = (values: ArrayLike<number>, columns: number) =>
  Float64Array.from({ length: values.length / columns }, (_, i) => {
    let sum = 0;
    for (let j = i * columns; j < (i + 1) * columns; j++) sum += values[j] ** 2;
    return Math.sqrt(sum);
  });

for (const { name, open } of testDevices({ reference: true }))
  describe(name, () => {
    for (const dtype of ["f32", "bf16"] as const)
      test(`at the start the merged weight is W, to the bit, ${dtype}`, async () => {
        // Long rows, whose sums of squares come in many pieces, and one row of zeros.
        const c = linearCase(open(), { out: 20, width: 1300, mask: "full", dtype });
        const weight = ((await c.device.read(c.linear.weight)) as Float32Array).map((x, i) => (i < 1300 ? 0 : x));
        c.device.write(c.linear.weight, weight);
        const method = attachTo(c.device, [c.linear], adapterConfig("dora", { rank: 4 }));
        assert.deepEqual(await merged(c, method), i0(weight));
        assert.deepEqual(await merged(c, method, dtype), i0(weight));
        // An update that changes nothing leaves the gains at one.
        method.afterUpdate();
        assert.deepEqual(await merged(c, method), i0(weight));
        c.device.close();
      });

    test("after training each row of the merged weight is as long as its magnitude", async () => {
      const c = linearCase(open());
      const method = attachTo(c.device, [c.linear], adapterConfig("dora", { rank: 4 }));
      await unsettle(c.device, method);
      const magnitude = await c.device.read(method.parameters[2].value);
      for (const [i, norm] of rowNorms(await merged(c, method), c.width).entries())
        assert.ok(Math.abs(norm - Math.abs(magnitude[i])) < 1e-5 * norm, `row ${i}: ${norm}, ${magnitude[i]}`);
      c.device.close();
    });
  });

/** −0 reads as 0 once it went through a sum. */
const i0 = (values: Float32Array) => values.map((x) => x + 0);

test("norms by the identity are those of W + s·B·A", async () => {
  const device = openReferenceDevice();
  const c = linearCase(device);
  const method = attachTo(device, [c.linear], adapterConfig("dora", { rank: 4, alpha: 6 }));
  await unsettle(device, method);
  const [a, b, magnitude] = method.parameters.map(({ value }) => device.readExact(value));
  const weight = device.readExact(c.linear.weight);
  const sum = weight.map((w, at) => {
    let product = 0;
    for (let k = 0; k < 4; k++) product += b[Math.floor(at / c.width) * 4 + k] * a[k * c.width + (at % c.width)];
    return w + 1.5 * product;
  });
  const norms = rowNorms(sum, c.width);
  const out = device.allocate([c.out, c.width], "f32", "workspace");
  method.mergedWeight(out, c.linear);
  device.readExact(out).forEach((value, at) => {
    const i = Math.floor(at / c.width);
    const expected = (magnitude[i] / norms[i]) * sum[at];
    assert.ok(Math.abs(value - expected) < 1e-12 * Math.max(1, Math.abs(expected)), `entry ${at}`);
  });
});

test("both branches see one dropout mask, the one that backward sees", async () => {
  // With W, A and B multiples of the identity each output entry is its input entry times a number that tells what was dropped.
  const c = linearCase(openReferenceDevice(), { out: 16, width: 16, bias: false, mask: "full", tokens: 40 });
  const { device } = c;
  const identity = (scale: number) => Float32Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? scale : 0));
  device.write(c.linear.weight, identity(1));
  const method = attachTo(device, [c.linear], adapterConfig("dora", { rank: 16, alpha: 16, dropout: 0.5 }));
  const [a, b, magnitude] = method.parameters.map(({ value }) => value);
  device.write(a, identity(0.5));
  device.write(b, identity(0.5));
  device.write(magnitude, new Float32Array(16).fill(2));
  method.afterUpdate();
  method.beginBatch?.(somePlace);
  // ν = 1.25, g = 1.6; kept entries count twice: x + (g − 1)·2x + g·0.25·2x.
  const factors = { dropped: 1, kept: 1 + 0.6 * 2 + 1.6 * 0.25 * 2 };
  const x = await device.read(c.x);
  const y = await device.read(forwardOf(c, method));
  const isKept = Array.from(x, (value, i) => {
    const factor = y[i] / value;
    const kept = Math.abs(factor - factors.kept) < 1e-5;
    assert.ok(kept || Math.abs(factor - factors.dropped) < 1e-5, `entry ${i}: factor ${factor}`);
    return kept;
  });
  const share = isKept.filter(Boolean).length / isKept.length;
  assert.ok(share > 0.4 && share < 0.6, `${share} kept`);
  const { dX, dOut } = await gradientsOf(c, method);
  for (const [i, value] of dX.entries()) assert.ok(Math.abs(value / dOut[i] - (isKept[i] ? factors.kept : factors.dropped)) < 1e-5, `dX ${i}`);
});

test("a method that is put back by another's values computes the same", async () => {
  const c = linearCase(openReferenceDevice());
  const config = adapterConfig("dora", { rank: 3 });
  const trained = attachTo(c.device, [c.linear], config, 1);
  await unsettle(c.device, trained);
  const fresh = attachTo(c.device, [c.linear], config, 2);
  for (const [i, { value }] of fresh.parameters.entries()) c.device.copy(value, trained.parameters[i].value);
  fresh.afterUpdate();
  assert.equal(await bitsOf(c.device, forwardOf(c, fresh)), await bitsOf(c.device, forwardOf(c, trained)));
});
