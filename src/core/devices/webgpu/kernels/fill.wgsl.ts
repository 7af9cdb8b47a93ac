/** fill: one number everywhere. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function fill(programs: Programs, out: Tensor, value: number): void {
  programs.map({
    name: "fill",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: {},
    params: { constant: { f32: value } },
    wgsl: () => "fn value_out(i: u32) -> f32 { return p.constant; }",
  });
}
