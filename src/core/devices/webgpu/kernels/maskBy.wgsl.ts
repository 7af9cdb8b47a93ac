/** maskBy: 0 where the weight is. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function maskBy(programs: Programs, out: Tensor, weight: Tensor): void {
  programs.map({
    name: "maskBy",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { weight },
    params: {},
    wgsl: () => "fn value_out(i: u32) -> f32 { if (is_zero(weight(i))) { return 0.0; } return out(i); }",
  });
}
