/**
 * W̃ becomes bf16 by the thresholds of dither.ts and no others, at every place, in every path of a device. The values are such that f32 arithmetic is exact:
 * nothing is forgiven.
 */
import type { AdaptedWeight, DType, Tensor } from "../../../src/core/devices/device.ts";
import { ditherThreshold, ditherToBfloat16 } from "../../../src/core/devices/dither.ts";
import { type ConformanceCase, expectSameBits, type TensorSpec } from "../harness.ts";
import { deviceCase } from "./deviceCase.ts";

type Make = (spec: TensorSpec) => Tensor;
type Kind = "low rank" | "two factors" | "many ranks" | "group scales";

const f32 = (shape: number[], data: Float32Array): TensorSpec => ({ shape, dtype: "f32", data });

/** W = 1, and what is added is the same everywhere. */
function constant(make: Make, kind: Kind, dtype: DType, [rows, columns]: readonly [number, number], added: number): AdaptedWeight {
  const weight = make({ shape: [rows, columns], dtype, data: new Float32Array(rows * columns).fill(1) });
  if (kind === "group scales") {
    const alpha = make(f32([2, columns], new Float32Array(2 * columns).fill(1)));
    return { kind: "groupScaled", weight, alpha, beta: make(f32([rows], new Float32Array(rows).fill(added))), scale: 1, base: true };
  }
  const r = { "low rank": 1, "two factors": 2, "many ranks": 70 }[kind];
  const left = make(
    f32(
      [rows, r],
      Float32Array.from({ length: rows * r }, (_, i) => (i % r === r - 1 ? added : 0)),
    ),
  );
  const right = make(f32([r, columns], new Float32Array(r * columns).fill(1)));
  return { kind: "maskedLowRank", weight, left, right, rank: r, scale: 1, base: true, quantization: null };
}

/** Rows, or with `transposeB` columns, of W̃, taken out by rows of `a` that hold one 1: tile borders, and places beyond any tile. */
function picked(
  kind: Kind,
  dtypes: readonly [a: DType, weight: DType],
  size: readonly [number, number],
  M: number,
  transposeB: boolean,
): ConformanceCase {
  const [rows, columns] = size;
  const [N, K] = transposeB ? [rows, columns] : [columns, rows];
  const added = 0.3 * 2 ** -7;
  const places = Array.from({ length: M }, (_, m) => (m === M - 1 ? K - 1 : Math.floor((m * K) / M)));
  return deviceCase(
    `[${M}] ${transposeB ? "columns" : "rows"} of a dithered (${size.join(", ")}), ${kind}, a ${dtypes[0]}, weight ${dtypes[1]}`,
    async (device, make) => {
      const weight = constant(make, kind, dtypes[1], size, added);
      const a = new Float32Array(M * K);
      for (const [m, place] of places.entries()) a[m * K + place] = 1;
      const out = make({ shape: [M, N], dtype: "f32" });
      device.adaptedMatmul(out, make({ shape: [M, K], dtype: dtypes[0], data: a }), weight, { transposeB });
      const result = (await device.read(out)) as Float32Array;
      const threshold = (place: number, n: number) => (transposeB ? ditherThreshold(n, place) : ditherThreshold(place, n));
      const value = Math.fround(1 + Math.fround(added));
      expectSameBits(
        "out",
        result,
        places.flatMap((place) => Array.from({ length: N }, (_, n) => ditherToBfloat16(value, threshold(place, n)))),
      );
      return result;
    },
    rows * columns + M * (N + K),
  );
}

const kinds: readonly Kind[] = ["low rank", "many ranks", "group scales"];
export const ditheredProducts: ConformanceCase[] = [
  picked("two factors", ["bf16", "bf16"], [40, 36], 9, false),
  picked("two factors", ["bf16", "bf16"], [40, 36], 9, true),
  picked("group scales", ["bf16", "f32"], [36, 40], 3, true),
  ...kinds.flatMap((kind) =>
    [false, true].flatMap((transposeB) => [
      picked(kind, ["bf16", "bf16"], [1100, 1046], 5, transposeB),
      picked(kind, ["f32", "bf16"], [1046, 1100], 20, transposeB),
    ]),
  ),
  picked("low rank", ["bf16", "bf16"], [300, 700], 400, true),
  picked("low rank", ["bf16", "bf16"], [700, 300], 400, false),
];

/** Every entry's lower bits stand exactly at the border of its place, or `short` of it. */
function bordered(kind: "stays" | "goes", weightDtype: DType, sign: 1 | -1): ConformanceCase {
  const [rows, columns] = [67, 45];
  return deviceCase(
    `an entry ${kind === "goes" ? "reaches" : "misses by one bit"} its threshold, ${sign > 0 ? "positive" : "negative"}, weight ${weightDtype}`,
    async (device, make) => {
      const weight = make({ shape: [rows, columns], dtype: weightDtype, data: new Float32Array(rows * columns).fill(sign) });
      // left · 1 = left: what is added to each entry.
      const left = new Float32Array(rows * columns);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++) left[i * columns + j] = sign * (2 ** 16 - ditherThreshold(i, j) - (kind === "goes" ? 0 : 1)) * 2 ** -23;
      const one = Float32Array.from({ length: columns * columns }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
      const factors = { left: make(f32([rows, columns], left)), right: make(f32([columns, columns], one)), rank: columns };
      const [narrow, wide] = [make({ shape: [rows, columns], dtype: "bf16" }), make({ shape: [rows, columns], dtype: "f32" })];
      for (const out of [narrow, wide])
        device.formAdapted(out, { kind: "maskedLowRank", weight, ...factors, scale: 1, base: true, quantization: null });
      const result = (await device.read(narrow)) as Float32Array;
      // A threshold of 0 is reached by nothing below 2¹⁶, which is the next number itself.
      expectSameBits("bf16", result, new Float32Array(rows * columns).fill(kind === "goes" ? sign * (1 + 2 ** -7) : sign));
      expectSameBits(
        "f32",
        (await device.read(wide)) as Float32Array,
        left.map((x) => sign + x),
      );
      return result;
    },
    5000,
  );
}

/** What is no number or has no neighbour, what is nearly 0, and what bf16 holds: at places of every kind of threshold. */
const special = deviceCase(
  "dither leaves what bf16 holds, infinity and NaN; beyond the largest bf16 it gives that or infinity",
  async (device, make) => {
    const largest = 3.3895313892515355e38; // of bf16
    const values = [
      0,
      1,
      -1.5,
      2 ** -100,
      largest,
      -largest,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      Number.NaN,
      3.4e38,
      -3.4e38,
      1e-30,
      -7e20,
    ];
    const [rows, columns] = [29, values.length];
    const data = Float32Array.from({ length: rows * columns }, (_, i) => values[i % columns]);
    const weight = make({ shape: [rows, columns], dtype: "f32", data });
    const left = make(f32([rows, 1], new Float32Array(rows)));
    const right = make(f32([1, columns], new Float32Array(columns)));
    const out = make({ shape: [rows, columns], dtype: "bf16" });
    device.formAdapted(out, { kind: "maskedLowRank", weight, left, right, rank: 1, scale: 1, base: true, quantization: null });
    const result = (await device.read(out)) as Float32Array;
    expectSameBits(
      "out",
      result,
      data.map((x, i) => ditherToBfloat16(x, ditherThreshold(Math.floor(i / columns), i % columns))),
    );
    return result;
  },
);

export const ditheredWeights: ConformanceCase[] = [
  special,
  ...(["f32", "bf16"] as const).flatMap((dtype) =>
    ([1, -1] as const).flatMap((sign) => [bordered("goes", dtype, sign), bordered("stays", dtype, sign)]),
  ),
];
