/** The table of blocks as kernels read it: six integers a block, as device.ts says. Shared by ops; no op of the interface by itself. */
import { blockTableStride } from "../../device.ts";

/** `block_of(i)`: block i of the tensor `table`. */
export const blockOf = `struct Block { row: u32, rows: u32, column: u32, columns: u32, offset: u32, slice: u32 }
fn block_of(i: u32) -> Block {
  let at = i * ${blockTableStride}u;
  return Block(u32(table(at)), u32(table(at + 1u)), u32(table(at + 2u)), u32(table(at + 3u)), u32(table(at + 4u)), u32(table(at + 5u)));
}`;
