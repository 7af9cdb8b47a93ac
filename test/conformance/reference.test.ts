/**
 * The judge itself: every backward op of the float64 reference against finite differences of its forward op, and what has no gradient against
 * closed forms or against other ops. Random points, the same every time.
 */
import assert from "node:assert/strict";
import type { AttentionShape, Tensor } from "../../src/core/devices/device.ts";
import { expectClose } from "../support/expectClose.ts";
import { integers, normals } from "../support/randomTensors.ts";
import { check } from "./referenceBench.ts";

check("matmul's transposed forms are each other's gradients", (t) => {
  const { device: d } = t;
  const [x, w, y, dy, dx, dw] = [t.random(5, 7), t.random(3, 7), t.zeros(5, 3), t.random(5, 3), t.zeros(5, 7), t.zeros(3, 7)];
  d.matmul(dx, dy, w);
  d.matmul(dw, dy, x, { transposeA: true, accumulate: true });
  const forward = () => d.matmul(y, x, w, { transposeB: true });
  t.check("dx", x, dx, dy, y, forward);
  t.check("dw", w, dw, dy, y, forward);
});

check("matmul rounds an f32 operand beside a bf16 one, and adds when it accumulates", async (t) => {
  const { device: d } = t;
  const [a, out, one] = [
    t.of(Float64Array.of(1 + 2 ** -8 + 2 ** -12), 1, 1),
    t.of(Float64Array.of(10), 1, 1),
    d.allocate([1, 1], "bf16", "workspace"),
  ];
  d.fill(one, 1);
  d.matmul(out, a, one, { accumulate: true });
  assert.deepEqual([...t.values(out)], [10 + 1 + 2 ** -7]);
  d.matmul(out, a, a);
  assert.deepEqual([...t.values(out)], [(1 + 2 ** -8 + 2 ** -12) ** 2]);
});

check("what moves data rounds into bf16, what computes does not", (t) => {
  const { device: d } = t;
  const third = t.of(Float64Array.of(1 / 3), 1, 1);
  const out = d.allocate([1, 1], "bf16", "workspace");
  const rounded = 171 / 512; // 1/3 with eight significant bits
  const moves: [string, () => void][] = [
    ["write", () => d.write(out, Float32Array.of(1 / 3))],
    ["fill", () => d.fill(out, 1 / 3)],
    ["load", () => d.load(out, 0, new Uint8Array(Float32Array.of(1 / 3).buffer), "F32")],
    ["copy", () => d.copy(out, third)],
    ["embeddingForward", () => d.embeddingForward(out, third, t.ids(Int32Array.of(0)))],
    ["gatherColumns", () => d.gatherColumns(out, third, Int32Array.of(0, 1))],
    ["scatterBlocks", () => d.scatterBlocks(out, t.of(Float64Array.of(1 / 3), 1), Int32Array.of(0, 1, 0, 1, 0, 0))],
  ];
  for (const [name, move] of moves) {
    d.writeExact(out, Float64Array.of(0));
    move();
    assert.deepEqual([...t.values(out)], [rounded], name);
  }
  d.matmul(out, third, t.of(Float64Array.of(1), 1, 1));
  assert.deepEqual([...t.values(out)], [1 / 3], "matmul");
});

check("addBias and biasBackward", (t) => {
  const { device: d } = t;
  const [x, bias, y, dy, db] = [t.random(4, 6), t.random(6), t.zeros(4, 6), t.random(4, 6), t.zeros(6)];
  d.biasBackward(db, dy);
  t.check("dBias", bias, db, dy, y, () => {
    d.copy(y, x);
    d.addBias(y, bias);
  });
});

check("embeddingForward and embeddingBackward, repeated ids", (t) => {
  const { device: d } = t;
  const [table, y, dy, dTable, ids] = [t.random(6, 4), t.zeros(5, 4), t.random(5, 4), t.zeros(6, 4), t.ids(Int32Array.of(2, 0, 2, 5, 2))];
  d.embeddingBackward(dTable, dy, ids);
  t.check("dTable", table, dTable, dy, y, () => d.embeddingForward(y, table, ids));
});

for (const heads of [1, 3]) {
  check(`rmsNormForward and rmsNormBackward, ${heads} rows of the weight a row`, (t) => {
    const { device: d } = t;
    const C = 8;
    const [x, w, y, rstd] = [t.random(5, heads * C), t.random(C), t.zeros(5, heads * C), t.zeros(5 * heads)];
    const [dy, dx, dw] = [t.random(5, heads * C), t.zeros(5, heads * C), t.zeros(C)];
    const forward = () => d.rmsNormForward(y, rstd, x, w, 0.1);
    forward();
    d.rmsNormBackward(dx, dw, dy, x, w, rstd, false);
    t.check("dx", x, dx, dy, y, forward);
    t.check("dWeight", w, dw, dy, y, forward);
    forward();
    const [twice, inPlace] = [t.of(t.values(dx), 5, heads * C), t.of(t.values(dy), 5, heads * C)];
    d.rmsNormBackward(twice, null, dy, x, w, rstd, true);
    expectClose(
      "accumulated",
      t.values(twice),
      t.values(dx).map((g) => 2 * g),
      () => 1e-14,
      twice.shape,
    );
    d.rmsNormBackward(inPlace, null, inPlace, x, w, rstd, false);
    expectClose("in place", t.values(inPlace), t.values(dx), () => 1e-14, twice.shape);
    const alone = t.zeros(C);
    d.rmsNormBackward(null, alone, dy, x, w, rstd, false);
    expectClose("dWeight alone", t.values(alone), t.values(dw), () => 1e-14);
  });
}

check("rope turns by the angle; its inverse is its gradient and undoes it", (t) => {
  const { device: d } = t;
  const [N, heads, HS, P] = [5, 2, 6, 9];
  const angles = normals(3, (P * HS) / 2);
  const [cos, sin] = [t.of(Float64Array.from(angles, Math.cos), P, HS / 2), t.of(Float64Array.from(angles, Math.sin), P, HS / 2)];
  const positions = t.ids(integers(4, N, P));
  const [x, y, dy] = [t.random(N, heads * HS), t.zeros(N, heads * HS), t.random(N, heads * HS)];
  const dx = t.of(t.values(dy), N, heads * HS);
  d.rope(dx, cos, sin, positions, HS, true);
  const forward = () => {
    d.writeExact(y, t.values(x));
    d.rope(y, cos, sin, positions, HS, false);
  };
  t.check("dx", x, dx, dy, y, forward);
  forward();
  d.rope(y, cos, sin, positions, HS, true);
  expectClose("undone", t.values(y), t.values(x), () => 1e-14, x.shape);
  const quarter = t.of(Float64Array.of(3, 4), 1, 2);
  d.rope(quarter, t.of(Float64Array.of(0), 1, 1), t.of(Float64Array.of(1), 1, 1), t.ids(Int32Array.of(0)), 2, false);
  assert.deepEqual([...t.values(quarter)], [-4, 3], "a quarter turn takes (3, 4) to (−4, 3)");
});

const attentionShapes: { shape: AttentionShape; starts: number[] }[] = [
  { shape: { batchSize: 1, queryLength: 5, keyLength: 5, keyStride: 5, numHeads: 1, numKeyValueHeads: 1, headSize: 4 }, starts: [0, 0, 0, 0, 0] },
  {
    shape: { batchSize: 2, queryLength: 4, keyLength: 4, keyStride: 4, numHeads: 4, numKeyValueHeads: 2, headSize: 2 },
    starts: [0, 0, 2, 2, 0, 1, 1, 3],
  },
];
for (const { shape, starts } of attentionShapes) {
  check(`attentionForward and attentionBackward, documents ${starts}`, (t) => {
    const { device: d } = t;
    const [N, queries, keys] = [shape.batchSize * shape.queryLength, shape.numHeads * shape.headSize, shape.numKeyValueHeads * shape.headSize];
    const [q, k, v, y, dy] = [t.random(N, queries), t.random(N, keys), t.random(N, keys), t.zeros(N, queries), t.random(N, queries)];
    const [logSumExp, dQ, dK, dV] = [t.zeros(N, shape.numHeads), t.random(N, queries), t.random(N, keys), t.random(N, keys)];
    const documentStart = t.ids(Int32Array.from(starts));
    const forward = () => d.attentionForward(y, logSumExp, q, k, v, documentStart, shape);
    forward();
    d.attentionBackward(dQ, dK, dV, dy, q, k, v, y, logSumExp, documentStart, shape);
    t.check("dQ", q, dQ, dy, y, forward);
    t.check("dK", k, dK, dy, y, forward);
    t.check("dV", v, dV, dy, y, forward);
  });
}

check("attention of the last queries over a cache equals those rows of the whole", (t) => {
  const { device: d } = t;
  const whole: AttentionShape = { batchSize: 2, queryLength: 6, keyLength: 6, keyStride: 6, numHeads: 2, numKeyValueHeads: 1, headSize: 4 };
  const [q, k, v, y, lse] = [t.random(12, 8), t.random(12, 4), t.random(12, 4), t.zeros(12, 8), t.zeros(12, 2)];
  d.attentionForward(y, lse, q, k, v, t.ids(Int32Array.of(0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0)), whole);
  const part = { ...whole, queryLength: 2, keyStride: 9 };
  /** Rows [first, first + count) of both sequences, with room for `stride` rows each. */
  const cut = (x: Tensor, first: number, count: number, stride: number) => {
    const [from, C] = [t.values(x), x.shape[1]];
    const to = new Float64Array(2 * stride * C).fill(Number.NaN);
    for (const b of [0, 1]) to.set(from.subarray((b * 6 + first) * C, (b * 6 + first + count) * C), b * stride * C);
    return t.of(to, 2 * stride, C);
  };
  const [out, logSumExp] = [t.zeros(4, 8), t.zeros(4, 2)];
  d.attentionForward(out, logSumExp, cut(q, 4, 2, 2), cut(k, 0, 6, 9), cut(v, 0, 6, 9), t.ids(Int32Array.of(2, 2, 0, 0)), part);
  expectClose("out", t.values(out), t.values(cut(y, 4, 2, 2)), () => 1e-14, out.shape);
  expectClose("logSumExp", t.values(logSumExp), t.values(cut(lse, 4, 2, 2)), () => 1e-14, logSumExp.shape);
});

check("swigluForward and swigluBackward, in place too", (t) => {
  const { device: d } = t;
  const [gate, up, y, dy, dGate, dUp] = [t.random(3, 8), t.random(3, 8), t.zeros(3, 8), t.random(3, 8), t.zeros(3, 8), t.zeros(3, 8)];
  d.swigluBackward(dGate, dUp, dy, gate, up);
  const forward = () => d.swigluForward(y, gate, up);
  t.check("dGate", gate, dGate, dy, y, forward);
  t.check("dUp", up, dUp, dy, y, forward);
  const [g, u] = [t.of(t.values(gate), 3, 8), t.of(t.values(up), 3, 8)];
  d.swigluBackward(g, u, dy, g, u);
  assert.deepEqual(t.values(g), t.values(dGate));
  assert.deepEqual(t.values(u), t.values(dUp));
});

check("crossEntropy", (t) => {
  const { device: d } = t;
  const [n, V] = [4, 9];
  const [z, losses, targets] = [t.random(n, V), t.zeros(n), t.ids(Int32Array.of(3, -1, 8, 0))];
  const gradient = t.of(t.values(z), n, V);
  d.crossEntropy(losses, gradient, targets, 0.25);
  assert.equal(t.values(losses)[1], 0);
  assert.ok(
    t
      .values(gradient)
      .subarray(V, 2 * V)
      .every((g) => g === 0),
    "a masked row has no gradient",
  );
  t.check("logits", z, gradient, t.of(new Float64Array(n).fill(0.25), n), losses, () => d.crossEntropy(losses, z, targets, null));
  const uniform = t.zeros(1, 7);
  d.crossEntropy(t.zeros(1), uniform, t.ids(Int32Array.of(2)), 1);
  expectClose(
    "uniform logits",
    t.values(uniform),
    [1, 1, -6, 1, 1, 1, 1].map((x) => x / 7),
    () => 1e-15,
  );
});

check("adamwStep: two steps by hand", (t) => {
  const { device: d } = t;
  const [value, m, v] = [t.of(Float64Array.of(1), 1), t.zeros(1), t.zeros(1)];
  const options = { learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 0.5, weightDecay: 0.2, gradientScale: 2 };
  d.adamwStep(value, t.of(Float64Array.of(1.5), 1), m, v, { ...options, step: 1 });
  // g = 3; m̂ = 3, v̂ = 9: 1 − 0.1·(3/(3 + 0.5) + 0.2·1)
  const first = 1 - 0.1 * (3 / 3.5 + 0.2);
  expectClose("first", t.values(value), [first], () => 1e-14);
  d.adamwStep(value, t.of(Float64Array.of(-0.5), 1), m, v, { ...options, step: 2 });
  // g = −1; m = 0.9·0.3 − 0.1 = 0.17, v = 0.99·0.09 + 0.01 = 0.0991; corrections 0.19 and 0.0199
  const second = first - 0.1 * (0.17 / 0.19 / (Math.sqrt(0.0991 / 0.0199) + 0.5) + 0.2 * first);
  expectClose("second", t.values(value), [second], () => 1e-14);
});

check("sumSquares", async (t) => {
  assert.deepEqual(
    await t.device.sumSquares([t.of(Float64Array.of(3, -4), 2), t.of(Float64Array.of(Number.NaN), 1)]),
    Float64Array.of(25, Number.NaN),
  );
  assert.deepEqual(await t.device.sumSquares([]), new Float64Array());
});

/** Two ragged blocks of a 5 × 7 matrix in blocks of 4: rows 4…5 × columns 0…4, rows 0…4 × columns 4…7; slices hold columns 4…7, then 0…4. */
const blocks = Int32Array.of(4, 1, 0, 4, 0, 3, 0, 4, 4, 3, 4, 0);
const columns = Int32Array.of(4, 3, 0, 4);

check("gather and scatter move blocks and change nothing else", (t) => {
  const { device: d } = t;
  const [weight, flat] = [
    t.of(
      Float64Array.from({ length: 35 }, (_, i) => i),
      5,
      7,
    ),
    t.zeros(16),
  ];
  d.gatherBlocks(flat, weight, blocks);
  assert.deepEqual([...t.values(flat)], [28, 29, 30, 31, 4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27]);
  const before = t.values(weight);
  d.writeExact(
    flat,
    t.values(flat).map((x) => -x),
  );
  d.scatterBlocks(weight, flat, blocks);
  const chosen = new Set([28, 29, 30, 31, 4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27]);
  assert.deepEqual(
    [...t.values(weight)],
    [...before].map((x) => (chosen.has(x) ? -x : x)),
  );
  const slices = t.zeros(5, 7);
  d.gatherColumns(slices, t.of(before, 5, 7), columns);
  assert.deepEqual([...t.values(slices).subarray(7, 14)], [11, 12, 13, 7, 8, 9, 10]);
});

check("blockGradients and blockScores are parts and means of dOutᵀ·x", (t) => {
  const { device: d } = t;
  const [x, dy, g, slices] = [t.random(6, 7), t.random(6, 5), t.zeros(5, 7), t.zeros(6, 7)];
  d.matmul(g, dy, x, { transposeA: true });
  const [expected, actual] = [t.zeros(16), t.zeros(16)];
  d.gatherBlocks(expected, g, blocks);
  d.gatherColumns(slices, x, columns);
  d.blockGradients(actual, dy, slices, blocks);
  expectClose("once", t.values(actual), t.values(expected), () => 1e-13);
  d.blockGradients(actual, dy, slices, blocks);
  expectClose(
    "twice",
    t.values(actual),
    t.values(expected).map((y) => 2 * y),
    () => 1e-13,
  );
  for (const signed of [false, true]) {
    const [scores, means] = [t.zeros(2, 2), t.zeros(2, 2)];
    d.blockScores(scores, dy, x, 4, signed);
    d.blockMeans(means, g, 4, signed ? "value" : "absolute", null);
    expectClose(`signed ${signed}`, t.values(scores), t.values(means), () => 1e-14);
    d.blockScores(scores, dy, x, 4, signed);
    expectClose(
      `signed ${signed}, twice`,
      t.values(scores),
      t.values(means).map((y) => 2 * y),
      () => 1e-14,
    );
  }
});

check("blockMeans and columnSumSquares by hand", (t) => {
  const { device: d } = t;
  const x = t.of(Float64Array.of(1, -2, 3, -4, 5, 6), 2, 3);
  const scores = t.random(1, 2);
  d.blockMeans(scores, x, 2, "value", null);
  assert.deepEqual([...t.values(scores)], [0, 4.5]);
  d.blockMeans(scores, x, 2, "absolute", null);
  assert.deepEqual([...t.values(scores)], [3, 4.5]);
  d.blockMeans(scores, x, 2, "squareScaled", t.of(Float64Array.of(1, 2, 10), 3));
  assert.deepEqual([...t.values(scores)], [(1 + 8 + 16 + 50) / 4, (90 + 360) / 2]);
  const sums = t.of(Float64Array.of(1, 1, 1), 3);
  d.columnSumSquares(sums, x);
  assert.deepEqual([...t.values(sums)], [18, 30, 46]);
});

check("ids, positions, targets and document starts out of range are refused", (t) => {
  const { device: d } = t;
  const [table, y, cos] = [t.random(3, 2), t.zeros(1, 2), t.zeros(4, 1)];
  for (const id of [-1, 3]) {
    assert.throws(() => d.embeddingForward(y, table, t.ids(Int32Array.of(id))));
    assert.throws(() => d.embeddingBackward(table, y, t.ids(Int32Array.of(id))));
  }
  assert.throws(() => d.rope(y, cos, cos, t.ids(Int32Array.of(4)), 2, false));
  assert.throws(() => d.crossEntropy(t.zeros(1), y, t.ids(Int32Array.of(2)), 1));
  const shape = { batchSize: 1, queryLength: 1, keyLength: 1, keyStride: 1, numHeads: 1, numKeyValueHeads: 1, headSize: 2 };
  assert.throws(() => d.attentionForward(y, t.zeros(1), y, y, y, t.ids(Int32Array.of(1)), shape));
});
