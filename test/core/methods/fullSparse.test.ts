/** Full fine-tuning of a pruned model: with keepZeros every zero stays and counts in no norm; without it they go. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import { linearsOf } from "../../../src/core/methods/smt/scoring.ts";
import { runBatch } from "../../../src/core/model/llama.ts";
import type { Precision } from "../../../src/core/model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../../src/core/optim/update.ts";
import { testDevices } from "../../support/devices.ts";
import { lostZeros, openTiny, tinyBatch } from "../../support/tinyModel.ts";

for (const { name, open } of testDevices())
  describe(name, () => {
    for (const precision of ["f32", "bf16"] as Precision[])
      for (const keepZeros of [true, false])
        test(`${precision}, ${keepZeros ? "zeros kept" : "zeros not kept"}`, async () => {
          const model = openTiny(open(), precision, { pruned: true });
          const { device } = model;
          const linears = linearsOf(model.tensors);
          const before = await Promise.all(linears.map(({ weight }) => device.read(weight)));
          const method = new FullFineTuning(device, model.tensors, { keepZeros });
          for (let number = 1; number <= 5; number++) {
            zeroGradients(device, method.parameters);
            for (const first of [0, 2]) {
              const batch = tinyBatch(2, 16, 4 * number + first);
              await runBatch(model, method, batch, 0.5 / batch.unmaskedTokens);
            }
            const gradNorm = await gradientNorm(device, method.parameters);
            let squares = 0;
            for (const { name: parameter, gradient } of method.parameters) {
              const values = await device.read(gradient);
              const at = linears.findIndex((linear) => `${linear.name}.weight` === parameter);
              values.forEach((g, i) => {
                if (keepZeros && at >= 0 && before[at][i] === 0) assert.equal(g, 0);
                squares += g * g;
              });
            }
            assert.ok(Math.abs(gradNorm - Math.sqrt(squares)) < 1e-4 * gradNorm);
            const options = { betas: [0.9, 0.95] as const, epsilon: 1e-8, weightDecay: 0.1, clipGradNorm: 1 };
            updateParameters(device, method.parameters, gradNorm, 1e-2, number, options);
            method.afterUpdate();
          }
          for (const [i, { name: matrix, weight }] of linears.entries()) {
            const now = await device.read(weight);
            const { zeros, lost } = lostZeros(before[i], now);
            assert.equal(zeros, now.length / 2);
            if (keepZeros) assert.equal(lost, 0, matrix);
            else assert.ok(lost > 0.9 * zeros, matrix);
            assert.ok(now.some((x, j) => x !== before[i][j]));
          }
          device.close();
        });
  });
