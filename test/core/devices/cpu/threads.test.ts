/**
 * The number of threads never shows in the bits: a tour of every op that sums, at sizes of many tiles, gives the same digest with 1, 2, 3 and 7 threads.
 * The conformance suite does this at small sizes; here work is really shared out.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { AdaptedWeight, Tensor } from "../../../../src/core/devices/device.ts";
import { integers } from "../../../support/randomTensors.ts";
import { type NativeDevice, randomTensor, skip, withDevice } from "./nativeDevice.ts";

type Tour = (device: NativeDevice) => Tensor[];

function matmuls(device: NativeDevice): Tensor[] {
  const outs: Tensor[] = [];
  for (const dtype of ["f32", "bf16"] as const) {
    for (const [M, N, K] of [
      [1, 900, 700],
      [7, 300, 1000],
      [190, 170, 700],
      [600, 70, 3100],
    ]) {
      for (const transposeA of [false, true]) {
        const a = randomTensor(device, transposeA ? [K, M] : [M, K], dtype, 1);
        const b = randomTensor(device, [N, K], "f32", 2);
        const out = randomTensor(device, [M, N], dtype, 3);
        device.matmul(out, a, b, { transposeA, transposeB: true, accumulate: true });
        outs.push(out);
      }
    }
  }
  return outs;
}

function attention(device: NativeDevice): Tensor[] {
  const outs: Tensor[] = [];
  for (const [B, T, NH, NKV, HS, dtype] of [
    [2, 200, 4, 4, 24, "f32"],
    [1, 300, 4, 2, 16, "bf16"],
    [2, 150, 8, 4, 16, "bf16"],
  ] as const) {
    const queries = () => randomTensor(device, [B * T, NH * HS], dtype, 5);
    const keys = (seed: number) => randomTensor(device, [B * T, NKV * HS], dtype, seed);
    const documentStart = device.allocate([B * T], "i32", "activations");
    device.write(
      documentStart,
      Int32Array.from({ length: B * T }, (_, i) => Math.floor((i % T) / 90) * 90),
    );
    const shape = { batchSize: B, queryLength: T, keyLength: T, keyStride: T, numHeads: NH, numKeyValueHeads: NKV, headSize: HS };
    const [q, k, v, out, dOut, dQ, dK, dV] = [queries(), keys(6), keys(7), queries(), queries(), queries(), keys(8), keys(9)];
    const logSumExp = device.allocate([B * T, NH], "f32", "activations");
    device.attentionForward(out, logSumExp, q, k, v, documentStart, shape);
    device.attentionBackward(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart, shape);
    outs.push(out, logSumExp, dQ, dK, dV);
  }
  return outs;
}

function layers(device: NativeDevice): Tensor[] {
  const [N, C] = [700, 300];
  const x = randomTensor(device, [N, C], "f32", 11);
  const weight = randomTensor(device, [C], "bf16", 12);
  const [out, dX] = [randomTensor(device, [N, C], "f32", 13), randomTensor(device, [N, C], "f32", 14)];
  const [dWeight, dBias, squares] = [15, 16, 17].map((seed) => randomTensor(device, [C], "f32", seed));
  const [rstd, losses] = [device.allocate([N], "f32", "activations"), device.allocate([N], "f32", "activations")];
  const table = randomTensor(device, [50, C], "f32", 18);
  const ids = device.allocate([N], "i32", "activations");
  device.write(ids, integers(19, N, 50));
  device.rmsNormForward(out, rstd, x, weight, 1e-5);
  device.rmsNormBackward(dX, dWeight, out, x, weight, rstd, true);
  device.biasBackward(dBias, x);
  device.columnSumSquares(squares, x);
  device.embeddingBackward(table, x, ids);
  device.crossEntropy(losses, x, ids, 0.1);
  return [out, dX, dWeight, dBias, squares, table, losses, x];
}

function blocks(device: NativeDevice): Tensor[] {
  const [N, rows, columns] = [1100, 300, 200];
  const outs: Tensor[] = [];
  for (const dtype of ["f32", "bf16"] as const) {
    const [dOut, x] = [randomTensor(device, [N, rows], dtype, 21), randomTensor(device, [N, columns], dtype, 22)];
    for (const blockSize of [16, 200]) {
      const scores = randomTensor(device, [Math.ceil(rows / blockSize), Math.ceil(columns / blockSize)], "f32", 23);
      device.blockScores(scores, dOut, x, blockSize, false);
      outs.push(scores);
    }
    const table = Array.from({ length: 40 }, (_, i) => [(i % 15) * 20, 20, 0, 20, i * 400, (i % 9) * 20]).flat();
    const dBlocks = randomTensor(device, [40 * 400], "f32", 24);
    device.blockGradients(dBlocks, dOut, x, Int32Array.from(table));
    outs.push(dBlocks);
  }
  return outs;
}

function adapters(device: NativeDevice): Tensor[] {
  const outs: Tensor[] = [];
  for (const dtype of ["f32", "bf16"] as const) {
    for (const [M, out, columns] of [
      [1, 900, 700],
      [7, 320, 1000],
      [600, 304, 270],
    ]) {
      const weight = randomTensor(device, [out, columns], dtype, 31);
      device.dropout(weight, weight, { probability: 0.5, seed: 1 });
      const [left, right] = [randomTensor(device, [out, 16], "f32", 32), randomTensor(device, [16, columns], "f32", 33)];
      const [alpha, beta] = [randomTensor(device, [16, columns], "f32", 34), randomTensor(device, [out], "f32", 35)];
      const common = { weight, scale: 0.5, base: true };
      const weights: AdaptedWeight[] = [{ ...common, kind: "maskedLowRank", left, right, rank: 16, quantization: null }];
      if (out % 16 === 0) weights.push({ ...common, kind: "groupScaled", alpha, beta });
      for (const adapted of weights) {
        const [x, y] = [randomTensor(device, [M, columns], dtype, 36), randomTensor(device, [M, out], dtype, 37)];
        const [first, second] = adapted.kind === "groupScaled" ? [alpha, beta] : [left, right];
        const [dX, formed] = [randomTensor(device, [M, columns], dtype, 38), randomTensor(device, [out, columns], "f32", 39)];
        const [dFirst, dSecond] = [first, second].map((tensor) => randomTensor(device, [...tensor.shape], "f32", 40));
        device.adaptedMatmul(y, x, adapted, { transposeB: true });
        device.adaptedMatmul(dX, y, adapted, { accumulate: true });
        device.adaptedGradients(dFirst, dSecond, y, x, adapted);
        device.formAdapted(formed, adapted);
        const [rows, columnSums] = [randomTensor(device, [M], "f32", 41), randomTensor(device, [columns], "f32", 42)];
        device.rowDots(rows, x, dX);
        device.columnDots(columnSums, x, dX);
        outs.push(y, dX, dFirst, dSecond, formed, rows, columnSums);
      }
    }
  }
  return outs;
}

async function digest(threads: number, tour: Tour): Promise<string> {
  return withDevice(threads, async (device) => {
    const hash = createHash("sha256");
    const outs = tour(device);
    for (const out of outs) hash.update(new Uint8Array((await device.read(out)).buffer));
    hash.update(new Uint8Array((await device.sumSquares(outs.filter((out) => out.dtype !== "i32"))).buffer));
    return hash.digest("hex");
  });
}

for (const [name, tour] of Object.entries<Tour>({ matmuls, attention, layers, blocks, adapters })) {
  test(`${name}: equal bits with 1, 2, 3 and 7 threads`, { skip }, async () => {
    const one = await digest(1, tour);
    for (const threads of [2, 3, 7]) assert.equal(await digest(threads, tour), one, `${threads} threads`);
  });
}
