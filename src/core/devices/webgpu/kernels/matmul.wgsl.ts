/**
 * matmul: tiles of 64 × 64 of the result, 16 × 16 invocations with 4 × 4 sums each, f32 throughout. Operands of either dtype and orientation are brought into
 * workgroup memory a slice of k at a time; one standing beside a bf16 operand is rounded to bf16 there.
 */
import type { MatmulOptions, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

const tile = 64;
const slice = 16;
/** Sums of one invocation, in rows and in columns. */
const own = 4;

/** Rows [first, first + rows) of a·b into `out` (rows, N): f32, or bf16 with even N from an even place. */
export function matmul(
  programs: Programs,
  out: Tensor,
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false, accumulate = false }: MatmulOptions,
  { N, K, first, rows }: { N: number; K: number; first: number; rows: number },
): void {
  const bf16 = a.dtype === "bf16" || b.dtype === "bf16";
  const value = (tensor: Tensor, read: string) => (bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read);
  programs.run({
    name: `matmul ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}${accumulate ? " +=" : ""}`,
    tensors: { out, a, b },
    params: { M: rows, N, K, first, stride: a.shape.at(-1) ?? 1 },
    wgsl: () =>
      tiledProduct({
        accumulate,
        words: out.dtype === "bf16",
        a: value(a, transposeA ? "a(k * p.stride + p.first + row)" : "a((p.first + row) * p.K + k)"),
        b: value(b, transposeB ? "b(column * p.K + k)" : "b(k * p.N + column)"),
        aAlongK: !transposeA,
        bAlongK: transposeB,
      }),
    groups: tileGroups(rows, N),
  });
}

/** Workgroups of {@link tiledProduct}. */
export function tileGroups(rows: number, columns: number): [number, number, number] {
  return [Math.ceil(columns / tile), Math.ceil(rows / tile), 1];
}

export interface TiledProduct {
  /** Element (row, k) of the left operand as WGSL. */
  a: string;
  /** Element (k, column) of the right one. */
  b: string;
  /** Whether neighbouring k lie side by side in memory: says in which order invocations fetch. */
  aAlongK: boolean;
  bAlongK: boolean;
  accumulate: boolean;
  /** out is bf16, N even, and its first element begins a word. */
  words?: boolean;
  /** Functions that `a` and `b` call. */
  declarations?: string;
  /** Which element of out (row, column) is; row · N + column unless said. */
  place?: string;
}

/** A kernel for out (M, N) over the parameters M, N, K. */
export function tiledProduct(o: TiledProduct): string {
  const fetch = (alongK: boolean) =>
    alongK ? `let member = index / ${slice}u; let depth = index % ${slice}u;` : `let member = index % ${tile}u; let depth = index / ${tile}u;`;
  return `${o.declarations ?? ""}
var<workgroup> tile_a: array<f32, ${tile * slice}>;
var<workgroup> tile_b: array<f32, ${tile * slice}>;
fn element_a(row: u32, k: u32) -> f32 { return ${o.a}; }
fn element_b(k: u32, column: u32) -> f32 { return ${o.b}; }
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let row0 = group.y * ${tile}u;
  let column0 = group.x * ${tile}u;
  var sums: array<array<f32, ${own}>, ${own}>;
  for (var k0 = 0u; k0 < p.K; k0 += ${slice}u) {
    for (var index = invocation; index < ${tile * slice}u; index += 256u) {
      { ${fetch(o.aAlongK)}
        var value = 0.0;
        if (row0 + member < p.M && k0 + depth < p.K) { value = element_a(row0 + member, k0 + depth); }
        tile_a[depth * ${tile}u + member] = value; }
      { ${fetch(o.bAlongK)}
        var value = 0.0;
        if (column0 + member < p.N && k0 + depth < p.K) { value = element_b(k0 + depth, column0 + member); }
        tile_b[depth * ${tile}u + member] = value; }
    }
    workgroupBarrier();
    // Beyond K everything is zero; an infinity times that zero would not be.
    let depths = min(${slice}u, p.K - k0);
    for (var k = 0u; k < depths; k++) {
      var left: array<f32, ${own}>;
      var right: array<f32, ${own}>;
      for (var i = 0u; i < ${own}u; i++) { left[i] = tile_a[k * ${tile}u + local.y * ${own}u + i]; right[i] = tile_b[k * ${tile}u + local.x * ${own}u + i]; }
      for (var i = 0u; i < ${own}u; i++) { for (var j = 0u; j < ${own}u; j++) { sums[i][j] += left[i] * right[j]; } }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < ${own}u; i++) {
    let row = row0 + local.y * ${own}u + i;
    if (row >= p.M) { break; }
    ${o.words ? storeWords(o.accumulate) : storeElements(o.accumulate, o.place ?? "row * p.N + column")}
  }
}`;
}

const storeElements = (accumulate: boolean, place: string) => `for (var j = 0u; j < ${own}u; j++) {
      let column = column0 + local.x * ${own}u + j;
      if (column < p.N) { let at = ${place}; set_out(at, sums[i][j]${accumulate ? " + out(at)" : ""}); }
    }`;

const storeWords = (accumulate: boolean) => `for (var j = 0u; j < ${own}u; j += 2u) {
      let column = column0 + local.x * ${own}u + j;
      if (column < p.N) {
        let at = row * p.N + column;
        let low = bf16_bits(sums[i][j]${accumulate ? " + out(at)" : ""});
        let high = bf16_bits(sums[i][j + 1u]${accumulate ? " + out(at + 1u)" : ""});
        set_word_out((p.at_out + at) >> 1u, low | (high << 16u));
      }
    }`;
