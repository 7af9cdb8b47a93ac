/**
 * The power of two that brings a tensor's largest finite entry into [2¹⁴, 2¹⁵), where f16 holds what bf16 holds: an entry 2³¹ times smaller than the largest keeps
 * all its 8 bits, and what is smaller still loses at most 2⁻³⁹ of the largest (2⁻²⁸ on a card without f16's subnormal numbers).
 * No f32 sum of scaled products overflows: each is below 2³⁰, and f32 reaches 2¹²⁷. A kernel that sums in f16 takes its operands lower, and their smallest
 * entries lose so many powers of two more. Infinity and NaN are not counted, and stay what they are.
 */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

const width = 256;
/** Workgroups that share a tensor, one partial result each. */
export const scaleParts = 256;

/** scales[slot] = the exponent of the power of two for x; an f32 tensor's entries are taken as rounded to bf16. The 256 scales from `parts` on are overwritten. */
export function findScale(programs: Programs, scales: Tensor, parts: number, x: Tensor, slot: number, count: number): void {
  const groups = Math.min(scaleParts, Math.max(1, Math.ceil(count / (4 * width))));
  programs.run({
    name: "scale parts",
    tensors: { scales, x },
    params: { count, stride: groups * width, parts },
    wgsl: () => `${tree}
@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var own = 0u; // bits of non-negative floats are in the floats' order
  for (var i = group.x * ${width}u + lane; i < p.count; i += p.stride) {
    let bits = bitcast<u32>(rounded(x(i))) & 0x7fffffffu;
    own = max(own, select(bits, 0u, bits >= 0x7f800000u));
  }
  let found = largest(own, lane);
  if (lane == 0u) { set_scales(p.parts + group.x, f32(found >> 23u)); }
}`,
    groups: [groups, 1, 1],
  });
  programs.run({
    name: "scale",
    tensors: { scales },
    params: { groups, slot, parts },
    // Zero has no exponent, and its scale does not matter. Beyond 126 the power of two itself has none.
    wgsl: () => `${tree}
@compute @workgroup_size(${width}) fn main(@builtin(local_invocation_index) lane: u32) {
  var own = 0u;
  if (lane < p.groups) { own = u32(scales(p.parts + lane)); }
  let found = largest(own, lane);
  if (lane == 0u) { set_scales(p.slot, f32(min(126, 14 + 127 - i32(found)))); }
}`,
    groups: [1, 1, 1],
  });
}

const tree = `var<workgroup> partial: array<u32, ${width}>;
fn largest(own: u32, lane: u32) -> u32 {
  partial[lane] = own;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] = max(partial[lane], partial[lane + step]); } }
  workgroupBarrier();
  return partial[0];
}`;

/**
 * For a kernel with `scales`, `scale_a` and `scale_b`: entries · up_a and up_b are below 2 to the power 15 − `lowered`, and `unscaled` brings a sum of their
 * products back. Powers of two are exact.
 */
export const unscaling = (lowered = 0) => `var<private> up_a: f32;
var<private> up_b: f32;
var<private> back: i32;
fn power_of_two(e: i32) -> f32 { return bitcast<f32>(u32(e + 127) << 23u); }
fn bring_to_scale() {
  let a = i32(scales(p.scale_a)) - ${lowered};
  let b = i32(scales(p.scale_b)) - ${lowered};
  up_a = power_of_two(a);
  up_b = power_of_two(b);
  back = -(a + b);
}
// In two steps, because the whole may be beyond f32's powers of two.
fn unscaled(sum: f32) -> f32 { return sum * power_of_two(back / 2) * power_of_two(back - back / 2); }`;
