/** gatherColumns: column slices of an activation. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** out (N, gathered) = x[:, source[column]]; source (gathered) i32. */
export function gatherColumns(programs: Programs, out: Tensor, x: Tensor, source: Tensor, N: number, C: number, gathered: number): void {
  programs.map({
    name: "gatherColumns",
    outs: { out },
    count: N * gathered,
    tensors: { x, source },
    params: { C, gathered },
    wgsl: () => "fn value_out(i: u32) -> f32 { return x(i / p.gathered * p.C + u32(source(i % p.gathered))); }",
  });
}
