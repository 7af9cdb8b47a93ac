/** matmul: every transposed form, dtype mix, accumulation, shapes below and above any tile, magnitudes, NaN and infinity. */
import type { DType, MatmulOptions } from "../../../src/core/devices/device.ts";
import { normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";
import { ofTerms } from "./tolerances.ts";

type Dimensions = readonly [M: number, N: number, K: number];
type DTypes = readonly [out: DType, a: DType, b: DType];

interface MatmulCase {
  size: Dimensions;
  dtypes: DTypes;
  options: MatmulOptions;
  /** Magnitude of a and of b. */
  scales?: readonly [number, number];
  /** Changes the inputs after they were drawn. */
  edit?: (a: Float32Array, b: Float32Array) => void;
  note?: string;
}

/** Calls twice when it accumulates, so that the second call meets a filled output. */
function matmulCase({ size: [M, N, K], dtypes, options, scales = [1, 1], edit, note = "" }: MatmulCase): ConformanceCase {
  const a = normals(M + 31 * K, M * K, scales[0]);
  const b = normals(N + 37 * K, N * K, scales[1]);
  edit?.(a, b);
  const form = `${options.transposeA ? "aᵀ" : "a"}·${options.transposeB ? "bᵀ" : "b"}`;
  return opCase({
    title: `[${M}, ${N}, ${K}] ${options.accumulate ? "out += " : ""}${form} ${dtypes.join(" ← ")} ${note}`.trim(),
    tensors: {
      out: { shape: [M, N], dtype: dtypes[0], data: options.accumulate ? normals(M + N, M * N, scales[0] * scales[1]) : undefined },
      a: { shape: options.transposeA ? [K, M] : [M, K], dtype: dtypes[1], data: a },
      b: { shape: options.transposeB ? [N, K] : [K, N], dtype: dtypes[2], data: b },
    },
    call: (d, t) => {
      d.matmul(t.out, t.a, t.b, options);
      // bf16 outputs round between two accumulating calls, which one f64 reference cannot follow: those run once.
      if (options.accumulate && dtypes[0] === "f32") d.matmul(t.out, t.a, t.b, options);
    },
    outputs: { out: ofTerms("out", options.accumulate ? 2 * K : K) },
  });
}

const forms: MatmulOptions[] = [{}, { transposeB: true }, { transposeA: true }, { transposeA: true, transposeB: true }];
const withAccumulation = forms.flatMap((form) => [form, { ...form, accumulate: true }]);
const dtypeMixes: DTypes[] = (["f32", "bf16"] as const).flatMap((out) =>
  (["f32", "bf16"] as const).flatMap((a) => (["f32", "bf16"] as const).map((b): DTypes => [out, a, b])),
);
const commonMixes: DTypes[] = [
  ["f32", "f32", "f32"],
  ["f32", "bf16", "bf16"],
  ["bf16", "bf16", "bf16"],
  ["f32", "f32", "bf16"],
];

/** One element, less than any tile, odd, one tile, several tiles and a rest in each dimension. */
const sizes: Dimensions[] = [
  [1, 1, 1],
  [3, 7, 5],
  [33, 65, 17],
  [64, 256, 96],
  [130, 300, 70],
];
/** Single rows (generation), narrow outputs (SMT blocks), K over several panels. */
const thinSizes: Dimensions[] = [
  [1, 300, 129],
  [2, 1000, 33],
  [8, 33, 513],
  [300, 1, 65],
  [64, 16, 512],
  [16, 64, 517],
  [31, 47, 1100],
];
const largeSize: Dimensions = [200, 500, 1030];

const everyForm = sizes.flatMap((size) => dtypeMixes.flatMap((dtypes) => withAccumulation.map((options) => matmulCase({ size, dtypes, options }))));
const thin = thinSizes.flatMap((size) => commonMixes.flatMap((dtypes) => forms.map((options) => matmulCase({ size, dtypes, options }))));
const large = (["f32", "bf16"] as const).flatMap((dtype) =>
  forms
    .slice(0, 3)
    .map((options) => matmulCase({ size: largeSize, dtypes: [dtype, dtype, dtype], options: { ...options, accumulate: dtype === "f32" } })),
);
const magnitudes = commonMixes.flatMap((dtypes) =>
  (
    [
      [1e-8, 1e-8],
      [1e5, 1e5],
      [1e5, 1e-8],
    ] as const
  ).map((scales) => matmulCase({ size: [33, 45, 40], dtypes, options: { transposeB: true }, scales, note: `scales ${scales}` })),
);

/**
 * Large and small rows in one operand. Devices bring a bf16 operand into f16 by one power of two, so that an entry may lose 2⁻²⁸ of its tensor's largest: a row
 * of a is 2⁻⁴⁰ of another and may be lost, the others may not.
 */
const mixedMagnitudes = commonMixes.map((dtypes) => {
  const [M, N, K] = [4, 5, 70];
  const [a, b] = [normals(1, M * K).map((value, i) => value * (i < K ? 1e5 : 1e-7)), normals(2, N * K, 1e-8)];
  const largest = (values: ArrayLike<number>) => Math.max(...Array.from(values, Math.abs));
  const lost = 2 ** -28 * largest(a) * largest(b) * K * 2;
  return opCase({
    title: `[${M}, ${N}, ${K}] a·bᵀ ${dtypes.join(" ← ")} mixed magnitudes`,
    tensors: {
      out: { shape: [M, N], dtype: dtypes[0] },
      a: { shape: [M, K], dtype: dtypes[1], data: a },
      b: { shape: [N, K], dtype: dtypes[2], data: b },
    },
    call: (d, t) => d.matmul(t.out, t.a, t.b, { transposeB: true }),
    outputs: {
      out: (context) => {
        const rounding = ofTerms<"out" | "a" | "b">("out", K);
        const absolute = rounding === "exact" ? () => 0 : rounding(context);
        return (i) => absolute(i) + (dtypes.includes("bf16") ? lost : 0);
      },
    },
  });
});

/** Row 1 of a holds a NaN, row 2 +∞, row 3 −∞, row 4 both; b is positive, so the sums are NaN, +∞, −∞, NaN in these rows and numbers elsewhere. */
function poison(K: number): (a: Float32Array, b: Float32Array) => void {
  return (a, b) => {
    for (let i = 0; i < b.length; i++) b[i] = Math.abs(b[i]) + 0.1;
    a[K + (K >> 1)] = Number.NaN;
    a[2 * K + K - 1] = Number.POSITIVE_INFINITY;
    a[3 * K] = Number.NEGATIVE_INFINITY;
    a[4 * K] = Number.POSITIVE_INFINITY;
    a[4 * K + K - 1] = Number.NEGATIVE_INFINITY;
  };
}
const nonFinite = commonMixes.map((dtypes) =>
  matmulCase({ size: [17, 33, 70], dtypes, options: { transposeB: true }, edit: poison(70), note: "with NaN and infinities" }),
);
/** A zero times infinity is NaN; a kernel that skips zeros hides it. */
const zeroTimesInfinity = matmulCase({
  size: [5, 6, 9],
  dtypes: ["f32", "f32", "f32"],
  options: {},
  edit: (a, b) => {
    a.fill(0);
    b[3] = Number.POSITIVE_INFINITY;
  },
  note: "0 · ∞",
});
/** Ties of bf16 and their neighbours (1 + 2⁻⁸ → 1, 1 + 3·2⁻⁸ → 1 + 2⁻⁶) times 1: shows whether and how the f32 side is rounded. */
const mixedRounding = matmulCase({
  size: [4, 4, 4],
  dtypes: ["f32", "f32", "bf16"],
  options: { transposeB: true },
  edit: (a, b) => {
    a.fill(0);
    b.fill(0);
    [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 1 - 2 ** -9].forEach((value, i) => {
      a[i * 4 + i] = value;
    });
    for (let i = 0; i < 4; i++) b[i * 4 + i] = 1;
  },
  note: "rounding of the f32 side",
});

export const matmulCases: ConformanceCase[] = [
  ...everyForm,
  ...thin,
  ...large,
  ...magnitudes,
  ...mixedMagnitudes,
  ...nonFinite,
  zeroTimesInfinity,
  mixedRounding,
];
