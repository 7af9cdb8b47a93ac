/**
 * matmul: which kernel and which tile a product takes, and where its operands' elements lie.
 */
import type { MatmulOptions, Tensor } from "../../device.ts";
import { type MatmulKernels, matmulKernel } from "../matmulKernels.ts";
import type { Programs } from "../program.ts";
import { matrixProduct } from "./matrixProduct.wgsl.ts";
import { tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

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
  if (rows === 0 || N === 0) return;
  const bf16 = a.dtype === "bf16" || b.dtype === "bf16";
  const kernel = matmulKernel(kernels.units, bf16);
  const form = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}${accumulate ? " +=" : ""}`;
  const scaled = kernel.kind === "f32" ? null : kernels.scales.of(a, b);
  const tensors = { out, a, b, ...(scaled ? { scales: kernels.scales.tensor } : {}) };
  const windows = { b_first: from.first, b_stride: from.stride, out_first: to.first, out_stride: to.stride };
  const params = { M: rows, N, K, first, stride: a.shape.at(-1) ?? 1, ...windows, ...(scaled ? { scale_a: scaled[0], scale_b: scaled[1] } : {}) };
  const places = {
    a: transposeA ? "k * p.stride + p.first + row" : "(p.first + row) * p.K + k",
    b: transposeB ? "column * p.K + k" : "k * p.b_stride + p.b_first + column",
    out: "row * p.out_stride + p.out_first + column",
  };
  const words = out.dtype === "bf16";
  if (kernel.kind === "matrix") {
    const wide = programs.wide(
      { a: { tensor: a, places: [params.stride, transposeA ? first : 0] }, b: { tensor: b, places: transposeB ? [K] : [from.stride, from.first] } },
      [out, kernels.scales.tensor],
    );
    const { shape, timed } = kernels.tuner.choose(`matrix ${form} ${wide}`, kernel.shapes, { rows, N, K });
    programs.run({
      name: `matmul ${form} matrix ${shape.rows} ${shape.columns}`,
      enables: kernel.fragments.enables,
      tensors,
      wide,
      params,
      timed,
      wgsl: () =>
        matrixProduct({
          fragments: kernel.fragments,
          unit: kernel.unit,
          shape,
          places,
          wide,
          aAlongK: !transposeA,
          bAlongK: transposeB,
          accumulate,
          words,
        }),
      groups: tileGroups(rows, N, shape),
    });
    return;
  }
  const half = kernel.kind === "f16";
  const value = (name: "a" | "b", tensor: Tensor) => {
    const read = `${name}(${places[name]})`;
    const element = bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read;
    return half ? `${element} * up_${name}` : element;
  };
  const { shape, timed } = kernels.tuner.choose(`${kernel.kind} ${form}`, kernel.shapes, { rows, N, K });
  programs.run({
    name: `matmul ${form} ${kernel.kind} ${shape.rows} ${shape.columns}`,
    enables: half ? ["f16"] : [],
    tensors,
    params,
    timed,
    wgsl: () =>
      tiledProduct({
        tile: shape,
        half,
        accumulate,
        words,
        place: places.out,
        a: value("a", a),
        b: value("b", b),
        aAlongK: !transposeA,
        bAlongK: transposeB,
      }),
    groups: tileGroups(rows, N, shape),
  });
}
