/**
 * Adapted weights as the conformance cases make them, and how far a device may be from them. Half of each weight is zero, of either sign.
 *
 * A device forms W̃ in f32, and brings it to bf16 or to a level where that is part of the op: an entry whose exact value lies nearer to the border of two
 * results, which for dithered ones its place moves, than f32 arithmetic can tell may come out as either. `spans` gives that range by entry, so that
 * nothing else is forgiven.
 */
import type { AdaptedWeight, DType, Tensor } from "../../../src/core/devices/device.ts";
import { ditherThreshold, ditherToBfloat16 } from "../../../src/core/devices/dither.ts";
import { roundToBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { f32Unit } from "../../support/expectClose.ts";
import { normals, uniforms } from "../../support/randomTensors.ts";
import type { TensorSpec } from "../harness.ts";

/** An adapted weight's sizes and options; the tensors come from {@link tensorsOf}. */
export type WeightForm = { out: number; in: number; scale: number; base: boolean } & (
  | { kind: "maskedLowRank"; r: number; rank: number; groupSize?: number }
  | { kind: "groupScaled"; groups: number }
);

/** All of them in every case, so that one type of case serves both kinds: what a kind does not use is an input that may not change. */
export type WeightTensor = "weight" | "first" | "second" | "scales" | "zeros";

export function titleOf(form: WeightForm): string {
  const how =
    form.kind === "groupScaled"
      ? `${form.groups} groups`
      : `rank ${form.rank} of ${form.r}${form.groupSize ? `, INT4 in groups of ${form.groupSize}` : ""}`;
  return `(${form.out}, ${form.in}) ${how}${form.base ? "" : ", without base"}`;
}

/** Normal numbers, half of them zero, some of these −0. */
export function sparseNormals(seed: number, count: number): Float32Array {
  const draws = uniforms(seed, count, 0, 1);
  return normals(seed, count).map((x, i) => (draws[i] < 0.45 ? 0 : draws[i] < 0.5 ? -0 : x));
}

export function tensorsOf(form: WeightForm, dtype: DType): Record<WeightTensor, TensorSpec> {
  const { out, in: columns } = form;
  const weight: TensorSpec = { shape: [out, columns], dtype, data: sparseNormals(out + 3 * columns, out * columns) };
  const f32 = (shape: number[], seed: number, scale: number): TensorSpec => ({
    shape,
    dtype: "f32",
    data: normals(seed, shape[0] * (shape[1] ?? 1), scale),
  });
  const unused: TensorSpec = { shape: [1, 1], dtype: "f32", data: Float32Array.of(Number.NaN) };
  if (form.kind === "groupScaled")
    return { weight, first: f32([form.groups, columns], 11, 0.5), second: f32([out], 12, 0.5), scales: unused, zeros: unused };
  const factors = { weight, first: f32([out, form.r], 13, 0.5), second: f32([form.r, columns], 14, 0.5) };
  if (!form.groupSize) return { ...factors, scales: unused, zeros: unused };
  const shape = [out, columns / form.groupSize];
  const count = shape[0] * shape[1];
  return {
    ...factors,
    scales: { shape, dtype: "f32", data: uniforms(15, count, 0.1, 0.6) },
    zeros: { shape, dtype: "f32", data: uniforms(16, count, 0, 16).map(Math.floor) },
  };
}

export function adaptedOf(form: WeightForm, t: Record<WeightTensor, Tensor>): AdaptedWeight {
  const common = { weight: t.weight, scale: form.scale, base: form.base };
  if (form.kind === "groupScaled") return { ...common, kind: form.kind, alpha: t.first, beta: t.second };
  const quantization = form.groupSize ? { scales: t.scales, zeros: t.zeros, groupSize: form.groupSize } : null;
  return { ...common, kind: form.kind, left: t.first, right: t.second, rank: form.rank, quantization };
}

/** The range a device's entry of W̃ may lie in. */
export interface Spans {
  low: Float64Array;
  high: Float64Array;
}

/** @param narrow Whether W̃ becomes bf16. */
export function spans(form: WeightForm, values: Record<WeightTensor, Float64Array>, narrow: boolean): Spans {
  const { out, in: columns } = form;
  const [low, high] = [new Float64Array(out * columns), new Float64Array(out * columns)];
  for (let at = 0; at < out * columns; at++) {
    const [exact, error] = entryOf(form, values, at);
    const [lowest, highest] = [-1, 1].map((sign) => {
      const value = exact + sign * error;
      if (form.kind === "maskedLowRank" && form.groupSize) {
        const level = nearestLevel(form, form.groupSize, values, at, value, sign);
        return narrow ? roundToBfloat16(level) : level;
      }
      return narrow ? ditherToBfloat16(value, ditherThreshold(Math.floor(at / columns), at % columns)) : value;
    });
    low[at] = lowest;
    high[at] = highest;
  }
  return { low, high };
}

/** The entry before it is rounded, and how far f32 arithmetic may be from it: rank products in any order, the scaling and the sum. */
function entryOf(form: WeightForm, { weight, first, second }: Record<WeightTensor, Float64Array>, at: number): [exact: number, error: number] {
  const [i, j, w] = [Math.floor(at / form.in), at % form.in, weight[at]];
  if (w === 0) return [0, 0];
  const base = form.base ? w : 0;
  if (form.kind === "groupScaled") {
    const added = form.scale * w * second[i] * first[Math.floor((form.groups * i) / form.out) * form.in + j];
    return [base + added, 6 * f32Unit * (Math.abs(base) + Math.abs(added))];
  }
  let [product, terms] = [0, 0];
  for (let k = 0; k < form.rank; k++) {
    const term = form.scale * first[i * form.r + k] * second[k * form.in + j];
    product += term;
    terms += Math.abs(term);
  }
  return [base + product, (4 + Math.sqrt(form.rank)) * f32Unit * (Math.abs(base) + terms)];
}

/** The lowest (sign −1) or highest level that x can fall to: quotient, sum and product round by a unit each. */
function nearestLevel(
  form: WeightForm,
  groupSize: number,
  { scales, zeros, weight }: Record<WeightTensor, Float64Array>,
  at: number,
  x: number,
  sign: number,
): number {
  if (weight[at] === 0) return 0;
  const group = Math.floor(at / form.in) * (form.in / groupSize) + Math.floor((at % form.in) / groupSize);
  const [a, z] = [scales[group], zeros[group]];
  const rounding = 2 * f32Unit * (Math.abs(x / a) + z);
  const level = a * (Math.min(15, Math.max(0, Math.round(x / a + z + sign * rounding))) - z);
  return level + sign * f32Unit * Math.abs(level);
}
