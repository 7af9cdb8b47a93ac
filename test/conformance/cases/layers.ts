/** The row-wise ops of a layer: biases, embeddings, RMSNorm, rotation, SwiGLU. */
import type { DType } from "../../../src/core/devices/device.ts";
import { f32Unit } from "../../support/expectClose.ts";
import { integers, normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";
import { ofTerms, relative } from "./tolerances.ts";

/** (rows, columns): one element, below a vector, odd, several vectors and a rest, long rows (beyond any scratch), many rows. */
const sizes = [
  [1, 1],
  [3, 7],
  [5, 64],
  [33, 65],
  [17, 300],
  [2, 1030],
  [3, 9001],
  [300, 9],
] as const;
const floats: readonly DType[] = ["f32", "bf16"];
const pairs = floats.flatMap((a) => floats.map((b) => [a, b] as const));
const scales = [1, 1e-8, 1e5] as const;

/** Puts a NaN and both infinities into different rows, as far as there are rows. */
function poisoned(data: Float32Array, columns: number): Float32Array {
  const copy = data.slice();
  [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].forEach((value, i) => {
    const at = (2 * i + 1) * columns + Math.min(i, columns - 1);
    if (at < copy.length) copy[at] = value;
  });
  return copy;
}

export const addBiasCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  pairs.map(([out, bias]) =>
    opCase({
      title: `[${N}, ${C}] ${out} += ${bias}`,
      tensors: { out: { shape: [N, C], dtype: out, data: poisoned(normals(N, N * C), C) }, bias: { shape: [C], dtype: bias, data: normals(C, C) } },
      call: (d, t) => d.addBias(t.out, t.bias),
      outputs: { out: relative("out", 1) },
    }),
  ),
);

export const biasBackwardCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  floats.map((dtype) =>
    opCase({
      title: `[${N}, ${C}] ${dtype}, twice`,
      tensors: { dBias: { shape: [C], dtype: "f32", data: normals(C, C) }, dOut: { shape: [N, C], dtype, data: normals(N, N * C) } },
      call: (d, t) => {
        d.biasBackward(t.dBias, t.dOut);
        d.biasBackward(t.dBias, t.dOut);
      },
      outputs: { dBias: ofTerms("dBias", 2 * N) },
    }),
  ),
);

export const embeddingForwardCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  pairs.map(([out, table]) =>
    opCase({
      title: `[${N}, ${C}] ${out} ← ${table}, repeated ids, first and last row`,
      tensors: {
        out: { shape: [N, C], dtype: out },
        table: { shape: [11, C], dtype: table, data: poisoned(normals(C, 11 * C), C) },
        ids: { shape: [N], dtype: "i32", data: integers(N, N, 11).with(0, 10) },
      },
      call: (d, t) => d.embeddingForward(t.out, t.table, t.ids),
      outputs: { out: "exact" },
    }),
  ),
);

export const embeddingBackwardCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  floats.map((dtype) =>
    opCase({
      title: `[${N}, ${C}] ${dtype}, repeated ids, twice`,
      tensors: {
        dTable: { shape: [5, C], dtype: "f32", data: normals(C, 5 * C) },
        dOut: { shape: [N, C], dtype, data: normals(N, N * C) },
        ids: { shape: [N], dtype: "i32", data: integers(N, N, 4).with(0, 4) },
      },
      call: (d, t) => {
        d.embeddingBackward(t.dTable, t.dOut, t.ids);
        d.embeddingBackward(t.dTable, t.dOut, t.ids);
      },
      outputs: { dTable: ofTerms("dTable", 2 * N) },
    }),
  ),
);

// 1/√ of a mean of C squares: the sum errs by about √C units, the root halves that; five more operations follow.
const normUnits = (C: number) => 8 + Math.sqrt(C);

function rmsNormForwardCase(
  N: number,
  C: number,
  heads: number,
  out: DType,
  x: DType,
  scale: number,
  data: Float32Array,
  note: string,
): ConformanceCase {
  return opCase({
    title: `[${N}, ${heads > 1 ? `${heads}·` : ""}${C}] ${out} ← ${x} ${note}`,
    tensors: {
      out: { shape: [N, heads * C], dtype: out },
      rstd: { shape: [N * heads], dtype: "f32" },
      x: { shape: [N, heads * C], dtype: x, data },
      weight: { shape: [C], dtype: "f32", data: normals(C, C) },
    },
    call: (d, t) => d.rmsNormForward(t.out, t.rstd, t.x, t.weight, 1e-5 * scale * scale),
    outputs: { out: relative("out", normUnits(C)), rstd: relative("rstd", normUnits(C)) },
  });
}

export const rmsNormForwardCases: ConformanceCase[] = [
  ...sizes.flatMap(([N, C]) =>
    pairs.flatMap(([out, x]) => scales.map((scale) => rmsNormForwardCase(N, C, 1, out, x, scale, normals(N + C, N * C, scale), `scale ${scale}`))),
  ),
  ...pairs.map(([out, x]) => rmsNormForwardCase(7, 16, 3, out, x, 1, normals(5, 7 * 48), "each head alone")),
  rmsNormForwardCase(9, 33, 1, "f32", "f32", 1, new Float32Array(9 * 33), "of zeros"),
  // A row that holds an infinity has rstd 0: the infinity becomes NaN, the rest 0. A NaN makes its whole row NaN.
  ...pairs.map(([out, x]) => rmsNormForwardCase(9, 33, 1, out, x, 1, poisoned(normals(3, 9 * 33), 33), "with NaN and infinities")),
];

interface RmsNormBackwardForm {
  accumulate: boolean;
  gives: "both" | "dX" | "dWeight";
  inPlace?: boolean;
}

function rmsNormBackwardCase(N: number, C: number, heads: number, dtype: DType, x: DType, form: RmsNormBackwardForm): ConformanceCase {
  const { accumulate, gives, inPlace = false } = form;
  const R = N * heads;
  const data = normals(R + C, R * C);
  const rstd = Float32Array.from(
    { length: R },
    (_, r) => 1 / Math.sqrt(data.subarray(r * C, (r + 1) * C).reduce((sum, value) => sum + value * value, 1e-5) / C),
  );
  const output = gives === "dWeight" ? {} : inPlace ? { dOut: "dX" as const } : { dX: "dX" as const };
  return opCase({
    title: `[${N}, ${heads > 1 ? `${heads}·` : ""}${C}] ${dtype}, x ${x}, ${gives}${accumulate ? ", dX +=" : ""}${inPlace ? ", dX is dOut" : ""}`,
    tensors: {
      dX: { shape: [N, heads * C], dtype, data: normals(R, R * C) },
      dWeight: { shape: [C], dtype: "f32", data: normals(C, C) },
      dOut: { shape: [N, heads * C], dtype, data: normals(R + 1, R * C) },
      x: { shape: [N, heads * C], dtype: x, data },
      weight: { shape: [C], dtype: "f32", data: normals(C + 1, C) },
      rstd: { shape: [R], dtype: "f32", data: rstd },
    },
    call: (d, t) => {
      const dX = gives === "dWeight" ? null : inPlace ? t.dOut : t.dX;
      d.rmsNormBackward(dX, gives === "dX" ? null : t.dWeight, t.dOut, t.x, t.weight, t.rstd, accumulate);
    },
    outputs: {
      // Σ dOut∘x̂ over the rows; x̂ is rounded once more than a plain product.
      ...(gives === "dX" ? {} : { dWeight: ofTerms("dWeight", R) }),
      ...Object.fromEntries(Object.keys(output).map((name) => [name, rmsNormGradientTolerance(C, accumulate)])),
    },
  });
}

/** Terms of dX: rstd·|w∘dOut|, rstd·|x̂|·mean|w∘dOut∘x̂| and what was there; the mean is a sum of C products. */
const rmsNormGradientTolerance = (C: number, accumulate: boolean) => (context: { before: Record<string, Float64Array> }) => {
  const { dX, dOut, x, weight, rstd } = context.before;
  const magnitude = new Float64Array(x.length);
  for (let row = 0; row < rstd.length; row++) {
    let mean = 0;
    for (let i = row * C; i < (row + 1) * C; i++) mean += Math.abs(weight[i % C] * dOut[i] * x[i] * rstd[row]) / C;
    for (let i = row * C; i < (row + 1) * C; i++) {
      magnitude[i] = rstd[row] * (Math.abs(weight[i % C] * dOut[i]) + Math.abs(x[i] * rstd[row]) * mean) + (accumulate ? Math.abs(dX[i]) : 0);
    }
  }
  return (i: number) => (8 + Math.sqrt(C)) * f32Unit * magnitude[i];
};

const backwardForms: RmsNormBackwardForm[] = [
  { accumulate: false, gives: "both" },
  { accumulate: true, gives: "both" },
  { accumulate: false, gives: "dX" },
  { accumulate: false, gives: "dWeight" },
  { accumulate: false, gives: "both", inPlace: true },
];
export const rmsNormBackwardCases: ConformanceCase[] = [
  ...sizes.flatMap(([N, C]) => pairs.flatMap(([dtype, x]) => backwardForms.map((form) => rmsNormBackwardCase(N, C, 1, dtype, x, form)))),
  ...pairs.flatMap(([dtype, x]) => backwardForms.map((form) => rmsNormBackwardCase(6, 16, 3, dtype, x, form))),
];

function ropeCase(N: number, heads: number, headSize: number, dtype: DType, inverse: boolean): ConformanceCase {
  const positions = integers(N, N, 23).with(0, 22);
  const angles = Array.from(
    { length: (23 * headSize) / 2 },
    (_, i) => Math.floor(i / (headSize / 2)) * 10000 ** ((-2 * (i % (headSize / 2))) / headSize),
  );
  return opCase({
    title: `[${N}, ${heads}·${headSize}] ${dtype}${inverse ? " inverse" : ""}`,
    tensors: {
      x: { shape: [N, heads * headSize], dtype, data: normals(N, N * heads * headSize) },
      cos: { shape: [23, headSize / 2], dtype: "f32", data: Float32Array.from(angles, Math.cos) },
      sin: { shape: [23, headSize / 2], dtype: "f32", data: Float32Array.from(angles, Math.sin) },
      positions: { shape: [N], dtype: "i32", data: positions },
    },
    call: (d, t) => d.rope(t.x, t.cos, t.sin, t.positions, headSize, inverse),
    outputs: {
      // Two products and a sum of terms that may cancel: three roundings relative to |a| + |b|.
      x: ({ before: { x } }) => {
        const half = headSize / 2;
        return (i) => 3 * f32Unit * (Math.abs(x[i]) + Math.abs(x[i % headSize < half ? i + half : i - half]));
      },
    },
  });
}

export const ropeCases: ConformanceCase[] = [
  [1, 1, 2],
  [3, 2, 6],
  [5, 3, 16],
  [33, 4, 64],
  [9, 2, 128],
].flatMap(([N, heads, headSize]) => floats.flatMap((dtype) => [false, true].map((inverse) => ropeCase(N, heads, headSize, dtype, inverse))));

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** exp beyond f32's range may give 0 or an infinity a little early: results below e⁻⁸⁷ times the factors count as 0. */
const expCutoff = 2 ** -124;

export const swigluForwardCases: ConformanceCase[] = sizes
  .flatMap(([N, C]) =>
    pairs.flatMap(([out, gate]) =>
      [1, 20, 1e-8, 1e5].map((scale) =>
        opCase({
          title: `[${N}, ${C}] ${out} ← ${gate} scale ${scale}`,
          tensors: {
            out: { shape: [N, C], dtype: out },
            gate: { shape: [N, C], dtype: gate, data: normals(N, N * C, scale) },
            up: { shape: [N, C], dtype: gate, data: normals(C, N * C) },
          },
          call: (d, t) => d.swigluForward(t.out, t.gate, t.up),
          outputs: {
            // exp within 4 units, a sum, a division, two products.
            out:
              ({ after: { out }, before: { gate, up } }) =>
              (i) =>
                10 * f32Unit * Math.abs(out[i]) + expCutoff * (1 + Math.abs(gate[i] * up[i])),
          },
        }),
      ),
    ),
  )
  .concat(
    opCase({
      title: "NaN and infinities",
      tensors: {
        out: { shape: [1, 5], dtype: "f32" },
        gate: { shape: [1, 5], dtype: "f32", data: Float32Array.of(Number.NaN, 1, Number.POSITIVE_INFINITY, 1, 2) },
        up: { shape: [1, 5], dtype: "f32", data: Float32Array.of(1, Number.NaN, 2, Number.NEGATIVE_INFINITY, 3) },
      },
      call: (d, t) => d.swigluForward(t.out, t.gate, t.up),
      outputs: { out: relative("out", 10) },
    }),
  );

type SwigluName = "dGate" | "dUp" | "dOut" | "gate" | "up";
/** silu′ = s(1 + g(1−s)): 1−s cancels, so its error is one unit of 1 times |g|. */
const dGateTolerance =
  ({ before: { dOut, gate, up } }: { before: Record<SwigluName, Float64Array> }) =>
  (i: number) =>
    Math.abs(dOut[i] * up[i]) * (1 + Math.abs(gate[i])) * (10 * f32Unit * sigmoid(gate[i]) + expCutoff);
const dUpTolerance =
  ({ before: { dOut, gate } }: { before: Record<SwigluName, Float64Array> }) =>
  (i: number) =>
    Math.abs(dOut[i] * gate[i]) * (10 * f32Unit * sigmoid(gate[i]) + expCutoff);

function swigluBackwardCase(N: number, C: number, dtype: DType, dOut: DType, scale: number, inPlace: boolean): ConformanceCase {
  return opCase<SwigluName>({
    title: `[${N}, ${C}] ${dtype}, dOut ${dOut}, scale ${scale}${inPlace ? ", dGate is gate and dUp is up" : ""}`,
    tensors: {
      dGate: { shape: [N, C], dtype },
      dUp: { shape: [N, C], dtype },
      dOut: { shape: [N, C], dtype: dOut, data: normals(N + C, N * C) },
      gate: { shape: [N, C], dtype, data: normals(N, N * C, scale) },
      up: { shape: [N, C], dtype, data: normals(C, N * C) },
    },
    call: (d, t) => (inPlace ? d.swigluBackward(t.gate, t.up, t.dOut, t.gate, t.up) : d.swigluBackward(t.dGate, t.dUp, t.dOut, t.gate, t.up)),
    outputs: inPlace ? { gate: dGateTolerance, up: dUpTolerance } : { dGate: dGateTolerance, dUp: dUpTolerance },
  });
}

export const swigluBackwardCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  pairs.flatMap(([dtype, dOut]) =>
    [1, 20, 1e-8, 1e5].flatMap((scale) => [false, true].map((inPlace) => swigluBackwardCase(N, C, dtype, dOut, scale, inPlace))),
  ),
);
