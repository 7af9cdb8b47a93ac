/**
 * The ops of pruning of the portable device, on raw data; formulas as in device.ts, arguments already checked.
 * Only the upper triangle of a matrix that is factored is read and written: what is below it is the caller's.
 */
import type { SweepOptions } from "../../device.ts";
import { zerosOfShare } from "../../pruningShapes.ts";
import type { FloatData } from "./formats.ts";
import { type GemmWorkspace, multiply, type Operand, tileColumns } from "./gemm.ts";

type Floats = Float32Array | Float64Array;

/** Columns factored together. */
const blockColumns = 64;
/** A pivot that is this small a part of its diagonal entry holds nothing but rounding. */
const smallestPivot = { f32: 1e-4, f64: 1e-13 };

/** Rows [row, …) and columns [column, …) of a row-major matrix as an operand, or its transpose. */
function part(data: Floats, ld: number, row: number, column: number, transposed = false): Operand {
  const offset = row * ld + column;
  // Packing reads numbers only, so that float64 goes the way of float32.
  return { data: data as FloatData, offset, rowStride: transposed ? 1 : ld, columnStride: transposed ? ld : 1 };
}

export function inverseCholesky(
  h: Float32Array,
  diagonal: Float32Array,
  C: number,
  damping: number,
  wide: Float64Array | null,
  workspace: GemmWorkspace,
): boolean {
  for (let j = 0; j < C; j++) diagonal[j] = h[j * C + j];
  let mean = 0;
  for (const value of diagonal) mean += (value === 0 ? 1 : value) / C;
  const a = wide ?? h;
  if (wide) for (let i = 0; i < C; i++) for (let j = i; j < C; j++) wide[i * C + j] = h[i * C + j];
  const pivots = Float64Array.from(diagonal, (value) => (value === 0 ? 1 : value) + damping * mean);
  for (let j = 0; j < C; j++) a[j * C + j] = pivots[j];
  const least = wide ? smallestPivot.f64 : smallestPivot.f32;
  if (!factor(a, C, pivots, least, workspace)) {
    mirrorLower(h, diagonal, C);
    return false;
  }
  invert(a, C, workspace);
  if (wide) for (let i = 0; i < C; i++) for (let j = i; j < C; j++) h[i * C + j] = wide[i * C + j];
  return true;
}

/** The upper triangle of a becomes R with a = R·Rᵀ, block by block from the last columns to the first. */
function factor(a: Floats, C: number, pivots: Float64Array, least: number, workspace: GemmWorkspace): boolean {
  const last = Math.floor((C - 1) / blockColumns) * blockColumns;
  for (let start = last; start >= 0; start -= blockColumns) {
    const end = Math.min(start + blockColumns, C);
    for (let j = end - 1; j >= start; j--) {
      const pivot = a[j * C + j];
      if (!(pivot > least * pivots[j])) return false;
      a[j * C + j] = Math.sqrt(pivot);
      for (let i = start; i < j; i++) a[i * C + j] /= a[j * C + j];
      for (let i = start; i < j; i++) for (let k = i; k < j; k++) a[i * C + k] -= a[i * C + j] * a[k * C + j];
    }
    for (let i = 0; i < start; i++) solveRow(a, C, i, start, end);
    // What is left of the matrix loses the block's part: only its upper triangle.
    for (let column = 0; column < start; column += tileColumns) {
      const columns = Math.min(tileColumns, start - column);
      const [left, right] = [part(a, C, 0, start), part(a, C, column, start, true)];
      multiply(column + columns, columns, end - start, left, right, workspace, (row, rows, _column, width, tile) => {
        for (let i = 0; i < rows; i++) {
          const to = (row + i) * C + column;
          for (let j = Math.max(0, row + i - column); j < width; j++) a[to + j] -= tile[i * tileColumns + j];
        }
      });
    }
  }
  return true;
}

/** Row i of the block's columns: x·Rᵀ = a for the triangle R of the block. */
function solveRow(a: Floats, C: number, i: number, start: number, end: number): void {
  for (let j = end - 1; j >= start; j--) {
    let sum = a[i * C + j];
    for (let k = j + 1; k < end; k++) sum -= a[i * C + k] * a[j * C + k];
    a[i * C + j] = sum / a[j * C + j];
  }
}

/** The upper triangular a becomes its inverse, block column by block column: above the diagonal −U·R·U of what is inverted already. */
function invert(a: Floats, C: number, workspace: GemmWorkspace): void {
  const rest = new Float64Array(blockColumns * blockColumns);
  for (let start = 0; start < C; start += blockColumns) {
    const end = Math.min(start + blockColumns, C);
    const width = end - start;
    invertTriangle(a, C, start, end);
    for (let i = 0; i < start; i++) timesTriangle(a, C, i, start, end);
    for (let row = 0; row < start; row += blockColumns) {
      const below = row + blockColumns; // a whole block: row < start
      rest.fill(0);
      if (below < start)
        multiply(
          blockColumns,
          width,
          start - below,
          part(a, C, row, below),
          part(a, C, below, start),
          workspace,
          (first, rows, _c, columns, tile) => {
            for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) rest[(first + i) * blockColumns + j] = tile[i * tileColumns + j];
          },
        );
      for (let i = row; i < below; i++)
        for (let j = 0; j < width; j++) {
          let sum = rest[(i - row) * blockColumns + j];
          for (let k = i; k < below; k++) sum += a[i * C + k] * a[k * C + start + j];
          a[i * C + start + j] = sum;
        }
    }
  }
}

function invertTriangle(a: Floats, C: number, start: number, end: number): void {
  for (let j = start; j < end; j++) {
    a[j * C + j] = 1 / a[j * C + j];
    for (let i = start; i < j; i++) {
      // Columns before j are inverted, and rows from i on of column j are not yet.
      let sum = 0;
      for (let k = i; k < j; k++) sum += a[i * C + k] * a[k * C + j];
      a[i * C + j] = -sum * a[j * C + j];
    }
  }
}

/** Row i of the block's columns times minus the block's inverted triangle. */
function timesTriangle(a: Floats, C: number, i: number, start: number, end: number): void {
  for (let j = end - 1; j >= start; j--) {
    let sum = 0;
    for (let k = start; k <= j; k++) sum += a[i * C + k] * a[k * C + j];
    a[i * C + j] = -sum;
  }
}

export function mirrorLower(h: Float32Array, diagonal: Float32Array, C: number): void {
  for (let i = 0; i < C; i++) {
    for (let j = 0; j < i; j++) h[j * C + i] = h[i * C + j];
    h[i * C + i] = diagonal[i];
  }
}

export function sparseGptSweep(
  w: Float32Array,
  losses: Float32Array,
  errors: Float32Array,
  upper: Float32Array,
  diagonal: Float32Array,
  R: number,
  C: number,
  { pattern, blockSize, first, count }: SweepOptions,
  workspace: GemmWorkspace,
): void {
  const end = first + count;
  const row = new Float64Array(blockSize);
  const scores = new Float32Array(pattern.kind === "groups" ? pattern.of : 0);
  for (let start = first; start < end; start += blockSize) {
    const width = Math.min(blockSize, end - start);
    for (let i = 0; i < R; i++) for (let j = start; j < start + width; j++) if (diagonal[j] === 0) w[i * C + j] = 0;
    const chosen = pattern.kind === "share" ? chooseShare(w, upper, R, C, start, width, zerosOfShare(pattern.share, R, width)) : null;
    for (let i = 0; i < R; i++) {
      const at = i * C + start;
      for (let j = 0; j < width; j++) row[j] = w[at + j];
      let pruned = 0;
      let loss = 0;
      for (let j = 0; j < width; j++) {
        const u = (start + j) * C + start;
        if (pattern.kind === "groups" && j % pattern.of === 0) {
          for (let k = 0; k < pattern.of; k++) scores[k] = Math.abs(row[j + k]) / upper[(start + j + k) * (C + 1)];
          markLowest(scores, pattern.zeros);
        }
        pruned = chosen ? chosen[i * width + j] : scores[j % scores.length] < 0 ? 1 : 0;
        const err = pruned ? row[j] / upper[u + j] : 0;
        errors[i * count + (start - first) + j] = -err;
        if (!pruned) continue;
        for (let k = j + 1; k < width; k++) row[k] -= err * upper[u + k];
        row[j] = 0;
        loss += err * err;
      }
      for (let j = 0; j < width; j++) w[at + j] = row[j];
      losses[i] += loss;
    }
    addProduct(w, errors, upper, R, C, start, width, start + width, end, first, count, workspace);
  }
  addProduct(w, errors, upper, R, C, first, count, end, C, first, count, workspace);
}

/** Columns [from, to) of w += errors of the columns [start, start + width) · U. */
function addProduct(
  w: Float32Array,
  errors: Float32Array,
  upper: Float32Array,
  R: number,
  C: number,
  start: number,
  width: number,
  from: number,
  to: number,
  first: number,
  count: number,
  workspace: GemmWorkspace,
): void {
  if (from >= to) return;
  multiply(R, to - from, width, part(errors, count, 0, start - first), part(upper, C, start, from), workspace, (row, rows, column, columns, tile) => {
    for (let i = 0; i < rows; i++) {
      const at = (row + i) * C + from + column;
      for (let j = 0; j < columns; j++) w[at + j] += tile[i * tileColumns + j];
    }
  });
}

/** Turns the lowest scores, which are not negative, into −1; the first of equal ones. */
function markLowest(scores: Float32Array, count: number): void {
  for (let n = 0; n < count; n++) {
    let lowest = -1;
    for (let k = 0; k < scores.length; k++) if (scores[k] >= 0 && (lowest < 0 || scores[k] < scores[lowest])) lowest = k;
    scores[lowest] = -1;
  }
}

/** 1 for each of the `count` lowest |w|/U_jj of a block, by row and column. */
function chooseShare(w: Float32Array, upper: Float32Array, R: number, C: number, start: number, width: number, count: number): Uint8Array {
  const scores = new Float32Array(R * width);
  for (let i = 0; i < R; i++) for (let j = 0; j < width; j++) scores[i * width + j] = Math.abs(w[i * C + start + j]) / upper[(start + j) * (C + 1)];
  const chosen = new Uint8Array(R * width);
  if (count === 0) return chosen;
  const limit = scores.slice().sort()[count - 1];
  let ties = count;
  for (const score of scores) if (score < limit) ties--;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] < limit) chosen[i] = 1;
    else if (scores[i] === limit && ties-- > 0) chosen[i] = 1;
  }
  return chosen;
}
