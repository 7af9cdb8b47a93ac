/** blockGradients: a stripe product for each block. */
import type { Block } from "../../blockShapes.ts";
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { tiledProduct } from "./tiledProduct.wgsl.ts";

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
