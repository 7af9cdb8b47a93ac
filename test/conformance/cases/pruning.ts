/** The ops of pruning: factoring a Hessian in place, bringing it back, SparseGPT's sweep. */
import assert from "node:assert/strict";
import type { Device, SparsityPattern, SweepOptions, Tensor } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { expectClose, f32Unit } from "../../support/expectClose.ts";
import { normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, expectSameBits, opCase, type TestedDevice } from "../harness.ts";

/** xᵀ·x of random inputs with correlated columns, exactly symmetric; columns listed as dead are 0. */
function gram(C: number, { rows = 3 * C + 2, dead = [] as number[] } = {}): Float32Array {
  const x = normals(C, rows * C);
  for (let n = 0; n < rows; n++) for (let j = 0; j < C; j++) x[n * C + j] = dead.includes(j) ? 0 : x[n * C + j] + 0.5 * x[n * C];
  const h = new Float32Array(C * C);
  for (let i = 0; i < C; i++)
    for (let j = i; j < C; j++) {
      let sum = 0;
      for (let n = 0; n < rows; n++) sum += x[n * C + i] * x[n * C + j];
      h[i * C + j] = sum;
      h[j * C + i] = sum;
    }
  return h;
}

interface Factored {
  found: boolean;
  h: Float32Array;
  diagonal: Float32Array;
}

async function factorOn(device: Device, h: Float32Array, C: number, damping: number, wide: boolean, view: boolean): Promise<Factored> {
  const owners: Tensor[] = [];
  const make = (shape: number[]) => {
    const owner = device.allocate(view ? [shape[0] + 3, ...shape.slice(1)] : shape, "f32", "workspace");
    owners.push(owner);
    device.fill(owner, Number.NaN);
    return view ? device.rows(owner, 1, shape[0]) : owner;
  };
  const [matrix, diagonal] = [make([C, C]), make([C])];
  device.write(matrix, h);
  const found = await device.inverseCholesky(matrix, diagonal, damping, wide ? make([C, 2 * C]) : null);
  const read = async (tensor: Tensor) => (await device.read(tensor)) as Float32Array;
  const result = { found, h: await read(matrix), diagonal: await read(diagonal) };
  for (const owner of owners) {
    if (view)
      for (const at of [0, owner.shape[0] - 1]) assert.ok((await read(device.rows(owner, at, 1))).every(Number.isNaN), "rows beside were changed");
    assert.notEqual((device as TestedDevice).checkGuards?.(owner), false, "guard bytes were overwritten");
    device.free(owner);
  }
  return result;
}

function factorCase(title: string, C: number, h: Float32Array, damping: number, wide: boolean): ConformanceCase {
  let expected: Promise<Factored> | null = null;
  return {
    title: `${title}, damping ${damping}${wide ? ", in float64" : ""}`,
    async run(device, record) {
      expected ??= (async () => {
        const reference = openReferenceDevice();
        const result = await factorOn(reference, h, C, damping, wide, false);
        reference.close();
        return result;
      })();
      const reference = await expected;
      for (const view of [false, true]) {
        const actual = await factorOn(device, h, C, damping, wide, view);
        assert.equal(actual.found, reference.found);
        // Below the diagonal, and everywhere when it fails, not a bit has changed.
        for (let i = 0; i < C; i++)
          expectSameBits(`row ${i}`, actual.h.subarray(i * C, i * C + (actual.found ? i : C)), h.subarray(i * C, i * C + (actual.found ? i : C)));
        expectSameBits(
          "diagonal",
          actual.diagonal,
          Float32Array.from({ length: C }, (_, j) => h[j * (C + 1)]),
        );
        if (actual.found) compareUpper(actual.h, reference.h, C, wide);
        record(new Uint8Array(actual.h.buffer));
      }
    },
  };
}

/** In f32 an error of the factor grows with the condition, here below 1000, and with √C; from float64 only the last rounding is left. */
function compareUpper(actual: Float32Array, expected: Float32Array, C: number, wide: boolean): void {
  const largest = Math.max(...Array.from({ length: C }, (_, j) => expected[j * (C + 1)]));
  const units = wide ? 1 : 100 * Math.sqrt(C);
  const upper = (h: Float32Array) => h.map((value, at) => (at % C >= Math.floor(at / C) ? value : 0));
  expectClose("U", upper(actual), upper(expected), (at) => f32Unit * (units * largest + Math.abs(expected[at])), [C, C]);
}

function notDefinite(C: number): Float32Array {
  const h = gram(C);
  h[0] = -1;
  return h;
}

function withNaN(C: number): Float32Array {
  const h = gram(C);
  h[C - 1] = Number.NaN;
  h[(C - 1) * C] = Number.NaN;
  return h;
}

const factorSizes = [1, 2, 31, 64, 65, 127, 128, 129, 200, 300];

export const inverseCholeskyCases: ConformanceCase[] = [
  ...factorSizes.flatMap((C) => [false, true].map((wide) => factorCase(`${C} columns`, C, gram(C), 0.01, wide))),
  factorCase("130 columns", 130, gram(130), 0, false),
  factorCase("130 columns, three of them dead", 130, gram(130, { dead: [0, 64, 129] }), 0.01, false),
  factorCase("40 columns, all dead", 40, new Float32Array(1600), 0.01, false),
  factorCase("40 columns of 20 inputs", 40, gram(40, { rows: 20 }), 0.01, false),
  factorCase("130 columns, not positive definite", 130, notDefinite(130), 0.001, false),
  factorCase("130 columns, not positive definite", 130, notDefinite(130), 0.001, true),
  factorCase("70 columns with NaN", 70, withNaN(70), 0.01, false),
];

export const mirrorLowerCases: ConformanceCase[] = [1, 5, 64, 65, 130].map((C) =>
  opCase({
    title: `${C} columns`,
    tensors: { h: { shape: [C, C], dtype: "f32", data: normals(C, C * C) }, diagonal: { shape: [C], dtype: "f32", data: normals(7, C) } },
    call: (d, t) => d.mirrorLower(t.h, t.diagonal),
    outputs: { h: "exact" },
  }),
);

/** U of a Gram matrix, from the reference; NaN below the diagonal, which no sweep may read. */
function upperOf(C: number, dead: number[]): Float32Array {
  const reference = openReferenceDevice();
  const [h, diagonal] = [reference.allocate([C, C], "f32", "workspace"), reference.allocate([C], "f32", "workspace")];
  reference.write(h, gram(C, { dead }));
  void reference.inverseCholesky(h, diagonal, 0.01, null);
  const upper = Float32Array.from(reference.readExact(h));
  reference.close();
  for (let i = 0; i < C; i++) upper.fill(Number.NaN, i * C, i * C + i);
  return upper;
}

interface SweepCase {
  out: number;
  columns: number;
  pattern: SparsityPattern;
  blockSize: number;
  /** Where one call ends and the next begins. */
  cut?: number;
  dead?: number[];
  weights?: Float32Array;
  upper?: Float32Array;
}

function sweepCase({ out, columns: C, pattern, blockSize, cut, dead = [], weights, upper = upperOf(C, dead) }: SweepCase): ConformanceCase {
  const name = pattern.kind === "share" ? `${pattern.share}` : `${pattern.zeros}:${pattern.of}`;
  const diagonal = new Float32Array(C).fill(1);
  for (const j of dead) diagonal[j] = 0;
  const parts: Pick<SweepOptions, "first" | "count">[] =
    cut === undefined
      ? [{ first: 0, count: C }]
      : [
          { first: 0, count: cut },
          { first: cut, count: C - cut },
        ];
  // Each entry is corrected up to C times; a correction rounds relative to what an entry has been at its largest.
  const tolerance = (16 + 4 * Math.sqrt(C)) * f32Unit;
  const largestOf = (values: Float64Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return opCase({
    title: `(${out}, ${C}) ${name} in blocks of ${blockSize}${cut ? `, cut at ${cut}` : ""}${dead.length ? ", dead columns" : ""}${weights ? ", given weights" : ""}`,
    tensors: {
      w: { shape: [out, C], dtype: "f32", data: weights ?? normals(out, out * C) },
      losses: { shape: [out], dtype: "f32", data: normals(3, out).map(Math.abs) },
      errors: { shape: [out, Math.max(...parts.map(({ count }) => count))], dtype: "f32" },
      upper: { shape: [C, C], dtype: "f32", data: upper },
      diagonal: { shape: [C], dtype: "f32", data: diagonal },
    },
    call: (d, t) => {
      for (const { first, count } of parts) {
        const own = count === t.errors.shape[1] ? t.errors : d.allocate([out, count], "f32", "workspace");
        try {
          d.sparseGptSweep(t.w, t.losses, own, t.upper, t.diagonal, { pattern, blockSize, first, count });
        } finally {
          if (own !== t.errors) d.free(own);
        }
      }
    },
    outputs: {
      w: ({ before, after }) => {
        const largest = Math.max(largestOf(before.w), largestOf(after.w));
        return (i) => (after.w[i] === 0 ? 0 : tolerance * largest);
      },
      losses: ({ after }) => {
        const allowed = 4 * tolerance * largestOf(after.losses);
        return () => allowed;
      },
      errors: ({ after }) => {
        const allowed = tolerance * largestOf(after.errors);
        return () => allowed;
      },
    },
  });
}

const identity = (C: number) => Float32Array.from({ length: C * C }, (_, at) => (at % (C + 1) === 0 ? 1 : 0));
const twoOfFour: SparsityPattern = { kind: "groups", zeros: 2, of: 4 };
const half: SparsityPattern = { kind: "share", share: 0.5 };

export const sparseGptSweepCases: ConformanceCase[] = [
  sweepCase({ out: 1, columns: 1, pattern: half, blockSize: 128 }),
  sweepCase({ out: 3, columns: 1, pattern: half, blockSize: 128 }),
  sweepCase({ out: 5, columns: 8, pattern: twoOfFour, blockSize: 4 }),
  ...[half, { kind: "share", share: 0.3 } as const, { kind: "share", share: 0.9 } as const].flatMap((pattern) => [
    sweepCase({ out: 33, columns: 70, pattern, blockSize: 32 }),
    sweepCase({ out: 70, columns: 130, pattern, blockSize: 128 }),
    sweepCase({ out: 40, columns: 300, pattern, blockSize: 64, cut: 128 }),
  ]),
  ...[twoOfFour, { kind: "groups", zeros: 4, of: 8 } as const, { kind: "groups", zeros: 1, of: 4 } as const].flatMap((pattern) => [
    sweepCase({ out: 33, columns: 64, pattern, blockSize: 32 }),
    sweepCase({ out: 70, columns: 136, pattern, blockSize: 128 }),
    sweepCase({ out: 130, columns: 304, pattern, blockSize: 64, cut: 128 }),
  ]),
  sweepCase({ out: 9, columns: 60, pattern: { kind: "groups", zeros: 3, of: 5 }, blockSize: 30 }),
  sweepCase({ out: 20, columns: 96, pattern: half, blockSize: 32, dead: [0, 31, 32, 95] }),
  sweepCase({ out: 20, columns: 96, pattern: twoOfFour, blockSize: 32, dead: [0, 1, 2, 95] }),
  // Equal scores: the first by row and column go.
  sweepCase({ out: 6, columns: 20, pattern: half, blockSize: 8, weights: new Float32Array(120).fill(2), upper: identity(20) }),
  sweepCase({ out: 6, columns: 20, pattern: twoOfFour, blockSize: 20, weights: new Float32Array(120).fill(-2), upper: identity(20) }),
  sweepCase({ out: 120, columns: 20, pattern: half, blockSize: 20, weights: new Float32Array(2400).fill(2), upper: identity(20) }),
  // Small enough for a slow device.
  sweepCase({ out: 120, columns: 20, pattern: { kind: "share", share: 0.3 }, blockSize: 20 }),
  ...[half, twoOfFour].map((pattern) => sweepCase({ out: 12, columns: 36, pattern, blockSize: 8, cut: 16, dead: [0, 3, 19] })),
  sweepCase({ out: 6, columns: 20, pattern: { kind: "share", share: 1 }, blockSize: 20 }),
  sweepCase({ out: 6, columns: 20, pattern: { kind: "share", share: 0 }, blockSize: 20, weights: new Float32Array(120) }),
  // 0.57 of 100 entries is 57, which float64 makes 56.99….
  sweepCase({ out: 5, columns: 20, pattern: { kind: "share", share: 0.57 }, blockSize: 20 }),
];
