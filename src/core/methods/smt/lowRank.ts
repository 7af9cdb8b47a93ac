/**
 * Block means of |W_r|, W_r the best rank-r part of W, by randomised subspace iteration (Halko, Martinsson, Tropp 2011) with q = 2r + 64
 * vectors, because the singular values of real weights fall slowly past the r-th; matrices with a side up to that many are decomposed exactly.
 * The device multiplies; the host factors and diagonalises q × q matrices. One f32 copy of one matrix is alive at a time. Source of the score: LIFT (arXiv 2506.00772); r = 128, at most min(out, in) / 4.
 */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { Device, Tensor } from "../../devices/device.ts";
import type { Random } from "../../random.ts";
import { gridShape } from "./selection.ts";

const iterations = 6;

/** Mean over each block of |W_r|, (grid) row-major. `random` supplies the start vectors. */
export async function lowRankMeans(device: Device, weight: Tensor, blockSize: number, random: Pick<Random, "normal">): Promise<Float32Array> {
  const [out, width] = weight.shape;
  const rank = Math.max(1, Math.min(128, Math.floor(Math.min(out, width) / 4)));
  const w = device.allocate([out, width], "f32", "workspace");
  device.copy(w, weight);
  await replaceByLowRank(device, w, rank, random);
  const means = device.allocate(gridShape(weight.shape, blockSize), "f32", "workspace");
  device.blockMeans(means, w, blockSize, "absolute", null);
  const scores = (await device.read(means)) as Float32Array;
  device.free(means);
  device.free(w);
  return scores;
}

/** w (out, in) f32 becomes its best rank-r part. */
async function replaceByLowRank(device: Device, w: Tensor, rank: number, random: Pick<Random, "normal">): Promise<void> {
  const [out, width] = w.shape;
  const q = Math.min(2 * rank + 64, out, width);
  const right = device.allocate([q, width], "f32", "workspace"); // rows: vectors of the input space
  const left = device.allocate([q, out], "f32", "workspace"); // rows: vectors of the output space
  const start = new Float32Array(q * width);
  for (let i = 0; i < start.length; i++) start[i] = random.normal();
  device.write(right, start);
  for (let i = 0; i < iterations; i++) {
    device.matmul(left, right, w, { transposeB: true });
    await orthonormaliseRows(device, left);
    device.matmul(right, left, w);
    if (i < iterations - 1) await orthonormaliseRows(device, right);
    await device.turn();
  }
  // w ≈ leftᵀ·right; its singular directions within that space are the eigenvectors U of right·rightᵀ.
  const u = device.allocate([q, rank], "f32", "workspace");
  device.write(u, topEigenvectors(await gramOf(device, right), q, rank));
  const outFactor = device.allocate([out, rank], "f32", "workspace");
  const inFactor = device.allocate([rank, width], "f32", "workspace");
  device.matmul(outFactor, left, u, { transposeA: true });
  device.matmul(inFactor, u, right, { transposeA: true });
  device.matmul(w, outFactor, inFactor);
  for (const tensor of [right, left, u, outFactor, inFactor]) device.free(tensor);
}

/** rows·rowsᵀ, (count, count) row-major. */
async function gramOf(device: Device, rows: Tensor): Promise<Float64Array> {
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
async function orthonormaliseRows(device: Device, rows: Tensor): Promise<void> {
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
function topEigenvectors(gram: Float64Array, q: number, rank: number): Float32Array {
  if (gram.every((value) => value === 0)) return new Float32Array(q * rank);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(Matrix.from1DArray(q, q, gram), { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b] - realEigenvalues[a]);
  return Float32Array.from({ length: q * rank }, (_, i) => eigenvectorMatrix.get(Math.floor(i / rank), order[i % rank]));
}
