/**
 * The cpu device over the compiled addon: checks every call's shapes, turns tensors into ids, and keeps the ledger. It does no arithmetic; the
 * kernels are in native/. The rules to keep: the ledger changes only after memory was had, and live and pooled bytes together never exceed its peak.
 */
import type { MemoryClass } from "../../../protocol/memory.ts";
import { UserError } from "../../../protocol/userError.ts";
import * as adapterShapes from "../adapterShapes.ts";
import * as blockShapes from "../blockShapes.ts";
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
  FileDType,
  GroupQuantization,
  MatmulOptions,
  SweepOptions,
  Tensor,
} from "../device.ts";
import { bytesPerElement, sizeOf } from "../device.ts";
import { HostTensors } from "../hostTensors.ts";
import { MemoryLedger } from "../memoryLedger.ts";
import * as pruningShapes from "../pruningShapes.ts";
import * as shapes from "../shapes.ts";
import { type Addon, loadAddon, mostInstructions } from "./addon.ts";

export { nativeAvailable } from "./addon.ts";

/** Where a tensor's elements are: a buffer of the addon and the first element in it. */
interface Place {
  id: number;
  start: number;
}

const dtypeNumber: Record<DType, number> = { f32: 0, bf16: 1, i32: 2 };
const storedNumber: Record<FileDType, number> = { F32: 0, F16: 1, BF16: 2 };
const meanNumber: Record<BlockMean, number> = { value: 0, absolute: 1, squareScaled: 2 };

const sharedScratchBytes = 8 * 2 ** 20;
const threadScratchBytes = 1.25 * 2 ** 20;

/** Bytes a device of this many threads takes for itself when it opens, counted as workspace; a plan starts from them. */
export function cpuWorkspaceBytes(threads: number): number {
  return sharedScratchBytes + threads * threadScratchBytes;
}

/** Measured limit of this machine: FLOP/s of `threads` threads that only multiply and add registers; 0 where there is no such loop. */
export function measurePeak(dtype: "f32" | "bf16", threads: number, seconds = 0.2): { flopsPerSecond: number } {
  return { flopsPerSecond: loadAddon().peak(mostInstructions(), dtype === "bf16", threads, seconds) };
}

/** Opens the device. Throws UserError `device/no-addon` where nothing is compiled, `device/out-of-memory` where its scratch cannot be had. */
export function openCpuDevice(options: { threads: number }): CpuDevice {
  return new CpuDevice(loadAddon(), options.threads);
}

/** The addon's lack of memory as a sentence; other errors as they are. */
function explain(error: unknown): unknown {
  if ((error as { code?: string }).code !== "out-of-memory") return error;
  const [needed, available] = (error as Error).message.split(" ").map(Number);
  return new UserError(
    "device/out-of-memory",
    `The cpu device needs ${mebibytes(needed)} more memory, and ${mebibytes(available)} are free.`,
    "Lower sequenceLength or batchSize, set recompute: layer, or close other programs.",
    { badInput: false, cause: error },
  );
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;

class CpuDevice implements Device {
  readonly name = "cpu";
  readonly description: string;
  readonly ledger = new MemoryLedger();
  readonly #addon: Addon;
  /** The addon's number of this device; 0 once closed. */
  #device: number;
  readonly #workspaceBytes: number;
  readonly #tensors = new HostTensors<Place>(this.ledger, {
    create: (size, dtype) => ({ id: this.#create(size, dtype), start: 0 }),
    view: (place, start) => ({ id: place.id, start: place.start + start }),
    release: (place) => this.#addon.free(this.#device, place.id),
  });

  constructor(addon: Addon, threads: number) {
    this.#addon = addon;
    this.#workspaceBytes = cpuWorkspaceBytes(threads);
    if (addon.workspaceBytes(threads) !== this.#workspaceBytes) throw new Error("the compiled kernels are of another version: run `npm run build`");
    try {
      this.#device = addon.open(threads, mostInstructions());
    } catch (error) {
      throw explain(error);
    }
    this.description = `cpu: ${addon.describe(this.#device)}, ${threads} thread${threads === 1 ? "" : "s"}`;
    this.ledger.add("workspace", this.#workspaceBytes);
  }

  #create(size: number, dtype: DType): number {
    const live = this.ledger.liveBytes + size * bytesPerElement[dtype];
    try {
      return this.#addon.allocate(this.#device, size, dtypeNumber[dtype], Math.max(0, this.ledger.peakBytes - live));
    } catch (error) {
      throw explain(error);
    }
  }

  /** The two numbers of each tensor, in order. */
  #of(...tensors: Tensor[]): number[] {
    const values: number[] = [];
    for (const tensor of tensors) {
      const { id, start } = this.#tensors.data(tensor);
      values.push(id, start);
    }
    return values;
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
    const { id, start } = this.#tensors.data(tensor);
    this.#addon.write(this.#device, id, start + offset, data);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const { id, start } = this.#tensors.data(tensor);
    return this.#addon.load(this.#device, id, start + offset, count, bytes, storedNumber[stored]);
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const { id, start } = this.#tensors.data(tensor);
    const into = tensor.dtype === "i32" ? new Int32Array(count) : new Float32Array(count);
    this.#addon.read(this.#device, id, start + offset, into);
    return into;
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    const { id, start } = this.#tensors.data(tensor);
    this.#addon.fill(this.#device, id, start, sizeOf(tensor.shape), value);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    this.#addon.copy(this.#device, sizeOf(x.shape), ...this.#of(out, x));
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): void {
    if (this.#device === 0) return;
    this.#tensors.close();
    this.#addon.close(this.#device);
    this.#device = 0;
    this.ledger.remove("workspace", this.#workspaceBytes);
  }

  /** Throws when the bytes before or after the tensor's buffer were overwritten; free() looks too. */
  checkGuards(tensor: Tensor): void {
    this.#addon.checkGuards(this.#device, this.#tensors.data(tensor).id);
  }

  /** Bytes of freed tensors kept for reuse. */
  get pooledBytes(): number {
    return this.#addon.pooledBytes(this.#device);
  }

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const { M, N, K } = shapes.checkMatmul(out, a, b, options);
    const { transposeA = false, transposeB = false, accumulate = false } = options;
    this.#addon.matmul(this.#device, M, N, K, ...this.#of(out, a, b), transposeA, transposeB, accumulate);
  }

  addBias(out: Tensor, bias: Tensor): void {
    const { N, C } = shapes.checkAddBias(out, bias);
    this.#addon.addBias(this.#device, N, C, ...this.#of(out, bias));
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    const { N, C } = shapes.checkBiasBackward(dBias, dOut);
    this.#addon.biasBackward(this.#device, N, C, ...this.#of(dBias, dOut));
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { N, C, V } = shapes.checkEmbeddingForward(out, table, ids);
    this.#addon.embeddingForward(this.#device, N, C, V, ...this.#of(out, table, ids));
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { N, C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    this.#addon.embeddingBackward(this.#device, N, C, V, ...this.#of(dTable, dOut, ids));
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { R, C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    this.#addon.rmsNormForward(this.#device, R, C, ...this.#of(out, rstd, x, weight), epsilon);
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { R, C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    const optional = [dX, dWeight].flatMap((tensor) => (tensor ? this.#of(tensor) : [null]));
    this.#addon.rmsNormBackward(this.#device, R, C, ...optional, ...this.#of(dOut, x, weight, rstd), accumulate);
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { N, heads, P } = shapes.checkRope(x, cos, sin, positions, headSize);
    this.#addon.rope(this.#device, N, heads * headSize, headSize, P, ...this.#of(x, cos, sin, positions), inverse);
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    this.#addon.attentionForward(this.#device, ...shapeNumbers(shape), ...this.#of(out, logSumExp, q, k, v, documentStart));
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
    const tensors = this.#of(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart);
    this.#addon.attentionBackward(this.#device, ...shapeNumbers(shape), ...tensors);
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    this.#addon.swigluForward(this.#device, sizeOf(out.shape), ...this.#of(out, gate, up));
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    this.#addon.swigluBackward(this.#device, sizeOf(dOut.shape), ...this.#of(dGate, dUp, dOut, gate, up));
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { n, V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    this.#addon.crossEntropy(this.#device, n, V, ...this.#of(losses, logits, targets), scale);
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = options;
    const tensors = this.#of(value, gradient, firstMoment, secondMoment);
    this.#addon.adamwStep(this.#device, sizeOf(value.shape), ...tensors, learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale);
  }

  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    return Float64Array.from(tensors, (tensor) => {
      const { id, start } = this.#tensors.data(tensor);
      return this.#addon.sumSquares(this.#device, sizeOf(tensor.shape), id, start);
    });
  }

  // Blocks of a weight

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    const { N, C, gathered } = blockShapes.checkGatherColumns(out, x, columns);
    this.#addon.gatherColumns(this.#device, N, C, gathered, ...this.#of(out, x), columns);
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    blockShapes.checkGatherBlocks(out, weight, blocks);
    this.#addon.gatherBlocks(this.#device, shapes.rowsOf(weight), shapes.columnsOf(weight), sizeOf(out.shape), ...this.#of(out, weight), blocks);
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    blockShapes.checkScatterBlocks(weight, values, blocks);
    this.#addon.scatterBlocks(
      this.#device,
      shapes.rowsOf(weight),
      shapes.columnsOf(weight),
      sizeOf(values.shape),
      ...this.#of(weight, values),
      blocks,
    );
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    const { N } = blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    const sizes = [N, shapes.columnsOf(dOut), shapes.columnsOf(slices), sizeOf(dBlocks.shape)];
    this.#addon.blockGradients(this.#device, ...sizes, ...this.#of(dBlocks, dOut, slices), blocks);
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    const { N, out, in: columns } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    this.#addon.blockScores(this.#device, N, out, columns, blockSize, ...this.#of(scores, dOut, x), signed);
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { rows, columns } = blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    const scale = columnScale ? this.#of(columnScale) : [null];
    this.#addon.blockMeans(this.#device, rows, columns, blockSize, ...this.#of(scores, x), meanNumber[mean], ...scale);
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    const { N, C } = blockShapes.checkColumnSumSquares(sums, x);
    this.#addon.columnSumSquares(this.#device, N, C, ...this.#of(sums, x));
  }

  // Adapted weights

  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options: { transposeB?: boolean; accumulate?: boolean } = {}): void {
    const { M } = adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    const { transposeB = false, accumulate = false } = options;
    this.#addon.adaptedMatmul(this.#device, M, transposeB, accumulate, ...this.#adapted(adapted), ...this.#of(out, a));
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    const { N } = adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    this.#addon.adaptedGradients(this.#device, N, ...this.#adapted(adapted), ...this.#of(dFirst, dSecond, dOut, x));
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkFormAdapted(out, adapted);
    this.#addon.formAdapted(this.#device, ...this.#adapted(adapted), ...this.#of(out));
  }

  /** An adapted weight as the addon reads it. */
  #adapted(adapted: AdaptedWeight): (number | boolean)[] {
    const { weight, scale, base } = adapted;
    const common = [shapes.rowsOf(weight), shapes.columnsOf(weight), ...this.#of(weight), scale, base];
    if (adapted.kind === "groupScaled") {
      return [...common, true, shapes.rowsOf(adapted.alpha), ...this.#of(adapted.alpha, adapted.beta)];
    }
    const { left, right, rank, quantization } = adapted;
    const levels = quantization ? [quantization.groupSize, ...this.#of(quantization.scales, quantization.zeros)] : [0];
    return [...common, false, shapes.rowsOf(right), rank, ...this.#of(left, right), ...levels];
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    const { out, groups } = adapterShapes.checkFitQuantization(quantization, weight);
    const { scales, zeros, groupSize } = quantization;
    this.#addon.fitQuantization(this.#device, out, groups, groupSize, ...this.#of(scales, zeros, weight));
  }

  maskBy(x: Tensor, weight: Tensor): void {
    const count = adapterShapes.checkMaskBy(x, weight);
    this.#addon.maskBy(this.#device, count, ...this.#of(x, weight));
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    return Float64Array.from(tensors, (tensor) => {
      const { id, start } = this.#tensors.data(tensor);
      return this.#addon.countZeros(this.#device, sizeOf(tensor.shape), id, start);
    });
  }

  // Small pieces of adapters

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const { size, seed, threshold, scale } = adapterShapes.checkDropout(out, x, options);
    this.#addon.dropout(this.#device, size, ...this.#of(out, x), seed, threshold, scale, options.accumulate ?? false);
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void {
    const { N, C } = adapterShapes.checkScaleColumns(out, x, scale);
    this.#addon.scaleColumns(this.#device, N, C, ...this.#of(out, x, scale), accumulate);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    const { R, C } = adapterShapes.checkScaleRows(out, x, scale);
    this.#addon.scaleRows(this.#device, R, C, ...this.#of(out, x, scale));
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { R, C } = adapterShapes.checkRowDots(out, a, b);
    this.#addon.rowDots(this.#device, R, C, ...this.#of(out, a, b));
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { N, C } = adapterShapes.checkColumnDots(out, a, b);
    this.#addon.columnDots(this.#device, N, C, ...this.#of(out, a, b));
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    const R = adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    this.#addon.doraGains(this.#device, R, ...this.#of(norm, gain, magnitude, squares, cross, gram), scale);
  }

  // Pruning

  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    const { C } = pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    return this.#addon.inverseCholesky(this.#device, C, ...this.#of(h, diagonal), damping, ...(wide ? this.#of(wide) : [null]));
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    const { C } = pruningShapes.checkMirrorLower(h, diagonal);
    this.#addon.mirrorLower(this.#device, C, ...this.#of(h, diagonal));
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    const { out, in: C } = pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    const { pattern, blockSize, first, count } = options;
    const [share, zeros, of] = pattern.kind === "share" ? [pattern.share, 0, 0] : [0, pattern.zeros, pattern.of];
    const tensors = this.#of(w, losses, errors, upper, diagonal);
    this.#addon.sparseGptSweep(this.#device, out, C, share, zeros, of, blockSize, first, count, ...tensors);
  }
}

export type { CpuDevice };

/** The sizes in the order the addon reads them. */
function shapeNumbers(shape: AttentionShape): number[] {
  const { batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize } = shape;
  return [batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize];
}
