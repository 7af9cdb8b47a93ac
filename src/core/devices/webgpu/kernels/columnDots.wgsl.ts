/** columnDots: Σ a∘b of each column. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { addColumnSums } from "./reduce.wgsl.ts";

/** out (C) adds. */
export function columnDots(programs: Programs, out: Tensor, a: Tensor, b: Tensor, N: number, C: number): void {
  const wgsl = () => "fn term(row: u32, column: u32) -> f32 { let i = row * p.columns + column; return a(i) * b(i); }";
  addColumnSums(programs, { name: "columnDots", out, tensors: { a, b }, wgsl }, N, C);
}
