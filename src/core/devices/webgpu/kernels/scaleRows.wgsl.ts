/** scaleRows: each element times its row's factor. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function scaleRows(programs: Programs, out: Tensor, x: Tensor, scale: Tensor, C: number): void {
  programs.map({
    name: "scaleRows",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x, scale },
    params: { C },
    wgsl: () => "fn value_out(i: u32) -> f32 { return x(i) * scale(i / p.C); }",
  });
}
