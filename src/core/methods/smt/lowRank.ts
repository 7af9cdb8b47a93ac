/**
 * Block means of |W_r|, W_r the best rank-r part of W, by subspace iteration with q = 2r + 64 vectors, because the singular values of real weights fall
 * slowly past the r-th; matrices with a side up to that many are decomposed exactly. One f32 copy of one matrix is alive at a time.
 * Source of the score: LIFT (arXiv 2506.00772); r = 128, at most min(out, in) / 4.
 */
import type { Device, Tensor } from "../../devices/device.ts";
import type { Random } from "../../random.ts";
import { gramOf, iterateSubspaces, startSubspace, topEigenvectors } from "../subspace.ts";
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
  const subspace = startSubspace(device, out, width, q, random);
  const { left, right } = subspace;
  await iterateSubspaces(device, [subspace], iterations, (side) => {
    if (side === "left") device.matmul(left, right, w, { transposeB: true });
    else device.matmul(right, left, w);
    return true;
  });
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
