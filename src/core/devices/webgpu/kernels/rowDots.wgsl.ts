/** rowDots: Σ a∘b of each row. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { rowSums } from "./reduce.wgsl.ts";

export function rowDots(programs: Programs, out: Tensor, a: Tensor, b: Tensor, R: number, C: number): void {
  const wgsl = () => `fn term(row: u32, column: u32) -> f32 { let i = row * p.columns + column; return a(i) * b(i); }
fn result(row: u32, sum: f32) -> f32 { return sum; }`;
  rowSums(programs, { name: "rowDots", out, tensors: { a, b }, wgsl }, R, C);
}
