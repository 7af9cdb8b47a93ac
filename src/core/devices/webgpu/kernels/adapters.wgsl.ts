/** Adapted weights: W̃ is an expression of its place, taken where a matmul brings its operand into workgroup memory. */
import type { AdaptedWeight, GroupQuantization, Tensor } from "../../device.ts";
import type { Param, Programs } from "../program.ts";
import { tiledProduct, tileGroups } from "./matmul.wgsl.ts";
import { addColumnSums, rowSums } from "./reduce.wgsl.ts";

/** What a kernel needs to say `adapted(i, j)`: entry (i, j) of W̃, unrounded. */
export interface AdaptedSource {
  /** The form, part of the kernel's name. */
  form: string;
  tensors: Record<string, Tensor>;
  params: Record<string, Param>;
  wgsl: string;
}

export function adaptedSource(adapted: AdaptedWeight): AdaptedSource {
  const { weight, scale, base } = adapted;
  const wide = weight.shape[1];
  const sum = (added: string) => (base ? `w + ${added}` : added);
  if (adapted.kind === "groupScaled") {
    const { alpha, beta } = adapted;
    return {
      form: `groupScaled${base ? "" : " added"}`,
      tensors: { weight, alpha, beta },
      params: { wide, groupRows: weight.shape[0] / alpha.shape[0], s: { f32: scale } },
      wgsl: `fn adapted(i: u32, j: u32) -> f32 {
  let w = weight(i * p.wide + j);
  return ${sum("w * p.s * beta(i) * alpha(i / p.groupRows * p.wide + j)")};
}`,
    };
  }
  const { left, right, rank, quantization } = adapted;
  const level = quantization
    ? `let group = i * (p.wide / p.groupSize) + j / p.groupSize;
  return steps(group) * (clamp(round(value / steps(group) + zeros(group)), 0.0, 15.0) - zeros(group));`
    : "return value;";
  return {
    form: `maskedLowRank${base ? "" : " added"}${quantization ? " quantized" : ""}`,
    tensors: { weight, left, right, ...(quantization ? { steps: quantization.scales, zeros: quantization.zeros } : {}) },
    params: { wide, r: right.shape[0], rank, s: { f32: scale }, ...(quantization ? { groupSize: quantization.groupSize } : {}) },
    wgsl: `fn adapted(i: u32, j: u32) -> f32 {
  let w = weight(i * p.wide + j);
  if (is_zero(w)) { return 0.0; }
  var product = 0.0;
  for (var k = 0u; k < p.rank; k++) { product += left(i * p.r + k) * right(k * p.wide + j); }
  let value = ${sum("p.s * product")};
  ${level}
}`,
  };
}

/** Rows [first, first + rows) of a·W̃ᵀ or a·W̃ into `out` (rows, N), as in {@link matmul}. */
export function adaptedMatmul(
  programs: Programs,
  out: Tensor,
  a: Tensor,
  adapted: AdaptedWeight,
  { transposeB = false, accumulate = false }: { transposeB?: boolean; accumulate?: boolean },
  { N, K, first, rows }: { N: number; K: number; first: number; rows: number },
): void {
  const source = adaptedSource(adapted);
  const bf16 = a.dtype === "bf16" || adapted.weight.dtype === "bf16";
  const value = (read: string) => (bf16 ? `rounded(${read})` : read);
  programs.run({
    name: `adaptedMatmul ${source.form} ${transposeB ? "T" : "N"}${accumulate ? " +=" : ""}`,
    tensors: { out, a, ...source.tensors },
    params: { M: rows, N, K, first, ...source.params },
    wgsl: () =>
      tiledProduct({
        declarations: source.wgsl,
        a: value("a((p.first + row) * p.K + k)"),
        b: value(transposeB ? "adapted(column, k)" : "adapted(k, column)"),
        aAlongK: true,
        bAlongK: transposeB,
        accumulate,
        words: out.dtype === "bf16",
      }),
    groups: tileGroups(rows, N),
  });
}

/** out = W̃. */
export function formAdapted(programs: Programs, out: Tensor, adapted: AdaptedWeight): void {
  const source = adaptedSource(adapted);
  programs.map({
    name: `formAdapted ${source.form}`,
    outs: { out },
    count: out.shape[0] * out.shape[1],
    tensors: source.tensors,
    params: source.params,
    wgsl: () => `${source.wgsl}\nfn value_out(i: u32) -> f32 { return adapted(i / p.wide, i % p.wide); }`,
  });
}

/** An invocation a group: its lowest and highest entry, 0 among them. */
export function fitQuantization(programs: Programs, { scales, zeros, groupSize }: GroupQuantization, weight: Tensor): void {
  const count = scales.shape[0] * scales.shape[1];
  programs.map({
    name: "fitQuantization",
    outs: { steps: scales, zeros },
    count,
    tensors: { weight },
    params: { groupSize },
    wgsl: () => `fn bounds(group: u32) -> vec2f {
  var found = vec2f(0.0, 0.0);
  for (var i = group * p.groupSize; i < (group + 1u) * p.groupSize; i++) { let w = weight(i); found = vec2f(min(found.x, w), max(found.y, w)); }
  return found;
}
fn value_steps(i: u32) -> f32 {
  let b = bounds(i);
  if (b.x == b.y) { return 1.0; }
  return (b.y - b.x) / 15.0;
}
fn value_zeros(i: u32) -> f32 { let b = bounds(i); if (b.x == 0.0) { return 0.0; } return round(-15.0 * b.x / (b.y - b.x)); }`,
  });
}

/** Rows [first, first + rows) of G = dOutᵀ·x into `tile` (rows, in) f32. */
export function gradientRows(programs: Programs, tile: Tensor, dOut: Tensor, x: Tensor, first: number, rows: number): void {
  const [N, outs] = dOut.shape;
  const wide = x.shape[1];
  const bf16 = dOut.dtype === "bf16" || x.dtype === "bf16";
  const value = (tensor: Tensor, read: string) => (bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read);
  programs.run({
    name: "gradientRows",
    tensors: { out: tile, dOut, x },
    params: { M: rows, N: wide, K: N, outs, first },
    wgsl: () =>
      tiledProduct({
        a: value(dOut, "dOut(k * p.outs + p.first + row)"),
        b: value(x, "x(k * p.N + column)"),
        aAlongK: false,
        bAlongK: false,
        accumulate: false,
      }),
    groups: tileGroups(rows, wide),
  });
}

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
