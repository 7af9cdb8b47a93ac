/** blockGradients: the products of all blocks of a selection at once, each with its own size and places. */
import type { Block } from "../../blockShapes.ts";
import type { Tensor } from "../../device.ts";
import type { MatmulKernels } from "../matmulKernels.ts";
import type { Programs } from "../program.ts";
import { blockOf } from "./blockTable.wgsl.ts";
import { product } from "./product.wgsl.ts";

/** Of a dispatch in one dimension. */
const mostBlocks = 65535;

/** dBlocks adds, block by block, dOut[:, rows]ᵀ·slices[:, its columns]; table (blocks · 6) i32 is the blocks as kernels read them, K the tokens. */
export function blockGradients(
  programs: Programs,
  kernels: MatmulKernels,
  dBlocks: Tensor,
  dOut: Tensor,
  slices: Tensor,
  table: Tensor,
  blocks: readonly Block[],
  K: number,
): void {
  const largest = (count: (block: Block) => number) => blocks.reduce((most, block) => Math.max(most, count(block)), 0);
  const [stride, b_stride] = [dOut, slices].map(({ shape }) => shape.at(-1) ?? 1);
  for (let first = 0; first < blocks.length; first += mostBlocks)
    product(programs, kernels, {
      name: "blockGradients",
      out: dBlocks,
      a: { tensor: dOut, place: "k * p.stride + block.row + row", alongK: false, lines: [stride, ...blocks.map(({ rowStart }) => rowStart)] },
      b: {
        tensor: slices,
        place: "k * p.b_stride + block.slice + column",
        alongK: false,
        lines: [b_stride, ...blocks.map(({ sliceStart }) => sliceStart)],
      },
      place: "block.offset + row * block.columns + column",
      params: { stride, b_stride, first },
      tensors: { table },
      accumulate: true,
      rows: largest(({ rowCount }) => rowCount),
      N: largest(({ columnCount }) => columnCount),
      K,
      several: {
        count: Math.min(mostBlocks, blocks.length - first),
        declarations: `${blockOf}\nvar<private> block: Block;`,
        begin: "block = block_of(p.first + group.z);",
        rows: "block.rows",
        columns: "block.columns",
      },
    });
}
