/** scatterBlocks: blocks back into a weight; where two would share a word, one after the other. */
import type { Block } from "../../blockShapes.ts";
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { blockOf } from "./blockTable.wgsl.ts";

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
    wgsl: () => `${blockOf}
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
