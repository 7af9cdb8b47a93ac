/** columnSumSquares: Σ x² of each column. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { addColumnSums } from "./reduce.wgsl.ts";

/** sums (C) adds. */
export function columnSumSquares(programs: Programs, sums: Tensor, x: Tensor, N: number, C: number): void {
  const wgsl = () => "fn term(row: u32, column: u32) -> f32 { let v = x(row * p.columns + column); return v * v; }";
  addColumnSums(programs, { name: "columnSumSquares", out: sums, tensors: { x }, wgsl }, N, C);
}
