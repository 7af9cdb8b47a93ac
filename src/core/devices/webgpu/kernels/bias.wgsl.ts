/** addBias and biasBackward. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { addColumnSums } from "./reduce.wgsl.ts";

export function addBias(programs: Programs, out: Tensor, bias: Tensor, C: number): void {
  programs.map({
    name: "addBias",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { bias },
    params: { C },
    accumulate: true,
    wgsl: () => "fn value_out(i: u32) -> f32 { return bias(i % p.C); }",
  });
}

/** dBias (C) adds the columns' sums of dOut (N, C). */
export function biasBackward(programs: Programs, dBias: Tensor, dOut: Tensor, N: number, C: number): void {
  const wgsl = () => "fn term(row: u32, column: u32) -> f32 { return x(row * p.columns + column); }";
  addColumnSums(programs, { name: "biasBackward", out: dBias, tensors: { x: dOut }, wgsl }, N, C);
}
