/** adaptedGradients: rows of the dense gradient at a time, masked and reduced to the adapter's. */
import type { AdaptedWeight, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { addColumnSums, rowSums } from "./reduce.wgsl.ts";
import { tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

/** With `tile` = rows of G: dLeft (out, r) and dRight (r, in) add the parts of those rows, the mask taken on the way. */
export function addLowRankGradients(
  programs: Programs,
  { dLeft, dRight, tile }: { dLeft: Tensor; dRight: Tensor; tile: Tensor },
  adapted: Extract<AdaptedWeight, { kind: "maskedLowRank" }>,
  first: number,
  rows: number,
): void {
  const { weight, left, right, rank, scale } = adapted;
  const wide = weight.shape[1];
  const params = { first, wide, r: right.shape[0], s: { f32: scale } };
  const masked =
    "fn masked(i: u32, j: u32) -> f32 { if (is_zero(weight((p.first + i) * p.wide + j))) { return 0.0; } return p.s * tile(i * p.wide + j); }";
  const place = (row: string, column: string) => `(${row}) * p.r + ${column}`;
  programs.run({
    name: "lowRankGradient left",
    tensors: { out: dLeft, tile, weight, right },
    params: { M: rows, N: rank, K: wide, ...params },
    wgsl: () =>
      tiledProduct({
        declarations: masked,
        a: "masked(row, k)",
        b: "right(column * p.wide + k)",
        aAlongK: true,
        bAlongK: true,
        accumulate: true,
        place: place("p.first + row", "column"),
      }),
    groups: tileGroups(rows, rank),
  });
  programs.run({
    name: "lowRankGradient right",
    tensors: { out: dRight, tile, weight, left },
    params: { M: rank, N: wide, K: rows, ...params },
    wgsl: () =>
      tiledProduct({
        declarations: masked,
        a: "left((p.first + k) * p.r + row)",
        b: "masked(k, column)",
        aAlongK: false,
        bAlongK: false,
        accumulate: true,
      }),
    groups: tileGroups(rank, wide),
  });
}

/** With `tile` = rows of G: dAlpha (groups, in) and dBeta (out) add the parts of those rows; all of them lie in one group. */
export function addGroupGradients(
  programs: Programs,
  { dAlpha, dBeta, tile }: { dAlpha: Tensor; dBeta: Tensor; tile: Tensor },
  { weight, alpha, beta, scale }: Extract<AdaptedWeight, { kind: "groupScaled" }>,
  group: number,
  first: number,
  rows: number,
): void {
  const wide = weight.shape[1];
  const params = { first, group, s: { f32: scale } };
  const entry =
    "fn entry(row: u32, column: u32) -> f32 { return p.s * weight((p.first + row) * p.columns + column) * tile(row * p.columns + column); }";
  rowSums(
    programs,
    {
      name: "groupGradient beta",
      out: dBeta,
      tensors: { tile, weight, alpha },
      params,
      wgsl: () => `${entry}
fn term(row: u32, column: u32) -> f32 { return entry(row, column) * alpha(p.group * p.columns + column); }
fn result(row: u32, sum: f32) -> f32 { return out(row) + sum; }`,
    },
    rows,
    wide,
  );
  addColumnSums(
    programs,
    {
      name: "groupGradient alpha",
      out: dAlpha,
      tensors: { tile, weight, beta },
      params,
      wgsl: () => `${entry}\nfn term(row: u32, column: u32) -> f32 { return entry(row, column) * beta(p.first + row); }`,
    },
    rows,
    wide,
  );
}
