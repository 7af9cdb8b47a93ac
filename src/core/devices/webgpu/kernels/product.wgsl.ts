/** Which kernel and which tile a product takes, be it matmul's or those of a selection's blocks. No op by itself. */
import type { Tensor } from "../../device.ts";
import { type MatmulKernels, matmulKernel } from "../matmulKernels.ts";
import type { Programs } from "../program.ts";
import { matrixProduct } from "./matrixProduct.wgsl.ts";
import { type Several, tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

export interface Operand {
  tensor: Tensor;
  /** Which element of it is (row, k), or (k, column). */
  place: string;
  /** Whether neighbouring k lie side by side in it. */
  alongK: boolean;
  /** How long its lines are and where in them the product's begin: what divides these divides where any line begins. */
  lines: readonly number[];
}

/** out (rows, N), of f32, or of bf16 with words of two neighbouring columns, from operands of either dtype. */
export interface Product {
  name: string;
  out: Tensor;
  a: Operand;
  b: Operand;
  /** Which element of out (row, column) is. */
  place: string;
  /** What the places read beside `p.K`, or `p.M` and `p.N`. */
  params: Record<string, number>;
  tensors?: Record<string, Tensor>;
  accumulate: boolean;
  /** Of the largest result where there are several. */
  rows: number;
  N: number;
  K: number;
  several?: Several & { count: number };
}

export function product(programs: Programs, kernels: MatmulKernels, o: Product): void {
  const { out, a, b, rows, N, K, accumulate, several } = o;
  if (rows === 0 || N === 0) return;
  const bf16 = a.tensor.dtype === "bf16" || b.tensor.dtype === "bf16";
  const kernel = matmulKernel(kernels.units, bf16);
  const name = `${o.name}${accumulate ? " +=" : ""} ${kernel.kind}`;
  const scaled = kernel.kind === "f32" ? null : kernels.scales.of(a.tensor, b.tensor);
  const tensors = { out, a: a.tensor, b: b.tensor, ...o.tensors, ...(scaled ? { scales: kernels.scales.tensor } : {}) };
  const params = { M: rows, N, K, ...o.params, ...(scaled ? { scale_a: scaled[0], scale_b: scaled[1] } : {}) };
  const common = { aAlongK: a.alongK, bAlongK: b.alongK, accumulate, words: out.dtype === "bf16", several };
  const size = { rows, N, K };
  if (kernel.kind === "matrix") {
    const { unit, fragments } = kernel;
    const others = [out, kernels.scales.tensor, ...Object.values(o.tensors ?? {})];
    const wide = programs.wide({ a: { tensor: a.tensor, places: a.lines }, b: { tensor: b.tensor, places: b.lines } }, others);
    const { shape, timed } = kernels.tuner.choose(`${name} ${wide}`, kernel.shapes, size);
    programs.run({
      name: `${name} ${shape.rows} ${shape.columns}`,
      enables: fragments.enables,
      tensors,
      wide,
      params,
      timed,
      wgsl: () => matrixProduct({ ...common, fragments, unit, shape, places: { a: a.place, b: b.place, out: o.place }, wide }),
      groups: tileGroups(rows, N, shape, several?.count),
    });
    return;
  }
  const half = kernel.kind === "f16";
  const value = (operand: "a" | "b", { tensor, place }: Operand) => {
    const read = `${operand}(${place})`;
    const element = bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read;
    return half ? `${element} * up_${operand}` : element;
  };
  const { shape: tile, timed } = kernels.tuner.choose(name, kernel.shapes, size);
  programs.run({
    name: `${name} ${tile.rows} ${tile.columns}`,
    enables: half ? ["f16"] : [],
    tensors,
    params,
    timed,
    wgsl: () => tiledProduct({ ...common, tile, half, place: o.place, a: value("a", a), b: value("b", b) }),
    groups: tileGroups(rows, N, tile, several?.count),
  });
}
