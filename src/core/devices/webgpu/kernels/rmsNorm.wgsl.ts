/** rmsNormForward and rmsNormBackward: a row's statistics first, then every element by itself. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { addColumnSums, rowSums } from "./reduce.wgsl.ts";

export function rmsNormForward(
  programs: Programs,
  out: Tensor,
  rstd: Tensor,
  x: Tensor,
  weight: Tensor,
  epsilon: number,
  R: number,
  C: number,
): void {
  rowSums(
    programs,
    {
      name: "rmsNormForward",
      out: rstd,
      tensors: { x },
      params: { epsilon: { f32: epsilon } },
      wgsl: () => `fn term(row: u32, column: u32) -> f32 { let v = x(row * p.columns + column); return v * v; }
fn result(row: u32, sum: f32) -> f32 { return 1.0 / sqrt(sum / f32(p.columns) + p.epsilon); }`,
    },
    R,
    C,
  );
  programs.map({
    name: "rmsNormForward",
    outs: { out },
    count: R * C,
    tensors: { x, rstd, weight },
    params: { C },
    wgsl: () => "fn value_out(i: u32) -> f32 { return weight(i % p.C) * (x(i) * rstd(i / p.C)); }",
  });
}

/** `dots` (R) f32 is room for mean(w∘dOut∘x̂). dWeight comes first: dX may be dOut. */
export function rmsNormBackward(
  programs: Programs,
  {
    dX,
    dWeight,
    dOut,
    x,
    weight,
    rstd,
    dots,
  }: { dX: Tensor | null; dWeight: Tensor | null; dOut: Tensor; x: Tensor; weight: Tensor; rstd: Tensor; dots: Tensor },
  accumulate: boolean,
  R: number,
  C: number,
): void {
  const tensors = { dOut, x, rstd };
  if (dWeight)
    addColumnSums(
      programs,
      {
        name: "rmsNormBackward",
        out: dWeight,
        tensors,
        wgsl: () => "fn term(row: u32, column: u32) -> f32 { let i = row * p.columns + column; return dOut(i) * (x(i) * rstd(row)); }",
      },
      R,
      C,
    );
  if (!dX) return;
  rowSums(
    programs,
    {
      name: "rmsNormBackward",
      out: dots,
      tensors: { ...tensors, weight },
      wgsl: () => `fn term(row: u32, column: u32) -> f32 { let i = row * p.columns + column; return weight(column) * dOut(i) * (x(i) * rstd(row)); }
fn result(row: u32, sum: f32) -> f32 { return sum / f32(p.columns); }`,
    },
    R,
    C,
  );
  programs.map({
    name: "rmsNormBackward",
    outs: { dX },
    count: R * C,
    tensors: { ...tensors, weight, dots },
    params: { C },
    accumulate,
    wgsl: () => `fn value_dX(i: u32) -> f32 {
  let row = i / p.C;
  let scale = rstd(row);
  return scale * (weight(i % p.C) * dOut(i) - x(i) * scale * dots(row));
}`,
  });
}
