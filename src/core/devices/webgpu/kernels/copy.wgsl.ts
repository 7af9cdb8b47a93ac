/** copy: every element by itself, from any dtype to any. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function copy(programs: Programs, out: Tensor, x: Tensor, accumulate = false): void {
  const wgsl = () => "fn value_out(i: u32) -> f32 { return x(i); }";
  programs.map({ name: "copy", outs: { out }, count: sizeOf(out.shape), tensors: { x }, params: {}, accumulate, wgsl });
}
