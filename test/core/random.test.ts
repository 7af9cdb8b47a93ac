/** The random stream: published vectors of the generator, positions, and the distributions drawn from it. */
import assert from "node:assert/strict";
import test from "node:test";
import { normalQuantiles, Random, threefry } from "../../src/core/random.ts";

test("threefry gives the published vectors of Threefry-2x32-20", () => {
  const out = new Uint32Array(2);
  const vector = (...input: [number, number, number, number]) => {
    threefry(out, ...input);
    return [out[0], out[1]];
  };
  assert.deepEqual(vector(0, 0, 0, 0), [0x6b200159, 0x99ba4efe]);
  assert.deepEqual(vector(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff), [0x1cb996fc, 0xbb002be7]);
  assert.deepEqual(vector(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), [0xc4923a9c, 0x483df7a0]);
});

test("a stream goes on from its state at any position, and never changes", () => {
  const random = new Random(42, 7);
  assert.deepEqual([random.nextUint32(), random.nextUint32(), random.nextUint32()], [3260932463, 1019155075, 3138139275]);
  for (let taken = 0; taken < 9; taken++) {
    const copy = Random.from(JSON.parse(JSON.stringify(random.state)));
    assert.deepEqual([copy.nextUint32(), copy.normal(), copy.state], [random.nextUint32(), random.normal(), random.state]);
    random.nextUint32();
  }
});

test("seeds and streams differ, and what is no seed is refused", () => {
  const firsts = [new Random(0), new Random(1), new Random(0, 1), new Random(2 ** 32), new Random(2 ** 53 - 1)].map((random) => random.nextUint32());
  assert.equal(new Set(firsts).size, 5);
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) assert.throws(() => new Random(seed), RangeError);
});

test("uniform, below, normal and shuffle have the distributions they say", () => {
  const random = new Random(3);
  const n = 200_000;
  let sum = 0;
  let squares = 0;
  let fourths = 0;
  for (let i = 0; i < n; i++) {
    const x = random.normal();
    sum += x;
    squares += x * x;
    fourths += x ** 4;
  }
  assert.ok(
    Math.abs(sum / n) < 0.01 && Math.abs(squares / n - 1) < 0.02 && Math.abs(fourths / n - 3) < 0.15,
    `${sum / n} ${squares / n} ${fourths / n}`,
  );
  const counts = new Array(6).fill(0);
  for (let i = 0; i < 60_000; i++) counts[random.below(6)]++;
  for (const count of counts) assert.ok(Math.abs(count - 10_000) < 500, `${counts}`);
  // A bound that does not divide 2^32: without rejection the lowest third would be drawn half of the time.
  const low = Array.from({ length: 30_000 }, () => random.below(3 * 2 ** 30)).filter((n) => n < 2 ** 30).length;
  assert.ok(Math.abs(low - 10_000) < 500, `${low}`);
  const places = new Array(5).fill(0);
  for (let i = 0; i < 10_000; i++) places[random.shuffle([0, 1, 2, 3, 4]).indexOf(0)]++;
  for (const count of places) assert.ok(Math.abs(count - 2000) < 250, `${places}`);
  assert.deepEqual(
    [...random.shuffle(Int32Array.from({ length: 100 }, (_, i) => i))].sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
  );
});

test("normal quantiles equal the known ones", () => {
  const quantiles = normalQuantiles(65536);
  const expected = [
    [0, -4.324919040826046],
    [2, -3.9557530379304944],
    [1000, -2.1631084815747497],
    [16384, -0.6744657417152348],
  ];
  for (const [i, z] of expected) assert.ok(Math.abs(quantiles[i] - z) < 1e-9, `${i}: ${quantiles[i]}`);
  for (let i = 1; i < quantiles.length; i++) assert.ok(quantiles[i] > quantiles[i - 1]);
  assert.equal(quantiles[65535], -quantiles[0]);
});
