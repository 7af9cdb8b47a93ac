/** Patterns as written, and the choice of the lowest scores: exact counts, ties by index, whatever the pieces. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { zerosOfShare } from "../../../src/core/devices/pruningShapes.ts";
import { LowestOfAll, nthLowest, parsePattern, type RowScores, zeroInGroups, zeroInRows, zeroLowest } from "../../../src/core/pruning/patterns.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice } from "../../support/devices.ts";
import { integers, normals } from "../../support/randomTensors.ts";

const absolute: RowScores = (scores, weights) => {
  for (let i = 0; i < weights.length; i++) scores[i] = Math.abs(weights[i]);
};

test("patterns are read, and what is none is refused by its text", () => {
  assert.deepEqual(parsePattern("0.5"), { kind: "share", share: 0.5 });
  assert.deepEqual(parsePattern(".25"), { kind: "share", share: 0.25 });
  assert.deepEqual(parsePattern("2:4"), { kind: "groups", zeros: 2, of: 4 });
  assert.deepEqual(parsePattern("16:32"), { kind: "groups", zeros: 16, of: 32 });
  for (const text of ["", "0", "1", "0.0", "1.5", "-0.5", "4:2", "4:4", "0:4", "2:4:8", "half", "0.1234567", "2:100"])
    assert.throws(
      () => parsePattern(text),
      (error) => error instanceof UserError && error.code === "prune/pattern",
      text,
    );
});

test("a share counts as its decimals say", () => {
  for (const [share, rows, width] of [
    [0.57, 5, 20],
    [0.29, 1, 100],
    [0.07, 10, 100],
    [0.7, 1, 10],
    [0.3, 1, 10],
  ])
    assert.equal(zerosOfShare(share, rows, width), Math.round(share * rows * width), `${share} of ${rows}·${width}`);
  assert.equal(zerosOfShare(0.5, 3, 5), 7);
  assert.equal(zerosOfShare(0.999999, 1, 1), 0);
});

test("nthLowest is what sorting would give, with and without equal values", () => {
  for (let seed = 1; seed < 60; seed++) {
    const x = Float32Array.from(integers(seed, seed, seed % 3 === 0 ? 4 : 1000));
    const sorted = x.slice().sort();
    for (let n = 0; n < x.length; n++) assert.equal(nthLowest(x.slice(), n), sorted[n], `seed ${seed}, place ${n}`);
  }
});

/** The places of the `count` lowest of a list, the first of equal ones. */
function lowestPlaces(scores: readonly number[], count: number): number[] {
  return scores
    .map((score, place) => ({ score, place }))
    .sort((a, b) => a.score - b.score || a.place - b.place)
    .slice(0, count)
    .map(({ place }) => place);
}

function expectZeros(values: Float32Array, places: number[], label: string): void {
  const zeroed = [...values.keys()].filter((i) => values[i] === 0);
  assert.deepEqual(
    zeroed,
    [...places].sort((a, b) => a - b),
    label,
  );
}

test("a row loses exactly its lowest, ties by place", () => {
  for (const bound of [3, 5, 10_000]) {
    const [rows, columns, count] = [4, 31, 13];
    const scores = Float32Array.from(integers(bound, rows * columns, bound));
    const values = new Float32Array(rows * columns).fill(1);
    assert.equal(zeroInRows(values, scores, columns, count), rows * count);
    for (let row = 0; row < rows; row++) {
      const part = [...scores.subarray(row * columns, (row + 1) * columns)];
      expectZeros(values.subarray(row * columns, (row + 1) * columns), lowestPlaces(part, count), `bound ${bound}, row ${row}`);
    }
  }
});

test("every group loses exactly n of its m, ties by place", () => {
  for (const [zeros, of] of [
    [2, 4],
    [4, 8],
    [1, 4],
    [3, 5],
  ]) {
    const scores = Float32Array.from(integers(of, 60 * of, 4));
    const values = new Float32Array(60 * of).fill(1);
    const before = [...scores];
    zeroInGroups(values, scores, zeros, of);
    for (let group = 0; group < 60; group++) {
      const [start, end] = [group * of, (group + 1) * of];
      expectZeros(values.subarray(start, end), lowestPlaces(before.slice(start, end), zeros), `${zeros}:${of}, group ${group}`);
    }
  }
});

test("the lowest of all are found in two rounds of counting, over any pieces", () => {
  for (const bound of [2, 50, 1 << 20]) {
    for (const wanted of [0, 1, 77, 299, 300]) {
      const scores = Float32Array.from(integers(wanted + bound, 300, bound), (n) => n / 7);
      const values = new Float32Array(300).fill(1);
      const lowest = new LowestOfAll(wanted);
      const pieces = [0, 17, 150, 300];
      for (const round of ["upper", "lower"] as const) {
        for (let i = 0; i < 3; i++) lowest.count(scores.subarray(pieces[i], pieces[i + 1]), round);
        lowest.close(round);
      }
      let zeroed = 0;
      for (let i = 0; i < 3; i++) zeroed += lowest.zero(values.subarray(pieces[i], pieces[i + 1]), scores.subarray(pieces[i], pieces[i + 1]));
      assert.equal(zeroed, wanted);
      expectZeros(values, lowestPlaces([...scores], wanted), `bound ${bound}, ${wanted} wanted`);
    }
  }
});

test("P1: exact counts on a device, larger than one piece: a share of the matrix, of each row, n of m", async () => {
  const device = fastDevice();
  // 1.2 million entries: the host reads them in pieces of about a million.
  const [rows, columns] = [600, 2000];
  const dense = normals(3, rows * columns);
  const prune = async (pattern: string, grouping: "matrix" | "row") => {
    const w = device.allocate([rows, columns], "f32", "workspace");
    device.write(w, dense);
    await zeroLowest(device, w, parsePattern(pattern), grouping, absolute);
    const values = (await device.read(w)) as Float32Array;
    device.free(w);
    for (let i = 0; i < values.length; i++) assert.ok(values[i] === 0 || values[i] === dense[i], "what stays is not changed");
    return values;
  };
  const zerosIn = (values: Float32Array) => values.reduce((sum, value) => sum + (value === 0 ? 1 : 0), 0);
  const whole = await prune("0.3", "matrix");
  assert.equal(zerosIn(whole), 360_000);
  const limit = Math.max(...[...whole.keys()].filter((i) => whole[i] === 0 && i % 97 === 0).map((i) => Math.abs(dense[i])));
  assert.ok(
    whole.every((value) => value === 0 || Math.abs(value) >= limit),
    "no smaller weight stays",
  );
  const byRow = await prune("0.37", "row");
  for (let row = 0; row < rows; row++) assert.equal(zerosIn(byRow.subarray(row * columns, (row + 1) * columns)), 740);
  const groups = await prune("2:4", "matrix");
  for (let start = 0; start < groups.length; start += 4) assert.equal(zerosIn(groups.subarray(start, start + 4)), 2);
  device.close();
});
