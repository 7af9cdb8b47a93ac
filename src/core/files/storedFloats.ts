/**
 * Arrays of floats to and from the bytes of a file, little-endian. Devices convert what they load themselves; this is for files that are written or
 * compared without a device. The rule to keep: into F16 and BF16 rounds to nearest, ties to even, as the devices do.
 */
import type { FileDType } from "../devices/device.ts";
import { fromBfloat16, fromFloat16, toBfloat16 } from "../devices/floatFormats.ts";

/** Bytes of one element in a file. */
export const storedElementBytes: Record<FileDType, number> = { F32: 4, F16: 2, BF16: 2 };

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The 16 IEEE binary16 bits nearest to x; what is too large becomes infinite. */
export function toFloat16(x: number): number {
  float[0] = x;
  const u = bits[0];
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to infinity
  if (magnitude < 0x38800000) return sign | roundTiesToEven(Math.abs(float[0]) * 2 ** 24); // subnormal: whole multiples of 2^-24
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

function roundTiesToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** f32 values as the bytes of `dtype`. */
export function encodeFloats(values: Float32Array, dtype: FileDType): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.slice().buffer);
  const convert = dtype === "BF16" ? toBfloat16 : toFloat16;
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) halves[i] = convert(values[i]);
  return new Uint8Array(halves.buffer);
}

/** Bytes of `dtype` as f32 values. */
export function decodeFloats(bytes: Uint8Array, dtype: FileDType): Float32Array {
  const copy = bytes.slice();
  if (dtype === "F32") return new Float32Array(copy.buffer, copy.byteOffset, copy.length / 4);
  const halves = new Uint16Array(copy.buffer, copy.byteOffset, copy.length / 2);
  const convert = dtype === "BF16" ? fromBfloat16 : fromFloat16;
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = convert(halves[i]);
  return values;
}

/** Whether no element of these bytes is NaN or infinite. */
export function allFinite(bytes: Uint8Array, dtype: FileDType): boolean {
  if (dtype === "F32") return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4).every((word) => (word & 0x7f800000) !== 0x7f800000);
  const exponent = dtype === "BF16" ? 0x7f80 : 0x7c00;
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2).every((half) => (half & exponent) !== exponent);
}
