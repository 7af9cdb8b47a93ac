/**
 * Every adapter's linear map against central differences in float64: gradients of all trained tensors and of the input, with bias, with the map's output
 * alone or added to a residual, with dropout and without. What each method computes is checked elsewhere; here that backward is forward's derivative.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openReferenceDevice, type ReferenceDevice } from "../../../src/core/devices/reference.ts";
import type { AdapterMethod } from "../../../src/core/methods/method.ts";
import type { AdapterConfig } from "../../../src/protocol/runConfig.ts";
import { adapterConfig, attachTo, gradientsOf, type LinearCase, linearCase, referenceLoss, somePlace, unsettle } from "../../support/adapters.ts";
import { checkGradient } from "../../support/checkGradient.ts";
import { normals } from "../../support/randomTensors.ts";

interface Variant {
  title: string;
  config: AdapterConfig;
  /** Whether a change of this tensor is carried into what forward caches: not where the gradient shall not see it. */
  follows?(parameter: string): boolean;
  /** Allowed distance, as checkGradient's; 1e-7 unless the loss, whose rounding differences see, is much larger than what they look for. */
  relative?: number;
}

const variants: Variant[] = [
  { title: "lors exact", config: adapterConfig("lors", { rank: 3, gradient: "exact" }) },
  { title: "lora", config: adapterConfig("lora", { rank: 3 }) },
  { title: "lora, dropout, rank-stabilised", config: adapterConfig("lora", { rank: 3, dropout: 0.3, rankStabilized: true }) },
  // ν is frozen where the gradient is detached from it: only the magnitudes' changes are followed.
  { title: "dora detached", config: adapterConfig("dora", { rank: 3 }), follows: (name) => name.endsWith("magnitude_vector") },
  { title: "dora detached, dropout", config: adapterConfig("dora", { rank: 3, dropout: 0.3 }), follows: (name) => name.endsWith("magnitude_vector") },
  { title: "dora full", config: adapterConfig("dora", { rank: 3, normGradient: "full" }) },
  { title: "dora full, dropout", config: adapterConfig("dora", { rank: 3, dropout: 0.3, normGradient: "full" }) },
  { title: "spp", config: adapterConfig("spp", { groups: 4 }), relative: 1e-6 },
  { title: "spp, dropout", config: adapterConfig("spp", { groups: 4, dropout: 0.3 }), relative: 1e-6 },
  { title: "sqft", config: adapterConfig("sqft", { rank: 4, alpha: 8 }) },
  { title: "sqft, dropout, searched rank", config: adapterConfig("sqft", { rank: 4, alpha: 8, dropout: 0.3, neuralSearch: [3] }) },
];

/** The loss at other values. */
const at = (put: (values: Float64Array) => void, loss: () => number) => (values: Float64Array) => {
  put(values);
  return loss();
};

async function checkAll(c: LinearCase, method: AdapterMethod, variant: Variant, residual: Float32Array | null): Promise<void> {
  const device = c.device as ReferenceDevice;
  const { dX, gradients } = await gradientsOf(c, method, residual);
  const loss = () => referenceLoss(c, method, residual);
  const x = device.readExact(c.x);
  checkGradient(
    "x",
    x,
    dX,
    at((values) => device.writeExact(c.x, values), loss),
    12,
  );
  device.writeExact(c.x, x);
  for (const { name, value } of method.parameters) {
    const analytic = gradients.get(name.slice(name.lastIndexOf(".") + 1)) as Float64Array;
    const follow = variant.follows?.(name) ?? true;
    const put = (values: Float64Array) => {
      device.writeExact(value, values);
      if (follow) method.afterUpdate();
    };
    const held = device.readExact(value);
    checkGradient(name, held, analytic, at(put, loss), 12, variant.relative ?? 1e-7);
    put(held);
  }
}

for (const variant of variants)
  describe(variant.title, () => {
    for (const residual of [false, true])
      test(`${variant.title}, ${residual ? "added to a residual" : "alone"}`, async () => {
        const c = linearCase(openReferenceDevice());
        const method = attachTo(c.device, [c.linear], variant.config);
        await unsettle(c.device, method);
        method.beginBatch?.(somePlace);
        await checkAll(c, method, variant, residual ? normals(9, c.tokens * c.out) : null);
      });

    test(`${variant.title}: every tensor that a batch allocates is freed`, async () => {
      const c = linearCase(openReferenceDevice());
      const before = c.device.ledger.liveBytes;
      const method = attachTo(c.device, [c.linear], variant.config);
      const attached = c.device.ledger.liveBytes;
      method.beginBatch?.(somePlace);
      await gradientsOf(c, method, null);
      await gradientsOf(c, method, normals(9, c.tokens * c.out));
      method.afterUpdate();
      const merged = c.device.allocate([c.out, c.width], "f32", "workspace");
      method.mergedWeight(merged, c.linear);
      c.device.free(merged);
      assert.equal(c.device.ledger.liveBytes, attached);
      method.release();
      assert.equal(c.device.ledger.liveBytes, before);
    });
  });

test("lors ste is the gradient of its surrogate s⟨G, A·B⟩, and not that of the loss", async () => {
  const c = linearCase(openReferenceDevice());
  const device = c.device as ReferenceDevice;
  const config = adapterConfig("lors", { rank: 3, alpha: 5 });
  const method = attachTo(device, [c.linear], config);
  await unsettle(device, method);
  const { dOut, dX, gradients } = await gradientsOf(c, method);
  const x = device.readExact(c.x);
  const g = new Float64Array(c.out * c.width);
  for (let n = 0; n < c.tokens; n++)
    for (let i = 0; i < c.out; i++) for (let j = 0; j < c.width; j++) g[i * c.width + j] += dOut[n * c.out + i] * x[n * c.width + j];
  const [a, b] = method.parameters.map(({ value }) => device.readExact(value));
  const surrogate = (left: Float64Array, right: Float64Array) => {
    let sum = 0;
    for (let i = 0; i < c.out; i++)
      for (let j = 0; j < c.width; j++)
        for (let k = 0; k < 3; k++) sum += (5 / Math.sqrt(3)) * g[i * c.width + j] * left[i * 3 + k] * right[k * c.width + j];
    return sum;
  };
  checkGradient("A", a, gradients.get("lors_A") as Float64Array, (values) => surrogate(values, b), 36, 1e-8);
  checkGradient("B", b, gradients.get("lors_B") as Float64Array, (values) => surrogate(a, values), 36, 1e-8);
  checkGradient(
    "x",
    x,
    dX,
    at(
      (values) => device.writeExact(c.x, values),
      () => referenceLoss(c, method),
    ),
    12,
  );

  device.writeExact(c.x, x);
  const exact = attachTo(device, [c.linear], { ...config, gradient: "exact" });
  for (const [i, { value }] of exact.parameters.entries()) device.copy(value, method.parameters[i].value);
  const theirs = await gradientsOf(c, exact);
  for (const name of ["lors_A", "lors_B"])
    assert.ok(cosine(gradients.get(name) as Float64Array, theirs.gradients.get(name) as Float64Array) < 0.999, name);
});

test("without zeros ste, exact and LoRA have one gradient", async () => {
  const c = linearCase(openReferenceDevice(), { mask: "full" });
  const device = c.device as ReferenceDevice;
  const lors = { rank: 4, alpha: 6 };
  const ste = attachTo(device, [c.linear], adapterConfig("lors", lors));
  await unsettle(device, ste);
  const exact = attachTo(device, [c.linear], adapterConfig("lors", { ...lors, gradient: "exact" }));
  const lora = attachTo(device, [c.linear], adapterConfig("lora", { ...lors, rankStabilized: true }));
  const [a, b] = ste.parameters.map(({ value }) => device.readExact(value));
  for (const [method, first, second] of [
    [exact, a, b],
    [lora, b, a],
  ] as const) {
    device.writeExact(method.parameters[0].value, first);
    device.writeExact(method.parameters[1].value, second);
  }
  const [one, two, three] = [await gradientsOf(c, ste), await gradientsOf(c, exact), await gradientsOf(c, lora)];
  for (const [name, other] of [
    ["lors_A", "lora_B"],
    ["lors_B", "lora_A"],
  ]) {
    assertNear(two.gradients.get(name), one.gradients.get(name), 1e-12);
    assertNear(three.gradients.get(other), one.gradients.get(name), 1e-12);
  }
  assertNear(three.dX, one.dX, 1e-12);
});

test("dora's detached and full gradients are not the same, and a detached one fails against differences that follow ν", async () => {
  const c = linearCase(openReferenceDevice());
  const [detached, full] = (["detached", "full"] as const).map((normGradient) =>
    attachTo(c.device, [c.linear], adapterConfig("dora", { rank: 3, normGradient })),
  );
  for (const method of [detached, full]) await unsettle(c.device, method);
  const [one, two] = [await gradientsOf(c, detached), await gradientsOf(c, full)];
  for (const name of ["lora_A", "lora_B"])
    assert.ok(cosine(one.gradients.get(name) as Float64Array, two.gradients.get(name) as Float64Array) < 0.99, name);
  assertNear(one.gradients.get("lora_magnitude_vector"), two.gradients.get("lora_magnitude_vector"), 1e-12);
  await assert.rejects(checkAll(c, detached, { title: "", config: adapterConfig("dora") }, null), /lora_A/);
});

function cosine(a: Float64Array, b: Float64Array): number {
  const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function assertNear(actual: Float64Array | undefined, expected: Float64Array | undefined, relative: number): void {
  assert.ok(actual && expected);
  const size = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0));
  const distance = Math.sqrt(actual.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0));
  assert.ok(distance <= relative * size, `distance ${distance}, size ${size}`);
}
