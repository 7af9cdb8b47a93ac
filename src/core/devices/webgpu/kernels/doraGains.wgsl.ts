/** doraGains: norm and gain of a row by one invocation. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function doraGains(
  programs: Programs,
  norm: Tensor,
  gain: Tensor,
  magnitude: Tensor,
  squares: Tensor,
  cross: Tensor,
  gram: Tensor,
  scale: number,
): void {
  programs.map({
    name: "doraGains",
    outs: { norm, gain },
    count: sizeOf(norm.shape),
    tensors: { magnitude, squares, cross, gram },
    params: { twice: { f32: 2 * scale }, square: { f32: scale * scale } },
    // Drivers (Mesa's for one) make max(square, 0) of a comparison, and 0 of NaN: bits are compared.
    wgsl: () => `fn value_norm(i: u32) -> f32 {
  let square = squares(i) + p.twice * cross(i) + p.square * gram(i);
  let bits = bitcast<u32>(square);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return square; }
  if (bits >= 0x80000000u) { return 0.0; }
  return sqrt(square);
}
fn value_gain(i: u32) -> f32 { let n = value_norm(i); if (n == 0.0) { return 0.0; } return magnitude(i) / n; }`,
  });
}
