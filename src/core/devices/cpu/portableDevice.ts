/**
 * The cpu device for machines without a compiler: the same ops in plain TypeScript, on one thread. The rules of device.ts hold; sums are float64,
 * so that results differ from the native device's by its rounding only. The arithmetic stands in portable/; here is what every op checks and hands on.
 */

import type { MemoryClass } from "../../../protocol/memory.ts";
import * as blockShapes from "../blockShapes.ts";
import type { AdamWOptions, AttentionShape, BlockMean, BlockTable, ColumnTable, Device, DType, FileDType, MatmulOptions, Tensor } from "../device.ts";
import { sizeOf } from "../device.ts";
import { fromFloat16, toBfloat16 } from "../floatFormats.ts";
import { HostTensors } from "../hostTensors.ts";
import { MemoryLedger } from "../memoryLedger.ts";
import * as shapes from "../shapes.ts";
import * as attention from "./portable/attention.ts";
import * as blockOps from "./portable/blocks.ts";
import { Buffers, type Data } from "./portable/buffers.ts";
import { bfloat16Values, type FloatData, load, Scratch, scratchBytes, store } from "./portable/formats.ts";
import { GemmWorkspace, gemmWorkspaceBytes, multiply, type Operand, tileColumns } from "./portable/gemm.ts";
import * as layers from "./portable/layers.ts";

/** Bytes the device takes for itself when it opens, counted as workspace; a plan starts from them. */
export const portableWorkspaceBytes = scratchBytes + gemmWorkspaceBytes;

/** Always opens. Memory that cannot be had later is a UserError `device/out-of-memory`. */
export function openPortableDevice(): Device {
  return new PortableDevice();
}

class PortableDevice implements Device {
  readonly name = "cpu";
  readonly description = "cpu: portable TypeScript, 1 thread";
  readonly ledger = new MemoryLedger();
  readonly #buffers = new Buffers(this.ledger);
  readonly #tensors = new HostTensors<Data>(this.ledger, {
    create: (size, dtype) => this.#buffers.create(size, dtype),
    view: (data, start, size) => data.subarray(start, start + size),
    release: (data) => this.#buffers.release(data),
  });
  #scratch: Scratch = new Scratch();
  #gemm: GemmWorkspace = new GemmWorkspace();

  constructor() {
    this.ledger.add("workspace", portableWorkspaceBytes);
  }

  #data(tensor: Tensor): FloatData {
    return this.#tensors.data(tensor) as FloatData;
  }

  #f32(tensor: Tensor): Float32Array {
    return this.#tensors.data(tensor) as Float32Array;
  }

  #i32(tensor: Tensor): Int32Array {
    return this.#tensors.data(tensor) as Int32Array;
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
    const to = this.#tensors.data(tensor);
    if (to instanceof Uint16Array) store(to, offset, data as Float32Array, data.length);
    else to.set(data, offset);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const to = this.#data(tensor);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let firstBad = -1;
    for (let i = 0; i < count; i++) {
      const value = valueAt(view, i, stored);
      if (firstBad < 0 && !Number.isFinite(value)) firstBad = i;
      if (to instanceof Float32Array) to[offset + i] = value;
      else to[offset + i] = stored === "BF16" ? view.getUint16(2 * i, true) : toBfloat16(value);
    }
    return firstBad;
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const from = this.#tensors.data(tensor);
    if (!(from instanceof Uint16Array)) return from.slice(offset, offset + count);
    const out = new Float32Array(count);
    load(out, from, offset, count);
    return out;
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    this.#tensors.data(tensor).fill(tensor.dtype === "bf16" ? toBfloat16(value) : value);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    layers.copyElements(this.#data(out), 0, this.#data(x), 0, sizeOf(x.shape), this.#scratch);
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): void {
    this.#tensors.close();
    this.#buffers.forget();
    this.ledger.remove("workspace", portableWorkspaceBytes);
  }

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const { M, N, K } = shapes.checkMatmul(out, a, b, options);
    const left = operand(this.#data(a), shapes.columnsOf(a), options.transposeA);
    const right = operand(this.#data(b), shapes.columnsOf(b), options.transposeB);
    const to = this.#data(out);
    multiply(M, N, K, left, right, this.#gemm, (row, rows, column, columns, tile) => {
      for (let i = 0; i < rows; i++) {
        const at = (row + i) * N + column;
        if (options.accumulate) addTo(to, at, tile, i * tileColumns, columns);
        else store(to, at, tile, columns, i * tileColumns);
      }
    });
  }

  addBias(out: Tensor, bias: Tensor): void {
    const { N, C } = shapes.checkAddBias(out, bias);
    layers.addBias(this.#data(out), this.#data(bias), N, C, this.#scratch);
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    const { N, C } = shapes.checkBiasBackward(dBias, dOut);
    layers.addColumnSums(this.#f32(dBias), this.#data(dOut), N, C, false, this.#scratch);
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingForward(out, table, ids);
    layers.embeddingForward(this.#data(out), this.#data(table), this.#i32(ids), C, V, this.#scratch);
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    layers.embeddingBackward(this.#f32(dTable), this.#data(dOut), this.#i32(ids), C, V, this.#scratch);
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { R, C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    layers.rmsNormForward(this.#data(out), this.#f32(rstd), this.#data(x), this.#data(weight), R, C, epsilon, this.#scratch);
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { R, C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    const [dy, input, w] = [dOut, x, weight].map((tensor) => this.#data(tensor));
    layers.rmsNormBackward(dX && this.#data(dX), dWeight && this.#f32(dWeight), dy, input, w, this.#f32(rstd), R, C, accumulate, this.#scratch);
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { heads, P } = shapes.checkRope(x, cos, sin, positions, headSize);
    layers.rope(this.#data(x), this.#f32(cos), this.#f32(sin), this.#i32(positions), heads, headSize, P, inverse, this.#scratch);
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    const [y, query, key, value] = [out, q, k, v].map((tensor) => this.#data(tensor));
    attention.attentionForward(y, this.#f32(logSumExp), query, key, value, this.#i32(documentStart), shape, this.#scratch);
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
    const data = {
      dQ: this.#data(dQ),
      dK: this.#data(dK),
      dV: this.#data(dV),
      dOut: this.#data(dOut),
      q: this.#data(q),
      k: this.#data(k),
      v: this.#data(v),
      out: this.#data(out),
      logSumExp: this.#f32(logSumExp),
      documentStart: this.#i32(documentStart),
    };
    attention.attentionBackward(data, shape, this.#scratch);
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    layers.swigluForward(this.#data(out), this.#data(gate), this.#data(up), this.#scratch);
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    layers.swigluBackward(this.#data(dGate), this.#data(dUp), this.#data(dOut), this.#data(gate), this.#data(up), this.#scratch);
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    layers.crossEntropy(this.#f32(losses), this.#data(logits), this.#i32(targets), V, scale, this.#scratch);
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    layers.adamwStep(this.#f32(value), this.#f32(gradient), this.#f32(firstMoment), this.#f32(secondMoment), options);
  }

  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    return Float64Array.from(tensors, (tensor) => layers.sumSquares(this.#data(tensor), this.#scratch));
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    const { N, C, gathered } = blockShapes.checkGatherColumns(out, x, columns);
    blockOps.gatherColumns(this.#data(out), this.#data(x), columns, N, C, gathered, this.#scratch);
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkGatherBlocks(out, weight, blocks);
    blockOps.gatherBlocks(this.#f32(out), this.#data(weight), checked, shapes.columnsOf(weight), this.#scratch);
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkScatterBlocks(weight, values, blocks);
    blockOps.scatterBlocks(this.#data(weight), this.#f32(values), checked, shapes.columnsOf(weight), this.#scratch);
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    const { N, blocks: checked } = blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    const [O, S] = [shapes.columnsOf(dOut), shapes.columnsOf(slices)];
    blockOps.blockGradients(this.#f32(dBlocks), this.#data(dOut), this.#data(slices), checked, N, O, S, this.#gemm);
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    const { N, out, in: C } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    blockOps.blockScores(this.#f32(scores), this.#data(dOut), this.#data(x), blockSize, signed, N, out, C, this.#gemm);
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { rows, columns } = blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    blockOps.blockMeans(this.#f32(scores), this.#data(x), blockSize, mean, columnScale && this.#f32(columnScale), rows, columns, this.#scratch);
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    const { N, C } = blockShapes.checkColumnSumSquares(sums, x);
    layers.addColumnSums(this.#f32(sums), this.#data(x), N, C, true, this.#scratch);
  }
}

function operand(data: FloatData, columns: number, transposed = false): Operand {
  return { data, offset: 0, rowStride: transposed ? 1 : columns, columnStride: transposed ? columns : 1 };
}

/** data[at …] += tile[from …], rounded once. */
function addTo(data: FloatData, at: number, tile: Float64Array, from: number, count: number): void {
  if (data instanceof Float32Array) for (let i = 0; i < count; i++) data[at + i] += tile[from + i];
  else for (let i = 0; i < count; i++) data[at + i] = toBfloat16(bfloat16Values[data[at + i]] + tile[from + i]);
}

function valueAt(view: DataView, i: number, stored: FileDType): number {
  if (stored === "F32") return view.getFloat32(4 * i, true);
  const half = view.getUint16(2 * i, true);
  return stored === "BF16" ? bfloat16Values[half] : fromFloat16(half);
}
