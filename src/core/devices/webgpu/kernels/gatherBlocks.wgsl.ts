/** gatherBlocks: blocks of a weight, one after the other. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { blockOf } from "./blockTable.wgsl.ts";

/** out (flat f32) = the blocks of weight; table (blocks · 6) i32. One row of workgroups a block. */
export function gatherBlocks(programs: Programs, out: Tensor, weight: Tensor, table: Tensor, blocks: number, largest: number, width: number): void {
  programs.run({
    name: "gatherBlocks",
    tensors: { out, weight, table },
    params: { width, blocks },
    wgsl: () => `${blockOf}
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
