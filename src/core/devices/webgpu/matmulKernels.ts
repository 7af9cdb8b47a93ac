/**
 * Which kernel a matmul takes, in one place. It follows from what the card offers and whether an operand is bf16, never from a timing or a shape, because the
 * kernels differ in the last bits; a timing chooses among tiles, which do not.
 */
import type { Commands } from "./commands.ts";
import { type Fragments, type MatrixShape, type MatrixUnit, matrixShapes, subgroupFragments } from "./kernels/matrixProduct.wgsl.ts";
import { type TileShape, tileShapes } from "./kernels/tiledProduct.wgsl.ts";
import type { Scales } from "./scales.ts";
import { TileTuner } from "./tileTuner.ts";

/** What an opened card multiplies with. */
export interface ProductUnits {
  /** f16 in workgroup memory. */
  f16: boolean;
  /** Tiles of the kernels without matrix units, from the smallest. */
  tiles: readonly TileShape[];
  /** Subgroup matrices of f16 with f32 results. */
  matrix: MatrixUnits | null;
}

export interface MatrixUnits {
  unit: MatrixUnit;
  fragments: Fragments;
  shapes: readonly MatrixShape[];
}

export type MatmulKernel = { kind: "f32" | "f16"; shapes: readonly TileShape[] } | ({ kind: "matrix" } & MatrixUnits);

/** The kernel for operands of which one is bf16, or of two in f32. */
export function matmulKernel({ f16, tiles, matrix }: ProductUnits, bf16: boolean): MatmulKernel {
  if (bf16 && matrix) return { kind: "matrix", ...matrix };
  return { kind: bf16 && f16 ? "f16" : "f32", shapes: tiles };
}

/** What a device with these features, limits and matrix units multiplies with. */
export function productUnits(device: Pick<GPUDevice, "features" | "limits">, info: GPUAdapterInfo): ProductUnits {
  const f16 = device.features.has("shader-f16");
  const unit = f16 && device.features.has(subgroupMatrix) ? matrixUnit(info as MatrixInfo) : null;
  const shapes = unit ? matrixShapes(unit, device.limits) : [];
  return { f16, tiles: tileShapes, matrix: unit && shapes.length > 0 ? { unit, fragments: subgroupFragments(unit), shapes } : null };
}

/** The same with these tiles alone: the matrix units' own, or those that f16 and f32 share. */
function withShapes(units: ProductUnits, kind: MatmulKernel["kind"], shapes: readonly TileShape[]): ProductUnits {
  if (kind === "matrix" && units.matrix) return { ...units, matrix: { ...units.matrix, shapes: shapes as readonly MatrixShape[] } };
  return { ...units, tiles: shapes };
}

/** For people, and in a run's checkpoints: a run that goes on with other units differs in the last bits. */
export function describeUnits({ f16, matrix }: ProductUnits): string {
  if (matrix) return `f16 tensor cores ${matrix.unit.M}×${matrix.unit.N}×${matrix.unit.K}`;
  return f16 ? "f16" : "f32";
}

/** Dawn's name, not yet in WebGPU's types. */
export const subgroupMatrix = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

interface MatrixInfo extends GPUAdapterInfo {
  subgroupMatrixConfigs?: Iterable<{ componentType: string; resultComponentType: string; M: number; N: number; K: number }>;
}

/** The largest that multiplies f16 into f32. Where the size of subgroups may vary, which invocations make one cannot be known before. */
function matrixUnit({ subgroupMatrixConfigs, subgroupMinSize, subgroupMaxSize }: MatrixInfo): MatrixUnit | null {
  if (subgroupMaxSize === undefined || subgroupMinSize !== subgroupMaxSize) return null;
  const fitting = [...(subgroupMatrixConfigs ?? [])].filter((unit) => unit.componentType === "f16" && unit.resultComponentType === "f32");
  const volume = ({ M, N, K }: { M: number; N: number; K: number }) => M * N * K;
  const [largest] = fitting.sort((one, other) => volume(other) - volume(one));
  return largest ? { M: largest.M, N: largest.N, K: largest.K, lanes: subgroupMaxSize } : null;
}

/** What is wrong with products of operands of that dtype in all forms or in one; null is nothing. */
type ProblemOf = (dtype: "bf16" | "f32", forms: "all" | "one") => Promise<string | null>;

/** What matmuls of an opened device share. */
export class MatmulKernels {
  readonly scales: Scales;
  readonly tuner: TileTuner;
  #units: ProductUnits;
  #left: string[] = [];

  constructor(units: ProductUnits, scales: Scales, commands: Commands) {
    this.#units = units;
    this.scales = scales;
    this.tuner = new TileTuner(commands.canTime);
  }

  get units(): ProductUnits {
    return this.#units;
  }

  /**
   * Tries every tile alone, because a tile is first taken in the midst of a run: the fastest units' smallest in all forms, larger ones in one, those of f32
   * too. Tiles that fail are left, and units without a tile are left for the next slower ones; the device's description says so. On a card with neither
   * f16 nor matrix units nothing is tried.
   */
  async prove(problemOf: ProblemOf): Promise<void> {
    if (!this.#units.f16) return;
    while (this.#units.f16 && !(await this.#proveTiles("bf16", problemOf))) this.#leaveFastest();
    await this.#proveTiles("f32", problemOf);
  }

  /** False, and everything as it was, when no tile computes rightly. The smallest of f32 counts as right, since nothing is slower. */
  async #proveTiles(dtype: "bf16" | "f32", problemOf: ProblemOf): Promise<boolean> {
    const all = this.#units;
    const kernel = matmulKernel(all, dtype === "bf16");
    const right: TileShape[] = [];
    for (const [i, shape] of kernel.shapes.entries()) {
      this.#units = withShapes(all, kernel.kind, [shape]);
      const problem = i === 0 && dtype === "f32" ? null : await problemOf(dtype, i === 0 ? "all" : "one");
      if (problem === null) right.push(shape);
      else this.#left.push(`${kernel.kind === "f32" ? "f32" : describeUnits(all)} in ${shape.rows}×${shape.columns} left: ${problem}`);
    }
    this.#units = right.length > 0 ? withShapes(all, kernel.kind, right) : all;
    return right.length > 0;
  }

  #leaveFastest(): void {
    this.#units = { ...this.#units, f16: this.#units.matrix !== null, matrix: null };
  }

  get description(): string {
    return [describeUnits(this.#units), ...this.#left].join("; ");
  }
}
