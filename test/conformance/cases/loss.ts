/** crossEntropy: sizes, magnitudes, masked rows, NaN and infinities, with and without gradients. */
import type { DType } from "../../../src/core/devices/device.ts";
import { f32Tiny, f32Unit } from "../../support/expectClose.ts";
import { integers, normals, uniforms } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";

interface CrossEntropyForm {
  dtype: DType;
  scale: number | null;
  logits: Float32Array;
  note: string;
}

function crossEntropyCase(n: number, V: number, { dtype, scale, logits, note }: CrossEntropyForm): ConformanceCase {
  const targets = integers(n + V, n, V).with(0, V - 1);
  if (n > 1) targets[1] = -1;
  if (n > 4) targets[4] = -100;
  const largest = Array.from({ length: n }, (_, row) =>
    logits.subarray(row * V, (row + 1) * V).reduce((max, x) => (Number.isFinite(x) ? Math.max(max, Math.abs(x)) : max), 0),
  );
  return opCase({
    title: `[${n}, ${V}] ${dtype} scale ${scale} ${note}`,
    tensors: {
      losses: { shape: [n], dtype: "f32" },
      logits: { shape: [n, V], dtype, data: logits },
      targets: { shape: [n], dtype: "i32", data: targets },
    },
    call: (d, t) => d.crossEntropy(t.losses, t.logits, t.targets, scale),
    outputs: {
      // z − max and the final difference round relative to the logits; exp, the sum of V terms and the logarithm relative to 1.
      losses: () => (row) => f32Unit * (8 + Math.sqrt(V) + 4 * largest[row]),
      ...(scale === null
        ? {}
        : {
            // softmax errs relative to itself by the rounding of its exponent; the onehot's subtraction rounds relative to 1.
            logits:
              ({ after }: { after: Record<"logits", Float64Array> }) =>
              (i: number) => {
                const row = Math.floor(i / V);
                const onehot = targets[row] === i % V ? 1 : 0;
                const probability = Math.abs(after.logits[i] / scale + onehot);
                return scale * f32Unit * (probability * (16 + Math.sqrt(V) + 4 * largest[row]) + 2 * onehot) + f32Tiny;
              },
          }),
    },
  });
}

/** −∞ excludes a token; +∞ and NaN make their row's loss and gradient NaN. */
function poisonedLogits(n: number, V: number): Float32Array {
  const logits = normals(n, n * V);
  logits[V >> 1] = Number.NEGATIVE_INFINITY;
  logits[2 * V + 1] = Number.NaN;
  logits[3 * V + 1] = Number.POSITIVE_INFINITY;
  logits[4 * V + 2] = Number.NaN; // a masked row: 0 all the same
  return logits;
}

export const crossEntropyCases: ConformanceCase[] = [
  ...(
    [
      [1, 1],
      [3, 7],
      [9, 65],
      [33, 300],
      [5, 2050],
      [3, 20_001],
    ] as const
  ).flatMap(([n, V]) =>
    [1, 30, 1e-8, 1e5].flatMap((size) =>
      [null, 0.125, 1 / 3].map((scale) =>
        crossEntropyCase(n, V, { dtype: "f32", scale, logits: normals(n + V, n * V, size), note: `logits of size ${size}` }),
      ),
    ),
  ),
  crossEntropyCase(9, 65, { dtype: "bf16", scale: null, logits: normals(1, 9 * 65, 3), note: "" }),
  crossEntropyCase(9, 33, { dtype: "f32", scale: 0.5, logits: poisonedLogits(9, 33), note: "with NaN and infinities" }),
  crossEntropyCase(9, 33, { dtype: "f32", scale: null, logits: poisonedLogits(9, 33), note: "with NaN and infinities" }),
  crossEntropyCase(4, 33, { dtype: "f32", scale: 1, logits: uniforms(1, 4 * 33, 1e4, 1.0001e4), note: "large and nearly equal" }),
];
