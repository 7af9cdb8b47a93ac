/**
 * The TensorFlow device: the ops of device.ts through the functions of tfjs-core, for whichever engine engine.ts finds. Here is what every op checks and where
 * its results go; the formulas have one file a family. Arithmetic is f32; a bf16 tensor holds rounded f32 numbers.
 * The rules to keep: every op is one `run`, so that no engine tensor outlives it but the stored ones; ids are checked on the host before they index.
 */
import type { Tensor2D, Tensor as TfTensor } from "@tensorflow/tfjs-core";
import * as adapterShapes from "../adapterShapes.ts";
import * as blockShapes from "../blockShapes.ts";
import {
  type AdamWOptions,
  type AdaptedWeight,
  type AttentionShape,
  type BlockMean,
  type BlockTable,
  type ColumnTable,
  type Device,
  type DropoutOptions,
  type GroupQuantization,
  type MatmulOptions,
  type SweepOptions,
  sizeOf,
  type Tensor,
} from "../device.ts";
import * as pruningShapes from "../pruningShapes.ts";
import * as shapes from "../shapes.ts";
import { factorOnHost } from "../webgpu/hostFactor.ts";
import { type AdaptedValues, formed, gradients, quantizationLevels } from "./adapted.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import * as blockOps from "./blocks.ts";
import * as elementwise from "./elementwise.ts";
import { rowsById, withRowsAdded } from "./embedding.ts";
import { type Engine, installedEngine, openEngine, wasmMemoryBytes } from "./engine.ts";
import { crossEntropy } from "./loss.ts";
import { elementBytes, type Stored, TensorflowMemory } from "./memory.ts";
import { rmsNorm, rmsNormGradients } from "./norms.ts";
import { indices, product, rowsOf } from "./products.ts";
import * as pruning from "./pruning.ts";
import { squaresOf, zerosOf } from "./reduce.ts";
import { roundToBfloat16 } from "./rounding.ts";
import { largestTensors, stripsBytes } from "./strips.ts";

/** Opens TensorFlow on the best engine at hand; `reasons` says what was tried before it. */
export async function openTensorflowDevice() {
  const { engine, reasons } = await openEngine();
  const { onCard, memoryBytes } = engine;
  const place = { memory: onCard ? ("card" as const) : ("machine" as const), limitBytes: memoryBytes };
  const device: Device = new TensorflowDevice(engine);
  return { device, reasons, place };
}

/** What a plan is to know of it; nothing is taken when the device opens, and no library is loaded to tell. */
export function plannedTensorflow() {
  const installed = installedEngine();
  const where = installed?.forCard ? ", on the graphics card if it finds one it can use" : "";
  const description = `tensorflow: ${installed?.name ?? "WebAssembly"}${where}; each weight takes ${elementBytes.bf16} bytes`;
  const memory = installed?.forCard ? ("card" as const) : ("machine" as const);
  const place = { memory, limitBytes: installed ? Number.POSITIVE_INFINITY : wasmMemoryBytes };
  return { workspaceBytes: stripsBytes, largestTensors, description, elementBytes, place };
}

class TensorflowDevice extends TensorflowMemory implements Device {
  readonly name = "tensorflow";

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    shapes.checkMatmul(out, a, b, options);
    const narrow = a.dtype === "bf16" || b.dtype === "bf16";
    const formed = () => this.tf.tidy(() => product(this.engine, this.#operand(a, narrow), this.#operand(b, narrow), options));
    this.run(() => [[out, this.#added(out, formed(), options.accumulate)]]);
  }

  /** A factor of a product: rounded to bf16 where it stands beside a bf16 one. */
  #operand(x: Tensor, narrow: boolean): Tensor2D {
    const values = this.matrix(x);
    return narrow && x.dtype === "f32" ? roundToBfloat16(this.engine, values) : values;
  }

  /** What an op stores that adds to its output, or where `accumulate` says so. */
  #added(out: Tensor, result: TfTensor, accumulate: boolean | undefined): TfTensor {
    return accumulate ? this.tf.add(this.flat(out), this.tf.reshape(result, [result.size])) : result;
  }

  addBias(out: Tensor, bias: Tensor): void {
    shapes.checkAddBias(out, bias);
    this.run(() => [[out, this.tf.add(this.matrix(out), this.flat(bias))]]);
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    shapes.checkBiasBackward(dBias, dOut);
    this.run(() => [[dBias, this.#added(dBias, this.tf.sum(this.matrix(dOut), 0), true)]]);
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { V } = shapes.checkEmbeddingForward(out, table, ids);
    checkIndices("embeddingForward", "id", this.ints(ids), V);
    this.run(() => [[out, rowsById(this.tf, this.matrix(table), this.ints(ids)), table.dtype === "bf16"]]);
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    const values = this.ints(ids);
    checkIndices("embeddingBackward", "id", values, V);
    if (values.length > 0) this.run(() => [[dTable, withRowsAdded(this.tf, this.matrix(dTable), this.matrix(dOut), values)]]);
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    this.run(() => {
      const [normed, factors] = rmsNorm(this.engine, this.matrix(x, C), this.flat(weight), epsilon);
      return [
        [out, normed],
        [rstd, factors],
      ];
    });
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    this.run(() => {
      const results = rmsNormGradients(this.engine, this.matrix(dOut, C), this.matrix(x, C), this.flat(weight), this.matrix(rstd, 1));
      const stored: Stored[] = [];
      if (dX) stored.push([dX, this.#added(dX, results.dX(), accumulate)]);
      if (dWeight) stored.push([dWeight, this.#added(dWeight, results.dWeight(), true)]);
      return stored;
    });
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { P, heads } = shapes.checkRope(x, cos, sin, positions, headSize);
    const at = this.ints(positions);
    checkIndices("rope", "position", at, P);
    const tables = () => [this.matrix(cos), this.matrix(sin)] as const;
    this.run(() => [[x, elementwise.rope(this.engine, this.matrix(x, heads * headSize), tables(), at, headSize, inverse)]]);
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    const starts = this.#checkedStarts("attentionForward", documentStart, shape);
    this.run(() => {
      const results = attentionForward(this.engine, this.matrix(q), this.matrix(k), this.matrix(v), starts, shape);
      return [
        [out, results.out],
        [logSumExp, results.logSumExp],
      ];
    });
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
    const starts = this.#checkedStarts("attentionBackward", documentStart, shape);
    this.run(() => {
      const [dy, query, key, value, y] = [dOut, q, k, v, out].map((x) => this.matrix(x));
      const given = { dOut: dy, q: query, k: key, v: value, out: y, logSumExp: this.matrix(logSumExp, shape.numHeads) };
      const results = attentionBackward(this.engine, given, starts, shape);
      return [
        [dQ, results.dQ],
        [dK, results.dK],
        [dV, results.dV],
      ];
    });
  }

  #checkedStarts(op: string, documentStart: Tensor, { queryLength, keyLength }: AttentionShape): Int32Array {
    const starts = this.ints(documentStart);
    for (const [t, start] of starts.entries()) checkIndex(op, "documentStart", start, keyLength - queryLength + (t % queryLength) + 1);
    return starts;
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    this.run(() => [[out, elementwise.swiglu(this.engine, this.flat(gate), this.flat(up))]]);
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    this.run(() => {
      const [ofGate, ofUp] = elementwise.swigluGradients(this.engine, this.flat(dOut), this.flat(gate), this.flat(up));
      return [
        [dGate, ofGate],
        [dUp, ofUp],
      ];
    });
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { n, V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    const ids = this.ints(targets);
    for (const target of ids) if (target >= 0) checkIndex("crossEntropy", "target", target, V);
    if (n === 0) return;
    this.run(() => {
      const [found, gradient] = crossEntropy(this.engine, this.matrix(logits), ids, scale);
      return gradient
        ? [
            [losses, found],
            [logits, gradient],
          ]
        : [[losses, found]];
    });
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    // One tensor after the other: together they would take three times their room.
    const { engine } = this;
    this.run(() => [[firstMoment, elementwise.firstMoment(engine, this.flat(firstMoment), this.flat(gradient), options)]]);
    this.run(() => [[secondMoment, elementwise.secondMoment(engine, this.flat(secondMoment), this.flat(gradient), options)]]);
    this.run(() => [[value, elementwise.adamw(engine, this.flat(value), this.flat(firstMoment), this.flat(secondMoment), options)]]);
  }

  /** A tensor after the other, so that one at most is on the host. */
  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    const sums = new Float64Array(tensors.length);
    for (const [i, tensor] of tensors.entries()) sums[i] = squaresOf((await this.read(tensor)) as Float32Array);
    return sums;
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    blockShapes.checkGatherColumns(out, x, columns);
    const source: number[] = [];
    for (let i = 0; i < columns.length; i += 2) for (let column = 0; column < columns[i + 1]; column++) source.push(columns[i] + column);
    if (source.length === 0) return;
    this.run(() => [[out, this.tf.gather(this.matrix(x), indices(this.tf, Int32Array.from(source)), 1), x.dtype === "bf16"]]);
  }

  gatherBlocks(out: Tensor, weight: Tensor, table: BlockTable): void {
    const blocks = blockShapes.checkGatherBlocks(out, weight, table);
    if (blocks.length > 0) this.run(() => [[out, blockOps.gatherBlocks(this.tf, this.flat(out), this.matrix(weight), blocks)]]);
  }

  scatterBlocks(weight: Tensor, values: Tensor, table: BlockTable): void {
    const blocks = blockShapes.checkScatterBlocks(weight, values, table);
    if (blocks.length === 0) return;
    this.run(() => {
      const flat = this.flat(values);
      // Only what is written is rounded: the rest of the weight is rounded already.
      const rounded = weight.dtype === "bf16" ? roundToBfloat16(this.engine, flat) : flat;
      return [[weight, blockOps.scatterBlocks(this.tf, this.matrix(weight), rounded, blocks), true]];
    });
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, table: BlockTable): void {
    const { tf } = this;
    const { N, blocks } = blockShapes.checkBlockGradients(dBlocks, dOut, slices, table);
    const narrow = dOut.dtype === "bf16" || slices.dtype === "bf16";
    if (blocks.length === 0) return;
    this.run(() => {
      const byOut = tf.transpose(this.#operand(dOut, narrow));
      const x = this.#operand(slices, narrow);
      const added = blockOps.addToBlocks(this.engine, this.flat(dBlocks), blocks, ({ rowStart, rowCount, sliceStart, columnCount }) =>
        product(this.engine, rowsOf(this.engine, byOut, rowStart, rowCount), tf.slice(x, [0, sliceStart], [N, columnCount])),
      );
      return [[dBlocks, added]];
    });
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    this.run(() => {
      const means = blockOps.gradientMeans(this.engine, this.#operand(dOut, narrow), this.#operand(x, narrow), blockSize, signed);
      return [[scores, this.#added(scores, means, true)]];
    });
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { tf } = this;
    blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    this.run(() => {
      const values = this.matrix(x);
      const entries = columnScale ? tf.mul(tf.mul(values, values), this.flat(columnScale)) : mean === "absolute" ? tf.abs(values) : values;
      return [[scores, blockOps.blockMeans(tf, entries as Tensor2D, blockSize)]];
    });
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    blockShapes.checkColumnSumSquares(sums, x);
    this.run(() => [[sums, this.#added(sums, this.tf.sum(this.tf.mul(this.matrix(x), this.matrix(x)), 0), true)]]);
  }

  // Adapted weights (LoRS, SQFT, SPP)

  #values(adapted: AdaptedWeight): AdaptedValues {
    const { scale, base } = adapted;
    const weight = this.matrix(adapted.weight);
    if (adapted.kind === "groupScaled")
      return { kind: adapted.kind, weight, alpha: this.matrix(adapted.alpha), beta: this.flat(adapted.beta), scale, base };
    const { left, right, rank, quantization } = adapted;
    const levels = quantization && {
      scales: this.matrix(quantization.scales),
      zeros: this.matrix(quantization.zeros),
      groupSize: quantization.groupSize,
    };
    return { kind: adapted.kind, weight, left: this.matrix(left), right: this.matrix(right), rank, scale, base, quantization: levels };
  }

  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options: { transposeB?: boolean; accumulate?: boolean } = {}): void {
    adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    const narrow = a.dtype === "bf16" || adapted.weight.dtype === "bf16";
    this.run(() => {
      const result = this.tf.tidy(() => {
        const weight = formed(this.engine, this.#values(adapted), narrow);
        return product(this.engine, this.#operand(a, narrow), weight, options);
      });
      return [[out, this.#added(out, result, options.accumulate)]];
    });
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    this.run(() => {
      const [first, second] = this.tf.tidy(() =>
        gradients(this.engine, this.#operand(dOut, narrow), this.#operand(x, narrow), this.#values(adapted)),
      );
      return [
        [dFirst, this.#added(dFirst, first, true)],
        [dSecond, this.#added(dSecond, second, true)],
      ];
    });
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkFormAdapted(out, adapted);
    this.run(() => [[out, formed(this.engine, this.#values(adapted), out.dtype === "bf16")]]);
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    const { out, groups } = adapterShapes.checkFitQuantization(quantization, weight);
    const { tf } = this;
    const extremes = (fold: "min" | "max") =>
      tf.tidy(() => tf[fold](tf.reshape(this.flat(weight), [out * groups, quantization.groupSize]), 1).dataSync());
    const { scales, zeros } = quantizationLevels(extremes("min"), extremes("max"));
    this.write(quantization.scales, scales);
    this.write(quantization.zeros, zeros);
  }

  maskBy(x: Tensor, weight: Tensor): void {
    adapterShapes.checkMaskBy(x, weight);
    this.run(() => {
      const values = this.flat(x);
      return [[x, this.tf.where(this.tf.equal(this.flat(weight), 0), this.tf.zerosLike(values), values), true]];
    });
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    return Float64Array.from(tensors, (tensor) => (sizeOf(tensor.shape) === 0 ? 0 : this.tf.tidy(() => zerosOf(this.tf, this.flat(tensor)))));
  }

  // Small pieces of adapters (LoRA, DoRA)

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const checked = adapterShapes.checkDropout(out, x, options);
    this.run(() => [[out, this.#added(out, elementwise.dropout(this.engine, this.flat(x), checked), options.accumulate)]]);
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void {
    adapterShapes.checkScaleColumns(out, x, scale);
    this.run(() => [[out, this.#added(out, this.tf.mul(this.matrix(x), this.flat(scale)), accumulate)]]);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    adapterShapes.checkScaleRows(out, x, scale);
    this.run(() => [[out, this.tf.mul(this.matrix(x), this.matrix(scale, 1))]]);
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    adapterShapes.checkRowDots(out, a, b);
    this.run(() => [[out, this.tf.sum(this.tf.mul(this.matrix(a), this.matrix(b)), 1)]]);
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    adapterShapes.checkColumnDots(out, a, b);
    this.run(() => [[out, this.#added(out, this.tf.sum(this.tf.mul(this.matrix(a), this.matrix(b)), 0), true)]]);
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    this.run(() => {
      const parts = [squares, cross, gram].map((part) => this.flat(part));
      const results = elementwise.doraGains(this.tf, this.flat(magnitude), parts, scale);
      return [
        [norm, results.norm],
        [gain, results.gain],
      ];
    });
  }

  // Pruning (SparseGPT)

  /** In float64, on the processor. */
  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    return factorOnHost(this, h, diagonal, damping);
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    pruningShapes.checkMirrorLower(h, diagonal);
    this.run(() => [[h, pruning.mirrored(this.engine, this.matrix(h), this.flat(diagonal))]]);
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    this.run(() => {
      const given = { w: this.matrix(w), upper: this.matrix(upper), diagonal: this.flat(diagonal) };
      const [weights, error, loss] = pruning.swept(this.engine, given, options);
      return [
        [w, weights],
        [errors, error],
        [losses, this.#added(losses, loss, true)],
      ];
    });
  }
}

function checkIndices(op: string, name: string, indices: Int32Array, limit: number): void {
  for (const index of indices) checkIndex(op, name, index, limit);
}

function checkIndex(op: string, name: string, index: number, limit: number): void {
  if (index < 0 || index >= limit) throw new Error(`${op}: ${name} ${index} is not below ${limit}`);
}

/** The device on an engine that runs already. */
export function tensorflowDeviceOn(engine: Engine): Device {
  return new TensorflowDevice(engine);
}
