/** The row-wise ops of the portable device on raw data; formulas and letters as in device.ts. Sums over a row are float64. */
import type { AdamWOptions } from "../../device.ts";
import { checkIndex, type FloatData, forEachPiece, load, type Scratch, scratchElements, store } from "./formats.ts";

export function addBias(out: FloatData, bias: FloatData, N: number, C: number, { rows: [y, b] }: Scratch): void {
  forEachPiece(C, (start, count) => {
    load(b, bias, start, count);
    for (let n = 0; n < N; n++) {
      load(y, out, n * C + start, count);
      for (let i = 0; i < count; i++) y[i] += b[i];
      store(out, n * C + start, y, count);
    }
  });
}

/** sums (C) += Σ over rows of x, or of x². */
export function addColumnSums(
  sums: Float32Array,
  x: FloatData,
  N: number,
  C: number,
  squared: boolean,
  { rows: [row], sums: [total] }: Scratch,
): void {
  forEachPiece(C, (start, count) => {
    for (let i = 0; i < count; i++) total[i] = sums[start + i];
    for (let n = 0; n < N; n++) {
      load(row, x, n * C + start, count);
      if (squared) for (let i = 0; i < count; i++) total[i] += row[i] * row[i];
      else for (let i = 0; i < count; i++) total[i] += row[i];
    }
    store(sums, start, total, count);
  });
}

/** to[toOffset …] = from[fromOffset …], converted. */
export function copyElements(to: FloatData, toOffset: number, from: FloatData, fromOffset: number, length: number, { rows: [row] }: Scratch): void {
  forEachPiece(length, (start, count) => {
    load(row, from, fromOffset + start, count);
    store(to, toOffset + start, row, count);
  });
}

export function embeddingForward(out: FloatData, table: FloatData, ids: Int32Array, C: number, V: number, scratch: Scratch): void {
  for (const id of ids) checkIndex("embeddingForward", "id", id, V);
  for (let n = 0; n < ids.length; n++) copyElements(out, n * C, table, ids[n] * C, C, scratch);
}

export function embeddingBackward(dTable: Float32Array, dOut: FloatData, ids: Int32Array, C: number, V: number, { rows: [dy] }: Scratch): void {
  for (const id of ids) checkIndex("embeddingBackward", "id", id, V);
  forEachPiece(C, (start, count) => {
    for (let n = 0; n < ids.length; n++) {
      load(dy, dOut, n * C + start, count);
      const at = ids[n] * C + start;
      for (let i = 0; i < count; i++) dTable[at + i] += dy[i];
    }
  });
}

export function rmsNormForward(
  out: FloatData,
  rstd: Float32Array,
  x: FloatData,
  weight: FloatData,
  R: number,
  C: number,
  epsilon: number,
  { rows: [input, w] }: Scratch,
): void {
  for (let r = 0; r < R; r++) {
    let squares = 0;
    forEachPiece(C, (start, count) => {
      load(input, x, r * C + start, count);
      for (let i = 0; i < count; i++) squares += input[i] * input[i];
    });
    const scale = 1 / Math.sqrt(squares / C + epsilon);
    rstd[r] = scale;
    forEachPiece(C, (start, count) => {
      if (C > scratchElements) load(input, x, r * C + start, count);
      load(w, weight, start, count);
      for (let i = 0; i < count; i++) input[i] *= w[i] * scale;
      store(out, r * C + start, input, count);
    });
  }
}

export function rmsNormBackward(
  dX: FloatData | null,
  dWeight: Float32Array | null,
  dOut: FloatData,
  x: FloatData,
  weight: FloatData,
  rstd: Float32Array,
  R: number,
  C: number,
  accumulate: boolean,
  { rows: [dy, input, w, dx] }: Scratch,
): void {
  const loadPieces = (r: number, start: number, count: number) => {
    load(dy, dOut, r * C + start, count);
    load(input, x, r * C + start, count);
    load(w, weight, start, count);
  };
  for (let r = 0; r < R; r++) {
    const scale = rstd[r];
    let sum = 0;
    forEachPiece(C, (start, count) => {
      loadPieces(r, start, count);
      for (let i = 0; i < count; i++) sum += w[i] * dy[i] * (input[i] * scale);
    });
    const mean = sum / C;
    forEachPiece(C, (start, count) => {
      if (C > scratchElements) loadPieces(r, start, count);
      if (dWeight) for (let i = 0; i < count; i++) dWeight[start + i] += dy[i] * (input[i] * scale);
      if (!dX) return;
      if (accumulate) load(dx, dX, r * C + start, count);
      else dx.fill(0, 0, count);
      for (let i = 0; i < count; i++) dx[i] += scale * (w[i] * dy[i] - input[i] * scale * mean);
      store(dX, r * C + start, dx, count);
    });
  }
}

export function rope(
  x: FloatData,
  cos: Float32Array,
  sin: Float32Array,
  positions: Int32Array,
  heads: number,
  headSize: number,
  P: number,
  inverse: boolean,
  { rows: [head] }: Scratch,
): void {
  for (const position of positions) checkIndex("rope", "position", position, P);
  const half = headSize / 2;
  const sign = inverse ? -1 : 1;
  for (let n = 0; n < positions.length; n++) {
    const angle = positions[n] * half;
    for (let h = 0; h < heads; h++) {
      const at = (n * heads + h) * headSize;
      load(head, x, at, headSize);
      for (let i = 0; i < half; i++) {
        const [a, b, c, s] = [head[i], head[i + half], cos[angle + i], sign * sin[angle + i]];
        head[i] = a * c - b * s;
        head[i + half] = b * c + a * s;
      }
      store(x, at, head, headSize);
    }
  }
}

export function swigluForward(out: FloatData, gate: FloatData, up: FloatData, { rows: [g, u] }: Scratch): void {
  forEachPiece(out.length, (start, count) => {
    load(g, gate, start, count);
    load(u, up, start, count);
    for (let i = 0; i < count; i++) g[i] = (g[i] / (1 + Math.exp(-g[i]))) * u[i];
    store(out, start, g, count);
  });
}

export function swigluBackward(
  dGate: FloatData,
  dUp: FloatData,
  dOut: FloatData,
  gate: FloatData,
  up: FloatData,
  { rows: [dy, g, u] }: Scratch,
): void {
  forEachPiece(dOut.length, (start, count) => {
    load(dy, dOut, start, count);
    load(g, gate, start, count);
    load(u, up, start, count);
    for (let i = 0; i < count; i++) {
      const sigmoid = 1 / (1 + Math.exp(-g[i]));
      const dUpValue = dy[i] * g[i] * sigmoid;
      g[i] = dy[i] * u[i] * sigmoid * (1 + g[i] * (1 - sigmoid));
      u[i] = dUpValue;
    }
    store(dGate, start, g, count);
    store(dUp, start, u, count);
  });
}

export function crossEntropy(
  losses: Float32Array,
  logits: FloatData,
  targets: Int32Array,
  V: number,
  scale: number | null,
  { rows: [z] }: Scratch,
): void {
  for (const target of targets) if (target >= 0) checkIndex("crossEntropy", "target", target, V);
  for (let row = 0; row < targets.length; row++) {
    const target = targets[row];
    if (target < 0) {
      losses[row] = 0;
      if (scale !== null) logits.fill(0, row * V, (row + 1) * V);
      continue;
    }
    let max = Number.NEGATIVE_INFINITY;
    forEachPiece(V, (start, count) => {
      load(z, logits, row * V + start, count);
      for (let i = 0; i < count; i++) max = Math.max(max, z[i]);
    });
    let sum = 0;
    forEachPiece(V, (start, count) => {
      if (V > scratchElements) load(z, logits, row * V + start, count);
      for (let i = 0; i < count; i++) sum += Math.exp(z[i] - max);
    });
    const logSumExp = max + Math.log(sum);
    load(z, logits, row * V + target, 1);
    losses[row] = logSumExp - z[0];
    if (scale === null) continue;
    forEachPiece(V, (start, count) => {
      load(z, logits, row * V + start, count);
      for (let i = 0; i < count; i++) z[i] = scale * (Math.exp(z[i] - logSumExp) - (start + i === target ? 1 : 0));
      store(logits, row * V + start, z, count);
    });
  }
}

export function adamwStep(value: Float32Array, gradient: Float32Array, m: Float32Array, v: Float32Array, options: AdamWOptions): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = options;
  const meanScale = 1 / (1 - beta1 ** step);
  const squareScale = 1 / (1 - beta2 ** step);
  for (let i = 0; i < value.length; i++) {
    const g = gradient[i] * gradientScale;
    const mean = beta1 * m[i] + (1 - beta1) * g;
    const square = beta2 * v[i] + (1 - beta2) * g * g;
    m[i] = mean;
    v[i] = square;
    value[i] -= learningRate * ((mean * meanScale) / (Math.sqrt(square * squareScale) + epsilon) + weightDecay * value[i]);
  }
}

/** Σx², in order, float64. */
export function sumSquares(x: FloatData, { rows: [row] }: Scratch): number {
  let sum = 0;
  forEachPiece(x.length, (start, count) => {
    load(row, x, start, count);
    for (let i = 0; i < count; i++) sum += row[i] * row[i];
  });
  return sum;
}
