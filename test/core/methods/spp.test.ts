/** SPP's scaled weight is the published one: alpha repeated over a group's rows, and the grouped product of the authors' memory-saving form. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { adapterConfig, attachTo, forwardOf, linearCase, unsettle } from "../../support/adapters.ts";
import { relativeL2 } from "../../support/goldens.ts";

test("W + s·W∘(rep(alpha)·beta), and x·Wᵀ + s·beta∘((x∘alpha_g)·W_gᵀ) group by group", async () => {
  const device = openReferenceDevice();
  const c = linearCase(device, { bias: false });
  const method = attachTo(device, [c.linear], adapterConfig("spp", { groups: 4, scaling: 1.5 }));
  await unsettle(device, method);
  const [alpha, beta] = method.parameters.map(({ value }) => device.readExact(value));
  const [weight, x] = [device.readExact(c.linear.weight), device.readExact(c.x)];
  const groupOf = (i: number) => Math.floor((4 * i) / c.out);
  const repeated = weight.map((w, at) => {
    const [i, j] = [Math.floor(at / c.width), at % c.width];
    return w + 1.5 * w * alpha[groupOf(i) * c.width + j] * beta[i];
  });
  const out = device.allocate([c.out, c.width], "f32", "workspace");
  method.mergedWeight(out, c.linear);
  assert.ok(relativeL2(device.readExact(out), repeated) < 1e-14);
  for (const [at, value] of repeated.entries()) assert.equal(value === 0, weight[at] === 0);
  const grouped = Float64Array.from({ length: c.tokens * c.out }, (_, at) => {
    const [n, i] = [Math.floor(at / c.out), at % c.out];
    let [base, scaled] = [0, 0];
    for (let j = 0; j < c.width; j++) {
      base += x[n * c.width + j] * weight[i * c.width + j];
      scaled += x[n * c.width + j] * alpha[groupOf(i) * c.width + j] * weight[i * c.width + j];
    }
    return base + 1.5 * beta[i] * scaled;
  });
  assert.ok(relativeL2(device.readExact(forwardOf(c, method)), grouped) < 1e-14);
});
