/** SMT's block scores against their definitions, computed another way: exact decompositions, dense gradients, inputs read from the layers. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import type { Linear } from "../../../src/core/methods/method.ts";
import { lowRankMeans } from "../../../src/core/methods/smt/lowRank.ts";
import { ActivationScoring, GradientScoring, linearsOf } from "../../../src/core/methods/smt/scoring.ts";
import { blockEntries, gridShape, type ScoreGrid } from "../../../src/core/methods/smt/selection.ts";
import { runBatch } from "../../../src/core/model/llama.ts";
import { Random } from "../../../src/core/random.ts";
import { fastDevice } from "../../support/devices.ts";
import { integers, normals } from "../../support/randomTensors.ts";
import { openStory, plainBatch } from "../../support/storyModel.ts";

describe("scores by their definition", () => {
  const batch = plainBatch(2, 24, integers(1, 48, 2048), integers(2, 48, 2048));

  test("lowRankMagnitude is that of an exact singular value decomposition", async () => {
    for (const device of [fastDevice(), openReferenceDevice()])
      for (const [out, width, blockSize] of [
        [64, 48, 16],
        [48, 100, 16],
        [40, 33, 7],
      ]) {
        const rank = Math.floor(Math.min(out, width) / 4);
        const values = lowRankPlusNoise(out, width, rank);
        const weight = device.allocate([out, width], "f32", "weights");
        device.write(weight, values);
        const ours = await lowRankMeans(device, weight, blockSize, new Random(3));
        const exact = exactMeans(values, out, width, rank, blockSize);
        for (const [i, mean] of exact.entries())
          assert.ok(Math.abs(ours[i] - mean) <= 1e-3 * mean, `${out} × ${width}, block ${i}: ${ours[i]}, exact ${mean}`);
        assert.deepEqual(await device.read(weight), values, "the weight is left alone");
        device.free(weight);
      }
  });

  test("lowRankMagnitude of the model's own weights, whose spectrum has no gap", async () => {
    const model = await openStory(fastDevice(), "f32", 64);
    for (const { name, weight } of linearsOf(model.tensors).slice(0, 7)) {
      const values = (await model.device.read(weight)) as Float32Array;
      const [out, width] = weight.shape;
      const exact = exactMeans(values, out, width, Math.floor(Math.min(out, width) / 4), 16);
      const ours = await lowRankMeans(model.device, weight, 16, new Random(3));
      for (const [i, mean] of exact.entries()) assert.ok(Math.abs(ours[i] - mean) <= 1e-3 * mean, `${name}, block ${i}: ${ours[i]}, exact ${mean}`);
    }
    model.device.close();
  });

  test("lowRankMagnitude of matrices without a best low-rank part: nothing, one column, equal rows", async () => {
    const device = fastDevice();
    for (const [kind, value] of Object.entries({
      zero: () => 0,
      column: (i: number) => (i % 90 === 3 ? 1 : 0),
      equal: (i: number) => Math.sin(i % 90),
    })) {
      const values = Float32Array.from({ length: 300 * 90 }, (_, i) => value(i));
      const weight = device.allocate([300, 90], "f32", "weights");
      device.write(weight, values);
      const ours = await lowRankMeans(device, weight, 16, new Random(3));
      // They have rank one or none: their low-rank part is all of them.
      eachBlock({ shape: [300, 90] }, 16, (index, entries) => {
        const mean = entries.reduce((sum, [row, column]) => sum + Math.abs(values[row * 90 + column]), 0) / entries.length;
        assert.ok(Math.abs(ours[index] - mean) <= 1e-4, `${kind}, block ${index}: ${ours[index]}, exact ${mean}`);
      });
      device.free(weight);
    }
    device.close();
  });

  test("activation is the mean over the block of W² · Σx², x as the layer saw it", async () => {
    const model = await openStory(openReferenceDevice(), "f32", 64);
    const seen = new Map<string, { x: Float32Array; width: number }>();
    const targets = linearsOf(model.tensors);
    class Watching extends Frozen {
      override linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
        reads.push(model.device.read(x).then((values) => seen.set(linear.name, { x: values as Float32Array, width: x.shape[1] })));
        super.linearForward(out, linear, x, accumulate);
      }
    }
    const reads: Promise<unknown>[] = [];
    await runBatch(model, new Watching(model.device), batch, null);
    await Promise.all(reads);
    const scoring = new ActivationScoring(model.device, targets, 16);
    await runBatch(model, scoring, batch, null);
    for (const grid of await scoring.grids()) {
      const { x, width } = seen.get(grid.name) as { x: Float32Array; width: number };
      const weight = (await model.device.read(model.tensors.byName.get(`${grid.name}.weight`) as Tensor)) as Float32Array;
      const columns = new Float64Array(width);
      for (const [i, value] of x.entries()) columns[i % width] += value * value;
      eachBlock(grid, 16, (index, entries) => {
        const expected = entries.reduce((sum, [row, column]) => sum + weight[row * width + column] ** 2 * columns[column], 0) / entries.length;
        assert.ok(Math.abs(grid.scores[index] - expected) <= 1e-5 * expected, `${grid.name} ${index}: ${grid.scores[index]}, formula ${expected}`);
      });
    }
    model.device.close();
  });

  for (const blockSize of [16, 48])
    test(`gradient scores against the dense gradient, blocks of ${blockSize}: Σ of meanOfAbs · entries = Σ|g|, and each block's own mean`, async () => {
      const open = (): Device => fastDevice();
      const dense = await openStory(open(), "f32", 64);
      const full = new FullFineTuning(dense.device, dense.tensors);
      await runBatch(dense, full, batch, 1 / batch.unmaskedTokens);
      const gradients = new Map<string, Float32Array>();
      for (const { name, gradient } of full.parameters) gradients.set(name, (await dense.device.read(gradient)) as Float32Array);
      for (const score of ["meanOfAbs", "absOfMean", "absOfAccumulated"] as const) {
        const scoring = new GradientScoring(dense.device, linearsOf(dense.tensors), score, blockSize);
        // Twice the same micro-batch: every accumulation doubles.
        for (let times = 0; times < 2; times++) await runBatch(dense, scoring, batch, 1 / batch.unmaskedTokens);
        for (const grid of await scoring.grids()) {
          const gradient = gradients.get(`${grid.name}.weight`) as Float32Array;
          let sum = 0;
          eachBlock(grid, blockSize, (index, entries) => {
            const at = ([row, column]: readonly [number, number]) => gradient[row * grid.shape[1] + column];
            const total = entries.reduce((all, entry) => all + Math.abs(at(entry)), 0);
            const signed = Math.abs(entries.reduce((all, entry) => all + at(entry), 0));
            const expected = (2 * (score === "absOfMean" ? signed : total)) / entries.length;
            assert.ok(
              Math.abs(grid.scores[index] - expected) <= (1e-5 * (2 * total)) / entries.length,
              `${grid.name} ${index}: ${grid.scores[index]}, expected ${expected}`,
            );
            sum += (grid.scores[index] * entries.length) / 2;
          });
          const all = gradient.reduce((total, g) => total + Math.abs(g), 0);
          if (score !== "absOfMean") assert.ok(Math.abs(sum - all) <= 1e-5 * all, `${grid.name}: Σ ${sum}, Σ|g| ${all}`);
        }
        scoring.release();
      }
      dense.device.close();
    });
});

/** Visits each block of a grid with its entries' rows and columns. */
function eachBlock(
  { shape }: Pick<ScoreGrid, "shape">,
  blockSize: number,
  visit: (index: number, entries: (readonly [number, number])[]) => void,
): void {
  const [rows, columns] = gridShape(shape, blockSize);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const entries: (readonly [number, number])[] = [];
      for (let r = row * blockSize; r < Math.min(shape[0], (row + 1) * blockSize); r++)
        for (let c = column * blockSize; c < Math.min(shape[1], (column + 1) * blockSize); c++) entries.push([r, c]);
      assert.equal(entries.length, blockEntries(shape, { row, column }, blockSize));
      visit(row * columns + column, entries);
    }
}

/** A matrix of that rank with a little noise: what trained weights look like, with a gap that makes its best approximation one. */
function lowRankPlusNoise(out: number, width: number, rank: number): Float32Array {
  const left = new Matrix([...Array(out).keys()].map((i) => Array.from(normals(i + 1, rank))));
  const right = new Matrix([...Array(rank).keys()].map((i) => Array.from(normals(i + 500, width))));
  const noise = normals(999, out * width, 0.05);
  return Float32Array.from(left.mmul(right).to1DArray(), (value, i) => value + noise[i]);
}

/** Block means of |W_r| by an exact decomposition. */
function exactMeans(values: Float32Array, out: number, width: number, rank: number, blockSize: number): number[] {
  const {
    leftSingularVectors: u,
    diagonal,
    rightSingularVectors: v,
  } = new SingularValueDecomposition(Matrix.from1DArray(out, width, Array.from(values)), { autoTranspose: true });
  const scaled = u.subMatrix(0, out - 1, 0, rank - 1).mmul(Matrix.diag(diagonal.slice(0, rank)));
  const approximation = scaled.mmul(v.subMatrix(0, width - 1, 0, rank - 1).transpose());
  const means: number[] = [];
  eachBlock({ shape: [out, width] }, blockSize, (index, entries) => {
    means[index] = entries.reduce((sum, [row, column]) => sum + Math.abs(approximation.get(row, column)), 0) / entries.length;
  });
  return means;
}
