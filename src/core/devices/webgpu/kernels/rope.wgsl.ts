/** rope: an element takes its partner's part, so that the result stands in memory of its own. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** out = x rotated; out must not be x. x (N, heads·HS), positions (N). */
export function rotate(
  programs: Programs,
  out: Tensor,
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  positions: Tensor,
  headSize: number,
  inverse: boolean,
): void {
  programs.map({
    name: "rope",
    outs: { out },
    count: sizeOf(x.shape),
    tensors: { x, cos, sin, positions },
    params: { C: x.shape[1] ?? sizeOf(x.shape), headSize, sign: { f32: inverse ? -1 : 1 } },
    wgsl: () => `fn value_out(i: u32) -> f32 {
  let within = i % p.C % p.headSize;
  let half = p.headSize / 2u;
  let pair = within % half;
  let angle = u32(positions(i / p.C)) * half + pair;
  if (within < half) { return x(i) * cos(angle) - p.sign * x(i + half) * sin(angle); }
  return x(i) * cos(angle) + p.sign * x(i - half) * sin(angle);
}`,
  });
}
