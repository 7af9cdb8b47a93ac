/**
 * The TensorFlow device: the ops of device.ts through the functions of tfjs-core, for whichever engine engine.ts finds. Here is what every op checks and its
 * formula; attention, blocks and adapted weights have files of their own. Arithmetic is f32; a bf16 tensor holds rounded f32 numbers.
 * The rules to keep: every op is one `run`, so that no engine tensor outlives it but the stored ones; ids are checked on the host before they index.
 */
import type { Tensor1D, Tensor2D, Tensor as TfTensor } from "@tensorflow/tfjs-core";
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
import { dropoutHash } from "../dropoutHash.ts";
import { roundToEven } from "../floatFormats.ts";
import * as pruningShapes from "../pruningShapes.ts";
import * as shapes from "../shapes.ts";
import { UnsupportedError } from "../unsupported.ts";
import { type AdaptedValues, formed, gradients } from "./adapted.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import * as blockOps from "./blocks.ts";
import { installedEngine, openEngine, wasmMemoryBytes } from "./engine.ts";
import { elementBytes, TensorflowMemory } from "./memory.ts";
import { product, rowsOf } from "./products.ts";
import { roundToBfloat16 } from "./rounding.ts";

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
  const description = `tensorflow: ${installed?.name ?? "WebAssembly"}; each weight takes ${elementBytes.bf16} bytes`;
  const memory = installed?.forCard ? ("card" as const) : ("machine" as const);
  const place = { memory, limitBytes: installed ? Number.POSITIVE_INFINITY : wasmMemoryBytes };
  return { workspaceBytes: 0, description, elementBytes, place };
}

/** Elements of a part whose zeros are counted in f32. */
const partElements = 4096;
/** Entries of a dense gradient at once, at most. */
const tileElements = 2 ** 22;

class TensorflowDevice extends TensorflowMemory implements Device {
  readonly name = "tensorflow";

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    shapes.checkMatmul(out, a, b, options);
    const narrow = a.dtype === "bf16" || b.dtype === "bf16";
    this.run(() => [[out, this.#added(out, product(this.engine, this.#operand(a, narrow), this.#operand(b, narrow), options), options.accumulate)]]);
  }

  /** A factor of a product: rounded to bf16 where it stands beside a bf16 one. */
  #operand(x: Tensor, narrow: boolean): Tensor2D {
    const values = this.matrix(x);
    return narrow && x.dtype === "f32" ? roundToBfloat16(this.tf, values) : values;
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
    this.run(() => [[out, this.tf.gather(this.matrix(table), this.#indices(this.ints(ids))), table.dtype === "bf16"]]);
  }

  /** Integers as the engine's own, which it may keep. */
  #indices(values: Int32Array): Tensor1D {
    return this.tf.tensor1d(values.slice(), "int32");
  }

  /** Sums by id first, so that only the rows in question are touched. */
  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    checkIndices("embeddingBackward", "id", this.ints(ids), V);
    const places = new Map<number, number>();
    const place = this.ints(ids).map((id) => {
      const known = places.get(id) ?? places.size;
      places.set(id, known);
      return known;
    });
    if (place.length === 0) return;
    const unique = Int32Array.from(places.keys());
    const column = (values: Int32Array) => this.tf.reshape(this.#indices(values), [values.length, 1]);
    this.run(() => {
      const table = this.matrix(dTable);
      const sums = this.tf.scatterND(column(place), this.matrix(dOut), [unique.length, C]);
      const rows = this.tf.add(this.tf.gather(table, this.#indices(unique)), sums);
      return [[dTable, this.tf.tensorScatterUpdate(table, column(unique), rows)]];
    });
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { tf } = this;
    const { C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    this.run(() => {
      const input = this.matrix(x, C);
      const scale = tf.div(1, tf.sqrt(tf.add(tf.div(tf.sum(tf.mul(input, input), 1, true), C), epsilon)));
      return [
        [out, tf.mul(tf.mul(input, scale), this.flat(weight))],
        [rstd, scale],
      ];
    });
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { tf } = this;
    const { C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    this.run(() => {
      const [dy, scale] = [this.matrix(dOut, C), this.matrix(rstd, 1)];
      const normalized = tf.mul(this.matrix(x, C), scale);
      const results: [Tensor, TfTensor][] = [];
      if (dX) {
        const weighted = tf.mul(dy, this.flat(weight));
        const mean = tf.div(tf.sum(tf.mul(weighted, normalized), 1, true), C);
        results.push([dX, this.#added(dX, tf.mul(scale, tf.sub(weighted, tf.mul(normalized, mean))), accumulate)]);
      }
      if (dWeight) results.push([dWeight, this.#added(dWeight, tf.sum(tf.mul(dy, normalized), 0), true)]);
      return results;
    });
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { tf } = this;
    const { N, P, heads } = shapes.checkRope(x, cos, sin, positions, headSize);
    checkIndices("rope", "position", this.ints(positions), P);
    const half = headSize / 2;
    this.run(() => {
      const at = this.#indices(this.ints(positions));
      const [c, s] = [cos, sin].map((table) => tf.reshape(tf.gather(this.matrix(table), at), [N, 1, half]));
      const pairs = tf.reshape(this.flat(x), [N, heads, headSize]);
      const [a, b] = [tf.slice(pairs, [0, 0, 0], [N, heads, half]), tf.slice(pairs, [0, 0, half], [N, heads, half])];
      const turned = inverse
        ? [tf.add(tf.mul(a, c), tf.mul(b, s)), tf.sub(tf.mul(b, c), tf.mul(a, s))]
        : [tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))];
      return [[x, tf.concat(turned, 2)]];
    });
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
    const { tf } = this;
    shapes.checkSwigluForward(out, gate, up);
    this.run(() => {
      const g = this.flat(gate);
      return [[out, tf.mul(tf.mul(g, this.#sigmoid(g)), this.flat(up))]];
    });
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    const { tf } = this;
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    this.run(() => {
      const [dy, g] = [this.flat(dOut), this.flat(gate)];
      const s = this.#sigmoid(g);
      const slope = tf.mul(s, tf.add(tf.mul(g, tf.sub(1, s)), 1));
      return [
        [dGate, tf.mul(tf.mul(dy, this.flat(up)), slope)],
        [dUp, tf.mul(dy, tf.mul(g, s))],
      ];
    });
  }

  /** Not the engine's own, which rounds more coarsely. */
  #sigmoid(x: Tensor1D): Tensor1D {
    return this.tf.div(1, this.tf.add(this.tf.exp(this.tf.neg(x)), 1));
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { tf } = this;
    const { n, V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    const ids = this.ints(targets);
    for (const target of ids) if (target >= 0) checkIndex("crossEntropy", "target", target, V);
    if (n === 0) return;
    this.run(() => {
      const z = this.matrix(logits);
      const shifted = tf.sub(z, tf.max(z, 1, true));
      const powers = tf.exp(shifted);
      const sum = tf.sum(powers, 1, true);
      const counted = tf.tensor1d(
        Float32Array.from(ids, (id) => (id < 0 ? 0 : 1)),
        "float32",
      );
      const at = Int32Array.from(ids, (id, row) => row * V + Math.max(0, id));
      const chosen = tf.gather(tf.reshape(shifted, [n * V]), this.#indices(at));
      const loss = tf.where(tf.greater(counted, 0), tf.sub(tf.log(tf.reshape(sum, [n])), chosen), tf.zeros([n]));
      if (scale === null) return [[losses, loss]];
      const softmax = tf.reshape(tf.div(powers, sum), [n * V]);
      const places = tf.reshape(this.#indices(at), [n, 1]);
      const without = tf.tensorScatterUpdate(softmax, places, tf.sub(tf.gather(softmax, this.#indices(at)), 1));
      const gradient = tf.mul(tf.reshape(without, [n, V]), scale);
      if (ids.every((id) => id >= 0))
        return [
          [losses, loss],
          [logits, gradient],
        ];
      // Spread by adding, which is fast; spreading a condition is not.
      const spread = tf.greater(tf.add(tf.zeros([n, V]), tf.reshape(counted, [n, 1])), 0);
      return [
        [losses, loss],
        [logits, tf.where(spread, gradient, tf.zeros([n, V]))],
      ];
    });
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    const { tf } = this;
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = options;
    this.run(() => {
      const w = this.flat(value);
      const g = tf.mul(this.flat(gradient), gradientScale);
      const m = tf.add(tf.mul(this.flat(firstMoment), beta1), tf.mul(g, 1 - beta1));
      const v = tf.add(tf.mul(this.flat(secondMoment), beta2), tf.mul(tf.mul(g, g), 1 - beta2));
      const root = tf.add(tf.sqrt(tf.div(v, 1 - beta2 ** step)), epsilon);
      const change = tf.add(tf.div(tf.div(m, 1 - beta1 ** step), root), tf.mul(w, weightDecay));
      return [
        [value, tf.sub(w, tf.mul(change, learningRate))],
        [firstMoment, m],
        [secondMoment, v],
      ];
    });
  }

  /** On the host, where float64 is, a tensor after the other. */
  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    const sums = new Float64Array(tensors.length);
    for (const [i, tensor] of tensors.entries()) {
      const values = (await this.read(tensor)) as Float32Array;
      let sum = 0;
      for (const value of values) sum += value * value;
      sums[i] = sum;
    }
    return sums;
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    blockShapes.checkGatherColumns(out, x, columns);
    const source: number[] = [];
    for (let i = 0; i < columns.length; i += 2) for (let column = 0; column < columns[i + 1]; column++) source.push(columns[i] + column);
    if (source.length === 0) return;
    this.run(() => [[out, this.tf.gather(this.matrix(x), this.#indices(Int32Array.from(source)), 1), x.dtype === "bf16"]]);
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
      const rounded = weight.dtype === "bf16" ? roundToBfloat16(this.tf, flat) : flat;
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
    const { tf } = this;
    const { out, in: columns } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    const most = blockSize * Math.max(1, Math.floor(tileElements / (blockSize * columns)));
    this.run(() => {
      const [byOut, input] = [tf.transpose(this.#operand(dOut, narrow)), this.#operand(x, narrow)];
      const means: Tensor2D[] = [];
      for (let first = 0; first < out; first += most)
        means.push(
          tf.tidy(() => {
            const g = product(this.engine, rowsOf(this.engine, byOut, first, Math.min(most, out - first)), input);
            return blockOps.blockMeans(tf, signed ? g : tf.abs(g), blockSize);
          }),
        );
      return [[scores, this.#added(scores, tf.concat(means), true)]];
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
      const weight = formed(this.engine, this.#values(adapted));
      const result = product(this.engine, this.#operand(a, narrow), narrow ? roundToBfloat16(this.tf, weight) : weight, options);
      return [[out, this.#added(out, result, options.accumulate)]];
    });
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    this.run(() => {
      const [first, second] = gradients(this.engine, this.#operand(dOut, narrow), this.#operand(x, narrow), this.#values(adapted));
      return [
        [dFirst, this.#added(dFirst, first, true)],
        [dSecond, this.#added(dSecond, second, true)],
      ];
    });
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkFormAdapted(out, adapted);
    this.run(() => [[out, formed(this.engine, this.#values(adapted))]]);
  }

  /** On the host, where float64 is; once a weight. */
  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    const { tf } = this;
    const { out, groups } = adapterShapes.checkFitQuantization(quantization, weight);
    const extremes = (fold: "min" | "max") =>
      tf.tidy(() => tf[fold](tf.reshape(this.flat(weight), [out * groups, quantization.groupSize]), 1).dataSync());
    const [lows, highs] = [extremes("min"), extremes("max")];
    const [scales, zeros] = [new Float32Array(lows.length), new Float32Array(lows.length)];
    for (const [group, lowest] of lows.entries()) {
      const [low, high] = [Math.min(0, lowest), Math.max(0, highs[group])];
      scales[group] = high > low ? (high - low) / 15 : 1;
      zeros[group] = high > low ? roundToEven((-15 * low) / (high - low)) + 0 : 0; // + 0: never −0
    }
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

  /** Counted by parts, because f32 counts no further than 2²⁴. */
  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    const { tf } = this;
    adapterShapes.checkCountZeros(tensors);
    return Float64Array.from(tensors, (tensor) => {
      const size = sizeOf(tensor.shape);
      if (size === 0) return 0;
      const width = Math.min(size, partElements);
      const counts = tf.tidy(() => {
        const others = tf.cast(tf.notEqual(this.flat(tensor), 0), "float32") as Tensor1D;
        const padded = tf.pad1d(others, [0, Math.ceil(size / width) * width - size]);
        return tf.sum(tf.reshape(padded, [-1, width]), 1).dataSync();
      });
      return Float64Array.from(counts).reduce((zeros, others) => zeros - others, size);
    });
  }

  // Small pieces of adapters (LoRA, DoRA)

  /** The mask is made on the host: no engine has the integer arithmetic of the hash. */
  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const { size, seed, threshold, scale } = adapterShapes.checkDropout(out, x, options);
    const kept = new Uint8Array(size);
    for (let i = 0; i < size; i++) if (dropoutHash(seed, i) >= threshold) kept[i] = 1;
    this.run(() => {
      const values = this.flat(x);
      const result = this.tf.where(this.tf.tensor1d(kept, "bool"), this.tf.mul(values, scale), this.tf.zerosLike(values));
      return [[out, this.#added(out, result, options.accumulate)]];
    });
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
    const { tf } = this;
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    this.run(() => {
      const mixed = tf.add(tf.mul(this.flat(cross), 2 * scale), tf.mul(this.flat(gram), scale * scale));
      const root = tf.sqrt(tf.maximum(tf.add(this.flat(squares), mixed), 0));
      return [
        [norm, root],
        [gain, tf.where(tf.equal(root, 0), tf.zerosLike(root), tf.div(this.flat(magnitude), root))],
      ];
    });
  }

  // Pruning (SparseGPT)

  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    throw new UnsupportedError("inverseCholesky", "any shape");
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    pruningShapes.checkMirrorLower(h, diagonal);
    throw new UnsupportedError("mirrorLower", "any shape");
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    throw new UnsupportedError("sparseGptSweep", "any shape");
  }
}

function checkIndices(op: string, name: string, indices: Int32Array, limit: number): void {
  for (const index of indices) checkIndex(op, name, index, limit);
}

function checkIndex(op: string, name: string, index: number, limit: number): void {
  if (index < 0 || index >= limit) throw new Error(`${op}: ${name} ${index} is not below ${limit}`);
}
