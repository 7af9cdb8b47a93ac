/** Masks and zero counts, dropout, row and column scales and dots, DoRA's gains. */
import assert from "node:assert/strict";
import type { DropoutOptions, DType, Tensor } from "../../../src/core/devices/device.ts";
import { f32Unit } from "../../support/expectClose.ts";
import { normals, uniforms } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase, type TestedDevice } from "../harness.ts";
import { sparseNormals } from "./adaptedWeights.ts";
import { ofTerms, relative } from "./tolerances.ts";

const floats: readonly DType[] = ["f32", "bf16"];
const pairs = floats.flatMap((a) => floats.map((b) => [a, b] as const));

/** Below, at and above the length of vector registers and of scratch rows. */
const sizes = [
  [1, 1],
  [3, 7],
  [33, 65],
  [300, 33],
  [2, 9001],
] as const;

export const maskByCases: ConformanceCase[] = sizes.flatMap(([rows, columns]) =>
  pairs.map(([x, weight]) =>
    opCase({
      title: `[${rows}, ${columns}] ${x} by ${weight}`,
      tensors: {
        // NaN and infinity go where the mask is 0 and stay where it is not; so does −0.
        x: {
          shape: [rows, columns],
          dtype: x,
          data: normals(1, rows * columns).map((value, i) => [value, Number.NaN, Number.POSITIVE_INFINITY, -0, value][i % 5]),
        },
        weight: {
          shape: [rows, columns],
          dtype: weight,
          // Subnormal is not zero, NaN neither.
          data: sparseNormals(2, rows * columns).map((value, i) => (i % 17 === 3 ? 2 ** -130 : i % 17 === 5 ? Number.NaN : value)),
        },
      },
      call: (d, t) => d.maskBy(t.x, t.weight),
      outputs: { x: "exact" },
    }),
  ),
);

function countZerosCase(counts: number[], dtype: DType, view: boolean): ConformanceCase {
  return {
    title: `[${counts}] ${dtype}${view ? ", rows of a taller tensor" : ""}`,
    async run(device: TestedDevice, record) {
      const live = device.ledger.liveBytes;
      const owners: Tensor[] = [];
      const expected: number[] = [];
      const tensors = counts.map((count, i) => {
        const data = sparseNormals(i + 1, count);
        if (count > 3) data.set([Number.NaN, Number.NEGATIVE_INFINITY, 2 ** -130, -0]);
        expected.push(data.reduce((zeros, x) => zeros + (x === 0 ? 1 : 0), 0));
        const owner = device.allocate(view ? [count + 5] : [count], dtype, "workspace");
        owners.push(owner);
        device.fill(owner, 0);
        const tensor = view ? device.rows(owner, 2, count) : owner;
        device.write(tensor, data);
        return tensor;
      });
      const zeros = await device.countZeros(tensors);
      assert.deepEqual([...zeros], expected);
      record(new Uint8Array(zeros.buffer, zeros.byteOffset, zeros.byteLength));
      for (const owner of owners) device.free(owner);
      assert.equal(device.ledger.liveBytes, live);
    },
  };
}

export const countZerosCases: ConformanceCase[] = [
  ...floats.flatMap((dtype) => [false, true].map((view) => countZerosCase([1, 4, 7, 64, 4097, 200_003], dtype, view))),
  countZerosCase([], "f32", false),
];

function dropoutCase(
  [rows, columns]: readonly [number, number],
  [out, x]: readonly [DType, DType],
  options: DropoutOptions,
  inPlace = false,
): ConformanceCase {
  const data = normals(rows, rows * columns);
  // Kept it is NaN, dropped it is 0.
  data.forEach((_, i) => {
    if (i % 101 === 7) data[i] = Number.NaN;
  });
  return opCase({
    title: `[${rows}, ${columns}] ${inPlace ? `${x} in place` : `${out} ← ${x}`}, ${JSON.stringify(options)}`,
    tensors: {
      out: { shape: [rows, columns], dtype: out, data: options.accumulate ? normals(5, rows * columns) : undefined },
      x: { shape: [rows, columns], dtype: x, data },
    },
    call: (d, t) => d.dropout(inPlace ? t.x : t.out, t.x, options),
    outputs: inPlace ? { x: relative("x", 3) } : { out: ofTerms("out", 2) },
  });
}

export const dropoutCases: ConformanceCase[] = [
  ...sizes.flatMap((size) =>
    pairs.flatMap((dtypes) => [
      dropoutCase(size, dtypes, { probability: 0.1, seed: 3 }),
      dropoutCase(size, dtypes, { probability: 0.5, seed: 0x9e3779b9, accumulate: true }),
    ]),
  ),
  ...floats.flatMap((dtype) => [
    dropoutCase([33, 65], [dtype, dtype], { probability: 0.1, seed: 3 }, true),
    dropoutCase([33, 65], [dtype, dtype], { probability: 0, seed: 3 }),
    dropoutCase([33, 65], [dtype, dtype], { probability: 0.999, seed: 2 ** 32 - 1 }),
    dropoutCase([33, 65], [dtype, dtype], { probability: 0.3, seed: -5 }),
    dropoutCase([700, 300], [dtype, dtype], { probability: 0.05, seed: 0 }),
  ]),
];

export const scaleColumnsCases: ConformanceCase[] = sizes.flatMap(([N, C]) =>
  pairs.flatMap(([out, x]) =>
    ([false, true] as const).flatMap((accumulate) =>
      [false, ...(out === x ? [true] : [])].map((inPlace) =>
        opCase({
          title: `[${N}, ${C}] ${inPlace ? `${x} in place` : `${out} ← ${x}`}${accumulate ? ", added" : ""}`,
          tensors: {
            out: { shape: [N, C], dtype: out, data: accumulate ? normals(4, N * C) : undefined },
            x: { shape: [N, C], dtype: x, data: normals(N, N * C) },
            scale: { shape: [C], dtype: "f32", data: normals(3, C) },
          },
          call: (d, t) => d.scaleColumns(inPlace ? t.x : t.out, t.x, t.scale, accumulate),
          outputs: inPlace ? { x: ofTerms("x", 2) } : { out: ofTerms("out", 2) },
        }),
      ),
    ),
  ),
);

export const scaleRowsCases: ConformanceCase[] = sizes.flatMap(([R, C]) =>
  pairs.flatMap(([out, x]) =>
    [false, ...(out === x ? [true] : [])].map((inPlace) =>
      opCase({
        title: `[${R}, ${C}] ${inPlace ? `${x} in place` : `${out} ← ${x}`}`,
        tensors: {
          out: { shape: [R, C], dtype: out },
          x: { shape: [R, C], dtype: x, data: normals(R, R * C) },
          scale: { shape: [R], dtype: "f32", data: normals(3, R) },
        },
        call: (d, t) => d.scaleRows(inPlace ? t.x : t.out, t.x, t.scale),
        outputs: inPlace ? { x: relative("x", 2) } : { out: relative("out", 2) },
      }),
    ),
  ),
);

export const rowDotsCases: ConformanceCase[] = sizes.flatMap(([R, C]) => [
  ...pairs.map(([a, b]) =>
    opCase({
      title: `[${R}, ${C}] ${a}, ${b}`,
      tensors: {
        out: { shape: [R], dtype: "f32" },
        a: { shape: [R, C], dtype: a, data: normals(R, R * C) },
        b: { shape: [R, C], dtype: b, data: normals(R + 1, R * C).fill(Number.NaN, R * C - 1) },
      },
      call: (d, t) => d.rowDots(t.out, t.a, t.b),
      outputs: { out: ofTerms("out", C) },
    }),
  ),
  ...floats.map((dtype) =>
    opCase({
      title: `[${R}, ${C}] ${dtype} with itself`,
      tensors: { out: { shape: [R], dtype: "f32" }, a: { shape: [R, C], dtype, data: normals(R, R * C) } },
      call: (d, t) => d.rowDots(t.out, t.a, t.a),
      outputs: { out: ofTerms("out", C) },
    }),
  ),
]);

export const columnDotsCases: ConformanceCase[] = [...sizes, [1030, 17] as const].flatMap(([N, C]) =>
  pairs.map(([a, b]) =>
    opCase({
      title: `[${N}, ${C}] ${a}, ${b}, twice`,
      tensors: {
        out: { shape: [C], dtype: "f32", data: normals(2, C) },
        a: { shape: [N, C], dtype: a, data: normals(N, N * C) },
        b: { shape: [N, C], dtype: b, data: normals(N + 1, N * C).fill(Number.NaN, C - 1, C > 1 ? C : 0) },
      },
      call: (d, t) => {
        d.columnDots(t.out, t.a, t.b);
        d.columnDots(t.out, t.a, t.b);
      },
      outputs: { out: ofTerms("out", 2 * N) },
    }),
  ),
);

function gainsCase(R: number, scale: number): ConformanceCase {
  const vector = (data: Float32Array) => ({ shape: [R], dtype: "f32" as const, data });
  const squares = uniforms(1, R, 0.5, 4);
  const cross = normals(2, R, 0.1);
  const gram = uniforms(3, R, 0, 1);
  // Row 1 is a row of zeros, row 2 one that rounding brought below zero, row 3 is NaN.
  if (R > 3) [squares[1], cross[1], gram[1], squares[2], cross[2], gram[2], squares[3]] = [0, 0, 0, 1, -0.5 / scale - 1, 0, Number.NaN];
  return opCase({
    title: `[${R}] scale ${scale}`,
    tensors: {
      norm: { shape: [R], dtype: "f32" },
      gain: { shape: [R], dtype: "f32" },
      magnitude: vector(normals(4, R)),
      squares: vector(squares),
      cross: vector(cross),
      gram: vector(gram),
    },
    call: (d, t) => d.doraGains(t.norm, t.gain, t.magnitude, t.squares, t.cross, t.gram, scale),
    outputs: {
      norm: (context) => normError(context.before, context.after.norm, scale),
      gain: (context) => {
        const error = normError(context.before, context.after.norm, scale);
        const { norm, gain } = context.after;
        return (i) => (norm[i] === 0 ? 0 : Math.abs(gain[i]) * (error(i) / norm[i] + 2 * f32Unit));
      },
    },
  });
}

/** Half of what the sum of three terms may be wrong by, over the norm, and the root's rounding. */
function normError({ squares, cross, gram }: Record<"squares" | "cross" | "gram", Float64Array>, norm: Float64Array, scale: number) {
  return (i: number) => {
    const terms = squares[i] + Math.abs(2 * scale * cross[i]) + scale * scale * gram[i];
    return norm[i] === 0 ? 0 : (3 * f32Unit * terms) / norm[i] + 2 * f32Unit * norm[i];
  };
}

/** The norm of an adapter that is still zero, taken as the magnitude, gives gains of exactly 1: DoRA begins as its base, bit for bit. */
function firstGainsCase(R: number): ConformanceCase {
  const squares = uniforms(R, R, 0, 100).map((x, i) => (i % 10 === 1 ? x * 1e-30 : i % 10 === 2 ? x * 1e30 : x));
  if (R > 5) squares[5] = 0;
  const vector = (data?: Float32Array) => ({ shape: [R], dtype: "f32" as const, data });
  return opCase({
    title: `[${R}] exactly 1 at the start`,
    tensors: {
      norm: vector(),
      gain: vector(),
      magnitude: vector(),
      squares: vector(squares),
      zeros: vector(new Float32Array(R)),
      ones: vector(new Float32Array(R).fill(1)),
    },
    call: (d, t) => {
      d.doraGains(t.magnitude, t.gain, t.ones, t.squares, t.zeros, t.zeros, 2);
      d.doraGains(t.norm, t.gain, t.magnitude, t.squares, t.zeros, t.zeros, 2);
    },
    outputs: { norm: relative("norm", 2), magnitude: relative("magnitude", 2), gain: "exact" },
  });
}

export const doraGainsCases: ConformanceCase[] = [1, 7, 64, 1003].flatMap((R) => [gainsCase(R, 0.5), gainsCase(R, 2), firstGainsCase(R)]);
