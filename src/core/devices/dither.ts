/**
 * The dither with which an adapted weight W̃ becomes bf16. Rounding to nearest would drop every change below half a bf16 step, which is most of what
 * LoRS, SPP and SQFT learn; here a change of δ moves a share δ/step of the entries by a step, so that sums over entries keep it.
 * The rules to keep: the threshold follows from the entry's place in W alone, so that forward, backward, every device, thread count and resumed run round
 * alike; what bf16 holds stays as it is. Native kernels and WGSL repeat this integer for integer; the conformance suite holds its values.
 *
 * Thresholds are the upper halves of products of a row's and a column's odd random factor: one multiplication an entry. e^(2πi·product/2³²) is part of a
 * Fourier matrix with random rows and columns, so the errors of a whole matrix add up no more than independent ones.
 */
import { dropoutHash } from "./dropoutHash.ts";
import { fromBfloat16 } from "./floatFormats.ts";

/** What tells the factors of rows from those of columns; no index reaches the bits in which they differ. */
const [rowSeed, columnSeed] = [0x9e3779b9, 0x7f4a7c15];

/** 32 bits, unsigned, odd. */
export function rowFactor(row: number): number {
  return (dropoutHash(rowSeed, row) | 1) >>> 0;
}

/** 32 bits, unsigned, odd. */
export function columnFactor(column: number): number {
  return (dropoutHash(columnSeed, column) | 1) >>> 0;
}

/** 16 bits: an entry of W̃ goes away from zero where its f32 bits below bf16's and these make 2¹⁶ or more. */
export function ditherThreshold(row: number, column: number): number {
  return Math.imul(rowFactor(row), columnFactor(column)) >>> 16;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * The 16 bits of one of the two bf16 beside x, which is first rounded to f32. NaN and the infinities stay; above the largest bf16 the next one is infinite,
 * as it is to rounding to nearest.
 */
export function toDitheredBfloat16(x: number, threshold: number): number {
  float[0] = x;
  const u = bits[0];
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40;
  return (u + threshold) >>> 16;
}

/** x as a bf16 tensor that was dithered would give it back. */
export function ditherToBfloat16(x: number, threshold: number): number {
  return fromBfloat16(toDitheredBfloat16(x, threshold));
}
