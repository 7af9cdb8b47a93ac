/** fitQuantization: steps and zeros of a group of entries. */
import type { GroupQuantization, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** An invocation a group: its lowest and highest entry, 0 among them. */
export function fitQuantization(programs: Programs, { scales, zeros, groupSize }: GroupQuantization, weight: Tensor): void {
  const count = scales.shape[0] * scales.shape[1];
  programs.map({
    name: "fitQuantization",
    outs: { steps: scales, zeros },
    count,
    tensors: { weight },
    params: { groupSize },
    wgsl: () => `fn bounds(group: u32) -> vec2f {
  var found = vec2f(0.0, 0.0);
  for (var i = group * p.groupSize; i < (group + 1u) * p.groupSize; i++) { let w = weight(i); found = vec2f(min(found.x, w), max(found.y, w)); }
  return found;
}
fn value_steps(i: u32) -> f32 {
  let b = bounds(i);
  if (b.x == b.y) { return 1.0; }
  return (b.y - b.x) / 15.0;
}
fn value_zeros(i: u32) -> f32 { let b = bounds(i); if (b.x == 0.0) { return 0.0; } return round(-15.0 * b.x / (b.y - b.x)); }`,
  });
}
