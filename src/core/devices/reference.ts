/**
 * The judge of all other devices: every op of device.ts as straight loops over float64, written from the formulas there. Tests only; it is slow.
 * The rules to keep:
 *  - What computes does not round, not even into bf16 tensors, so that finite differences work and a device's rounding shows.
 *  - What moves data (write, load, fill, copy, embeddingForward, gather, scatter) rounds into bf16 tensors as every device does,
 *    and matmul rounds an f32 operand beside a bf16 one, because that is part of the op.
 *  - No cleverness: a loop here is to be checked by reading it.
 */

import type { AdamWOptions, AttentionShape, Device, MatmulOptions, Tensor } from "./device.ts";
import { ReferencePruning } from "./referencePruning.ts";
import * as shapes from "./shapes.ts";

/** A reference device; close it as any other. */
export function openReferenceDevice(): ReferenceDevice {
  return new ReferenceDevice();
}

/** Fails on an index a tensor holds, which no shape check can see. */
function checkIndex(op: string, name: string, index: number, limit: number): void {
  if (index < 0 || index >= limit) throw new Error(`${op}: ${name} ${index} is not below ${limit}`);
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

export class ReferenceDevice extends ReferencePruning implements Device {
  readonly name = "reference";
  readonly description = "reference: float64 loops";

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const { M, N, K } = shapes.checkMatmul(out, a, b, options);
    const narrow = a.dtype === "bf16" || b.dtype === "bf16";
    const c = this.floats(out);
    // Both operands with K innermost: the sums are the same, and memory is read in order.
    const left = inner(this.operand(a, narrow), M, K, options.transposeA);
    const right = inner(this.operand(b, narrow), N, K, !options.transposeB);
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        const sum = dot(left, m * K, right, n * K, K);
        c[m * N + n] = options.accumulate ? c[m * N + n] + sum : sum;
      }
    }
  }

  addBias(out: Tensor, bias: Tensor): void {
    const { C } = shapes.checkAddBias(out, bias);
    const [y, b] = [this.floats(out), this.floats(bias)];
    for (let i = 0; i < y.length; i++) y[i] += b[i % C];
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    const { C } = shapes.checkBiasBackward(dBias, dOut);
    const [db, dy] = [this.floats(dBias), this.floats(dOut)];
    for (let i = 0; i < dy.length; i++) db[i % C] += dy[i];
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingForward(out, table, ids);
    const rows = this.floats(table);
    this.integers(ids).forEach((id, n) => {
      checkIndex("embeddingForward", "id", id, V);
      this.move(out, n * C, rows.subarray(id * C, (id + 1) * C));
    });
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    const [dRows, dy] = [this.floats(dTable), this.floats(dOut)];
    this.integers(ids).forEach((id, n) => {
      checkIndex("embeddingBackward", "id", id, V);
      for (let c = 0; c < C; c++) dRows[id * C + c] += dy[n * C + c];
    });
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { R, C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    const [y, scales, input, w] = [out, rstd, x, weight].map((tensor) => this.floats(tensor));
    for (let r = 0; r < R; r++) {
      let squares = 0;
      for (let c = 0; c < C; c++) squares += input[r * C + c] ** 2;
      scales[r] = 1 / Math.sqrt(squares / C + epsilon);
      for (let c = 0; c < C; c++) y[r * C + c] = w[c] * input[r * C + c] * scales[r];
    }
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { R, C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    const [dy, input, w, scales] = [dOut, x, weight, rstd].map((tensor) => this.floats(tensor));
    const dw = dWeight && this.floats(dWeight);
    const dx = dX && this.floats(dX);
    for (let r = 0; r < R; r++) {
      let mean = 0;
      for (let i = r * C; i < (r + 1) * C; i++) mean += (w[i % C] * dy[i] * input[i] * scales[r]) / C;
      for (let i = r * C; i < (r + 1) * C; i++) {
        const normalized = input[i] * scales[r];
        const gradient = scales[r] * (w[i % C] * dy[i] - normalized * mean);
        if (dw) dw[i % C] += dy[i] * normalized;
        if (dx) dx[i] = accumulate ? dx[i] + gradient : gradient;
      }
    }
  }

  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { N, heads, P } = shapes.checkRope(x, cos, sin, positions, headSize);
    const [data, cosines, sines] = [x, cos, sin].map((tensor) => this.floats(tensor));
    const half = headSize / 2;
    for (let n = 0; n < N; n++) {
      const position = this.integers(positions)[n];
      checkIndex("rope", "position", position, P);
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < half; i++) {
          const at = (n * heads + head) * headSize + i;
          const [a, b, c] = [data[at], data[at + half], cosines[position * half + i]];
          const s = inverse ? -sines[position * half + i] : sines[position * half + i];
          data[at] = a * c - b * s;
          data[at + half] = b * c + a * s;
        }
      }
    }
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    const [y, lse, query, key, value] = [out, logSumExp, q, k, v].map((tensor) => this.floats(tensor));
    for (const { t, h, first, last, at, keyAt } of this.#attentionRows(documentStart, shape)) {
      const scores: number[] = [];
      for (let s = first; s <= last; s++) scores.push(dot(query, at, key, keyAt(s), shape.headSize) / Math.sqrt(shape.headSize));
      const max = scores.reduce((a, b) => Math.max(a, b));
      const sum = scores.reduce((total, score) => total + Math.exp(score - max), 0);
      lse[t * shape.numHeads + h] = max + Math.log(sum);
      y.fill(0, at, at + shape.headSize);
      scores.forEach((score, i) => {
        for (let d = 0; d < shape.headSize; d++) y[at + d] += (Math.exp(score - max) / sum) * value[keyAt(first + i) + d];
      });
    }
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
    const [dq, dk, dv, dy, query, key, value, y, lse] = [dQ, dK, dV, dOut, q, k, v, out, logSumExp].map((tensor) => this.floats(tensor));
    const { headSize, numHeads } = shape;
    for (const gradient of [dq, dk, dv]) gradient.fill(0);
    for (const { t, h, first, last, at, keyAt } of this.#attentionRows(documentStart, shape)) {
      const delta = dot(dy, at, y, at, headSize);
      for (let s = first; s <= last; s++) {
        const from = keyAt(s);
        const probability = Math.exp(dot(query, at, key, from, headSize) / Math.sqrt(headSize) - lse[t * numHeads + h]);
        const dScore = (probability * (dot(dy, at, value, from, headSize) - delta)) / Math.sqrt(headSize);
        for (let d = 0; d < headSize; d++) {
          dv[from + d] += probability * dy[at + d];
          dq[at + d] += dScore * key[from + d];
          dk[from + d] += dScore * query[at + d];
        }
      }
    }
  }

  /**
   * Every query of every head: t its row in q, h its head, `at` where its vector begins, [first, last] the keys it sees,
   * keyAt(s) where the vector of key s begins.
   */
  *#attentionRows(documentStart: Tensor, shape: AttentionShape) {
    const { batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize } = shape;
    const starts = this.integers(documentStart);
    for (let t = 0; t < batchSize * queryLength; t++) {
      const sequence = Math.floor(t / queryLength);
      const [first, last] = [starts[t], keyLength - queryLength + (t % queryLength)];
      checkIndex("attention", "documentStart", first, last + 1);
      for (let h = 0; h < numHeads; h++) {
        const keyHead = Math.floor(h / (numHeads / numKeyValueHeads));
        const keyAt = (s: number) => ((sequence * keyStride + s) * numKeyValueHeads + keyHead) * headSize;
        yield { t, h, first, last, at: (t * numHeads + h) * headSize, keyAt };
      }
    }
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    const [y, g, u] = [out, gate, up].map((tensor) => this.floats(tensor));
    for (let i = 0; i < y.length; i++) y[i] = g[i] * sigmoid(g[i]) * u[i];
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    const [dg, du, dy, gates, ups] = [dGate, dUp, dOut, gate, up].map((tensor) => this.floats(tensor));
    for (let i = 0; i < dy.length; i++) {
      const [g, u, s] = [gates[i], ups[i], sigmoid(gates[i])];
      dg[i] = dy[i] * u * s * (1 + g * (1 - s));
      du[i] = dy[i] * g * s;
    }
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { n, V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    const [loss, scores] = [this.floats(losses), this.floats(logits)];
    for (let row = 0; row < n; row++) {
      const target = this.integers(targets)[row];
      if (target >= 0) checkIndex("crossEntropy", "target", target, V);
      const z = scores.subarray(row * V, (row + 1) * V);
      const max = z.reduce((a, b) => Math.max(a, b));
      const logSumExp = max + Math.log(z.reduce((sum, x) => sum + Math.exp(x - max), 0));
      loss[row] = target < 0 ? 0 : logSumExp - z[target];
      if (scale !== null) for (let i = 0; i < V; i++) z[i] = target < 0 ? 0 : scale * (Math.exp(z[i] - logSumExp) - (i === target ? 1 : 0));
    }
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = options;
    const [w, dw, m, v] = [value, gradient, firstMoment, secondMoment].map((tensor) => this.floats(tensor));
    for (let i = 0; i < w.length; i++) {
      const g = gradientScale * dw[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const [mean, square] = [m[i] / (1 - beta1 ** step), v[i] / (1 - beta2 ** step)];
      w[i] -= learningRate * (mean / (Math.sqrt(square) + epsilon) + weightDecay * w[i]);
    }
  }

  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    return Float64Array.from(tensors, (tensor) => this.floats(tensor).reduce((sum, x) => sum + x * x, 0));
  }
}

/** A (rows, K) matrix, from (K, rows) when it is `transposed`. */
function inner(x: Float64Array, rows: number, K: number, transposed = false): Float64Array {
  return transposed ? x.map((_, i) => x[(i % K) * rows + Math.floor(i / K)]) : x;
}

function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[aAt + i] * b[bAt + i];
  return sum;
}
