/**
 * Conversions between numbers and the formats that weights are stored in: 16 bits, or integer levels. One value at a time; the bulk loops stand in the devices.
 * The rule to keep: into bf16 rounds to nearest, ties to even; NaN stays NaN (quiet, sign kept), what is too large becomes infinite.
 * Source: bf16 is the upper half of an IEEE 754 binary32; F16 is IEEE 754 binary16.
 */
const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The 16 bits of the bf16 nearest to x, which is first rounded to f32. */
export function toBfloat16(x: number): number {
  float[0] = x;
  const u = bits[0];
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40;
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}

/** The value of 16 bf16 bits. */
export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0];
}

/** x as it would come back from a bf16 tensor. */
export function roundToBfloat16(x: number): number {
  return fromBfloat16(toBfloat16(x));
}

/** The value of 16 IEEE binary16 bits. */
export function fromFloat16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The nearest integer, ties to even, as IEEE 754 rounds; for numbers well below 2⁵¹. NaN and the infinities stay. */
export function roundToEven(x: number): number {
  const shift = 1.5 * 2 ** 52;
  return x + shift - shift;
}
