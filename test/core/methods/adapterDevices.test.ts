/**
 * Every adapter's linear map on each device against the float64 reference: shapes that no tile divides, both precisions, alone and added to a residual.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Device } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import type { AdapterConfig } from "../../../src/protocol/runConfig.ts";
import { adapterConfig, attachTo, forwardOf, gradientsOf, linearCase, somePlace, unsettle } from "../../support/adapters.ts";
import { testDevices } from "../../support/devices.ts";
import { relativeL2 } from "../../support/goldens.ts";
import { normals } from "../../support/randomTensors.ts";
import { bitsOf } from "../../support/tinyModel.ts";

const configs: AdapterConfig[] = [
  adapterConfig("lors", { rank: 7 }),
  adapterConfig("lors", { rank: 7, gradient: "exact" }),
  adapterConfig("lora", { rank: 5, dropout: 0.2 }),
  adapterConfig("dora", { rank: 5 }),
  adapterConfig("dora", { rank: 5, dropout: 0.2, normGradient: "full" }),
  adapterConfig("spp", { groups: 9 }),
  adapterConfig("spp", { groups: 9, dropout: 0.2 }),
  adapterConfig("sqft", { rank: 6 }),
  adapterConfig("sqft", { rank: 6, dropout: 0.2, neuralSearch: [5] }),
];

/** Out, dX and gradients of one batch. Values are moved off their start by the same numbers everywhere. */
async function run(device: Device, config: AdapterConfig, dtype: "f32" | "bf16", residual: boolean) {
  const c = linearCase(device, { out: 297, width: 148, tokens: 67, dtype });
  const method = attachTo(device, [c.linear], config);
  await unsettle(device, method, 0.05);
  method.beginBatch?.(somePlace);
  const { out, dX, gradients } = await gradientsOf(c, method, residual ? normals(9, c.tokens * c.out) : null);
  device.close();
  return new Map([["out", out], ["dX", dX], ...gradients]);
}

for (const config of configs) {
  const title = `${config.name}${"gradient" in config ? ` ${config.gradient}` : ""}${"dropout" in config && config.dropout ? ", dropout" : ""}`;
  describe(title, () => {
    for (const dtype of ["f32", "bf16"] as const)
      for (const residual of [false, true])
        test(`${dtype}, ${residual ? "added to a residual" : "alone"}`, async () => {
          const expected = await run(openReferenceDevice(), config, dtype, residual);
          for (const { name, open } of testDevices())
            for (const [what, values] of await run(open(), config, dtype, residual)) {
              const error = relativeL2(values, expected.get(what) as Float64Array);
              // f32: sums of some hundred products. bf16: 2⁻⁹ for each operand and result on the way, a handful of them.
              assert.ok(error < (dtype === "f32" ? 2e-6 : 1e-2), `${what} on ${name}: ${error}`);
            }
        });
  });
}

describe("at its start each map gives the base's bits, at sizes of many slices, for one row and for many", () => {
  for (const config of configs)
    test(`${config.name}${"dropout" in config && config.dropout ? ", dropout" : ""}`, async () => {
      for (const { name, open } of testDevices())
        for (const dtype of ["f32", "bf16"] as const)
          for (const tokens of [1, 67])
            for (const residual of [false, true]) {
              const c = linearCase(open(), { out: 90, width: 1348, tokens, dtype });
              const method = attachTo(c.device, [c.linear], config);
              method.beginBatch?.(somePlace);
              const added = residual ? normals(9, tokens * c.out) : null;
              const ours = await bitsOf(c.device, forwardOf(c, method, added));
              const base = await bitsOf(c.device, forwardOf(c, new Frozen(c.device), added));
              assert.equal(ours, base, `${name}, ${dtype}, ${tokens} rows${residual ? ", added to a residual" : ""}`);
              c.device.close();
            }
    });
});
