/** dropout: which elements go is a hash of seed and index. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** dropoutHash.ts's hash, integer for integer. */
export const hashSource = `fn mixed(seed: u32, index: u32) -> u32 {
  var h = seed ^ index;
  h ^= h >> 16u; h *= 0x21f0aaadu; h ^= h >> 15u; h *= 0x735a2d97u;
  return h ^ (h >> 15u);
}`;

/** out (+)= x · scale where the hash of seed and index reaches the threshold, else 0. */
export function dropout(programs: Programs, out: Tensor, x: Tensor, seed: number, threshold: number, scale: number, accumulate: boolean): void {
  programs.map({
    name: "dropout",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x },
    params: { seed, threshold, scale: { f32: scale } },
    accumulate,
    wgsl: () => `${hashSource}
fn value_out(i: u32) -> f32 { if (mixed(p.seed, i) < p.threshold) { return 0.0; } return x(i) * p.scale; }`,
  });
}
