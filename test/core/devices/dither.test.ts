/** The dither of adapted weights: its thresholds are the contract between devices, keep the mean of any small change, and show no pattern. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { columnFactor, ditherThreshold, ditherToBfloat16, rowFactor } from "../../../src/core/devices/dither.ts";
import { roundToBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { normals } from "../../support/randomTensors.ts";

/** dither.ts in integers of any size. */
function thresholdByHand(row: bigint, column: bigint): number {
  const mask = 0xffffffffn;
  const mixed = (seed: bigint, index: bigint) => {
    let h = seed ^ index;
    h ^= h >> 16n;
    h = (h * 0x21f0aaadn) & mask;
    h ^= h >> 15n;
    h = (h * 0x735a2d97n) & mask;
    return (h ^ (h >> 15n)) | 1n;
  };
  return Number(((mixed(0x9e3779b9n, row) * mixed(0x7f4a7c15n, column)) & mask) >> 16n);
}

test("thresholds are those that every device has", () => {
  for (const row of [0, 1, 2, 63, 64, 4095, 14335, 151935])
    for (const column of [0, 1, 17, 512, 4096, 28671]) {
      assert.equal(ditherThreshold(row, column), thresholdByHand(BigInt(row), BigInt(column)));
      assert.ok(rowFactor(row) % 2 === 1 && columnFactor(column) % 2 === 1);
    }
  assert.deepEqual(
    [
      [0, 0],
      [0, 1],
      [1, 0],
      [123, 4567],
    ].map(([row, column]) => ditherThreshold(row, column)),
    [39845, 56833, 53761, 14429],
  );
});

test("what bf16 holds stays; all else goes to one of its neighbours, to the further one as often as it is near", () => {
  const values = [0, -0, 1, -1, 0.15625, 2 ** -130, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.3895313892515355e38];
  for (const value of values) for (const threshold of [0, 1, 0x8000, 0xffff]) assert.ok(Object.is(ditherToBfloat16(value, threshold), value));
  for (const threshold of [0, 0x7fff, 0xffff]) assert.ok(Number.isNaN(ditherToBfloat16(Number.NaN, threshold)));
  // What lies above the largest bf16 has infinity for its upper neighbour, as it has for rounding to nearest.
  assert.deepEqual([ditherToBfloat16(3.4e38, 0), ditherToBfloat16(3.4e38, 0xffff)], [3.3895313892515355e38, Number.POSITIVE_INFINITY]);
  for (const x of normals(5, 50)) {
    const [near, step] = [roundToBfloat16(x), 2 ** (Math.floor(Math.log2(Math.abs(x))) - 7)];
    const below = near > x ? near - step : near;
    let sum = 0;
    for (let threshold = 0; threshold < 65536; threshold++) {
      const value = ditherToBfloat16(x, threshold);
      assert.ok(value === below || value === below + step);
      sum += value;
    }
    assert.equal(sum / 65536, x);
  }
});

const size = 512;
/** By place: 1 − share where an entry goes up, else −share; in units of their standard deviation. */
function flips(share: number): Float64Array {
  const least = 65536 * (1 - share);
  const sigma = Math.sqrt(share * (1 - share));
  return Float64Array.from({ length: size * size }, (_, at) => {
    const goes = ditherThreshold(Math.floor(at / size), at % size) >= least;
    return ((goes ? 1 : 0) - share) / sigma;
  });
}
const largest = (values: Float64Array) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const rms = (values: Float64Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);

for (const share of [1 / 16, 77 / 256, 1 / 2, 15 / 16]) {
  test(`a change of ${share.toFixed(2)} steps moves that share of every row, column and block, and no pattern of them`, () => {
    const moved = flips(share);
    const [rows, columns, blocks] = [new Float64Array(size), new Float64Array(size), new Float64Array((size / 16) ** 2)];
    let all = 0;
    for (const [at, x] of moved.entries()) {
      const [i, j] = [Math.floor(at / size), at % size];
      all += x;
      rows[i] += x;
      columns[j] += x;
      blocks[(i >> 4) * (size / 16) + (j >> 4)] += x;
    }
    assert.ok(Math.abs(all / size) < 4, `in all ${all / size} sigma`);
    for (const [sums, count] of [
      [rows, size],
      [columns, size],
      [blocks, 256],
    ] as const) {
      const sigma = Math.sqrt(count);
      assert.ok(largest(sums) < 6 * sigma, `at most ${largest(sums) / sigma} sigma`);
      assert.ok(Math.abs(rms(sums) / sigma - 1) < 0.1, `${rms(sums) / sigma} sigma in the mean`);
    }
    // The largest gain of any input: 2√n for entries that are independent, n for a pattern that a row and a column share.
    const norm = spectralNorm(moved) / (2 * Math.sqrt(size));
    assert.ok(norm > 0.85 && norm < 1.15, `${norm} of what independent entries give`);
  });
}

/** The largest singular value, by power iteration from below. */
function spectralNorm(matrix: Float64Array): number {
  let vector = Float64Array.from(normals(9, size));
  let square = 0;
  for (let round = 0; round < 20; round++) {
    const next = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += matrix[i * size + j] * vector[j];
      for (let j = 0; j < size; j++) next[j] += matrix[i * size + j] * sum;
    }
    square = Math.hypot(...next) / Math.hypot(...vector);
    vector = next.map((x) => x / Math.hypot(...next));
  }
  return Math.sqrt(square);
}

test("a small change comes through products, where rounding to nearest drops it", () => {
  const [weight, change, x] = [normals(1, size * size), normals(2, size * size, 1e-3), normals(3, size)];
  const stored = weight.map(roundToBfloat16);
  const product = (entry: (i: number, j: number) => number) =>
    Float64Array.from({ length: size }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += x[j] * (entry(i, j) - stored[i * size + j]);
      return sum;
    });
  const changed = (i: number, j: number) => Math.fround(stored[i * size + j] * (1 + change[i * size + j]));
  const exact = product(changed);
  const dithered = product((i, j) => ditherToBfloat16(changed(i, j), ditherThreshold(i, j)));
  const nearest = product((i, j) => roundToBfloat16(changed(i, j)));
  const along = (values: Float64Array) => values.reduce((sum, y, i) => sum + y * exact[i], 0) / exact.reduce((sum, y) => sum + y * y, 0);
  assert.ok(Math.abs(along(dithered) - 1) < 0.15, `${along(dithered)} of the change is there`);
  assert.ok(along(nearest) < 0.5, `rounding to nearest keeps ${along(nearest)} of it`);
});
