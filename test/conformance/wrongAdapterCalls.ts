/** Wrong calls of the ops that adapters need, for calls.test.ts, where each must throw the same sentence on every device. */
import type { AdaptedWeight, Device, DropoutOptions, DType, Tensor } from "../../src/core/devices/device.ts";
import type { OpName } from "./cases/all.ts";

/** A zeroed tensor, f32 unless said otherwise. */
export type Make = (shape: number[], dtype?: DType) => Tensor;
export type Call = (d: Device, t: Make) => void;

/** W (4, 6) with factors of rank 3, or with two groups of rows. */
export const lowRank = (t: Make, change: Partial<Extract<AdaptedWeight, { kind: "maskedLowRank" }>> = {}): AdaptedWeight => ({
  kind: "maskedLowRank",
  weight: t([4, 6]),
  left: t([4, 3]),
  right: t([3, 6]),
  rank: 3,
  scale: 1,
  base: true,
  quantization: null,
  ...change,
});
export const grouped = (t: Make, change: Partial<Extract<AdaptedWeight, { kind: "groupScaled" }>> = {}): AdaptedWeight => ({
  kind: "groupScaled",
  weight: t([4, 6]),
  alpha: t([2, 6]),
  beta: t([4]),
  scale: 1,
  base: true,
  ...change,
});
const levels = (t: Make, groupSize: number, dtype: DType = "f32") => ({ scales: t([4, 2], dtype), zeros: t([4, 2]), groupSize });
/** Weights that no op on adapted weights takes. */
const wrongWeights: ((t: Make) => AdaptedWeight)[] = [
  (t) => lowRank(t, { weight: t([4, 6], "i32") }),
  (t) => lowRank(t, { left: t([4, 3], "bf16") }),
  (t) => lowRank(t, { left: t([4, 2]) }),
  (t) => lowRank(t, { left: t([3, 3]) }),
  (t) => lowRank(t, { right: t([3, 5]) }),
  (t) => lowRank(t, { right: t([3, 6], "bf16") }),
  (t) => lowRank(t, { rank: 4 }),
  (t) => lowRank(t, { rank: 0 }),
  (t) => lowRank(t, { rank: 1.5 }),
  (t) => lowRank(t, { scale: Number.NaN }),
  (t) => lowRank(t, { base: false, quantization: levels(t, 3) }),
  (t) => lowRank(t, { quantization: levels(t, 4) }),
  (t) => lowRank(t, { quantization: levels(t, 0) }),
  (t) => lowRank(t, { quantization: levels(t, 2) }),
  (t) => lowRank(t, { quantization: levels(t, 3, "bf16") }),
  (t) => grouped(t, { alpha: t([3, 6]) }),
  (t) => grouped(t, { alpha: t([2, 5]) }),
  (t) => grouped(t, { alpha: t([2, 6], "bf16") }),
  (t) => grouped(t, { alpha: t([0, 6]) }),
  (t) => grouped(t, { beta: t([3]) }),
  (t) => grouped(t, { beta: t([4], "bf16") }),
  (t) => grouped(t, { scale: Number.POSITIVE_INFINITY }),
];
const dropout = (d: Device, t: Make, options: Partial<DropoutOptions>, inPlace = false) => {
  const x = t([2, 3]);
  d.dropout(inPlace ? x : t([2, 3]), x, { probability: 0.5, seed: 1, ...options });
};
const gains = (d: Device, t: Make, change: Partial<Record<"norm" | "gain" | "cross" | "squares", Tensor>>, scale = 1) => {
  const { norm = t([3]), gain = t([3]), cross = t([3]), squares = t([3]) } = change;
  d.doraGains(norm, gain, t([3]), squares, cross, t([3]), scale);
};
export const wrongAdapterCalls = {
  adaptedMatmul: [
    ...wrongWeights.map(
      (weight): Call =>
        (d, t) =>
          d.adaptedMatmul(t([5, 4]), t([5, 6]), weight(t), { transposeB: true }),
    ),
    (d, t) => d.adaptedMatmul(t([5, 4]), t([5, 6]), lowRank(t)),
    (d, t) => d.adaptedMatmul(t([5, 6]), t([5, 4]), lowRank(t), { transposeB: true }),
    (d, t) => d.adaptedMatmul(t([4, 6]), t([5, 4]), grouped(t)),
    (d, t) => d.adaptedMatmul(t([5, 6], "i32"), t([5, 4]), grouped(t)),
    (d, t) => d.adaptedMatmul(t([5, 6]), t([5, 4], "i32"), grouped(t)),
    ...(["weight", "left", "right"] as const).map(
      (name): Call =>
        (d, t) => {
          const square = { weight: t([4, 4]), left: t([4, 4]), right: t([4, 4]), rank: 4 };
          d.adaptedMatmul(square[name], t([4, 4]), lowRank(t, square));
        },
    ),
    (d, t) => {
      const a = t([4, 4]);
      d.adaptedMatmul(a, a, lowRank(t, { weight: t([4, 4]), right: t([3, 4]) }));
    },
  ],
  adaptedGradients: [
    ...wrongWeights.map(
      (weight): Call =>
        (d, t) =>
          d.adaptedGradients(t([4, 3]), t([3, 6]), t([5, 4]), t([5, 6]), weight(t)),
    ),
    (d, t) => d.adaptedGradients(t([4, 2]), t([3, 6]), t([5, 4]), t([5, 6]), lowRank(t)),
    (d, t) => d.adaptedGradients(t([4, 3]), t([2, 6]), t([5, 4]), t([5, 6]), lowRank(t, { rank: 2 })),
    (d, t) => d.adaptedGradients(t([4, 3], "bf16"), t([3, 6]), t([5, 4]), t([5, 6]), lowRank(t)),
    (d, t) => d.adaptedGradients(t([4, 3]), t([3, 6]), t([5, 4]), t([4, 6]), lowRank(t)),
    (d, t) => d.adaptedGradients(t([4, 3]), t([3, 6]), t([5, 6]), t([5, 6]), lowRank(t)),
    (d, t) => d.adaptedGradients(t([4, 3]), t([3, 6]), t([5, 4]), t([5, 4]), lowRank(t)),
    (d, t) => d.adaptedGradients(t([4, 6]), t([4]), t([5, 4]), t([5, 6]), grouped(t)),
    (d, t) => d.adaptedGradients(t([2, 6]), t([6]), t([5, 4]), t([5, 6]), grouped(t)),
    (d, t) => {
      const left = t([4, 3]);
      d.adaptedGradients(left, t([3, 6]), t([5, 4]), t([5, 6]), lowRank(t, { left }));
    },
  ],
  formAdapted: [
    ...wrongWeights.map(
      (weight): Call =>
        (d, t) =>
          d.formAdapted(t([4, 6]), weight(t)),
    ),
    (d, t) => d.formAdapted(t([6, 4]), lowRank(t)),
    (d, t) => d.formAdapted(t([4, 6], "i32"), grouped(t)),
    (d, t) => {
      const alpha = t([4, 6]);
      d.formAdapted(alpha, grouped(t, { alpha }));
    },
  ],
  fitQuantization: [
    (d, t) => d.fitQuantization(levels(t, 4), t([4, 6])),
    (d, t) => d.fitQuantization(levels(t, 0), t([4, 6])),
    (d, t) => d.fitQuantization(levels(t, 2), t([4, 6])),
    (d, t) => d.fitQuantization(levels(t, 3, "bf16"), t([4, 6])),
    (d, t) => d.fitQuantization(levels(t, 3), t([4, 6], "i32")),
    (d, t) => {
      const scales = t([4, 6]);
      d.fitQuantization({ scales, zeros: scales, groupSize: 1 }, t([4, 6]));
    },
  ],
  maskBy: [
    (d, t) => d.maskBy(t([2, 3]), t([3, 2])),
    (d, t) => d.maskBy(t([2, 3], "i32"), t([2, 3])),
    (d, t) => d.maskBy(t([2, 3]), t([2, 3], "i32")),
  ],
  countZeros: [],
  dropout: [
    (d, t) => d.dropout(t([2, 3]), t([3, 2]), { probability: 0.5, seed: 1 }),
    (d, t) => d.dropout(t([2, 3]), t([2, 3], "i32"), { probability: 0.5, seed: 1 }),
    (d, t) => dropout(d, t, { probability: 1 }),
    (d, t) => dropout(d, t, { probability: -0.1 }),
    (d, t) => dropout(d, t, { probability: Number.NaN }),
    (d, t) => dropout(d, t, { seed: 2 ** 32 }),
    (d, t) => dropout(d, t, { seed: -(2 ** 31) - 1 }),
    (d, t) => dropout(d, t, { seed: 0.5 }),
    (d, t) => dropout(d, t, { accumulate: true }, true),
  ],
  scaleColumns: [
    (d, t) => d.scaleColumns(t([2, 3]), t([2, 3]), t([2]), false),
    (d, t) => d.scaleColumns(t([2, 3]), t([3, 2]), t([2]), false),
    (d, t) => d.scaleColumns(t([2, 3]), t([2, 3]), t([3], "bf16"), true),
    (d, t) => {
      const scale = t([3]);
      d.scaleColumns(scale, t([3]), scale, false);
    },
  ],
  scaleRows: [
    (d, t) => d.scaleRows(t([2, 3]), t([2, 3]), t([3])),
    (d, t) => d.scaleRows(t([2, 3]), t([3, 2]), t([3])),
    (d, t) => d.scaleRows(t([2, 3]), t([2, 3]), t([2], "bf16")),
  ],
  rowDots: [
    (d, t) => d.rowDots(t([3]), t([2, 3]), t([2, 3])),
    (d, t) => d.rowDots(t([2]), t([2, 3]), t([3, 2])),
    (d, t) => d.rowDots(t([2], "bf16"), t([2, 3]), t([2, 3])),
    (d, t) => d.rowDots(t([2]), t([2, 3]), t([2, 3], "i32")),
  ],
  columnDots: [
    (d, t) => d.columnDots(t([2]), t([2, 3]), t([2, 3])),
    (d, t) => d.columnDots(t([3]), t([2, 3]), t([3, 2])),
    (d, t) => d.columnDots(t([3], "bf16"), t([2, 3]), t([2, 3])),
    (d, t) => d.columnDots(t([3]), t([2, 3], "i32"), t([2, 3])),
  ],
  doraGains: [
    (d, t) => gains(d, t, { norm: t([2]) }),
    (d, t) => gains(d, t, { gain: t([3], "bf16") }),
    (d, t) => gains(d, t, { cross: t([4]) }),
    (d, t) => gains(d, t, {}, Number.NaN),
    (d, t) => {
      const norm = t([3]);
      gains(d, t, { norm, gain: norm });
    },
    (d, t) => {
      const norm = t([3]);
      gains(d, t, { norm, squares: norm });
    },
  ],
} satisfies Partial<Record<OpName, Call[]>>;
