/** sumSquares: part by part, in two floats. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { overParts, partBounds, width } from "./reduce.wgsl.ts";

/** Floats that {@link squaresOfParts} leaves of a part. */
export const squareWords = 3;

/**
 * out (⌈count / 4096⌉ · 3, from element `first`) = Σx² of each part as high, low and power: (high + low) · 4^power. Entries are first brought near 1 by a
 * power of two, so that no square overflows; the sum is kept in two floats, each product with its rounding error (Dekker 1971). NaN and infinity come out as
 * high. Drivers (Mesa's for one) simplify (a + b) − a to b, which is what rounding errors are found by: `rounded_off` hides a value from them.
 */
export function squaresOfParts(programs: Programs, out: Tensor, x: Tensor, count: number, first: number): void {
  overParts(
    programs,
    "squares",
    out,
    x,
    count,
    first,
    () => `var<workgroup> high: array<f32, ${width}>;
var<workgroup> low: array<f32, ${width}>;
var<workgroup> bits: array<u32, ${width}>;
fn rounded_off(value: f32) -> f32 { return bitcast<f32>(bitcast<u32>(value) ^ p.zero); }
fn add(lane: u32, h: f32, l: f32) {
  let sum = rounded_off(high[lane] + h);
  let back = rounded_off(sum - high[lane]);
  low[lane] += ((high[lane] - (sum - back)) + (h - back)) + l;
  high[lane] = sum;
}
${partBounds(`
  var largest = 0u; // bits of non-negative floats are in the floats' order; NaN comes last
  for (var i = begin + lane; i < end; i += ${width}u) { largest = max(largest, bitcast<u32>(x(i)) & 0x7fffffffu); }
  bits[lane] = largest;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { bits[lane] = max(bits[lane], bits[lane + step]); } }
  workgroupBarrier();
  largest = bits[0];
  let power = i32(largest >> 23u) - 127;
  high[lane] = 0.0;
  low[lane] = 0.0;
  for (var i = begin + lane; i < end; i += ${width}u) {
    // A power of two beyond f32's own range is taken in two steps.
    let v = ldexp(ldexp(x(i), -(power / 2)), -(power - power / 2));
    let square = rounded_off(v * v);
    // Half of the digits at a time, because fma may be two roundings.
    let front = bitcast<f32>(bitcast<u32>(v) & 0xfffff000u);
    let rest = v - front;
    add(lane, square, ((front * front - square) + 2.0 * front * rest) + rest * rest);
  }
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { add(lane, high[lane + step], low[lane + step]); } }
  if (lane == 0u) {
    let at = p.first + ${squareWords}u * part;
    set_out(at, select(high[0], bitcast<f32>(largest), largest >= 0x7f800000u));
    set_out(at + 1u, low[0]);
    set_out(at + 2u, f32(power));
  }`)}`,
  );
}
