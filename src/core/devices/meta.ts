/**
 * The planner's device: it allocates nothing and counts everything. A step run on it leaves in the ledger exactly what the same step
 * leaves on a real device, because tensors and ops are asked for by the same code. It holds no values: `read`, `sumSquares` and
 * `countZeros` give zeros,
 * so nothing that depends on values (selection, clipping, early stopping) may be decided on it.
 * The rule to keep: every op checks shapes, dtypes and that its tensors are alive, as a real device does, and does nothing else.
 */
import type { MemoryClass } from "../../protocol/memory.ts";
import * as adapterShapes from "./adapterShapes.ts";
import * as blockShapes from "./blockShapes.ts";
import type {
  AdamWOptions,
  AdaptedWeight,
  AttentionShape,
  BlockMean,
  BlockTable,
  ColumnTable,
  Device,
  DropoutOptions,
  DType,
  ElementBytes,
  FileDType,
  GroupQuantization,
  MatmulOptions,
  SweepOptions,
  Tensor,
} from "./device.ts";
import { sizeOf } from "./device.ts";
import { HostTensors } from "./hostTensors.ts";
import { MemoryLedger } from "./memoryLedger.ts";
import * as pruningShapes from "./pruningShapes.ts";
import * as shapes from "./shapes.ts";

export interface MetaDeviceOptions {
  /** Bytes the planned device takes for itself when it opens; counted as workspace from the start. */
  workspaceBytes: number;
  /** What the plan is for, e.g. the planned device's description. */
  description: string;
  /** What an element occupies on the planned device, where it has not each type. */
  elementBytes?: ElementBytes;
  /** What its ops hold beside their tensors, in parts of the largest one. */
  largestTensors?: number;
}

export function openMetaDevice(options: MetaDeviceOptions): Device {
  return new MetaDevice(options);
}

class MetaDevice implements Device {
  readonly name = "meta";
  readonly description: string;
  readonly ledger: MemoryLedger;
  readonly #workspaceBytes: number;
  readonly #tensors: HostTensors<null>;

  constructor(options: MetaDeviceOptions) {
    this.description = options.description;
    this.#workspaceBytes = options.workspaceBytes;
    this.ledger = new MemoryLedger(options.elementBytes, options.largestTensors);
    this.#tensors = new HostTensors<null>(this.ledger, { create: () => null, view: () => null, release: () => {} });
    this.ledger.add("workspace", options.workspaceBytes);
  }

  /** Refuses freed tensors and those of another device. */
  #use(...tensors: (Tensor | null)[]): void {
    for (const tensor of tensors) if (tensor) this.#tensors.data(tensor);
  }

  // Memory

  allocate(shape: readonly number[], dtype: DType, memoryClass: MemoryClass): Tensor {
    return this.#tensors.allocate(shape, dtype, memoryClass);
  }

  free(tensor: Tensor): void {
    this.#tensors.free(tensor);
  }

  rows(tensor: Tensor, first: number, count: number): Tensor {
    return this.#tensors.rows(tensor, first, count);
  }

  write(tensor: Tensor, data: Float32Array | Int32Array, offset = 0): void {
    shapes.checkWrite(tensor, data, offset);
    this.#use(tensor);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    shapes.checkLoad(tensor, offset, bytes, stored);
    this.#use(tensor);
    return -1;
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    this.#use(tensor);
    return tensor.dtype === "i32" ? new Int32Array(count) : new Float32Array(count);
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    this.#use(tensor);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    this.#use(out, x);
  }

  async turn(): Promise<void> {}

  close(): void {
    this.#tensors.close();
    this.ledger.remove("workspace", this.#workspaceBytes);
  }

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options?: MatmulOptions): void {
    shapes.checkMatmul(out, a, b, options);
    this.#use(out, a, b);
  }

  addBias(out: Tensor, bias: Tensor): void {
    shapes.checkAddBias(out, bias);
    this.#use(out, bias);
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    shapes.checkBiasBackward(dBias, dOut);
    this.#use(dBias, dOut);
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    shapes.checkEmbeddingForward(out, table, ids);
    this.#use(out, table, ids);
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    shapes.checkEmbeddingBackward(dTable, dOut, ids);
    this.#use(dTable, dOut, ids);
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, _epsilon: number): void {
    shapes.checkRmsNormForward(out, rstd, x, weight);
    this.#use(out, rstd, x, weight);
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    this.#use(dX, dWeight, dOut, x, weight, rstd);
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, _inverse: boolean): void {
    shapes.checkRope(x, cos, sin, positions, headSize);
    this.#use(x, cos, sin, positions);
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    this.#use(out, logSumExp, q, k, v, documentStart);
  }

  attentionBackward(
    dQ: Tensor,
    dK: Tensor,
    dV: Tensor,
    dOut: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logSumExp: Tensor,
    documentStart: Tensor,
    shape: AttentionShape,
  ): void {
    shapes.checkAttentionBackward(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart, shape);
    this.#use(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart);
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    this.#use(out, gate, up);
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    this.#use(dGate, dUp, dOut, gate, up);
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    shapes.checkCrossEntropy(losses, logits, targets, scale);
    this.#use(losses, logits, targets);
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    this.#use(value, gradient, firstMoment, secondMoment);
  }

  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    this.#use(...tensors);
    return new Float64Array(tensors.length);
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    blockShapes.checkGatherColumns(out, x, columns);
    this.#use(out, x);
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    blockShapes.checkGatherBlocks(out, weight, blocks);
    this.#use(out, weight);
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    blockShapes.checkScatterBlocks(weight, values, blocks);
    this.#use(weight, values);
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    this.#use(dBlocks, dOut, slices);
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, _signed: boolean): void {
    blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    this.#use(scores, dOut, x);
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    this.#use(scores, x, columnScale);
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    blockShapes.checkColumnSumSquares(sums, x);
    this.#use(sums, x);
  }

  // Adapted weights (LoRS, SQFT, SPP)

  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options?: { transposeB?: boolean; accumulate?: boolean }): void {
    adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    this.#use(out, a, ...adapterShapes.tensorsOf(adapted));
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    this.#use(dFirst, dSecond, dOut, x, ...adapterShapes.tensorsOf(adapted));
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkFormAdapted(out, adapted);
    this.#use(out, ...adapterShapes.tensorsOf(adapted));
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    adapterShapes.checkFitQuantization(quantization, weight);
    this.#use(quantization.scales, quantization.zeros, weight);
  }

  maskBy(x: Tensor, weight: Tensor): void {
    adapterShapes.checkMaskBy(x, weight);
    this.#use(x, weight);
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    this.#use(...tensors);
    return new Float64Array(tensors.length);
  }

  // Small pieces of adapters (LoRA, DoRA)

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    adapterShapes.checkDropout(out, x, options);
    this.#use(out, x);
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, _accumulate: boolean): void {
    adapterShapes.checkScaleColumns(out, x, scale);
    this.#use(out, x, scale);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    adapterShapes.checkScaleRows(out, x, scale);
    this.#use(out, x, scale);
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    adapterShapes.checkRowDots(out, a, b);
    this.#use(out, a, b);
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    adapterShapes.checkColumnDots(out, a, b);
    this.#use(out, a, b);
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    this.#use(norm, gain, magnitude, squares, cross, gram);
  }

  // Pruning (SparseGPT)

  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    this.#use(h, diagonal, wide);
    return true;
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    pruningShapes.checkMirrorLower(h, diagonal);
    this.#use(h, diagonal);
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    this.#use(w, losses, errors, upper, diagonal);
  }
}
