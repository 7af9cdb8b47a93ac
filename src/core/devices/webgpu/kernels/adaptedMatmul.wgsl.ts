/** adaptedMatmul: a product with a weight that exists only in the tiles it brings. */
import type { AdaptedWeight, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { adaptedSource } from "./adaptedWeight.wgsl.ts";
import { tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

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
  const entry = bf16 ? "adapted_bf16" : "adapted";
  programs.run({
    name: `adaptedMatmul ${source.form} ${transposeB ? "T" : "N"}${accumulate ? " +=" : ""}`,
    tensors: { out, a, ...source.tensors },
    params: { M: rows, N, K, first, ...source.params },
    wgsl: () =>
      tiledProduct({
        declarations: source.wgsl,
        a: bf16 ? "rounded(a((p.first + row) * p.K + k))" : "a((p.first + row) * p.K + k)",
        b: transposeB ? `${entry}(column, k)` : `${entry}(k, column)`,
        aAlongK: true,
        bAlongK: transposeB,
        accumulate,
        words: out.dtype === "bf16",
      }),
    groups: tileGroups(rows, N),
  });
}
