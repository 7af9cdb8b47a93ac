/** Masks, zero counts, dropout, and row and column scales and dots of the portable device, on raw data; formulas and letters as in device.ts. */
import { dropoutHash } from "../../dropoutHash.ts";
import { bfloat16Values, type FloatData, forEachPiece, load, type Scratch, store } from "./formats.ts";

export function maskBy(x: FloatData, weight: FloatData): void {
  if (weight instanceof Float32Array) {
    for (let i = 0; i < x.length; i++) if (weight[i] === 0) x[i] = 0;
  } else {
    for (let i = 0; i < x.length; i++) if ((weight[i] & 0x7fff) === 0) x[i] = 0;
  }
}

export function countZeros(x: FloatData): number {
  let count = 0;
  if (x instanceof Float32Array) for (let i = 0; i < x.length; i++) count += x[i] === 0 ? 1 : 0;
  else for (let i = 0; i < x.length; i++) count += (x[i] & 0x7fff) === 0 ? 1 : 0;
  return count;
}

/** @param seed @param threshold Unsigned 32-bit, as {@link dropoutHash} takes and gives them. */
export function dropout(
  out: FloatData,
  x: FloatData,
  seed: number,
  threshold: number,
  scale: number,
  accumulate: boolean,
  { rows: [input], sums: [y] }: Scratch,
): void {
  forEachPiece(x.length, (start, count) => {
    load(input, x, start, count);
    for (let i = 0; i < count; i++) y[i] = dropoutHash(seed, start + i) >= threshold ? input[i] * scale : 0;
    if (accumulate) addValues(y, out, start, count);
    store(out, start, y, count);
  });
}

/** sums[i] += data[start + i]. */
function addValues(sums: Float64Array, data: FloatData, start: number, count: number): void {
  if (data instanceof Float32Array) for (let i = 0; i < count; i++) sums[i] += data[start + i];
  else for (let i = 0; i < count; i++) sums[i] += bfloat16Values[data[start + i]];
}

export function scaleColumns(
  out: FloatData,
  x: FloatData,
  scale: Float32Array,
  N: number,
  C: number,
  accumulate: boolean,
  { rows: [input], sums: [y] }: Scratch,
): void {
  for (let n = 0; n < N; n++) {
    forEachPiece(C, (start, count) => {
      load(input, x, n * C + start, count);
      for (let i = 0; i < count; i++) y[i] = input[i] * scale[start + i];
      if (accumulate) addValues(y, out, n * C + start, count);
      store(out, n * C + start, y, count);
    });
  }
}

export function scaleRows(out: FloatData, x: FloatData, scale: Float32Array, R: number, C: number, { rows: [input], sums: [y] }: Scratch): void {
  for (let r = 0; r < R; r++) {
    forEachPiece(C, (start, count) => {
      load(input, x, r * C + start, count);
      for (let i = 0; i < count; i++) y[i] = input[i] * scale[r];
      store(out, r * C + start, y, count);
    });
  }
}

export function rowDots(out: Float32Array, a: FloatData, b: FloatData, R: number, C: number, { rows: [left, right] }: Scratch): void {
  for (let r = 0; r < R; r++) {
    let sum = 0;
    forEachPiece(C, (start, count) => {
      load(left, a, r * C + start, count);
      load(right, b, r * C + start, count);
      for (let i = 0; i < count; i++) sum += left[i] * right[i];
    });
    out[r] = sum;
  }
}

export function addColumnDots(
  out: Float32Array,
  a: FloatData,
  b: FloatData,
  N: number,
  C: number,
  { rows: [left, right], sums: [total] }: Scratch,
): void {
  forEachPiece(C, (start, count) => {
    for (let i = 0; i < count; i++) total[i] = out[start + i];
    for (let n = 0; n < N; n++) {
      load(left, a, n * C + start, count);
      load(right, b, n * C + start, count);
      for (let i = 0; i < count; i++) total[i] += left[i] * right[i];
    }
    store(out, start, total, count);
  });
}

export function doraGains(
  norm: Float32Array,
  gain: Float32Array,
  magnitude: Float32Array,
  squares: Float32Array,
  cross: Float32Array,
  gram: Float32Array,
  scale: number,
): void {
  for (let i = 0; i < norm.length; i++) {
    norm[i] = Math.sqrt(Math.max(0, squares[i] + 2 * scale * cross[i] + scale * scale * gram[i]));
    // By the norm as it is stored: a magnitude that was copied from there gives exactly 1.
    gain[i] = norm[i] === 0 ? 0 : magnitude[i] / norm[i];
  }
}
