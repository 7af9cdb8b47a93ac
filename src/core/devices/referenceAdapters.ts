/** The ops that adapters need (adapted weights, dropout, row and column scales and dots) of the reference device; reference.ts has the rules. */
import * as adapterShapes from "./adapterShapes.ts";
import type { AdaptedWeight, DropoutOptions, GroupQuantization, GroupScaled, MaskedLowRank, Tensor } from "./device.ts";
import { ditherThreshold, ditherToBfloat16 } from "./dither.ts";
import { dropoutHash } from "./dropoutHash.ts";
import { roundToBfloat16, roundToEven } from "./floatFormats.ts";
import { ReferenceBlocks } from "./referenceBlocks.ts";
import { columnsOf, rowsOf } from "./shapes.ts";

export abstract class ReferenceAdapters extends ReferenceBlocks {
  // Adapted weights (LoRS, SQFT, SPP)

  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options: { transposeB?: boolean; accumulate?: boolean } = {}): void {
    const { M, N, K, out: rows, in: columns } = adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    const narrow = a.dtype === "bf16" || adapted.weight.dtype === "bf16";
    const formed = this.#formed(adapted, rows, columns, narrow);
    const [y, x] = [this.floats(out), this.operand(a, narrow)];
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += x[m * K + k] * (options.transposeB ? formed[n * columns + k] : formed[k * columns + n]);
        y[m * N + n] = options.accumulate ? y[m * N + n] + sum : sum;
      }
    }
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    const { N, out, in: columns } = adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    const [dy, input] = [this.operand(dOut, narrow), this.operand(x, narrow)];
    const add = adapted.kind === "maskedLowRank" ? this.#lowRankGradient(adapted, dFirst, dSecond) : this.#groupGradient(adapted, dFirst, dSecond);
    for (let i = 0; i < out; i++) {
      for (let j = 0; j < columns; j++) {
        let g = 0;
        for (let n = 0; n < N; n++) g += dy[n * out + i] * input[n * columns + j];
        add(i, j, g);
      }
    }
  }

  /** Adds what entry (i, j) = g of G contributes. */
  #lowRankGradient(adapted: AdaptedWeight & MaskedLowRank, dFirst: Tensor, dSecond: Tensor) {
    const [first, second, w, left, right] = [dFirst, dSecond, adapted.weight, adapted.left, adapted.right].map((tensor) => this.floats(tensor));
    const [columns, r, s] = [columnsOf(adapted.weight), rowsOf(adapted.right), adapted.scale];
    return (i: number, j: number, g: number) => {
      const masked = w[i * columns + j] === 0 ? 0 : g;
      for (let k = 0; k < adapted.rank; k++) {
        first[i * r + k] += s * masked * right[k * columns + j];
        second[k * columns + j] += s * left[i * r + k] * masked;
      }
    };
  }

  #groupGradient(adapted: AdaptedWeight & GroupScaled, dFirst: Tensor, dSecond: Tensor) {
    const [first, second, w, alpha, beta] = [dFirst, dSecond, adapted.weight, adapted.alpha, adapted.beta].map((tensor) => this.floats(tensor));
    const [out, columns, groups, s] = [rowsOf(adapted.weight), columnsOf(adapted.weight), rowsOf(adapted.alpha), adapted.scale];
    return (i: number, j: number, g: number) => {
      const [at, scaled] = [Math.floor((groups * i) / out) * columns + j, w[i * columns + j] * g];
      first[at] += s * beta[i] * scaled;
      second[i] += s * alpha[at] * scaled;
    };
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    const { out: rows, in: columns } = adapterShapes.checkFormAdapted(out, adapted);
    this.floats(out).set(this.#formed(adapted, rows, columns, out.dtype === "bf16"));
  }

  /** W̃ (out, in); with `narrow` as bf16. */
  #formed(adapted: AdaptedWeight, out: number, columns: number, narrow: boolean): Float64Array {
    const levels = adapted.kind === "maskedLowRank" && adapted.quantization;
    const narrowed = levels ? roundToBfloat16 : (value: number, i: number, j: number) => ditherToBfloat16(value, ditherThreshold(i, j));
    const added = adapted.kind === "maskedLowRank" ? this.#lowRankEntry(adapted) : this.#groupEntry(adapted);
    const formed = new Float64Array(out * columns);
    const w = this.floats(adapted.weight);
    for (let i = 0; i < out; i++) {
      for (let j = 0; j < columns; j++) {
        const value = added(i, j, w[i * columns + j]);
        formed[i * columns + j] = narrow ? narrowed(value, i, j) : value;
      }
    }
    return formed;
  }

  #lowRankEntry({ weight, left, right, rank, scale, base, quantization }: AdaptedWeight & MaskedLowRank) {
    const [l, r, columns, R] = [this.floats(left), this.floats(right), columnsOf(weight), rowsOf(right)];
    const level = quantization && this.#nearestLevel(quantization, columns);
    return (i: number, j: number, w: number) => {
      if (w === 0) return 0;
      let product = 0;
      for (let k = 0; k < rank; k++) product += l[i * R + k] * r[k * columns + j];
      const value = base ? w + scale * product : scale * product;
      return level ? level(i, j, value) : value;
    };
  }

  #groupEntry({ weight, alpha, beta, scale, base }: AdaptedWeight & GroupScaled) {
    const [a, b, out, columns, groups] = [this.floats(alpha), this.floats(beta), rowsOf(weight), columnsOf(weight), rowsOf(alpha)];
    return (i: number, j: number, w: number) => {
      const added = w * scale * b[i] * a[Math.floor((groups * i) / out) * columns + j];
      return base ? w + added : added;
    };
  }

  /** The nearest of the 16 levels of the group that entry (i, j) is in. */
  #nearestLevel({ scales, zeros, groupSize }: GroupQuantization, columns: number) {
    const [steps, zeroPoints] = [this.floats(scales), this.floats(zeros)];
    return (i: number, j: number, value: number) => {
      const group = i * (columns / groupSize) + Math.floor(j / groupSize);
      const [a, z] = [steps[group], zeroPoints[group]];
      return a * (Math.max(0, Math.min(15, roundToEven(value / a + z))) - z);
    };
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    adapterShapes.checkFitQuantization(quantization, weight);
    const [a, z, w] = [quantization.scales, quantization.zeros, weight].map((tensor) => this.floats(tensor));
    for (let group = 0; group < a.length; group++) {
      const entries = w.subarray(group * quantization.groupSize, (group + 1) * quantization.groupSize);
      const [low, high] = [entries.reduce((least, x) => Math.min(least, x), 0), entries.reduce((most, x) => Math.max(most, x), 0)];
      a[group] = high > low ? (high - low) / 15 : 1;
      z[group] = high > low ? roundToEven((-15 * low) / (high - low)) + 0 : 0; // + 0: never −0
    }
  }

  maskBy(x: Tensor, weight: Tensor): void {
    adapterShapes.checkMaskBy(x, weight);
    const [data, w] = [this.floats(x), this.floats(weight)];
    for (let i = 0; i < data.length; i++) if (w[i] === 0) data[i] = 0;
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    return Float64Array.from(tensors, (tensor) => this.floats(tensor).reduce((count, x) => count + (x === 0 ? 1 : 0), 0));
  }

  // Small pieces of adapters (LoRA, DoRA)

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const { seed, threshold, scale } = adapterShapes.checkDropout(out, x, options);
    const [y, input] = [this.floats(out), this.floats(x)];
    for (let i = 0; i < y.length; i++) {
      const value = dropoutHash(seed, i) >= threshold ? input[i] * scale : 0;
      y[i] = options.accumulate ? y[i] + value : value;
    }
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void {
    const { C } = adapterShapes.checkScaleColumns(out, x, scale);
    const [y, input, factors] = [out, x, scale].map((tensor) => this.floats(tensor));
    for (let i = 0; i < y.length; i++) y[i] = input[i] * factors[i % C] + (accumulate ? y[i] : 0);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    const { C } = adapterShapes.checkScaleRows(out, x, scale);
    const [y, input, factors] = [out, x, scale].map((tensor) => this.floats(tensor));
    for (let i = 0; i < y.length; i++) y[i] = input[i] * factors[Math.floor(i / C)];
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { C } = adapterShapes.checkRowDots(out, a, b);
    const [sums, left, right] = [out, a, b].map((tensor) => this.floats(tensor));
    sums.fill(0);
    for (let i = 0; i < left.length; i++) sums[Math.floor(i / C)] += left[i] * right[i];
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { C } = adapterShapes.checkColumnDots(out, a, b);
    const [sums, left, right] = [out, a, b].map((tensor) => this.floats(tensor));
    for (let i = 0; i < left.length; i++) sums[i % C] += left[i] * right[i];
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    const [nu, g, m, ww, wd, dd] = [norm, gain, magnitude, squares, cross, gram].map((tensor) => this.floats(tensor));
    for (let i = 0; i < nu.length; i++) {
      // A row that its adapter cancels may round to a little below zero.
      nu[i] = Math.sqrt(Math.max(0, ww[i] + 2 * scale * wd[i] + scale * scale * dd[i]));
      g[i] = nu[i] === 0 ? 0 : m[i] / nu[i];
    }
  }
}
