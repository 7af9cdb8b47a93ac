/** matmul: where its operands' elements lie. */
import type { MatmulOptions, Tensor } from "../../device.ts";
import type { MatmulKernels } from "../matmulKernels.ts";
import type { Programs } from "../program.ts";
import { product } from "./product.wgsl.ts";

/** Which part of a·b is computed, and where it goes. */
export interface Part {
  /** Columns of it. */
  N: number;
  K: number;
  /** Its rows are [first, first + rows) of the product's. */
  first: number;
  rows: number;
  /** Where its columns begin in b, which is not transposed then, and columns of b: 0 and N unless said. */
  from?: { first: number; stride: number };
  /** Where they begin in each row of `out`, and columns of `out`: 0 and N unless said. */
  to?: { first: number; stride: number };
}

/** A part of a·b into `out`: f32, or bf16 where N and `to` are even and its first element begins a word. */
export function matmul(
  programs: Programs,
  kernels: MatmulKernels,
  out: Tensor,
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false, accumulate = false }: MatmulOptions,
  { N, K, first, rows, from = { first: 0, stride: N }, to = { first: 0, stride: N } }: Part,
): void {
  const stride = a.shape.at(-1) ?? 1;
  product(programs, kernels, {
    name: `matmul ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`,
    out,
    a: {
      tensor: a,
      place: transposeA ? "k * p.stride + p.first + row" : "(p.first + row) * p.K + k",
      alongK: !transposeA,
      lines: [stride, transposeA ? first : 0],
    },
    b: {
      tensor: b,
      place: transposeB ? "column * p.K + k" : "k * p.b_stride + p.b_first + column",
      alongK: transposeB,
      lines: transposeB ? [K] : [from.stride, from.first],
    },
    place: "row * p.out_stride + p.out_first + column",
    params: { first, stride, b_first: from.first, b_stride: from.stride, out_first: to.first, out_stride: to.stride },
    accumulate,
    rows,
    N,
    K,
  });
}
