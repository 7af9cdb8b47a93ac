/**
 * SMT — Sparse Matrix Tuning (arXiv 2405.15525): trains only chosen l × l blocks of the linear weights. The whole weight (out, in) serves the forward
 * pass; f32 masters, gradients and moments exist for the chosen blocks alone, flat per matrix, and each update is rounded back into the weight.
 * Choosing blocks is `selection`'s job and scoring them `scoring`'s, not this file's.
 * The rule to keep: of a stage's input only copies of the selected column slices are kept, and an (out, in) gradient is never allocated.
 */
import type { ColumnTable, Device, Tensor } from "../../devices/device.ts";
import type { LlamaTensors } from "../../model/tensors.ts";
import { frozenBackward, frozenForward, type Linear, type Parameter, parameterFor, type TuningMethod } from "../method.ts";
import { gatheredColumns, layOutBlocks, type MatrixBlocks } from "./layout.ts";
import { linearsOf } from "./scoring.ts";
import type { ChosenBlock } from "./selection.ts";

/** One matrix's blocks and what trains them. */
export interface TrainedMatrix extends MatrixBlocks {
  /** (entries) f32 each. */
  parameter: Parameter;
}

export class SparseMatrixTuning implements TuningMethod {
  readonly lowestStage: number;
  readonly parameters: Parameter[];
  readonly matrices: ReadonlyMap<string, TrainedMatrix>;
  readonly #device: Device;
  readonly #columns: ReadonlyMap<number, ColumnTable>;

  /** Copies the chosen blocks of the weights as they are now into f32 masters; moments start at zero. */
  constructor(device: Device, tensors: LlamaTensors, chosen: readonly Pick<ChosenBlock, "name" | "row" | "column">[], blockSize: number) {
    this.#device = device;
    const layout = layOutBlocks(chosen, linearsOf(tensors), blockSize);
    this.#columns = layout.columns;
    this.lowestStage = Math.min(...layout.columns.keys());
    const matrices = new Map<string, TrainedMatrix>();
    for (const [name, blocks] of layout.matrices) {
      const value = device.allocate([blocks.entries], "f32", "trainable");
      device.gatherBlocks(value, blocks.linear.weight, blocks.table);
      matrices.set(name, { ...blocks, parameter: parameterFor(device, `${name}.weight`, value) });
    }
    this.matrices = matrices;
    this.parameters = [...matrices.values()].map(({ parameter }) => parameter);
  }

  gradientOf(): null {
    return null;
  }

  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    frozenForward(this.#device, out, linear, x, accumulate);
  }

  /** Copies the stage's selected column slices (N, Σ widths); x itself is not kept. */
  saveInput(stage: number, x: Tensor): Tensor | null {
    const columns = this.#columns.get(stage);
    if (!columns) return null;
    const slices = this.#device.allocate([x.shape[0], gatheredColumns(columns)], x.dtype, "activations");
    this.#device.gatherColumns(slices, x, columns);
    return slices;
  }

  /** dW of each chosen block (r, c) adds dOut[:, r]ᵀ·x[:, c]; dX = dOut·W in full. */
  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean): void {
    const trained = this.matrices.get(linear.name);
    if (trained) this.#device.blockGradients(trained.parameter.gradient, dOut, saved as Tensor, trained.table);
    frozenBackward(this.#device, dX, linear, dOut, accumulate);
  }

  afterUpdate(): void {
    for (const { linear, parameter, table } of this.matrices.values()) this.#device.scatterBlocks(linear.weight, parameter.value, table);
  }

  /** Gives the masters, gradients and moments back; the weights keep what they were trained to. */
  release(): void {
    for (const { value, gradient, firstMoment, secondMoment } of this.parameters)
      for (const tensor of [value, gradient, firstMoment, secondMoment]) this.#device.free(tensor);
  }
}
