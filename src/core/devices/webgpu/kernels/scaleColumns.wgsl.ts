/** scaleColumns: each element times its column's factor. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function scaleColumns(programs: Programs, out: Tensor, x: Tensor, scale: Tensor, C: number, accumulate: boolean): void {
  programs.map({
    name: "scaleColumns",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x, scale },
    params: { C },
    accumulate,
    wgsl: () => "fn value_out(i: u32) -> f32 { return x(i) * scale(i % p.C); }",
  });
}
