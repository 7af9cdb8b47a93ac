/** What magnitude, Wanda and RIA find unimportant. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { magnitude, magnitudeScores } from "../../../src/core/pruning/magnitude.ts";
import { parsePattern, type RowScores } from "../../../src/core/pruning/patterns.ts";
import type { Pruner } from "../../../src/core/pruning/pruner.ts";
import { absoluteSums, ria, riaScores } from "../../../src/core/pruning/ria.ts";
import { wanda, wandaScores } from "../../../src/core/pruning/wanda.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice } from "../../support/devices.ts";
import { normals, uniforms } from "../../support/randomTensors.ts";

const device = fastDevice();
const [rows, columns] = [96, 256];
const dense = normals(11, rows * columns);

async function pruned(
  pruner: Pruner,
  pattern: string,
  squares: Float32Array | null,
  weights = dense,
  shape = [rows, columns],
): Promise<Float32Array> {
  const w = device.allocate(shape, "f32", "workspace");
  device.write(w, weights);
  const sumSquares = squares && device.allocate([shape[1]], "f32", "workspace");
  if (sumSquares && squares) device.write(sumSquares, squares);
  const context = { device, pattern: parsePattern(pattern), signal: new AbortController().signal, onProgress: () => {} };
  await pruner.prune(context, w, { sumSquares, hessian: null });
  const values = (await device.read(w)) as Float32Array;
  device.free(w);
  if (sumSquares) device.free(sumSquares);
  return values;
}

const ones = (count: number) => new Float32Array(count).fill(1);
const scored = (score: RowScores, weights: Float32Array, of = columns) => {
  const scores = new Float32Array(weights.length);
  score(scores, weights, 0, of);
  return scores;
};

test("P2: with inputs like the identity, Wanda is magnitude by row", async () => {
  const byWanda = await pruned(wanda(), "0.5", ones(columns));
  for (let row = 0; row < rows; row++) {
    const own = dense.subarray(row * columns, (row + 1) * columns);
    const limit = own.map(Math.abs).sort()[columns / 2 - 1];
    const expected = own.map((value) => (Math.abs(value) <= limit ? 0 : value));
    assert.deepEqual(byWanda.subarray(row * columns, (row + 1) * columns), expected, `row ${row}`);
  }
  assert.deepEqual(await pruned(wanda(), "2:4", ones(columns)), await pruned(magnitude(), "2:4", null));
  assert.notDeepEqual(await pruned(wanda(), "0.5", uniforms(5, columns, 0.1, 9)), byWanda, "other inputs, another mask");
});

test("inputs that are no numbers are refused: no score would be the lowest", async () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const squares = ones(columns);
    squares[3] = bad;
    for (const pruner of [wanda(), ria()])
      await assert.rejects(pruned(pruner, "0.5", squares), (error: unknown) => error instanceof UserError && error.code === "prune/not-finite");
  }
});

test("Wanda takes exactly ⌊in·share⌋ of every row; a column without input goes first", async () => {
  const squares = uniforms(5, columns, 0.1, 9);
  squares[17] = 0;
  const values = await pruned(wanda(), "0.3", squares);
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * columns, (row + 1) * columns);
    assert.equal(own.filter((value) => value === 0).length, 76);
    assert.equal(own[17], 0);
  }
});

test("P8: no other mask of a row has a smaller Σ W²‖x‖² than Wanda's", async () => {
  const [weights, squares] = [normals(4, 8), uniforms(6, 8, 0.01, 4)];
  const values = await pruned(wanda(), "0.5", squares, weights, [1, 8]);
  const cost = (mask: (j: number) => boolean) => weights.reduce((sum, w, j) => sum + (mask(j) ? w * w * squares[j] : 0), 0);
  const own = cost((j) => values[j] === 0);
  let masks = 0;
  for (let bits = 0; bits < 256; bits++) {
    if ([...bits.toString(2)].filter((bit) => bit === "1").length !== 4) continue;
    masks++;
    assert.ok(cost((j) => ((bits >> j) & 1) === 1) >= own - 1e-6);
  }
  assert.equal(masks, 70);
});

async function importance(weights: Float32Array, powers = ones(columns)): Promise<Float32Array> {
  const w = device.allocate([weights.length / columns, columns], "f32", "workspace");
  device.write(w, weights);
  const scores = scored(riaScores(await absoluteSums(device, w), powers), weights);
  device.free(w);
  return scores;
}

test("P2: relative importance sums to rows + columns and does not see the weight's scale", async () => {
  const scores = await importance(dense);
  assert.ok(Math.abs(scores.reduce((sum, score) => sum + score, 0) - (rows + columns)) < 1e-3);
  const tripled = await importance(dense.map((value) => 3 * value));
  for (let i = 0; i < scores.length; i++) assert.ok(Math.abs(tripled[i] - scores[i]) <= 1e-6 * scores[i]);
});

test("P2: RIA with exponent 0 looks at no input; with 0.5 it does", async () => {
  const squares = uniforms(5, columns, 0.1, 9);
  const relative = await pruned(ria({ exponent: 0 }), "0.5", null);
  assert.deepEqual(await pruned(ria({ exponent: 0 }), "0.5", squares), relative);
  assert.notDeepEqual(await pruned(ria(), "0.5", squares), relative);
  assert.equal(relative.filter((value) => value === 0).length, (rows * columns) / 2);
  assert.equal(ria({ exponent: 0 }).needsSumSquares, false);
});

test("RIA: the formula, by hand", async () => {
  const weights = Float32Array.of(1, -2, 3, 4, 0, -6);
  const w = device.allocate([2, 3], "f32", "workspace");
  device.write(w, weights);
  const scores = scored(riaScores(await absoluteSums(device, w), Float32Array.of(1, 2, 0.5)), weights, 3);
  const expected = [1 / 5 + 1 / 6, 2 * (2 / 2 + 2 / 6), 0.5 * (3 / 9 + 3 / 6), 4 / 5 + 4 / 10, 0, 0.5 * (6 / 9 + 6 / 10)];
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(scores[i] - value) < 1e-6, `${i}`);
  device.free(w);
});

test("RIA: a row or column of zeros counts 0, never NaN", async () => {
  const weights = dense.slice();
  weights.fill(0, 0, columns);
  for (let row = 0; row < rows; row++) weights[row * columns + 9] = 0;
  const scores = await importance(weights);
  assert.ok(scores.every(Number.isFinite));
  assert.ok(scores.subarray(0, columns).every((score) => score === 0));
  assert.equal((await pruned(ria(), "0.5", ones(columns), weights)).filter((value) => value === 0).length, (rows * columns) / 2);
});

test("RIA can rank by row", async () => {
  const values = await pruned(ria({ grouping: "row" }), "0.25", ones(columns));
  for (let row = 0; row < rows; row++) assert.equal(values.subarray(row * columns, (row + 1) * columns).filter((value) => value === 0).length, 64);
});

test("magnitude and Wanda: the formulas, by hand", () => {
  assert.deepEqual(scored(magnitudeScores, Float32Array.of(1, -2, 0, 3), 2), Float32Array.of(1, 2, 0, 3));
  assert.deepEqual(scored(wandaScores(Float32Array.of(2, 0.5)), Float32Array.of(1, -2, 0, 3), 2), Float32Array.of(2, 1, 0, 1.5));
});
