/** adamwStep and sumSquares. */
import assert from "node:assert/strict";
import type { AdamWOptions, DType } from "../../../src/core/devices/device.ts";
import { f32Unit } from "../../support/expectClose.ts";
import { normals, uniforms } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase, type TestedDevice } from "../harness.ts";

const common: AdamWOptions = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, step: 1, gradientScale: 1 };

function adamwCase(size: number, options: Partial<AdamWOptions>, scale: number): ConformanceCase {
  const all = { ...common, ...options };
  const first = all.step === 1;
  const [c1, c2] = [1 - all.beta1 ** all.step, 1 - all.beta2 ** all.step];
  return opCase({
    title: `[${size}] gradients of ${scale}, ${JSON.stringify(options)}`,
    tensors: {
      value: { shape: [size], dtype: "f32", data: normals(1, size) },
      gradient: { shape: [size], dtype: "f32", data: normals(2, size, scale) },
      m: { shape: [size], dtype: "f32", data: first ? new Float32Array(size) : normals(3, size, scale / 3) },
      v: { shape: [size], dtype: "f32", data: first ? new Float32Array(size) : uniforms(4, size, 0.1 * scale ** 2, scale ** 2) },
    },
    call: (d, t) => d.adamwStep(t.value, t.gradient, t.m, t.v, all),
    outputs: {
      // Each moment is two products and a sum. 1 − β and 1 − βᵗ belong to float64: from an f32 β₂ = 0.999 they would be wrong by 1e-5.
      m:
        ({ before }) =>
        (i) =>
          4 * f32Unit * (Math.abs(all.beta1 * before.m[i]) + Math.abs((1 - all.beta1) * all.gradientScale * before.gradient[i])),
      v:
        ({ after }) =>
        (i) =>
          5 * f32Unit * after.v[i],
      value:
        ({ before, after }) =>
        (i) => {
          const meanTerms = (Math.abs(all.beta1 * before.m[i]) + Math.abs((1 - all.beta1) * all.gradientScale * before.gradient[i])) / c1;
          const step = meanTerms / (Math.sqrt(after.v[i] / c2) + all.epsilon) + all.weightDecay * Math.abs(before.value[i]);
          return f32Unit * (Math.abs(after.value[i]) + 14 * all.learningRate * step);
        },
    },
  });
}

export const adamwStepCases: ConformanceCase[] = [
  ...[1, 7, 64, 1000, 70_001].map((size) => adamwCase(size, {}, 1)),
  adamwCase(65, { step: 2, weightDecay: 0, beta2: 0.95 }, 1),
  adamwCase(65, { step: 1000, gradientScale: 0.37 }, 1),
  adamwCase(65, { step: 20 }, 1e-8),
  adamwCase(65, { step: 20 }, 1e5),
  adamwCase(65, { step: 3, epsilon: 1e-3, learningRate: 0 }, 1),
];

function sumSquaresCase(sizes: number[], dtype: DType, edit: (data: Float32Array) => void, note: string): ConformanceCase {
  return {
    title: `[${sizes}] ${dtype} ${note}`.trim(),
    async run(device: TestedDevice, record) {
      const live = device.ledger.liveBytes;
      const expected: number[] = [];
      const tensors = await Promise.all(
        sizes.map(async (size, i) => {
          const tensor = device.allocate([size], dtype, "workspace");
          const data = normals(i, size, i === 0 ? 1e5 : 1);
          edit(data);
          device.write(tensor, data);
          const stored = await device.read(tensor);
          expected[i] = Float64Array.from(stored).reduce((sum, x) => sum + x * x, 0);
          return tensor;
        }),
      );
      const sums = await device.sumSquares(tensors);
      assert.equal(sums.length, sizes.length);
      sums.forEach((sum, i) => {
        // Squares of f32 are exact in f64; a sum of n of them rounds n times by 2⁻⁵³.
        const close = Math.abs(sum - expected[i]) <= sizes[i] * 2 ** -52 * expected[i];
        assert.ok(close || Object.is(sum, expected[i]), `tensor ${i}: expected ${expected[i]}, actual ${sum}`);
      });
      record(new Uint8Array(sums.buffer, sums.byteOffset, sums.byteLength));
      for (const tensor of tensors) device.free(tensor);
      assert.equal(device.ledger.liveBytes, live);
    },
  };
}

export const sumSquaresCases: ConformanceCase[] = [
  ...(["f32", "bf16"] as const).map((dtype) => sumSquaresCase([1, 7, 64, 4097, 200_003], dtype, () => {}, "")),
  sumSquaresCase([], "f32", () => {}, "no tensor"),
  sumSquaresCase([9, 70_000], "f32", (data) => data.fill(Number.NaN, data.length - 1), "with NaN"),
  sumSquaresCase([9, 70_000], "f32", (data) => data.fill(Number.NEGATIVE_INFINITY, 0, 1), "with infinity"),
  sumSquaresCase([33], "f32", (data) => data.fill(1e30), "beyond f32"),
];
