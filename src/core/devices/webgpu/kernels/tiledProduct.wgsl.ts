/**
 * The register-tiled product that matmul and other ops use: tiles of the result, 16 × 16 invocations with 4 × 4 sums each in every 64 × 64 of a tile. Operands
 * are WGSL expressions, brought into workgroup memory a slice of k at a time, as f32 or as scaled f16. Sums are f32; of f16 operands four products are summed
 * in f16 before they are added, because many cards compute two of these in the time of one f32.
 * The rule to keep: an element's sum runs over k from first to last whatever the tile, so that the tile can be chosen by its speed.
 */
import { unscaling } from "./scale.wgsl.ts";

const slice = 16;
/** Products summed in f16. */
const halfSum = 4;
/** Operands below 2⁷: two bf16 numbers below that have a product of at most (1 − 2⁻⁸)²·2¹⁴, and four of these stay below f16's largest number, 65504. */
const lowered = 8;

/** Rows and columns of the result that a workgroup computes, multiples of 64. */
export interface TileShape {
  rows: number;
  columns: number;
}

const smallTile: TileShape = { rows: 64, columns: 64 };
/** From the smallest. */
export const tileShapes: readonly TileShape[] = [smallTile, { rows: 128, columns: 64 }, { rows: 128, columns: 128 }];

/** Workgroups of {@link tiledProduct}, in z so many products. */
export function tileGroups(rows: number, columns: number, tile: TileShape = smallTile, products = 1): [number, number, number] {
  return [Math.ceil(columns / tile.columns), Math.ceil(rows / tile.rows), products];
}

/** What differs from product to product where one dispatch computes several. */
export interface Several {
  /** Functions and private variables. */
  declarations: string;
  /** The first statements of `main`, in which `group.z` is the product. */
  begin: string;
  /** Rows and columns of the result, in place of the parameters M and N. */
  rows: string;
  columns: string;
}

export const single: Several = { declarations: "", begin: "", rows: "p.M", columns: "p.N" };

export interface TiledProduct {
  /** Element (row, k) of the left operand as WGSL. */
  a: string;
  /** Element (k, column) of the right one. */
  b: string;
  /** Whether neighbouring k lie side by side in memory: says in which order invocations fetch. */
  aAlongK: boolean;
  bAlongK: boolean;
  accumulate: boolean;
  /** out is bf16, and two neighbouring columns from an even one on are a word. */
  words?: boolean;
  /** Functions that `a` and `b` call. */
  declarations?: string;
  /** Which element of out (row, column) is; row · N + column unless said. */
  place?: string;
  /** 64 × 64 unless said. */
  tile?: TileShape;
  several?: Several;
  /** In f16: `a` and `b` are bf16 numbers multiplied by `up_a` and `up_b`, over the parameters of {@link unscaling}. */
  half?: boolean;
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** A kernel for out (M, N) over the parameters M, N, K. */
export function tiledProduct(o: TiledProduct): string {
  const { rows, columns } = o.tile ?? smallTile;
  const several = o.several ?? single;
  const [down, across] = [range(rows / 64), range(columns / 64)];
  const stored = o.half ? "f16" : "f32";
  const fetch = (member: number, alongK: boolean) =>
    alongK ? `let member = index / ${slice}u; let depth = index % ${slice}u;` : `let member = index % ${member}u; let depth = index / ${member}u;`;
  const four = (tile: string, length: number, at: string, part: number) =>
    `vec4(${range(4).map((i) => `${tile}[k * ${length}u + ${64 * part}u + ${at} * 4u + ${i}u]`)})`;
  const sums = down.flatMap((y) => range(4).flatMap((i) => across.map((x) => ({ y, i, x, name: `sum_${y}_${i}_${x}` }))));
  const addProducts = (to: string) => `
        ${down.map((y) => `let left_${y} = ${four("tile_a", rows, "local.y", y)};`).join("\n        ")}
        ${across.map((x) => `let right_${x} = ${four("tile_b", columns, "local.x", x)};`).join("\n        ")}
        ${sums.map(({ y, i, x, name }) => `${to}${name} += left_${y}[${i}] * right_${x};`).join("\n        ")}`;
  const addSlice = o.half
    ? // What lies beyond K is zero in the tiles, so the last sum may be of fewer.
      `for (var first = 0u; first < depths; first += ${halfSum}u) {
      ${sums.map(({ name }) => `var half_${name} = vec4h();`).join(" ")}
      for (var k = first; k < first + ${halfSum}u; k++) {${addProducts("half_")}
      }
      ${sums.map(({ name }) => `${name} += vec4f(half_${name});`).join("\n      ")}
    }`
    : `for (var k = 0u; k < depths; k++) {${addProducts("")}
    }`;
  return `${o.half ? unscaling(lowered) : ""}
${several.declarations}
${o.declarations ?? ""}
var<workgroup> tile_a: array<${stored}, ${rows * slice}>;
var<workgroup> tile_b: array<${stored}, ${columns * slice}>;
fn element_a(row: u32, k: u32) -> f32 { return ${o.a}; }
fn element_b(k: u32, column: u32) -> f32 { return ${o.b}; }
${store(o)}
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) invocation: u32) {
  ${several.begin}
  let row0 = group.y * ${rows}u;
  let column0 = group.x * ${columns}u;
  ${o.half ? "bring_to_scale();" : ""}
  ${sums.map(({ name }) => `var ${name} = vec4f();`).join(" ")}
  for (var k0 = 0u; k0 < p.K; k0 += ${slice}u) {
    for (var index = invocation; index < ${rows * slice}u; index += 256u) {
      ${fetch(rows, o.aAlongK)}
      var value = 0.0;
      if (row0 + member < ${several.rows} && k0 + depth < p.K) { value = element_a(row0 + member, k0 + depth); }
      tile_a[depth * ${rows}u + member] = ${stored}(value);
    }
    for (var index = invocation; index < ${columns * slice}u; index += 256u) {
      ${fetch(columns, o.bAlongK)}
      var value = 0.0;
      if (column0 + member < ${several.columns} && k0 + depth < p.K) { value = element_b(k0 + depth, column0 + member); }
      tile_b[depth * ${columns}u + member] = ${stored}(value);
    }
    workgroupBarrier();
    let depths = min(${slice}u, p.K - k0);
    ${addSlice}
    workgroupBarrier();
  }
  ${sums.map(({ y, i, x, name }) => `store(row0 + ${64 * y + i}u + local.y * 4u, column0 + ${64 * x}u + local.x * 4u, ${name});`).join("\n  ")}
}`;
}

/** Four neighbouring sums of a row, as far as they lie in the result. */
function store({ half, accumulate, words, place = "row * p.N + column", several = single }: TiledProduct): string {
  const value = (j: string, at: string) => `${half ? `unscaled(sums[${j}])` : `sums[${j}]`}${accumulate ? ` + out(${at})` : ""}`;
  return `fn store(row: u32, first: u32, sums: vec4f) {
  if (row >= ${several.rows}) { return; }
  for (var j = 0u; j < min(4u, max(${several.columns}, first) - first); j += ${words ? 2 : 1}u) {
    let column = first + j;
    let at = ${place};
    ${
      words
        ? `set_word_out((p.at_out + at) >> 1u, bf16_bits(${value("j", "at")}) | (bf16_bits(${value("j + 1u", "at + 1u")}) << 16u));`
        : `set_out(at, ${value("j", "at")});`
    }
  }
}`;
}
