/** The ops of pruning of the reference device; reference.ts has the other ops and the rules. */
import type { SparsityPattern, SweepOptions, Tensor } from "./device.ts";
import * as pruningShapes from "./pruningShapes.ts";
import { ReferenceAdapters } from "./referenceAdapters.ts";

export abstract class ReferencePruning extends ReferenceAdapters {
  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    const { C } = pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    const [a, d] = [this.floats(h), this.floats(diagonal)];
    for (let j = 0; j < C; j++) d[j] = a[j * C + j];
    const upper = inverseFactor(a, C, damping);
    if (!upper) return false;
    for (let i = 0; i < C; i++) for (let j = i; j < C; j++) a[i * C + j] = upper[i * C + j];
    return true;
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    const { C } = pruningShapes.checkMirrorLower(h, diagonal);
    const [a, d] = [this.floats(h), this.floats(diagonal)];
    for (let i = 0; i < C; i++) {
      a[i * C + i] = d[i];
      for (let j = i + 1; j < C; j++) a[i * C + j] = a[j * C + i];
    }
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    const { out, in: C } = pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    const [weight, loss, error, u, d] = [w, losses, errors, upper, diagonal].map((tensor) => this.floats(tensor));
    const { pattern, blockSize, first, count } = options;
    for (let i = 0; i < weight.length; i++) if (i % C >= first && i % C < first + count && d[i % C] === 0) weight[i] = 0;
    const score = (at: number) => Math.abs(weight[at]) / u[(at % C) * C + (at % C)];
    for (let start = first; start < first + count; start += blockSize) {
      const end = Math.min(start + blockSize, first + count);
      const pruned = new Set<number>();
      if (pattern.kind === "share") choose(pruned, out, C, start, end, pattern, score);
      for (let j = start; j < end; j++) {
        if (pattern.kind === "groups" && (j - start) % pattern.of === 0) choose(pruned, out, C, j, j + pattern.of, pattern, score);
        for (let i = 0; i < out; i++) {
          const err = pruned.has(i * C + j) ? weight[i * C + j] / u[j * C + j] : 0;
          for (let k = j; k < C; k++) weight[i * C + k] -= err * u[j * C + k];
          if (pruned.has(i * C + j)) weight[i * C + j] = 0;
          error[i * count + (j - first)] = -err;
          loss[i] += err * err;
        }
      }
    }
  }
}

/** Adds the places of the lowest scores of columns [start, end): of each row for groups, of all rows together for a share. */
function choose(
  pruned: Set<number>,
  rows: number,
  C: number,
  start: number,
  end: number,
  pattern: SparsityPattern,
  score: (at: number) => number,
): void {
  const places = (first: number, last: number) =>
    Array.from({ length: (last - first) * (end - start) }, (_, i) => (first + Math.floor(i / (end - start))) * C + start + (i % (end - start)));
  const lowest = (candidates: number[], count: number) => {
    const scores = new Map(candidates.map((at) => [at, score(at)]));
    candidates.sort((a, b) => (scores.get(a) as number) - (scores.get(b) as number) || a - b);
    for (const at of candidates.slice(0, count)) pruned.add(at);
  };
  if (pattern.kind === "share") lowest(places(0, rows), pruningShapes.zerosOfShare(pattern.share, rows, end - start));
  else for (let row = 0; row < rows; row++) lowest(places(row, row + 1), pattern.zeros);
}

/**
 * U with H⁻¹ = Uᵀ·U, by two triangular steps: H = R·Rᵀ with R upper, from the last column to the first; U = R⁻¹. Null when a pivot loses all digits.
 */
function inverseFactor(a: Float64Array, C: number, damping: number): Float64Array | null {
  const h = a.slice();
  let mean = 0;
  for (let j = 0; j < C; j++) {
    if (h[j * C + j] === 0) h[j * C + j] = 1;
    mean += h[j * C + j] / C;
  }
  for (let j = 0; j < C; j++) h[j * C + j] += damping * mean;
  const r = new Float64Array(C * C);
  for (let j = C - 1; j >= 0; j--) {
    for (let i = j; i >= 0; i--) {
      let sum = h[j * C + i];
      for (let k = j + 1; k < C; k++) sum -= r[i * C + k] * r[j * C + k];
      if (i === j && !(sum > 1e-13 * h[j * C + j])) return null;
      r[i * C + j] = i === j ? Math.sqrt(sum) : sum / r[j * C + j];
    }
  }
  const u = new Float64Array(C * C);
  for (let j = 0; j < C; j++) {
    u[j * C + j] = 1 / r[j * C + j];
    for (let i = j - 1; i >= 0; i--) {
      let sum = 0;
      for (let k = i + 1; k <= j; k++) sum += r[i * C + k] * u[k * C + j];
      u[i * C + j] = -sum / r[i * C + i];
    }
  }
  return u;
}
