/** Where LoRS starts: B against exact singular value decompositions, of gradients at hand and of a model's, which are never formed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EigenvalueDecomposition, Matrix, SVD } from "ml-matrix";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { openMetaDevice } from "../../../src/core/devices/meta.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { attachAdapter } from "../../../src/core/methods/adapters.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import type { LoRS } from "../../../src/core/methods/lors.ts";
import { exactDirections, initialiseLors, principalDirections } from "../../../src/core/methods/lorsInit.ts";
import { type Llama, runBatch, runLogits } from "../../../src/core/model/llama.ts";
import { adapterConfig } from "../../support/adapters.ts";
import { fastDevice, testDevices } from "../../support/devices.ts";
import { normals } from "../../support/randomTensors.ts";
import { bitsOf, openTiny, tinyBatch } from "../../support/tinyModel.ts";

/** A matrix with these singular values, (rows, columns) row-major. */
function withSpectrum(rows: number, columns: number, spectrum: readonly number[]): Float64Array {
  const orthonormal = (seed: number, size: number) => {
    const random = Matrix.from1DArray(size, size, Array.from(normals(seed, size * size)));
    return new EigenvalueDecomposition(random.add(random.transpose()), { assumeSymmetric: true }).eigenvectorMatrix;
  };
  const [u, v] = [orthonormal(1, rows), orthonormal(2, columns)];
  const values = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) values[i * columns + j] = spectrum.reduce((sum, sigma, k) => sum + sigma * u.get(i, k) * v.get(j, k), 0);
  return values;
}

/** ‖G − G·BᵀB‖². */
function tailOf(g: Float64Array, rows: number, columns: number, b: ArrayLike<number>): number {
  const [gradient, directions] = [Matrix.from1DArray(rows, columns, g), Matrix.from1DArray(b.length / columns, columns, Array.from(b))];
  return Matrix.sub(gradient, gradient.mmul(directions.transpose()).mmul(directions)).norm() ** 2;
}

/** How far b's rows are from orthonormal. */
function skew(b: ArrayLike<number>, columns: number): number {
  const directions = Matrix.from1DArray(b.length / columns, columns, Array.from(b));
  return Matrix.sub(directions.mmul(directions.transpose()), Matrix.eye(directions.rows)).norm();
}

const spectrum = Array.from({ length: 14 }, (_, i) => 10 ** (1 - i / 3));

describe("of a gradient at hand, exactly", () => {
  for (const rank of [1, 4, 8])
    test(`rank ${rank}: what B leaves of G is its other singular values, and B's rows are orthonormal`, () => {
      const g = withSpectrum(20, 14, spectrum);
      const b = exactDirections(g, 20, 14, rank);
      const tail = spectrum.slice(rank).reduce((sum, sigma) => sum + sigma * sigma, 0);
      assert.ok(Math.abs(tailOf(g, 20, 14, b) / tail - 1) < 1e-10);
      assert.ok(skew(b, 14) < 1e-12);
      for (let at = 0; at < b.length; at += 14) {
        const row = b.subarray(at, at + 14);
        assert.ok(row.reduce((largest, x) => (Math.abs(x) > Math.abs(largest) ? x : largest)) > 0, "the largest entry of a row is positive");
      }
    });

  test("no other orthonormal B leaves less", () => {
    const g = withSpectrum(20, 14, spectrum);
    const least = tailOf(g, 20, 14, exactDirections(g, 20, 14, 4));
    for (let draw = 0; draw < 50; draw++) {
      const other = new SVD(Matrix.from1DArray(14, 4, Array.from(normals(50 + draw, 56)))).leftSingularVectors;
      assert.ok(tailOf(g, 20, 14, other.transpose().to1DArray()) > least);
    }
  });

  test("turning B's rows among each other, or over, leaves what the update is made of", () => {
    const g = withSpectrum(20, 14, spectrum);
    const b = Matrix.from1DArray(4, 14, Array.from(exactDirections(g, 20, 14, 4)));
    const turn = new SVD(Matrix.from1DArray(4, 4, Array.from(normals(60, 16)))).leftSingularVectors;
    const flipped = Matrix.mul(b, 1);
    flipped.mulRow(2, -1);
    const step = (of: Matrix) => Matrix.from1DArray(20, 14, Array.from(g)).mmul(of.transpose()).mmul(of);
    for (const other of [turn.mmul(b), flipped]) assert.ok(Matrix.sub(step(other), step(b)).norm() < 1e-12 * step(b).norm());
  });

  test("a wide gradient and one of lower rank than B", () => {
    const wide = withSpectrum(6, 20, [5, 3, 1, 0.5, 0.2, 0.1]);
    assert.ok(tailOf(wide, 6, 20, exactDirections(wide, 6, 20, 6)) < 1e-20);
    const flat = withSpectrum(9, 7, [2, 1]);
    const b = exactDirections(flat, 9, 7, 4);
    assert.ok(skew(b, 7) < 1e-12 && tailOf(flat, 9, 7, b) < 1e-20);
  });
});

for (const { name, open } of testDevices({ reference: true }))
  describe(`by subspace iteration on ${name}`, () => {
    async function directionsOf(device: Device, g: Float64Array, rows: number, columns: number, rank: number): Promise<Float32Array> {
      const gradient = device.allocate([rows, columns], "f32", "gradients");
      const b = device.allocate([rank, columns], "f32", "trainable");
      device.write(gradient, Float32Array.from(g));
      const live = device.ledger.liveBytes;
      await principalDirections(device, b, gradient, 7);
      assert.equal(device.ledger.liveBytes, live);
      return (await device.read(b)) as Float32Array;
    }

    test("a spectrum that falls: as good as exact, the same directions, the same signs", async () => {
      const [rows, columns, rank] = [90, 60, 6];
      const g = withSpectrum(
        rows,
        columns,
        Array.from({ length: 60 }, (_, i) => 1 / (1 + i)),
      );
      const device = open();
      const b = await directionsOf(device, g, rows, columns, rank);
      device.close();
      const exact = exactDirections(g, rows, columns, rank);
      assert.ok(tailOf(g, rows, columns, b) / tailOf(g, rows, columns, exact) < 1.0001);
      assert.ok(skew(b, columns) < 1e-5);
      const cosines = new SVD(
        Matrix.from1DArray(rank, columns, Array.from(b)).mmul(Matrix.from1DArray(rank, columns, Array.from(exact)).transpose()),
      );
      assert.ok(Math.min(...cosines.diagonal) > 0.999, `principal cosines ${cosines.diagonal}`);
      for (let i = 0; i < rank * columns; i++) assert.ok(Math.abs(b[i] - exact[i]) < 0.03, `entry ${i}`);
    });

    test("fewer directions than B has rows, or none, leave it orthonormal", async () => {
      for (const values of [withSpectrum(30, 20, [3, 1]), new Float64Array(600)]) {
        const device = open();
        const b = await directionsOf(device, values, 30, 20, 5);
        device.close();
        assert.ok(skew(b, 20) < 1e-5);
        assert.ok(tailOf(values, 30, 20, b) < 1e-9);
      }
    });
  });

describe("of a model's gradients", () => {
  const options = { seed: 1, onProgress: () => {}, stopped: async () => false };
  const batches = [tinyBatch(2, 16, 0), tinyBatch(2, 16, 2), tinyBatch(1, 16, 4)];

  async function start(recompute: Llama["recompute"] = "none") {
    const model = openTiny(fastDevice(), "f32", { pruned: true, recompute });
    const method = attachAdapter(model.device, model.tensors, adapterConfig("lors", { rank: 4 }), 1) as LoRS;
    return { model, method };
  }

  test("B spans what the dense mean gradient says, and the output is the base's to the bit", async () => {
    const { model, method } = await start();
    const { device } = model;
    const full = new FullFineTuning(device, model.tensors);
    for (const { gradient } of full.parameters) device.fill(gradient, 0);
    for (const batch of batches) await runBatch(model, full, batch, 1 / (batches.length * batch.unmaskedTokens));
    const live = device.ledger.liveBytes;
    const seen: string[] = [];
    assert.equal(await initialiseLors(model, method, batches, { ...options, onProgress: (done, of) => seen.push(`${done}/${of}`) }), true);
    assert.equal(device.ledger.liveBytes, live);
    assert.deepEqual([seen.length, seen[0], seen.at(-1)], [24, "1/24", "24/24"]);
    for (const { linear, b } of method.all()) {
      const gradient = full.gradientOf(`${linear.name}.weight`) as Tensor;
      const [rows, columns] = linear.weight.shape;
      const g = Float64Array.from(await device.read(gradient));
      const ours = await device.read(b.value);
      const ratio = tailOf(g, rows, columns, ours) / tailOf(g, rows, columns, exactDirections(g, rows, columns, 4));
      assert.ok(ratio < 1.001, `${linear.name}: ${ratio} of the least remainder`);
      assert.ok(skew(ours, columns) < 1e-5);
    }
    const ids = tinyBatch(1, 16).inputs;
    const bits = async (of: LoRS | Frozen) => bitsOf(device, await runLogits(model, of, ids, 16, null));
    assert.equal(await bits(method), await bits(new Frozen(device)));
    device.close();
  });

  test("the same bits at any recompute", async () => {
    const found: string[][] = [];
    for (const recompute of ["none", "layer"] as const) {
      const { model, method } = await start(recompute);
      await initialiseLors(model, method, batches, options);
      found.push(await Promise.all(method.all().map(({ b }) => bitsOf(model.device, b.value))));
      model.device.close();
    }
    assert.deepEqual(found[0], found[1]);
  });

  test("on the planner's device it allocates what it does on a real one", async () => {
    const { model, method } = await start();
    const held = model.device.ledger.liveBytes;
    model.device.ledger.resetPeak();
    await initialiseLors(model, method, batches.slice(0, 1), options);
    const measured = model.device.ledger.peakBytes - held;
    model.device.close();
    const meta = openMetaDevice({ workspaceBytes: 0, description: "" });
    const planned = openTiny(meta, "f32", { pruned: true });
    const adapter = attachAdapter(meta, planned.tensors, adapterConfig("lors", { rank: 4 }), null) as LoRS;
    const before = meta.ledger.liveBytes;
    meta.ledger.resetPeak();
    await initialiseLors(planned, adapter, batches.slice(0, 1), { ...options, seed: null });
    assert.equal(meta.ledger.peakBytes - before, measured);
  });

  test("stopped, every B is as it was", async () => {
    const { model, method } = await start();
    const before = await Promise.all(method.all().map(({ b }) => bitsOf(model.device, b.value)));
    const live = model.device.ledger.liveBytes;
    let asked = 0;
    assert.equal(await initialiseLors(model, method, batches, { ...options, stopped: async () => ++asked === 5 }), false);
    assert.equal(model.device.ledger.liveBytes, live);
    assert.deepEqual(await Promise.all(method.all().map(({ b }) => bitsOf(model.device, b.value))), before);
    model.device.close();
  });

  test("batches without a target do not count", async () => {
    const results: string[] = [];
    const empty = { ...tinyBatch(1, 16), targets: new Int32Array(16).fill(-1), unmaskedTokens: 0 };
    for (const given of [batches, [...batches, empty]]) {
      const { model, method } = await start();
      await initialiseLors(model, method, given, options);
      results.push(await bitsOf(model.device, method.all()[3].b.value));
      model.device.close();
    }
    assert.equal(results[0], results[1]);
  });
});

test("the reference device's own products are exact enough to start from", async () => {
  const device = openReferenceDevice();
  const g = withSpectrum(40, 30, [9, 4, 2, 1, 0.1]);
  const gradient = device.allocate([40, 30], "f32", "gradients");
  const b = device.allocate([4, 30], "f32", "trainable");
  device.writeExact(gradient, g);
  await principalDirections(device, b, gradient, 1);
  const ratio = tailOf(g, 40, 30, device.readExact(b)) / 0.01;
  assert.ok(Math.abs(ratio - 1) < 1e-6, `${ratio}`);
});

test("a gradient of far lower rank than 4r gives r orthonormal directions, its own first; one of NaN is refused", async () => {
  const [out, width, rank] = [192, 128, 24];
  const device = fastDevice();
  const gradient = device.allocate([out, width], "f32", "workspace");
  const b = device.allocate([rank, width], "f32", "workspace");
  const [u, v] = [normals(1, out), normals(2, width)];
  device.write(
    gradient,
    Float32Array.from({ length: out * width }, (_, i) => 1e-3 * u[Math.floor(i / width)] * v[i % width]),
  );
  await principalDirections(device, b, gradient, 3);
  const rows = (await device.read(b)) as Float32Array;
  const dotOf = (i: number, other: ArrayLike<number>, at: number) => {
    let sum = 0;
    for (let j = 0; j < width; j++) sum += rows[i * width + j] * other[at + j];
    return sum;
  };
  const lengthOfV = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  assert.ok(Math.abs(Math.abs(dotOf(0, v, 0)) / lengthOfV - 1) < 1e-6);
  for (let i = 0; i < rank; i++) for (let k = 0; k <= i; k++) assert.ok(Math.abs(dotOf(i, rows, k * width) - (i === k ? 1 : 0)) < 1e-5, `${i} ${k}`);
  device.fill(gradient, Number.NaN);
  await assert.rejects(principalDirections(device, b, gradient, 3), { code: "method/gradient-not-finite" });
  device.close();
});
