/**
 * How the portable device's ops read and write tensors: floats come into f32 scratch rows whatever they are stored as, and go back rounded.
 * The loops of the ops then see one array type only, which is what keeps them fast; numbers between load and store are JavaScript's float64.
 */
import { fromBfloat16, toBfloat16 } from "../../floatFormats.ts";

/** Elements of an f32 tensor, or the bits of a bf16 one. */
export type FloatData = Float32Array | Uint16Array;

/** The value of each bf16 pattern. */
export const bfloat16Values: Float32Array = Float32Array.from({ length: 65536 }, (_, half) => fromBfloat16(half));

/** Longest piece of a row that is in scratch at once; also bounds the head size of attention. */
export const scratchElements = 8192;
const rowCount = 5;
const sumCount = 2;

/** The fixed working memory of a device; every op uses it from the start and leaves nothing in it. */
export class Scratch {
  /** f32 pieces of rows. */
  readonly rows: readonly Float32Array[] = Array.from({ length: rowCount }, () => new Float32Array(scratchElements));
  /** float64 sums. */
  readonly sums: readonly Float64Array[] = Array.from({ length: sumCount }, () => new Float64Array(scratchElements));
}

/** Bytes of a {@link Scratch} and of the table of bf16 values. */
export const scratchBytes = scratchElements * (4 * rowCount + 8 * sumCount) + bfloat16Values.byteLength;

/** scratch[at …] = count elements of data from offset. */
export function load(scratch: Float32Array, data: FloatData, offset: number, count: number, at = 0): void {
  if (data instanceof Float32Array) {
    for (let i = 0; i < count; i++) scratch[at + i] = data[offset + i];
  } else {
    for (let i = 0; i < count; i++) scratch[at + i] = bfloat16Values[data[offset + i]];
  }
}

/** count elements of data from offset = scratch[at …], rounded to how data is stored. */
export function store(data: FloatData, offset: number, scratch: Float32Array | Float64Array, count: number, at = 0): void {
  if (data instanceof Float32Array) {
    for (let i = 0; i < count; i++) data[offset + i] = scratch[at + i];
  } else {
    for (let i = 0; i < count; i++) data[offset + i] = toBfloat16(scratch[at + i]);
  }
}

/** Calls body(start, count) for the pieces of [0, length) that fit into scratch. */
export function forEachPiece(length: number, body: (start: number, count: number) => void): void {
  for (let start = 0; start < length; start += scratchElements) body(start, Math.min(scratchElements, length - start));
}

/** Fails on an index a tensor holds, which no shape check can see. */
export function checkIndex(op: string, name: string, index: number, limit: number): void {
  if (index < 0 || index >= limit) throw new Error(`${op}: ${name} ${index} is not below ${limit}`);
}
