/**
 * The judge's ops on adapters: exact gradients against finite differences, adapted weights against the same thing put together from other ops, and
 * dropout, masks and gains by hand. Random points, the same every time.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AdaptedWeight, Tensor } from "../../src/core/devices/device.ts";
import { ditherThreshold, ditherToBfloat16 } from "../../src/core/devices/dither.ts";
import { dropoutHash } from "../../src/core/devices/dropoutHash.ts";
import { roundToBfloat16 } from "../../src/core/devices/floatFormats.ts";
import { expectClose } from "../support/expectClose.ts";
import { sparseNormals } from "./cases/adaptedWeights.ts";
import { type Bench, check } from "./referenceBench.ts";

const sparse = (t: Bench, ...shape: [number, number]) => t.of(Float64Array.from(sparseNormals(7, shape[0] * shape[1])), ...shape);
const close = (label: string, actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-12) =>
  expectClose(label, actual, expected, () => tolerance);

function lowRank(t: Bench, out: number, columns: number, r: number, rank = r, base = true): Extract<AdaptedWeight, { kind: "maskedLowRank" }> {
  const [left, right] = [t.random(out, r), t.random(r, columns)];
  return { kind: "maskedLowRank", weight: sparse(t, out, columns), left, right, rank, scale: 0.7, base, quantization: null };
}

function grouped(t: Bench, out: number, columns: number, groups: number, base = true): Extract<AdaptedWeight, { kind: "groupScaled" }> {
  return { kind: "groupScaled", weight: sparse(t, out, columns), alpha: t.random(groups, columns), beta: t.random(out), scale: 1.3, base };
}

/** The adapter's two tensors. */
const factors = (adapted: AdaptedWeight): [Tensor, Tensor] =>
  adapted.kind === "maskedLowRank" ? [adapted.left, adapted.right] : [adapted.alpha, adapted.beta];

const weights: [string, (t: Bench) => AdaptedWeight][] = [
  ["masked low-rank", (t) => lowRank(t, 6, 5, 3)],
  ["masked low-rank, rank 2 of 4, without base", (t) => lowRank(t, 5, 7, 4, 2, false)],
  ["group-scaled", (t) => grouped(t, 6, 5, 3)],
  ["group-scaled, one group, without base", (t) => grouped(t, 5, 7, 1, false)],
];

for (const [name, make] of weights) {
  check(`adaptedMatmul and adaptedGradients, ${name}`, (t) => {
    const { device: d } = t;
    const adapted = make(t);
    const [out, columns] = adapted.weight.shape;
    const [x, y, dy, dx] = [t.random(4, columns), t.zeros(4, out), t.random(4, out), t.zeros(4, columns)];
    const [first, second] = factors(adapted);
    const [dFirst, dSecond] = [t.zeros(...first.shape), t.zeros(...second.shape)];
    const forward = () => d.adaptedMatmul(y, x, adapted, { transposeB: true });
    d.adaptedMatmul(dx, dy, adapted);
    d.adaptedGradients(dFirst, dSecond, dy, x, adapted);
    t.check("dx", x, dx, dy, y, forward);
    t.check("dFirst", first, dFirst, dy, y, forward);
    t.check("dSecond", second, dSecond, dy, y, forward);
    const once = [t.values(dFirst), t.values(dSecond)];
    d.adaptedGradients(dFirst, dSecond, dy, x, adapted);
    close(
      "dFirst, twice",
      t.values(dFirst),
      once[0].map((g) => 2 * g),
    );
    close(
      "dSecond, twice",
      t.values(dSecond),
      once[1].map((g) => 2 * g),
    );
    if (adapted.kind === "maskedLowRank" && adapted.rank < 4) {
      const unused = t.values(dFirst).filter((_, i) => i % first.shape[1] >= adapted.rank);
      assert.ok(
        unused.every((g) => g === 0),
        "columns beyond the rank",
      );
    }
  });
}

check("adaptedMatmul is a product with the weight that formAdapted gives, in both orientations, and adds", (t) => {
  const { device: d } = t;
  for (const [, make] of weights) {
    const adapted = make(t);
    const [out, columns] = adapted.weight.shape;
    const formed = t.zeros(out, columns);
    d.formAdapted(formed, adapted);
    for (const transposeB of [false, true]) {
      const a = t.random(3, transposeB ? columns : out);
      const [expected, actual] = [t.random(3, transposeB ? out : columns), t.zeros(3, transposeB ? out : columns)];
      d.copy(actual, expected);
      d.matmul(expected, a, formed, { transposeB, accumulate: true });
      d.adaptedMatmul(actual, a, adapted, { transposeB, accumulate: true });
      close(`transposeB ${transposeB}`, t.values(actual), t.values(expected));
    }
  }
});

check("without base an adapted weight is what is added to W", (t) => {
  const { device: d } = t;
  for (const adapted of [lowRank(t, 4, 6, 2), grouped(t, 4, 6, 2)]) {
    const [whole, added] = [t.zeros(4, 6), t.zeros(4, 6)];
    d.formAdapted(whole, { ...adapted, base: true });
    d.formAdapted(added, { ...adapted, base: false });
    const w = t.values(adapted.weight);
    close(
      adapted.kind,
      t.values(added),
      t.values(whole).map((x, i) => x - w[i]),
    );
    assert.ok(w.some((x) => Math.abs(x) > 1));
  }
});

check("a masked low-rank weight is (W + s·left·right) ∘ M", (t) => {
  const { device: d } = t;
  const adapted = lowRank(t, 6, 9, 3);
  const [w, product, formed] = [t.values(adapted.weight), t.zeros(6, 9), t.zeros(6, 9)];
  d.matmul(product, adapted.left, adapted.right);
  const delta = t.values(product);
  d.formAdapted(formed, adapted);
  close(
    "formed",
    t.values(formed),
    w.map((x, i) => (x === 0 ? 0 : x + 0.7 * delta[i])),
  );
  assert.ok(w.some((x) => Object.is(x, -0)) && w.some((x) => x !== 0), "the weight has zeros of either sign, and others");
  // A mask selects: what it hides may be infinite.
  const infinite = lowRank(t, 6, 9, 3);
  d.fill(infinite.left, Number.POSITIVE_INFINITY);
  d.formAdapted(formed, infinite);
  assert.deepEqual(
    t.values(formed).map((x) => (x === 0 ? 0 : 1)),
    t.values(infinite.weight).map((x) => (x === 0 ? 0 : 1)),
  );
  // And it is the weight's, also when a sum cancels: entry 0 becomes 0, and is no zero of M.
  const cancelled: AdaptedWeight = {
    ...lowRank(t, 1, 2, 1),
    weight: t.of(Float64Array.of(-3, 0), 1, 2),
    left: t.of(Float64Array.of(3), 1, 1),
    scale: 1,
  };
  d.writeExact(cancelled.right, Float64Array.of(1, 1));
  const [dLeft, dRight] = [t.zeros(1, 1), t.zeros(1, 2)];
  d.adaptedGradients(dLeft, dRight, t.of(Float64Array.of(1), 1, 1), t.of(Float64Array.of(5, 7), 1, 2), cancelled);
  assert.deepEqual([...t.values(dLeft), ...t.values(dRight)], [5, 15, 0]);
});

check("a full mask gives LoRA: product, and exact gradients as thin products", (t) => {
  const { device: d } = t;
  const adapted = lowRank(t, 5, 6, 2);
  d.writeExact(adapted.weight, t.values(t.random(5, 6)));
  const [x, dy, h, e] = [t.random(4, 6), t.random(4, 5), t.zeros(4, 2), t.zeros(4, 2)];
  const [dLeft, dRight, expectedLeft, expectedRight] = [t.zeros(5, 2), t.zeros(2, 6), t.zeros(5, 2), t.zeros(2, 6)];
  d.adaptedGradients(dLeft, dRight, dy, x, adapted);
  d.matmul(h, x, adapted.right, { transposeB: true });
  d.matmul(e, dy, adapted.left);
  d.matmul(expectedLeft, dy, h, { transposeA: true });
  d.matmul(expectedRight, e, x, { transposeA: true });
  close(
    "dLeft",
    t.values(dLeft),
    t.values(expectedLeft).map((g) => 0.7 * g),
  );
  close(
    "dRight",
    t.values(dRight),
    t.values(expectedRight).map((g) => 0.7 * g),
  );
});

check("a group-scaled weight is W(1 + s·beta·alpha) with one row of alpha for each run of rows", (t) => {
  const { device: d } = t;
  const adapted = grouped(t, 6, 4, 3);
  const [w, alpha, beta, formed] = [t.values(adapted.weight), t.values(adapted.alpha), t.values(adapted.beta), t.zeros(6, 4)];
  d.formAdapted(formed, adapted);
  const groups = [0, 0, 1, 1, 2, 2];
  close(
    "formed",
    t.values(formed),
    w.map((x, i) => x * (1 + 1.3 * beta[Math.floor(i / 4)] * alpha[groups[Math.floor(i / 4)] * 4 + (i % 4)])),
  );
});

check("quantization brings W̃ to a(q − z), q one of 16 integers, and leaves zeros zero", (t) => {
  const { device: d } = t;
  const adapted = { ...lowRank(t, 5, 8, 2), quantization: { scales: t.random(5, 2), zeros: t.zeros(5, 2), groupSize: 4 } };
  const { scales, zeros } = adapted.quantization;
  d.writeExact(
    scales,
    t.values(scales).map((a) => 0.05 + Math.abs(a) / 5),
  );
  d.writeExact(
    zeros,
    t.values(zeros).map((_, i) => (3 * i) % 16),
  );
  const [plain, formed] = [t.zeros(5, 8), t.zeros(5, 8)];
  d.formAdapted(plain, { ...adapted, quantization: null });
  d.formAdapted(formed, adapted);
  const [w, a, z, before] = [adapted.weight, scales, zeros, plain].map((tensor) => t.values(tensor));
  let clamped = 0;
  t.values(formed).forEach((value, i) => {
    const group = Math.floor(i / 8) * 2 + Math.floor((i % 8) / 4);
    const level = value / a[group] + z[group];
    close(`level of ${i}`, [level], [Math.round(level)]);
    assert.ok(level > -0.5 && level < 15.5);
    if (w[i] === 0) assert.equal(value + 0, 0);
    const inside = Math.abs(before[i] / a[group] + z[group] - 7.5) <= 8;
    clamped += inside ? 0 : 1;
    if (inside) assert.ok(Math.abs(value - before[i]) <= a[group] / 2 + 1e-12, `${i} is at the nearest level`);
  });
  assert.ok(clamped > 0, "some lie outside");
});

check("a bf16 weight is formed unrounded and dithered as an operand; formAdapted does not bring it to bf16, but to a bf16 out", (t) => {
  const { device: d } = t;
  const weight = d.allocate([1, 1], "bf16", "workspace");
  d.fill(weight, 1);
  const [left, right] = [t.of(Float64Array.of(2 ** -8 + 2 ** -12), 1, 1), t.of(Float64Array.of(1), 1, 1)];
  const adapted: AdaptedWeight = { kind: "maskedLowRank", weight, left, right, rank: 1, scale: 1, base: true, quantization: null };
  const [formed, y, narrow] = [t.zeros(1, 1), t.zeros(1, 1), d.allocate([1, 1], "bf16", "workspace")];
  d.formAdapted(formed, adapted);
  assert.deepEqual([...t.values(formed)], [1 + 2 ** -8 + 2 ** -12]);
  d.formAdapted(narrow, adapted);
  d.adaptedMatmul(y, t.of(Float64Array.of(1 + 2 ** -9), 1, 1), adapted);
  const dithered = ditherToBfloat16(1 + 2 ** -8 + 2 ** -12, ditherThreshold(0, 0));
  assert.deepEqual([...t.values(narrow)], [dithered]);
  assert.deepEqual([...t.values(y)], [dithered * roundToBfloat16(1 + 2 ** -9)]);
});

check("maskBy and countZeros", async (t) => {
  const { device: d } = t;
  const [x, weight] = [t.of(Float64Array.of(1, Number.NaN, -0, 4, 5), 5), t.of(Float64Array.of(0, -0, 1, 1e-300, Number.NaN), 5)];
  d.maskBy(x, weight);
  assert.deepEqual([...t.values(x)], [0, 0, -0, 4, 5]);
  assert.deepEqual(await d.countZeros([x, weight]), Float64Array.of(3, 2));
  assert.deepEqual(await d.countZeros([]), new Float64Array());
});

test("dropout's hash is the one that every device has", () => {
  // Computed by hand-written integer arithmetic elsewhere: these numbers are the contract between devices.
  const known: [seed: number, index: number, hash: number][] = [
    [0, 0, 0],
    [0, 1, 2261973619],
    [1, 0, 2261973619],
    [3, 17, 1166590126],
    [2654435769, 123456, 4023881011],
    [4294967295, 4294967295, 0],
    [42, 2147483648, 1521315386],
  ];
  for (const [seed, index, hash] of known) assert.equal(dropoutHash(seed, index), hash, `seed ${seed}, index ${index}`);
  assert.equal(dropoutHash(3, 2 ** 32 + 17), dropoutHash(3, 17), "the index counts modulo 2³²");
  assert.equal(dropoutHash(-5, 17), dropoutHash(2 ** 32 - 5, 17), "the seed counts as 32 bits");
});

check("dropout keeps its share, the same entries for the same seed, others for another, and its mean", (t) => {
  const { device: d } = t;
  const n = 40_000;
  const [ones, y, again, other] = [t.of(new Float64Array(n).fill(1), 100, 400), t.zeros(100, 400), t.zeros(100, 400), t.zeros(100, 400)];
  for (const probability of [0.05, 0.5, 0.9]) {
    d.dropout(y, ones, { probability, seed: 11 });
    d.dropout(again, ones, { probability, seed: 11 });
    d.dropout(other, ones, { probability, seed: 12 });
    const [values, others] = [t.values(y), t.values(other)];
    close("the same seed", t.values(again), values, 0);
    close(
      "what stays is divided by 1 − p",
      values.filter((x) => x !== 0),
      values.filter((x) => x !== 0).fill(1 / (1 - probability)),
    );
    const share = (count: number) => count / n;
    const kept = share(values.filter((x) => x !== 0).length);
    const deviation = Math.sqrt((probability * (1 - probability)) / n);
    assert.ok(Math.abs(kept - (1 - probability)) < 4 * deviation, `${kept} of the entries stay at p = ${probability}`);
    // Two seeds agree as often as two independent draws do.
    const agree = share(values.filter((x, i) => (x !== 0) === (others[i] !== 0)).length);
    assert.ok(Math.abs(agree - (probability ** 2 + (1 - probability) ** 2)) < 0.02, `${agree} of the entries agree`);
    // Neighbours too: no stripes.
    const runs = share(values.filter((x, i) => i > 0 && (x !== 0) === (values[i - 1] !== 0)).length);
    assert.ok(Math.abs(runs - (probability ** 2 + (1 - probability) ** 2)) < 0.02, `${runs} of the neighbours agree`);
    d.dropout(again, ones, { probability, seed: 12, accumulate: true });
    close(
      "accumulate adds",
      t.values(again),
      values.map((x, i) => x + others[i]),
    );
  }
  d.dropout(y, ones, { probability: 0, seed: 11 });
  close("nothing dropped", t.values(y), t.values(ones), 0);
});

check("dropout drops what is not finite, in place too, and is its own gradient", (t) => {
  const { device: d } = t;
  const options = { probability: 0.4, seed: 5 };
  const [x, y, dy, dx] = [t.random(6, 7), t.zeros(6, 7), t.random(6, 7), t.zeros(6, 7)];
  d.dropout(dx, dy, options);
  t.check("dx", x, dx, dy, y, () => d.dropout(y, x, options));
  const infinite = t.of(new Float64Array(42).fill(Number.POSITIVE_INFINITY), 6, 7);
  d.dropout(infinite, infinite, options);
  assert.deepEqual(
    t.values(infinite).map((value) => (value === 0 ? 0 : 1)),
    t.values(y).map((value) => (value === 0 ? 0 : 1)),
  );
});

check("scaleColumns, scaleRows, rowDots and columnDots by hand", (t) => {
  const { device: d } = t;
  const [x, y] = [t.of(Float64Array.of(1, 2, 3, 4, 5, 6), 2, 3), t.zeros(2, 3)];
  d.scaleColumns(y, x, t.of(Float64Array.of(1, 10, 100), 3), false);
  assert.deepEqual([...t.values(y)], [1, 20, 300, 4, 50, 600]);
  d.scaleColumns(y, x, t.of(Float64Array.of(1, 0, -1), 3), true);
  assert.deepEqual([...t.values(y)], [2, 20, 297, 8, 50, 594]);
  d.scaleRows(y, x, t.of(Float64Array.of(2, 3), 2));
  assert.deepEqual([...t.values(y)], [2, 4, 6, 12, 15, 18]);
  const [rows, columns] = [t.random(2), t.of(Float64Array.of(1, 1, 1), 3)];
  d.rowDots(rows, x, y);
  assert.deepEqual([...t.values(rows)], [2 * 14, 3 * 77]);
  d.columnDots(columns, x, y);
  assert.deepEqual([...t.values(columns)], [1 + 2 + 48, 1 + 8 + 75, 1 + 18 + 108]);
});

check("doraGains gives the norms and gains of W + s·B·A without forming it", (t) => {
  const { device: d } = t;
  const [w, a, b, s] = [t.random(5, 7), t.random(2, 7), t.random(5, 2), 0.6];
  const [magnitude, squares, cross, gram, norm, gain] = [t.random(5), t.zeros(5), t.zeros(5), t.zeros(5), t.zeros(5), t.zeros(5)];
  const [delta, wa, aa, baa] = [t.zeros(5, 7), t.zeros(5, 2), t.zeros(2, 2), t.zeros(5, 2)];
  d.rowDots(squares, w, w);
  d.matmul(wa, w, a, { transposeB: true });
  d.rowDots(cross, wa, b);
  d.matmul(aa, a, a, { transposeB: true });
  d.matmul(baa, b, aa);
  d.rowDots(gram, baa, b);
  d.doraGains(norm, gain, magnitude, squares, cross, gram, s);
  d.matmul(delta, b, a);
  const [base, added, expected] = [t.values(w), t.values(delta), new Float64Array(5)];
  base.forEach((x, i) => {
    expected[Math.floor(i / 7)] += (x + s * added[i]) ** 2;
  });
  close("norm", t.values(norm), expected.map(Math.sqrt));
  close(
    "gain",
    t.values(gain),
    t.values(magnitude).map((m, i) => m / Math.sqrt(expected[i])),
  );
  const [start, zeros] = [t.zeros(5), t.zeros(5)];
  d.doraGains(start, gain, magnitude, squares, zeros, zeros, s);
  d.doraGains(norm, gain, start, squares, zeros, zeros, s);
  assert.deepEqual([...t.values(gain)], [1, 1, 1, 1, 1]);
  d.doraGains(norm, gain, start, zeros, t.of(new Float64Array(5).fill(-1e-20), 5), zeros, s);
  assert.deepEqual([...t.values(norm), ...t.values(gain)], new Array(10).fill(0));
});
