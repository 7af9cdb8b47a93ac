/** The bench's comparators compute what SQFT and SPP compute, by the costlier way they stand for; and what each method keeps for backward is counted. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import type { BenchMethod } from "../../../src/core/bench/benchMethods.ts";
import { NaiveMasked, PublishedSpp } from "../../../src/core/bench/comparators.ts";
import { trainSynthetic } from "../../../src/core/bench/syntheticTraining.ts";
import { compareMethods, type TrainedEntry } from "../../../src/core/bench/trainingBench.ts";
import { openPortableDevice } from "../../../src/core/devices/cpu/portableDevice.ts";
import type { Device } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { attachAdapter } from "../../../src/core/methods/adapters.ts";
import type { AdapterMethod } from "../../../src/core/methods/method.ts";
import { linearsOf } from "../../../src/core/methods/smt/scoring.ts";
import { runBatch } from "../../../src/core/model/llama.ts";
import type { LlamaTensors } from "../../../src/core/model/tensors.ts";
import { normals } from "../../support/randomTensors.ts";
import { openTiny, tinyBatch } from "../../support/tinyModel.ts";

/** The loss and every gradient after one batch on the pruned tiny model, all adapters away from their start. */
async function gradientsOf(attach: (device: Device, tensors: LlamaTensors) => AdapterMethod) {
  const device = openReferenceDevice();
  const model = openTiny(device, "f32", { pruned: true });
  const method = attach(device, model.tensors);
  for (const [i, { value }] of method.parameters.entries())
    device.write(
      value,
      normals(
        i,
        value.shape.reduce((a, b) => a * b, 1),
        0.2,
      ),
    );
  method.afterUpdate();
  const loss = await runBatch(model, method, tinyBatch(), 1 / 32);
  const gradients = await Promise.all(
    method.parameters.map(async ({ name, gradient }) => [name, (await device.read(gradient)) as Float32Array] as const),
  );
  device.close();
  return { loss, gradients };
}

type Outcome = Awaited<ReturnType<typeof gradientsOf>>;

function expectSame(one: Outcome, other: Outcome): void {
  assert.ok(Math.abs(one.loss - other.loss) < 1e-9 * one.loss);
  assert.deepEqual(
    one.gradients.map(([name]) => name),
    other.gradients.map(([name]) => name),
  );
  for (const [i, [name, gradient]] of one.gradients.entries()) {
    const theirs = other.gradients[i][1];
    const largest = gradient.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assert.ok(largest > 0, name);
    for (const [j, x] of gradient.entries()) assert.ok(Math.abs(x - theirs[j]) < 1e-6 * largest, `${name}[${j}]: ${x} and ${theirs[j]}`);
  }
}

test("naive masking has the loss and the gradients of SQFT", async () => {
  const config = { name: "sqft", rank: 3, alpha: 6, dropout: 0, neuralSearch: null, quantize: null, targets: "auto" } as const;
  expectSame(
    await gradientsOf((device, tensors) => attachAdapter(device, tensors, config, 1)),
    await gradientsOf((device, tensors) => new NaiveMasked(device, linearsOf(tensors), config, 1)),
  );
});

test("the published form of SPP has the loss and the gradients of the one that forms its weight once", async () => {
  const config = { name: "spp", groups: 8, scaling: 2, dropout: 0, targets: "auto" } as const;
  expectSame(
    await gradientsOf((device, tensors) => attachAdapter(device, tensors, config, 1)),
    await gradientsOf((device, tensors) => new PublishedSpp(device, linearsOf(tensors), config, 1)),
  );
});

const model = path.resolve(import.meta.dirname, "../../../media/demo/model");

test("between forward and backward LoRS keeps its input alone; naive masking the formed weight and a mask as well", async () => {
  const device = openPortableDevice();
  const kept = async (method: BenchMethod, tokens: number) => {
    const run = { modelFolder: model, method, precision: "f32", batchSize: 1, sequenceLength: tokens, steps: 1 } as const;
    return (await trainSynthetic(device, run)).keptBytes;
  };
  const [lors8, lors16] = [await kept("lors", 8), await kept("lors", 16)];
  const width = (lors16 - lors8) / 8 / 4;
  assert.ok(Number.isInteger(width) && width > 0);
  assert.equal(lors16, 16 * width * 4);
  const naive = await kept("naive", 16);
  assert.ok(naive > lors16 && (naive - lors16) % (5 * width) === 0, "five bytes a weight beside the input");
  assert.equal(await kept("sqft", 16), lors16);
  device.close();
});

test("speeds are divided round by round, and a method that was not trained is not compared", () => {
  const trained = (method: BenchMethod, speeds: number[], peakBytes: number) =>
    ({ entry: { method, precision: "f32", folder: "" }, row: { peakBytes }, speeds }) as TrainedEntry;
  const comparisons = compareMethods([trained("lors", [10, 30, 20], 60), trained("naive", [5, 10, 20], 100)], "f32");
  assert.deepEqual(comparisons, [
    { name: "lors / naive masked", ratio: 2, goal: 1.25, what: "speed" },
    { name: "lors / naive masked", ratio: 0.6, goal: 0.7, what: "peakMemory" },
  ]);
});
