/**
 * Sizes at which the native kernels change their ways: operands larger than the packed scratch, several key tiles, both forms of attention backward,
 * loading in several chunks. Judged by the float64 reference on all elements, or by sums in f64 on some.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device, DType, Tensor } from "../../../../src/core/devices/device.ts";
import { sizeOf } from "../../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../../src/core/devices/reference.ts";
import { bf16Unit, expectClose, f32Unit } from "../../../support/expectClose.ts";
import { normals } from "../../../support/randomTensors.ts";
import { randomTensor, skip, withDevice } from "./nativeDevice.ts";

test("matmul with operands beyond the packed scratch", { skip }, async () => {
  await withDevice(2, async (device) => {
    // More k than fits; more rows than fit.
    for (const [M, N, K] of [
      [530, 70, 5300],
      [5000, 40, 400],
    ]) {
      for (const dtype of ["f32", "bf16"] as const) {
        await spotCheck(device, M, N, K, dtype, dtype, false, true);
        await spotCheck(device, M, N, K, dtype, dtype, false, false);
        await spotCheck(device, M, N, K, dtype, dtype, true, false);
      }
    }
    // A bf16 result gathered in several strips of columns.
    await spotCheck(device, 530, 1100, 2700, "f32", "bf16", false, true);
  });
});

/** 200 elements against sums in f64, accumulation included. */
async function spotCheck(
  device: Device,
  M: number,
  N: number,
  K: number,
  dtype: DType,
  outType: DType,
  transposeA: boolean,
  transposeB: boolean,
): Promise<void> {
  const a = device.allocate(transposeA ? [K, M] : [M, K], dtype, "activations");
  const b = device.allocate(transposeB ? [N, K] : [K, N], dtype, "activations");
  const out = device.allocate([M, N], outType, "activations");
  for (const [seed, tensor] of [a, b, out].entries()) device.write(tensor, normals(seed, sizeOf(tensor.shape)));
  const [av, bv, before] = (await Promise.all([a, b, out].map((tensor) => device.read(tensor)))) as Float32Array[];
  device.matmul(out, a, b, { transposeA, transposeB, accumulate: true });
  const after = (await device.read(out)) as Float32Array;
  for (let i = 0; i < 200; i++) {
    const [row, column] = [(i * 7919) % M, (i * 104_729) % N];
    let sum = before[row * N + column];
    let magnitude = Math.abs(sum);
    for (let k = 0; k < K; k++) {
      const product = av[transposeA ? k * M + row : row * K + k] * bv[transposeB ? column * K + k : k * N + column];
      sum += product;
      magnitude += Math.abs(product);
    }
    const rounding = outType === "bf16" ? bf16Unit * Math.abs(sum) : 0;
    const label = `${M}×${N}×${K} ${dtype} to ${outType}, transposed ${transposeA} ${transposeB}, (${row}, ${column})`;
    // Roundings of random sign over K terms; one rounding to bf16 and no more.
    expectClose(label, [after[row * N + column]], [sum], () => (8 + Math.sqrt(K)) * f32Unit * magnitude + rounding);
  }
  for (const tensor of [a, b, out]) device.free(tensor);
}

const attentions = [
  { name: "one pass, f32", B: 2, T: 300, NH: 4, NKV: 4, HS: 20, dtype: "f32", document: 1000 },
  { name: "one pass, bf16 dQ, documents", B: 4, T: 150, NH: 4, NKV: 2, HS: 16, dtype: "bf16", document: 70 },
  { name: "two passes, grouped heads, documents", B: 1, T: 400, NH: 6, NKV: 2, HS: 32, dtype: "f32", document: 170 },
  { name: "the largest head", B: 1, T: 140, NH: 1, NKV: 1, HS: 256, dtype: "f32", document: 1000 },
] as const;

for (const { name, B, T, NH, NKV, HS, dtype, document } of attentions) {
  test(`attention over several tiles: ${name}`, { skip }, async () => {
    const run = async (device: Device, saved?: Float32Array[]) => {
      const tensor = (shape: number[], seed: number, type: DType = dtype) => {
        const made = device.allocate(shape, type, "activations");
        device.write(made, normals(seed, sizeOf(shape)));
        return made;
      };
      const queries = (seed: number) => tensor([B * T, NH * HS], seed);
      const keys = (seed: number) => tensor([B * T, NKV * HS], seed);
      const documentStart = device.allocate([B * T], "i32", "activations");
      device.write(
        documentStart,
        Int32Array.from({ length: B * T }, (_, i) => Math.floor((i % T) / document) * document),
      );
      const shape = { batchSize: B, queryLength: T, keyLength: T, keyStride: T, numHeads: NH, numKeyValueHeads: NKV, headSize: HS };
      const [q, k, v, out, dOut, dQ, dK, dV] = [queries(1), keys(2), keys(3), queries(4), queries(5), queries(6), keys(7), keys(8)];
      const logSumExp = tensor([B * T, NH], 9, "f32");
      device.attentionForward(out, logSumExp, q, k, v, documentStart, shape);
      const forward = await Promise.all([device.read(out), device.read(logSumExp)]);
      // Backward starts from the same saved results on both, rounded to their dtype.
      for (const [i, data] of (saved ?? []).entries()) device.write([out, logSumExp][i], data);
      device.attentionBackward(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart, shape);
      return [...forward, ...(await Promise.all([dQ, dK, dV].map((made: Tensor) => device.read(made))))] as Float32Array[];
    };
    const reference = openReferenceDevice();
    const saved = (await run(reference)).slice(0, 2);
    const expected = await run(reference, saved);
    const actual = await withDevice(2, (device) => run(device, saved));
    for (const [i, label] of ["out", "logSumExp", "dQ", "dK", "dV"].entries()) {
      // Errors are relative to the size of the whole tensor: sums over the head and over the keys cancel.
      const size = Math.sqrt(expected[i].reduce((sum, x) => sum + x * x, 0) / expected[i].length);
      const unit = dtype === "bf16" ? bf16Unit : 8 * (8 + Math.sqrt(HS)) * f32Unit;
      expectClose(label, actual[i], expected[i], (at) => unit * (size + Math.abs(expected[i][at])));
    }
  });
}

test("load names the first bad element of many chunks, with any number of threads", { skip }, async () => {
  const count = 500_000;
  const bytes = new Uint8Array(count * 2);
  const halves = new Uint16Array(bytes.buffer);
  for (let i = 0; i < count; i++) halves[i] = 0x3f80 + (i % 100);
  for (const threads of [1, 3]) {
    await withDevice(threads, async (device) => {
      const tensor = device.allocate([count + 10], "f32", "weights");
      assert.equal(device.load(tensor, 10, bytes, "BF16"), -1);
      const values = await device.read(tensor, 10);
      assert.ok(values.every((x, i) => x === Math.fround(1 + (i % 100) / 128)));
      for (const [index, bits] of [
        [499_999, 0x7fc0],
        [300_001, 0xff80],
        [70_000, 0x7f80],
      ]) {
        halves[index] = bits;
        assert.equal(device.load(tensor, 10, bytes, "BF16"), index);
      }
      for (const index of [499_999, 300_001, 70_000]) halves[index] = 0x3f80 + (index % 100);
    });
  }
});

test("few rows against a transposed weight equal the same rows among many", { skip }, async () => {
  await withDevice(2, async (device) => {
    const [N, K] = [333, 517];
    for (const [aType, bType] of [
      ["f32", "f32"],
      ["f32", "bf16"],
      ["bf16", "f32"],
    ] as const) {
      const b = randomTensor(device, [N, K], bType, 2);
      const a = randomTensor(device, [40, K], aType, 1);
      const all = device.allocate([40, N], "f32", "activations");
      device.matmul(all, a, b, { transposeB: true });
      const expected = await device.read(all);
      for (const rows of [1, 2, 3, 5, 8]) {
        const out = device.allocate([rows, N], "f32", "activations");
        device.matmul(out, device.rows(a, 0, rows), b, { transposeB: true });
        // Another order of the same K products; their magnitudes sum to about K.
        expectClose(
          `${rows} rows of ${aType} by ${bType}`,
          await device.read(out),
          expected.slice(0, rows * N),
          () => 16 * Math.sqrt(K) * f32Unit * 8,
        );
      }
    }
  });
});
