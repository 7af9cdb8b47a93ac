/** Blocks of a weight and column slices of an activation, for SMT. Tables are integers on the card: six a block, as device.ts says. */
import type { Block } from "../../blockShapes.ts";
import { type BlockMean, blockTableStride, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { tiledProduct } from "./matmul.wgsl.ts";

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

const fields = `struct Block { row: u32, rows: u32, column: u32, columns: u32, offset: u32, slice: u32 }
fn block_of(i: u32) -> Block {
  let at = i * ${blockTableStride}u;
  return Block(u32(table(at)), u32(table(at + 1u)), u32(table(at + 2u)), u32(table(at + 3u)), u32(table(at + 4u)), u32(table(at + 5u)));
}`;

/** out (flat f32) = the blocks of weight; table (blocks · 6) i32. One row of workgroups a block. */
export function gatherBlocks(programs: Programs, out: Tensor, weight: Tensor, table: Tensor, blocks: number, largest: number, width: number): void {
  programs.run({
    name: "gatherBlocks",
    tensors: { out, weight, table },
    params: { width, blocks },
    wgsl: () => `${fields}
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.z * groups.y + group.y;
  if (index >= p.blocks) { return; }
  let block = block_of(index);
  let i = group.x * 64u + lane;
  if (i >= block.rows * block.columns) { return; }
  set_out(block.offset + i, weight((block.row + i / block.columns) * p.width + block.column + i % block.columns));
}`,
    groups: [Math.ceil(largest / 64), Math.min(blocks, 65535), Math.ceil(blocks / 65535)],
  });
}

/** Rows of the weight that hold one block, of which only the block's entries change. `weight` is those rows; values begin at element `offset`. */
export function scatterBlock(
  programs: Programs,
  rows: Tensor,
  values: Tensor,
  width: number,
  { rowCount, columnStart, columnCount, offset }: Pick<Block, "rowCount" | "columnStart" | "columnCount" | "offset">,
): void {
  programs.map({
    name: "scatterBlock",
    outs: { rows },
    count: rowCount * width,
    tensors: { values },
    params: { width, column: columnStart, columns: columnCount, offset },
    wgsl: () => `fn value_rows(i: u32) -> f32 {
  let c = i % p.width;
  if (c < p.column || c >= p.column + p.columns) { return rows(i); }
  return values(p.offset + i / p.width * p.columns + c - p.column);
}`,
  });
}

/** All blocks at once, where no two share a word of the weight: f32, or bf16 with even columns. One invocation an entry, or a word. */
export function scatterBlocks(
  programs: Programs,
  weight: Tensor,
  values: Tensor,
  table: Tensor,
  blocks: number,
  largest: number,
  width: number,
): void {
  const bf16 = weight.dtype === "bf16";
  programs.run({
    name: "scatterBlocks",
    tensors: { weight, values, table },
    params: { width, blocks },
    wgsl: () => `${fields}
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.z * groups.y + group.y;
  if (index >= p.blocks) { return; }
  let block = block_of(index);
  let i = (group.x * 64u + lane)${bf16 ? " * 2u" : ""};
  if (i >= block.rows * block.columns) { return; }
  let to = (block.row + i / block.columns) * p.width + block.column + i % block.columns;
  ${
    bf16
      ? "set_word_weight((p.at_weight + to) >> 1u, bf16_bits(values(block.offset + i)) | (bf16_bits(values(block.offset + i + 1u)) << 16u));"
      : "set_weight(to, values(block.offset + i));"
  }
}`,
    groups: [Math.ceil(largest / (bf16 ? 128 : 64)), Math.min(blocks, 65535), Math.ceil(blocks / 65535)],
  });
}

/** dBlocks adds dOut[:, rows]ᵀ·slices[:, its columns] for one block (blocks differ in size, and a dispatch has one). */
export function blockGradient(
  programs: Programs,
  dBlocks: Tensor,
  dOut: Tensor,
  slices: Tensor,
  N: number,
  out: number,
  gathered: number,
  block: Block,
): void {
  const { rowStart, rowCount: rows, columnCount: columns, offset, sliceStart } = block;
  const bf16 = dOut.dtype === "bf16" || slices.dtype === "bf16";
  const value = (tensor: Tensor, read: string) => (bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read);
  programs.run({
    name: "blockGradient",
    tensors: { out: dBlocks, dOut, slices },
    params: { M: rows, N: columns, K: N, rowStart, offset, sliceStart, outs: out, gathered },
    wgsl: () =>
      tiledProduct({
        a: value(dOut, "dOut(k * p.outs + p.rowStart + row)"),
        b: value(slices, "slices(k * p.gathered + p.sliceStart + column)"),
        aAlongK: false,
        bAlongK: false,
        accumulate: true,
        place: "p.offset + row * p.N + column",
      }),
    groups: [Math.ceil(columns / 64), Math.ceil(rows / 64), 1],
  });
}

/** scores adds the mean of |g| or g over each l × l block, g = dOutᵀ·x formed a tile at a time; a workgroup a block. */
export function blockScores(
  programs: Programs,
  scores: Tensor,
  dOut: Tensor,
  x: Tensor,
  l: number,
  signed: boolean,
  N: number,
  out: number,
  C: number,
): void {
  const bf16 = dOut.dtype === "bf16" || x.dtype === "bf16";
  const value = (tensor: Tensor, read: string) => (bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read);
  programs.run({
    name: `blockScores ${signed ? "signed" : "absolute"}`,
    tensors: { scores, dOut, x },
    params: { N, outs: out, C, l, across: Math.ceil(C / l) },
    wgsl: () => `var<workgroup> tile_d: array<f32, 256>;
var<workgroup> tile_x: array<f32, 256>;
var<workgroup> partial: array<f32, 256>;
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * p.l;
  let column0 = group.x * p.l;
  let rows = min(p.l, p.outs - row0);
  let columns = min(p.l, p.C - column0);
  var sum = 0.0;
  for (var r = 0u; r < rows; r += 16u) { for (var c = 0u; c < columns; c += 16u) {
    var g = 0.0;
    for (var n0 = 0u; n0 < p.N; n0 += 16u) {
      workgroupBarrier();
      let n = n0 + local.y;
      tile_d[lane] = 0.0;
      tile_x[lane] = 0.0;
      if (n < p.N && r + local.x < rows) { tile_d[lane] = ${value(dOut, "dOut(n * p.outs + row0 + r + local.x)")}; }
      if (n < p.N && c + local.x < columns) { tile_x[lane] = ${value(x, "x(n * p.C + column0 + c + local.x)")}; }
      workgroupBarrier();
      let depth = min(16u, p.N - n0);
      for (var k = 0u; k < depth; k++) { g += tile_d[k * 16u + local.y] * tile_x[k * 16u + local.x]; }
    }
    if (r + local.y < rows && c + local.x < columns) { sum += ${signed ? "g" : "abs(g)"}; }
  } }
  partial[lane] = sum;
  for (var step = 128u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  if (lane == 0u) { let at = group.y * p.across + group.x; set_scores(at, scores(at) + partial[0] / f32(rows * columns)); }
}`,
    groups: [Math.ceil(C / l), Math.ceil(out / l), 1],
  });
}

const meanOf: Record<BlockMean, string> = { value: "v", absolute: "abs(v)", squareScaled: "v * v * columnScale(column)" };

/** scores = the mean of each block; a workgroup a block. */
export function blockMeans(
  programs: Programs,
  scores: Tensor,
  x: Tensor,
  l: number,
  mean: BlockMean,
  columnScale: Tensor | null,
  rows: number,
  columns: number,
): void {
  programs.run({
    name: `blockMeans ${mean}`,
    tensors: columnScale ? { scores, x, columnScale } : { scores, x },
    params: { rows, columns, l, across: Math.ceil(columns / l) },
    wgsl: () => `var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * p.l;
  let column0 = group.x * p.l;
  let height = min(p.l, p.rows - row0);
  let width = min(p.l, p.columns - column0);
  var sum = 0.0;
  for (var i = lane; i < height * width; i += 64u) {
    let column = column0 + i % width;
    let v = x((row0 + i / width) * p.columns + column);
    sum += ${meanOf[mean]};
  }
  partial[lane] = sum;
  for (var step = 32u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  if (lane == 0u) { set_scores(group.y * p.across + group.x, partial[0] / f32(height * width)); }
}`,
    groups: [Math.ceil(columns / l), Math.ceil(rows / l), 1],
  });
}
