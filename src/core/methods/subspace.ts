/**
 * Randomised subspace iteration (Halko, Martinsson, Tropp 2011): the main singular directions of matrices that are only known by their products.
 * The device multiplies; the host factors and diagonalises q × q matrices. What is done with the directions is the caller's.
 */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { Device, Tensor } from "../devices/device.ts";
import type { Random } from "../random.ts";

/** What is known of one matrix (out, in): q vectors of either space, as rows. */
export interface Subspace {
  /** (q, in). */
  right: Tensor;
  /** (q, out). */
  left: Tensor;
}

/** Of a matrix of this shape, with random right vectors; undefined ones with null, for the planner. */
export function startSubspace(device: Device, out: number, width: number, q: number, random: Pick<Random, "normal"> | null): Subspace {
  const right = device.allocate([q, width], "f32", "workspace");
  const left = device.allocate([q, out], "f32", "workspace");
  if (random) {
    const start = new Float32Array(q * width);
    for (let i = 0; i < start.length; i++) start[i] = random.normal();
    device.write(right, start);
  }
  return { right, left };
}

/**
 * Turns the vectors towards the largest singular values, so many rounds. `multiply` shall set, of all matrices W, left = right·Wᵀ or right = left·W, and
 * may say false to end it. Left vectors end orthonormal, and right = left·W.
 */
export async function iterateSubspaces(
  device: Device,
  subspaces: readonly Subspace[],
  rounds: number,
  multiply: (side: "left" | "right") => boolean | Promise<boolean>,
): Promise<boolean> {
  for (let round = 0; round < rounds; round++) {
    if (!(await multiply("left"))) return false;
    for (const { left } of subspaces) await orthonormaliseRows(device, left);
    if (!(await multiply("right"))) return false;
    if (round < rounds - 1) for (const { right } of subspaces) await orthonormaliseRows(device, right);
    await device.turn();
  }
  return true;
}

/** rows·rowsᵀ, (count, count) row-major. */
export async function gramOf(device: Device, rows: Tensor): Promise<Float64Array> {
  const [count] = rows.shape;
  const gram = device.allocate([count, count], "f32", "workspace");
  device.matmul(gram, rows, rows, { transposeB: true });
  const values = Float64Array.from((await device.read(gram)) as Float32Array);
  device.free(gram);
  return values;
}

/**
 * Rows become orthonormal, or stay zero when all are: shifted Cholesky QR, three times (Fukaya et al., arXiv 1809.11085). The shift keeps rows that
 * depend on each other to f32's precision from breaking the factorisation; a pass takes a condition number of 300 off, so two mostly do.
 */
export async function orthonormaliseRows(device: Device, rows: Tensor): Promise<void> {
  const [count, length] = rows.shape;
  const old = device.allocate([count, length], "f32", "workspace");
  const inverse = device.allocate([count, count], "f32", "workspace");
  for (let pass = 0; pass < 3; pass++) {
    const gram = await gramOf(device, rows);
    let largest = 0;
    for (let i = 0; i < count; i++) largest = Math.max(largest, gram[i * count + i]);
    if (largest === 0 || gram.every((value, i) => Math.abs(value - (i % (count + 1) === 0 ? 1 : 0)) < 1e-4)) break;
    device.write(inverse, Float32Array.from(inverseOfCholesky(gram, count, 1e-5 * largest)));
    device.copy(old, rows);
    device.matmul(rows, inverse, old);
  }
  device.free(inverse);
  device.free(old);
}

/** L⁻¹, lower triangular, row-major, of L·Lᵀ = gram + shift; what rounding makes of a pivot that should be at least the shift does no harm. */
function inverseOfCholesky(gram: Float64Array, count: number, shift: number): Float64Array {
  const lower = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = 0; j <= i; j++) {
      let sum = gram[i * count + j] + (i === j ? shift : 0);
      for (let k = 0; k < j; k++) sum -= lower[i * count + k] * lower[j * count + k];
      lower[i * count + j] = i === j ? Math.sqrt(Math.max(sum, shift)) : sum / lower[j * count + j];
    }
  // Row i of the inverse: (e_i − Σ_{k<i} L_ik · row k) / L_ii, along rows so that memory is read in order.
  const inverse = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    const row = inverse.subarray(i * count, i * count + i + 1);
    for (let k = 0; k < i; k++) {
      const factor = lower[i * count + k];
      for (let j = 0; j <= k; j++) row[j] -= factor * inverse[k * count + j];
    }
    row[i] = 1;
    for (let j = 0; j <= i; j++) row[j] /= lower[i * count + i];
  }
  return inverse;
}

/** Eigenvectors of a symmetric (q, q) matrix of the `rank` largest eigenvalues as columns, (q, rank) row-major. */
export function topEigenvectors(gram: Float64Array, q: number, rank: number): Float32Array {
  if (gram.every((value) => value === 0)) return new Float32Array(q * rank);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(Matrix.from1DArray(q, q, gram), { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b] - realEigenvalues[a]);
  return Float32Array.from({ length: q * rank }, (_, i) => eigenvectorMatrix.get(Math.floor(i / rank), order[i % rank]));
}
