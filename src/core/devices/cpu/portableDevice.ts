/**
 * The cpu device for machines without a compiler: the same ops in plain TypeScript, on one thread. The rules of device.ts hold; sums are float64,
 * so that results differ from the native device's by its rounding only. The arithmetic stands in portable/; here is what every op checks and hands on.
 */

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
  GroupQuantization,
  GroupScaled,
  MaskedLowRank,
  MatmulOptions,
  SweepOptions,
  Tensor,
} from "../device.ts";
import { toBfloat16 } from "../floatFormats.ts";
import * as pruningShapes from "../pruningShapes.ts";
import * as shapes from "../shapes.ts";
import * as adapterLayers from "./portable/adapterLayers.ts";
import * as adapters from "./portable/adapters.ts";
import * as attention from "./portable/attention.ts";
import * as blockOps from "./portable/blocks.ts";
import { bfloat16Values, type FloatData, store } from "./portable/formats.ts";
import { multiply, type Operand, type TileSink, tileColumns } from "./portable/gemm.ts";
import * as layers from "./portable/layers.ts";
import { PortableMemory } from "./portable/memory.ts";
import * as pruning from "./portable/pruning.ts";

export { portableWorkspaceBytes } from "./portable/memory.ts";

/** Always opens. Memory that cannot be had later is a UserError `device/out-of-memory`. */
export function openPortableDevice(): Device {
  return new PortableDevice();
}

class PortableDevice extends PortableMemory implements Device {
  readonly name = "cpu";
  readonly description = "cpu: portable TypeScript, 1 thread";

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const { M, N, K } = shapes.checkMatmul(out, a, b, options);
    const left = operand(this.data(a), shapes.columnsOf(a), options.transposeA);
    const right = operand(this.data(b), shapes.columnsOf(b), options.transposeB);
    multiply(M, N, K, left, right, this.gemm, into(this.data(out), N, options.accumulate));
  }

  addBias(out: Tensor, bias: Tensor): void {
    const { N, C } = shapes.checkAddBias(out, bias);
    layers.addBias(this.data(out), this.data(bias), N, C, this.scratch);
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    const { N, C } = shapes.checkBiasBackward(dBias, dOut);
    layers.addColumnSums(this.f32(dBias), this.data(dOut), N, C, false, this.scratch);
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingForward(out, table, ids);
    layers.embeddingForward(this.data(out), this.data(table), this.i32(ids), C, V, this.scratch);
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    layers.embeddingBackward(this.f32(dTable), this.data(dOut), this.i32(ids), C, V, this.scratch);
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { R, C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    layers.rmsNormForward(this.data(out), this.f32(rstd), this.data(x), this.data(weight), R, C, epsilon, this.scratch);
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { R, C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    const [dy, input, w] = [dOut, x, weight].map((tensor) => this.data(tensor));
    layers.rmsNormBackward(dX && this.data(dX), dWeight && this.f32(dWeight), dy, input, w, this.f32(rstd), R, C, accumulate, this.scratch);
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { heads, P } = shapes.checkRope(x, cos, sin, positions, headSize);
    layers.rope(this.data(x), this.f32(cos), this.f32(sin), this.i32(positions), heads, headSize, P, inverse, this.scratch);
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    const [y, query, key, value] = [out, q, k, v].map((tensor) => this.data(tensor));
    attention.attentionForward(y, this.f32(logSumExp), query, key, value, this.i32(documentStart), shape, this.scratch);
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
      dQ: this.data(dQ),
      dK: this.data(dK),
      dV: this.data(dV),
      dOut: this.data(dOut),
      q: this.data(q),
      k: this.data(k),
      v: this.data(v),
      out: this.data(out),
      logSumExp: this.f32(logSumExp),
      documentStart: this.i32(documentStart),
    };
    attention.attentionBackward(data, shape, this.scratch);
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    layers.swigluForward(this.data(out), this.data(gate), this.data(up), this.scratch);
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    layers.swigluBackward(this.data(dGate), this.data(dUp), this.data(dOut), this.data(gate), this.data(up), this.scratch);
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    layers.crossEntropy(this.f32(losses), this.data(logits), this.i32(targets), V, scale, this.scratch);
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    layers.adamwStep(this.f32(value), this.f32(gradient), this.f32(firstMoment), this.f32(secondMoment), options);
  }

  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    return Float64Array.from(tensors, (tensor) => layers.sumSquares(this.data(tensor), this.scratch));
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    const { N, C, gathered } = blockShapes.checkGatherColumns(out, x, columns);
    blockOps.gatherColumns(this.data(out), this.data(x), columns, N, C, gathered, this.scratch);
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkGatherBlocks(out, weight, blocks);
    blockOps.gatherBlocks(this.f32(out), this.data(weight), checked, shapes.columnsOf(weight), this.scratch);
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkScatterBlocks(weight, values, blocks);
    blockOps.scatterBlocks(this.data(weight), this.f32(values), checked, shapes.columnsOf(weight), this.scratch);
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    const { N, blocks: checked } = blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    const [O, S] = [shapes.columnsOf(dOut), shapes.columnsOf(slices)];
    blockOps.blockGradients(this.f32(dBlocks), this.data(dOut), this.data(slices), checked, N, O, S, this.gemm);
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    const { N, out, in: C } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    blockOps.blockScores(this.f32(scores), this.data(dOut), this.data(x), blockSize, signed, N, out, C, this.gemm);
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { rows, columns } = blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    blockOps.blockMeans(this.f32(scores), this.data(x), blockSize, mean, columnScale && this.f32(columnScale), rows, columns, this.scratch);
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    const { N, C } = blockShapes.checkColumnSumSquares(sums, x);
    layers.addColumnSums(this.f32(sums), this.data(x), N, C, true, this.scratch);
  }

  // Adapted weights (LoRS, SQFT, SPP)

  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options: { transposeB?: boolean; accumulate?: boolean } = {}): void {
    const { M, N, K } = adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    const { transposeB = false, accumulate } = options;
    const narrow = a.dtype === "bf16" || adapted.weight.dtype === "bf16";
    const sink = into(this.data(out), N, accumulate);
    adapters.adaptedMatmul([M, N, K], this.data(a), this.#strips(adapted, narrow), transposeB, narrow, this.gemm, this.scratch, sink);
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    const { N, out, in: columns } = adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    const [first, second] = [this.f32(dFirst), this.f32(dSecond)];
    const sink =
      adapted.kind === "maskedLowRank"
        ? adapters.lowRankGradientSink(first, second, this.#lowRank(adapted), this.scratch)
        : adapters.groupGradientSink(first, second, this.#groupScaled(adapted));
    multiply(out, columns, N, operand(this.data(dOut), out, true), operand(this.data(x), columns), this.gemm, sink);
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    const { out: rows, in: columns } = adapterShapes.checkFormAdapted(out, adapted);
    adapters.formAdapted(this.data(out), rows, columns, this.#strips(adapted, out.dtype === "bf16"), this.scratch);
  }

  #strips(adapted: AdaptedWeight, narrow: boolean): adapters.StripSource {
    const lowRank = adapted.kind === "maskedLowRank";
    const strips = lowRank ? adapters.lowRankStrips(this.#lowRank(adapted)) : adapters.groupScaledStrips(this.#groupScaled(adapted));
    return narrow ? adapters.narrowStrips(strips, lowRank && adapted.quantization !== null) : strips;
  }

  #lowRank({ weight, left, right, rank, scale, base, quantization }: AdaptedWeight & MaskedLowRank): adapters.LowRankData {
    return {
      weight: this.data(weight),
      left: this.f32(left),
      right: this.f32(right),
      r: shapes.rowsOf(right),
      rank,
      scale,
      base,
      quantization: quantization && { scales: this.f32(quantization.scales), zeros: this.f32(quantization.zeros), groupSize: quantization.groupSize },
      columns: shapes.columnsOf(weight),
    };
  }

  #groupScaled({ weight, alpha, beta, scale, base }: AdaptedWeight & GroupScaled): adapters.GroupScaledData {
    return {
      weight: this.data(weight),
      alpha: this.f32(alpha),
      beta: this.f32(beta),
      scale,
      base,
      groupRows: shapes.rowsOf(weight) / shapes.rowsOf(alpha),
      columns: shapes.columnsOf(weight),
    };
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    const { groupSize, scales, zeros } = quantization;
    adapterShapes.checkFitQuantization(quantization, weight);
    adapters.fitQuantization(this.f32(scales), this.f32(zeros), this.data(weight), groupSize);
  }

  maskBy(x: Tensor, weight: Tensor): void {
    adapterShapes.checkMaskBy(x, weight);
    adapterLayers.maskBy(this.data(x), this.data(weight));
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    return Float64Array.from(tensors, (tensor) => adapterLayers.countZeros(this.data(tensor)));
  }

  // Small pieces of adapters (LoRA, DoRA)

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const { seed, threshold, scale } = adapterShapes.checkDropout(out, x, options);
    adapterLayers.dropout(this.data(out), this.data(x), seed, threshold, scale, options.accumulate ?? false, this.scratch);
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void {
    const { N, C } = adapterShapes.checkScaleColumns(out, x, scale);
    adapterLayers.scaleColumns(this.data(out), this.data(x), this.f32(scale), N, C, accumulate, this.scratch);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    const { R, C } = adapterShapes.checkScaleRows(out, x, scale);
    adapterLayers.scaleRows(this.data(out), this.data(x), this.f32(scale), R, C, this.scratch);
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { R, C } = adapterShapes.checkRowDots(out, a, b);
    adapterLayers.rowDots(this.f32(out), this.data(a), this.data(b), R, C, this.scratch);
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { N, C } = adapterShapes.checkColumnDots(out, a, b);
    adapterLayers.addColumnDots(this.f32(out), this.data(a), this.data(b), N, C, this.scratch);
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    const [nu, g, m, ww, wd, dd] = [norm, gain, magnitude, squares, cross, gram].map((tensor) => this.f32(tensor));
    adapterLayers.doraGains(nu, g, m, ww, wd, dd, scale);
  }

  // Pruning (SparseGPT)

  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    const { C } = pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    const memory = wide && this.f32(wide);
    // Its rows have an even number of f32, so that a view begins where a float64 may.
    const doubles = memory && new Float64Array(memory.buffer, memory.byteOffset, C * C);
    return pruning.inverseCholesky(this.f32(h), this.f32(diagonal), C, damping, doubles, this.gemm);
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    const { C } = pruningShapes.checkMirrorLower(h, diagonal);
    pruning.mirrorLower(this.f32(h), this.f32(diagonal), C);
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    const { out, in: C } = pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    const [weight, loss, error, u, d] = [w, losses, errors, upper, diagonal].map((tensor) => this.f32(tensor));
    pruning.sparseGptSweep(weight, loss, error, u, d, out, C, options, this.gemm);
  }
}

/** Puts a product's tiles into `to` (M, N), or adds them. */
function into(to: FloatData, N: number, accumulate = false): TileSink {
  return (row, rows, column, columns, tile) => {
    for (let i = 0; i < rows; i++) {
      const at = (row + i) * N + column;
      if (accumulate) addTo(to, at, tile, i * tileColumns, columns);
      else store(to, at, tile, columns, i * tileColumns);
    }
  };
}

function operand(data: FloatData, columns: number, transposed = false): Operand {
  return { data, offset: 0, rowStride: transposed ? 1 : columns, columnStride: transposed ? columns : 1 };
}

/** data[at …] += tile[from …], rounded once. */
function addTo(data: FloatData, at: number, tile: Float64Array, from: number, count: number): void {
  if (data instanceof Float32Array) for (let i = 0; i < count; i++) data[at + i] += tile[from + i];
  else for (let i = 0; i < count; i++) data[at + i] = toBfloat16(bfloat16Values[data[at + i]] + tile[from + i]);
}
