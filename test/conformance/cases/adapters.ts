/**
 * The ops on adapted weights: products, exact gradients and the weight itself, for masked low-rank weights (also INT4) and group-scaled ones, in odd
 * shapes, at ranks below the factors', with and without base, in every mix of dtypes, and where masks hide what is not finite.
 */
import assert from "node:assert/strict";
import { type DType, sizeOf, type Tensor } from "../../../src/core/devices/device.ts";
import { f32Unit } from "../../support/expectClose.ts";
import { normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, expectSameBits, opCase, type TensorSpec, type Tolerance } from "../harness.ts";
import { adaptedOf, spans, tensorsOf, titleOf, type WeightForm, type WeightTensor } from "./adaptedWeights.ts";
import { deviceCase } from "./deviceCase.ts";
import { ditheredProducts, ditheredWeights } from "./dither.ts";
import { ofTerms } from "./tolerances.ts";

const floats: readonly DType[] = ["f32", "bf16"];
type DTypes = readonly [out: DType, a: DType, weight: DType];
const dtypeMixes = floats.flatMap((out) => floats.flatMap((a) => floats.map((weight): DTypes => [out, a, weight])));
const commonMixes: DTypes[] = [
  ["f32", "f32", "f32"],
  ["f32", "bf16", "bf16"],
  ["bf16", "f32", "bf16"],
];

type Edit<Name extends string> = (data: Record<Name, Float32Array>) => void;

/** The specs with data that `edit` changed. */
function edited<Name extends string>(tensors: Record<Name, TensorSpec>, edit: Edit<Name> | undefined): Record<Name, TensorSpec> {
  edit?.(Object.fromEntries(Object.entries<TensorSpec>(tensors).map(([name, { data }]) => [name, data])) as Record<Name, Float32Array>);
  return tensors;
}

const lowRank = (out: number, columns: number, r: number, rank = r, more: { base?: boolean; groupSize?: number } = {}): WeightForm => ({
  kind: "maskedLowRank",
  out,
  in: columns,
  scale: 0.75,
  r,
  rank,
  base: more.base ?? true,
  groupSize: more.groupSize,
});
const grouped = (out: number, columns: number, groups: number, base = true): WeightForm => ({
  kind: "groupScaled",
  out,
  in: columns,
  scale: 1.5,
  groups,
  base,
});

// adaptedMatmul

type MatmulTensor = "out" | "a" | WeightTensor;

interface MatmulCase {
  M: number;
  form: WeightForm;
  dtypes: DTypes;
  transposeB: boolean;
  accumulate?: boolean;
  edit?: Edit<MatmulTensor>;
  note?: string;
}

/** A product of `calls` sums: each rounds like a matmul's, and each entry of W̃ lies within its span. */
function productTolerance({ M, form, dtypes, transposeB, accumulate }: MatmulCase, calls: number): Tolerance<MatmulTensor> {
  const narrow = dtypes[1] === "bf16" || dtypes[2] === "bf16";
  const [N, K] = transposeB ? [form.out, form.in] : [form.in, form.out];
  return ({ before }) => {
    const { low, high } = spans(form, before, narrow);
    const allowed = new Float64Array(M * N);
    const units = (8 + Math.sqrt(calls * K)) * f32Unit;
    for (let n = 0; n < N; n++) {
      for (let k = 0; k < K; k++) {
        const at = transposeB ? n * form.in + k : k * form.in + n;
        const perUnit = units * Math.max(Math.abs(low[at]), Math.abs(high[at])) + high[at] - low[at];
        // 1.01: `a` stands here as it was before an f32 one was rounded to bf16.
        if (perUnit !== 0) for (let m = 0; m < M; m++) allowed[m * N + n] += 1.01 * calls * perUnit * Math.abs(before.a[m * K + k]);
      }
    }
    return (i) => allowed[i] + (accumulate ? units * Math.abs(before.out[i]) : 0);
  };
}

function matmulCase(definition: MatmulCase): ConformanceCase {
  const { M, form, dtypes, transposeB, accumulate = false, edit, note = "" } = definition;
  const [N, K] = transposeB ? [form.out, form.in] : [form.in, form.out];
  // bf16 outputs round between two accumulating calls, which one f64 reference cannot follow: those run once.
  const calls = accumulate && dtypes[0] === "f32" ? 2 : 1;
  const tensors: Record<MatmulTensor, TensorSpec> = {
    out: { shape: [M, N], dtype: dtypes[0], data: accumulate ? normals(M + N, M * N) : undefined },
    a: { shape: [M, K], dtype: dtypes[1], data: normals(M + 31 * K, M * K) },
    ...tensorsOf(form, dtypes[2]),
  };
  return opCase({
    title: `[${M}] ${accumulate ? "+= " : ""}a·W̃${transposeB ? "ᵀ" : ""}, ${titleOf(form)}, ${dtypes.join(" ← ")} ${note}`.trim(),
    tensors: edited(tensors, edit),
    call: (d, t) => {
      for (let call = 0; call < calls; call++) d.adaptedMatmul(t.out, t.a, adaptedOf(form, t), { transposeB, accumulate });
    },
    outputs: { out: productTolerance(definition, calls) },
  });
}

/** One element, less than any tile, odd, one tile, several tiles and a rest; ranks 1, 3, 16, and all columns or a part of them. */
const smallForms: WeightForm[] = [
  lowRank(1, 1, 1),
  lowRank(7, 5, 3),
  lowRank(7, 5, 3, 2, { base: false }),
  lowRank(65, 17, 16),
  lowRank(64, 96, 16, 5),
  lowRank(33, 64, 16, 16, { groupSize: 16 }),
  lowRank(30, 35, 3, 1, { groupSize: 5 }),
  grouped(1, 1, 1),
  grouped(6, 5, 3),
  grouped(64, 96, 16),
  grouped(33, 65, 1, false),
  grouped(40, 33, 40),
];
const rowCounts = [1, 3, 33];
const small = smallForms.flatMap((form) =>
  rowCounts.flatMap((M) =>
    (M === 3 ? dtypeMixes : commonMixes).flatMap((dtypes) =>
      [false, true].flatMap((transposeB) => [false, true].map((accumulate) => matmulCase({ M, form, dtypes, transposeB, accumulate }))),
    ),
  ),
);
/** Single rows (generation) of weights larger than a tile, and hundreds of rows. */
const largeForms: [M: number, form: WeightForm][] = [
  [1, lowRank(300, 1100, 16)],
  [2, lowRank(517, 264, 3, 3, { groupSize: 8 })],
  [7, grouped(304, 517, 16)],
  [500, lowRank(300, 130, 16)],
  [500, lowRank(129, 272, 16, 12, { groupSize: 16 })],
  [500, grouped(130, 290, 2)],
];
const large = largeForms.flatMap(([M, form]) =>
  commonMixes.flatMap((dtypes) => [false, true].map((transposeB) => matmulCase({ M, form, dtypes, transposeB }))),
);

/** What masks hide: row 2 of left is infinite and column 3 of right NaN, and W is zero in both; a zero weight times anything is 0. */
function hidden(form: WeightForm): Edit<MatmulTensor> {
  return ({ weight, first, second }) => {
    const r = form.kind === "maskedLowRank" ? form.r : 0;
    weight.fill(0, 2 * form.in, 3 * form.in);
    weight[2 * form.in] = -0;
    for (let i = 0; i < form.out; i++) weight[i * form.in + 3] = 0;
    first.fill(Number.POSITIVE_INFINITY, 2 * r, 3 * r);
    for (let k = 0; k < r; k++) second[k * form.in + 3] = Number.NaN;
  };
}
/** Row 1 of `a` holds a NaN, row 2 +∞, row 3 −∞; one entry of left is infinite where W is not zero: what is not finite comes through, zero rows of `a` too. */
const visible: Edit<MatmulTensor> = ({ a, weight, first }) => {
  const K = a.length / 4;
  a[K] = Number.NaN;
  a[2 * K] = Number.POSITIVE_INFINITY;
  a[3 * K + 1] = Number.NEGATIVE_INFINITY;
  a.fill(0, 0, K);
  weight[5] = 2;
  first[0] = Number.POSITIVE_INFINITY;
};
const notFinite = commonMixes.flatMap((dtypes) =>
  [false, true].flatMap((transposeB) => [
    ...[lowRank(18, 40, 16), lowRank(300, 70, 3), lowRank(33, 64, 16, 16, { groupSize: 16 }), lowRank(33, 65, 3, 3, { base: false })].map((form) =>
      matmulCase({ M: 4, form, dtypes, transposeB, edit: hidden(form), note: "what masks hide is not finite" }),
    ),
    matmulCase({ M: 4, form: lowRank(18, 40, 16), dtypes, transposeB, edit: visible, note: "NaN and infinity" }),
  ]),
);

/** An adapter that adds nothing leaves the bits of the frozen weight's product: a run's step 0 is its base. */
function untouchedCase(M: number, form: WeightForm, dtypes: DTypes, transposeB: boolean): ConformanceCase {
  return deviceCase(
    `[${M}] a·W̃${transposeB ? "ᵀ" : ""} = a·W${transposeB ? "ᵀ" : ""} bit for bit where nothing is added, ${titleOf(form)}, ${dtypes.join(" ← ")}`,
    async (device, make) => {
      const specs = tensorsOf(form, dtypes[2]);
      const idle = form.kind === "maskedLowRank" ? specs.first : specs.second;
      idle.data = new Float32Array(sizeOf(idle.shape));
      const weights = Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, make(spec)])) as Record<WeightTensor, Tensor>;
      const [N, K] = transposeB ? [form.out, form.in] : [form.in, form.out];
      const a = make({ shape: [M, K], dtype: dtypes[1], data: normals(M, M * K) });
      const [expected, actual] = [make({ shape: [M, N], dtype: dtypes[0] }), make({ shape: [M, N], dtype: dtypes[0] })];
      device.matmul(expected, a, weights.weight, { transposeB });
      device.adaptedMatmul(actual, a, adaptedOf(form, weights), { transposeB });
      const result = (await device.read(actual)) as Float32Array;
      // −0 in W counts as 0 in W̃, which may show in the sign of a zero sum.
      const unsigned = (values: Float32Array) => values.map((x) => x + 0);
      expectSameBits("out", unsigned(result), unsigned((await device.read(expected)) as Float32Array));
      return result;
    },
  );
}
const untouched = [1, 2, 7, 33, 300].flatMap((M) =>
  commonMixes.flatMap((dtypes) =>
    [false, true].flatMap((transposeB) =>
      [lowRank(65, 300, 16), lowRank(300, 65, 3, 2), grouped(64, 129, 16)].map((form) => untouchedCase(M, form, dtypes, transposeB)),
    ),
  ),
);

export const adaptedMatmulCases: ConformanceCase[] = [...ditheredProducts, ...small, ...large, ...notFinite, ...untouched];

// adaptedGradients

type GradientTensor = "dFirst" | "dSecond" | "dOut" | "x" | WeightTensor;

function gradientCase(N: number, form: WeightForm, dtypes: DTypes, edit?: Edit<GradientTensor>, note = ""): ConformanceCase {
  const weights = tensorsOf(form, dtypes[2]);
  const gradientOf = ({ shape }: TensorSpec, seed: number): TensorSpec => ({ shape, dtype: "f32", data: normals(seed, sizeOf(shape)) });
  const tensors: Record<GradientTensor, TensorSpec> = {
    dFirst: gradientOf(weights.first, 3),
    dSecond: gradientOf(weights.second, 4),
    dOut: { shape: [N, form.out], dtype: dtypes[0], data: normals(N, N * form.out) },
    x: { shape: [N, form.in], dtype: dtypes[1], data: normals(N + 1, N * form.in) },
    ...weights,
  };
  // An entry of G is a sum over N, a gradient a sum of entries over a row or a column, each of the two with its own roundings.
  const terms = 4 * (N + Math.max(form.in, form.out) + 16);
  return opCase({
    title: `[${N}] ${titleOf(form)}, dOut ${dtypes[0]}, x ${dtypes[1]}, weight ${dtypes[2]}, twice ${note}`.trim(),
    tensors: edited(tensors, edit),
    call: (d, t) => {
      for (let call = 0; call < 2; call++) d.adaptedGradients(t.dFirst, t.dSecond, t.dOut, t.x, adaptedOf(form, t));
    },
    outputs: { dFirst: ofTerms("dFirst", terms), dSecond: ofTerms("dSecond", terms) },
  });
}

/** Column 3 of x and column 2 of dOut are not finite, and W is zero in that column and that row: the mask selects what of G counts. */
const hiddenGradient: (form: WeightForm) => Edit<GradientTensor> =
  (form) =>
  ({ weight, x, dOut }) => {
    weight.fill(0, 2 * form.in, 3 * form.in);
    for (let i = 0; i < form.out; i++) weight[i * form.in + 3] = i % 2 ? 0 : -0;
    x[3] = Number.NaN;
    x[form.in + 3] = Number.POSITIVE_INFINITY;
    dOut[2] = Number.NEGATIVE_INFINITY;
  };
const gradientForms: WeightForm[] = [
  lowRank(1, 1, 1),
  lowRank(7, 9, 3, 2),
  lowRank(65, 17, 16),
  lowRank(64, 96, 16, 5, { groupSize: 16 }),
  lowRank(33, 130, 1),
  grouped(1, 1, 1),
  grouped(6, 9, 3),
  grouped(64, 96, 16),
  grouped(35, 131, 1),
  grouped(40, 33, 40),
];

export const adaptedGradientsCases: ConformanceCase[] = [
  ...gradientForms.flatMap((form) => [1, 5, 33].flatMap((N) => (N === 5 ? dtypeMixes : commonMixes).map((dtypes) => gradientCase(N, form, dtypes)))),
  ...commonMixes.flatMap((dtypes) => [
    gradientCase(500, lowRank(40, 33, 16), dtypes),
    gradientCase(70, lowRank(300, 270, 16, 12), dtypes),
    gradientCase(9, lowRank(130, 1030, 3), dtypes),
    gradientCase(130, lowRank(515, 140, 16), dtypes),
    gradientCase(500, grouped(48, 33, 16), dtypes),
    gradientCase(70, grouped(304, 270, 16), dtypes),
    gradientCase(70, grouped(514, 130, 2), dtypes),
    ...[lowRank(18, 40, 16), lowRank(300, 70, 3)].map((form) =>
      gradientCase(6, form, dtypes, hiddenGradient(form), "what the mask hides is not finite"),
    ),
    gradientCase(6, lowRank(18, 40, 3), dtypes, ({ x }) => x.fill(Number.NaN, 5, 6), "a NaN comes through"),
  ]),
];

// formAdapted

type FormTensor = "out" | WeightTensor;

function formCase(form: WeightForm, out: DType, weight: DType, inPlace: boolean, edit?: Edit<FormTensor>, note = ""): ConformanceCase {
  const tensors: Record<FormTensor, TensorSpec> = { out: { shape: [form.out, form.in], dtype: out }, ...tensorsOf(form, weight) };
  const tolerance: Tolerance<FormTensor> = ({ before }) => {
    const { low, high } = spans(form, before, out === "bf16");
    return (i) => high[i] - low[i];
  };
  return opCase({
    title: `${titleOf(form)}, ${inPlace ? `into its own ${weight}` : `${out} ← ${weight}`} ${note}`.trim(),
    tensors: edited(tensors, edit),
    call: (d, t) => d.formAdapted(inPlace ? t.weight : t.out, adaptedOf(form, t)),
    outputs: inPlace ? { weight: tolerance } : { out: tolerance },
  });
}

/** Levels are the integers −3 … 12: ties go to the even sum with the zero point, what lies outside goes to the ends, and a zero stays. */
const levels = deviceCase("brings entries to the nearest level, ties to even", async (device, make) => {
  const values = [0.5, 1.5, -0.5, -1.5, 2.25, 2.75, 0, -0, 11.5, 40, -40, 3];
  const shape = [1, values.length];
  const weight = make({ shape, dtype: "f32", data: Float32Array.from(values) });
  const left = make({ shape: [1, 1], dtype: "f32", data: Float32Array.of(0) });
  const right = make({ shape, dtype: "f32", data: normals(1, values.length) });
  const scales = make({ shape: [1, 1], dtype: "f32", data: Float32Array.of(1) });
  const zeros = make({ shape: [1, 1], dtype: "f32", data: Float32Array.of(3) });
  const out = make({ shape, dtype: "f32" });
  const quantization = { scales, zeros, groupSize: values.length };
  device.formAdapted(out, { kind: "maskedLowRank", weight, left, right, rank: 1, scale: 1, base: true, quantization });
  const result = (await device.read(out)) as Float32Array;
  assert.deepEqual(
    Array.from(result, (x) => x + 0),
    [1, 1, -1, -1, 2, 3, 0, 0, 11, 12, -3, 3],
  );
  return result;
});

const forms: WeightForm[] = [
  ...smallForms,
  lowRank(300, 270, 16, 12),
  lowRank(9, 9000, 3),
  lowRank(70, 1040, 16, 16, { groupSize: 260 }),
  grouped(304, 517, 16),
];
export const formAdaptedCases: ConformanceCase[] = [
  ...ditheredWeights,
  ...forms.flatMap((form) =>
    floats.flatMap((weight) => [...floats.map((out) => formCase(form, out, weight, false)), formCase(form, weight, weight, true)]),
  ),
  ...floats.map((dtype) => {
    const form = lowRank(18, 40, 16);
    return formCase(form, dtype, dtype, false, (data) => hidden(form)(data as Record<MatmulTensor, Float32Array>), "what masks hide is not finite");
  }),
  levels,
];
