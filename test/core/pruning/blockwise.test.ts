/** The loop over blocks: what calibrates what, and how much memory it takes. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import type { Device, FileDType, Tensor } from "../../../src/core/devices/device.ts";
import { openMetaDevice } from "../../../src/core/devices/meta.ts";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { decodeFloats, encodeFloats } from "../../../src/core/files/storedFloats.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { type ModelConfig, projectionShape, projections } from "../../../src/core/model/config.ts";
import { forwardLayer, freeBatch, type Llama, uploadBatch } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import { allocateTensors, type Precision } from "../../../src/core/model/tensors.ts";
import { pruneBlocks } from "../../../src/core/pruning/blockwise.ts";
import { magnitude } from "../../../src/core/pruning/magnitude.ts";
import { parsePattern, zeroInRows } from "../../../src/core/pruning/patterns.ts";
import type { Pruner } from "../../../src/core/pruning/pruner.ts";
import { ria } from "../../../src/core/pruning/ria.ts";
import { sparseGpt } from "../../../src/core/pruning/sparseGpt.ts";
import { passesOf } from "../../../src/core/pruning/statistics.ts";
import { wanda, wandaScores } from "../../../src/core/pruning/wanda.ts";
import { WorkMeter } from "../../../src/core/pruning/workMeter.ts";
import type { PrunedMatrix } from "../../../src/protocol/pruning.ts";
import { fastDevice } from "../../support/devices.ts";
import { integers, normals } from "../../support/randomTensors.ts";
import { temporaryFolder, tinyConfig } from "../files/smallModels.ts";

const tiny = parseModelConfig(tinyConfig, "config.json");
const sequenceLength = 16;

function randomModel(device: Device, config: ModelConfig, precision: Precision, positions = sequenceLength): Llama {
  const tensors = allocateTensors(device, config, precision);
  let seed = 0;
  for (const [name, tensor] of tensors.byName) {
    const count = tensor.shape.reduce((product, n) => product * n, 1);
    if (device.name !== "meta") device.write(tensor, name.endsWith("norm.weight") ? new Float32Array(count).fill(1) : normals(++seed, count, 0.3));
  }
  return { device, config, tensors, rope: ropeTables(device, config, positions), precision, recompute: "none" };
}

function calibrationOf(config: ModelConfig, samples: number, length = sequenceLength) {
  return { ids: integers(5, samples * length, config.vocabSize), samples, sequenceLength: length, notes: [] };
}

function prune(model: Llama, pruner: Pruner, options: Partial<Parameters<typeof pruneBlocks>[1]> = {}): Promise<PrunedMatrix[]> {
  const targets = new Set<string>(projections);
  const calibration = calibrationOf(model.config, 12);
  return pruneBlocks(model, {
    pruner,
    pattern: parsePattern("0.5"),
    targets,
    calibration,
    dtypeOf: () => (model.precision === "bf16" ? "BF16" : "F32") as FileDType,
    maxActivationBytes: 1 << 30,
    activationFolder: ".",
    meter: new WorkMeter(model.config, { targets, tokens: calibration.ids.length, hessianTokens: 0, sweeps: false }, () => {}),
    signal: new AbortController().signal,
    ...options,
  });
}

async function weightsOf(model: Llama): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const [name, tensor] of model.tensors.byName) weights.set(name, (await model.device.read(tensor)) as Float32Array);
  return weights;
}

/** Counts Σ x² of what gate_proj of a layer is given, in plain TypeScript. */
class Watching extends Frozen {
  readonly sums: Float64Array;
  readonly #device: Device;
  readonly #name: string;
  pending: Promise<void>[] = [];
  constructor(device: Device, name: string, columns: number) {
    super(device);
    this.#device = device;
    this.#name = name;
    this.sums = new Float64Array(columns);
  }
  override linearForward(...[out, linear, x, accumulate]: Parameters<Frozen["linearForward"]>): void {
    if (linear.name === this.#name)
      this.pending.push(
        this.#device.read(x).then((values) => {
          for (let i = 0; i < values.length; i++) this.sums[i % this.sums.length] += values[i] ** 2;
        }),
      );
    super.linearForward(out, linear, x, accumulate);
  }
}

test("P11: block 1 is calibrated on what comes out of the pruned block 0", async () => {
  const device = fastDevice();
  const model = randomModel(device, tiny, "f32");
  const dense = await weightsOf(model);
  const calibration = calibrationOf(tiny, 12);
  const matrices = await prune(model, wanda(), { calibration });
  const after = await weightsOf(model);
  const name = "model.layers.1.mlp.gate_proj";
  const restored = (block: number, weights: Map<string, Float32Array>) => {
    for (const linear of Object.values(model.tensors.layers[block].linears))
      device.write(linear.weight, weights.get(`${linear.name}.weight`) as Float32Array);
  };
  /** Wanda's mask of block 1's gate_proj, by hand, with block 0 pruned or dense. Block 1 is dense while it is looked at. */
  const maskWith = async (block0: Map<string, Float32Array>) => {
    restored(0, block0);
    restored(1, dense);
    const watching = new Watching(device, name, tiny.hiddenSize);
    const positions = calibration.ids.map((_, i) => i % sequenceLength);
    const inputs = { batchSize: 12, sequenceLength, inputs: calibration.ids, positions, documentStart: new Int32Array(calibration.ids.length) };
    const batch = uploadBatch(model, inputs);
    const x = device.allocate([batch.tokens, tiny.hiddenSize], "f32", "activations");
    device.embeddingForward(x, model.tensors.embedding, batch.inputs);
    for (const layer of [0, 1]) forwardLayer(model, watching, batch, layer, x);
    await Promise.all(watching.pending);
    device.free(x);
    freeBatch(device, batch);
    const weights = (dense.get(`${name}.weight`) as Float32Array).slice();
    const scores = new Float32Array(weights.length);
    wandaScores(Float32Array.from(watching.sums, Math.sqrt))(scores, weights, 0, tiny.hiddenSize);
    zeroInRows(weights, scores, tiny.hiddenSize, tiny.hiddenSize / 2);
    return weights;
  };
  const pruned = after.get(`${name}.weight`) as Float32Array;
  assert.deepEqual(pruned, await maskWith(after));
  assert.notDeepEqual(pruned, await maskWith(dense), "the dense block 0 would have given another mask");
  assert.deepEqual(
    matrices.map(({ name: matrix }) => matrix),
    [...dense.keys()].filter((key) => key.endsWith("_proj.weight")).map((key) => key.replace(".weight", "")),
  );
  device.close();
});

test("embeddings, norms and head stay as they are; every matrix has its exact zeros; targets limit what is pruned", async () => {
  for (const pruner of [magnitude(), wanda(), ria(), sparseGpt()]) {
    const device = fastDevice();
    const model = randomModel(device, tiny, "f32");
    const before = await weightsOf(model);
    const matrices = await prune(model, pruner, { targets: new Set(["v_proj", "down_proj"]), pattern: parsePattern("2:4") });
    const after = await weightsOf(model);
    assert.deepEqual(
      matrices.map(({ layer, projection }) => `${layer} ${projection}`),
      ["0 v_proj", "0 down_proj", "1 v_proj", "1 down_proj"],
    );
    for (const [name, values] of after) {
      if (!/v_proj|down_proj/.test(name)) assert.deepEqual(values, before.get(name), name);
      else
        for (let start = 0; start < values.length; start += 4)
          assert.equal(values.subarray(start, start + 4).filter((value) => value === 0).length, 2);
    }
    for (const { zeros, entries, error } of matrices) {
      assert.equal(zeros, entries / 2);
      assert.ok(error !== null && error > 0 && error < 1);
    }
    device.close();
  }
});

test("without calibration magnitude measures no error; statistics are all given back", async () => {
  const device = fastDevice();
  const model = randomModel(device, tiny, "f32");
  const live = device.ledger.liveBytes;
  const matrices = await prune(model, magnitude(), { calibration: null });
  assert.ok(matrices.every(({ error, zeros, entries }) => error === null && zeros === entries / 2));
  await prune(model, sparseGpt());
  assert.equal(device.ledger.liveBytes, live);
  device.close();
});

test("weights go on as their file will store them, and calibrate the next block so", async () => {
  const device = fastDevice();
  const model = randomModel(device, tiny, "f32");
  await prune(model, sparseGpt(), { dtypeOf: () => "F16" });
  for (const [name, values] of await weightsOf(model))
    if (name.endsWith("_proj.weight")) assert.deepEqual(values, decodeFloats(encodeFloats(values, "F16"), "F16"), name);
  device.close();
});

test("activations in a file give the same bits as in memory, and leave no file", async (t) => {
  const folder = temporaryFolder(t);
  const results: Map<string, Float32Array>[] = [];
  for (const maxActivationBytes of [1 << 30, 0]) {
    const device = fastDevice();
    const model = randomModel(device, tiny, "f32");
    // 300 windows of 16 tokens: five parts, the last one shorter.
    await prune(model, sparseGpt(), { calibration: calibrationOf(tiny, 300), maxActivationBytes, activationFolder: folder });
    results.push(await weightsOf(model));
    device.close();
  }
  assert.deepEqual(results[0], results[1]);
  assert.deepEqual(readdirSync(folder), []);
});

test("one or two threads prune to the same bits", async () => {
  const results: Map<string, Float32Array>[] = [];
  for (const threads of [1, 2]) {
    const device = fastDevice(threads);
    const model = randomModel(device, tiny, "bf16");
    await prune(model, sparseGpt());
    results.push(await weightsOf(model));
    device.close();
  }
  assert.deepEqual(results[0], results[1]);
});

/** Bytes of the square f32 tensors that are held at a time; no weight of the model is square. */
function watchSquares(device: Device): { most: number } {
  const [allocate, free] = [device.allocate.bind(device), device.free.bind(device)];
  const squares = new Map<Tensor, number>();
  const watched = { most: 0 };
  device.allocate = (shape, dtype, memoryClass) => {
    const tensor = allocate(shape, dtype, memoryClass);
    if (shape.length === 2 && shape[0] === shape[1]) squares.set(tensor, 4 * shape[0] ** 2);
    watched.most = Math.max(
      watched.most,
      [...squares.values()].reduce((sum, bytes) => sum + bytes, 0),
    );
    return tensor;
  };
  device.free = (tensor) => {
    squares.delete(tensor);
    free(tensor);
  };
  return watched;
}

const narrow = { ...tinyConfig, hidden_size: 24, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8 };
for (const [intermediate, passes] of [
  [48, [[3], [0, 1, 2]]],
  [32, [[3], [2], [1], [0]]],
] as const) {
  test(`the Hessians held at a time take what the largest one does: ${passes.length} passes, ${intermediate} intermediate columns`, async () => {
    const config = parseModelConfig({ ...narrow, intermediate_size: intermediate }, "config.json");
    assert.deepEqual(passesOf(config, new Set(projections)), passes);
    for (const pruner of [wanda(), sparseGpt()]) {
      const device = fastDevice();
      const model = randomModel(device, config, "f32");
      const watched = watchSquares(device);
      await prune(model, pruner, { calibration: calibrationOf(config, 20) });
      assert.equal(watched.most, 4 * intermediate ** 2);
      device.close();
    }
  });
}

/** A quarter of LLaMA-2-7B in each direction; the shares are the same. */
const quarter = parseModelConfig(
  {
    ...tinyConfig,
    hidden_size: 1024,
    intermediate_size: 2752,
    num_attention_heads: 8,
    num_key_value_heads: 8,
    max_position_embeddings: 512,
    vocab_size: 2000,
  },
  "config.json",
);

for (const [name, pruner] of [["sparsegpt", sparseGpt] as const, ["wanda", wanda] as const]) {
  test(`${name}: beside the model at most a block, its largest Hessian and one set of activations`, async (t) => {
    const device = openMetaDevice({ workspaceBytes: 0, description: "a plan" });
    const model = randomModel(device, quarter, "bf16", 512);
    const modelBytes = device.ledger.liveBytes;
    const blockBytes = projections.reduce((sum, projection) => sum + 4 * projectionShape(quarter, projection).reduce((a, b) => a * b), 0);
    const hessianBytes = 4 * quarter.intermediateSize ** 2;
    for (const maxActivationBytes of [1 << 30, 0]) {
      device.ledger.resetPeak();
      const calibration = calibrationOf(quarter, 8, 512);
      await prune(model, pruner(), { calibration, maxActivationBytes, activationFolder: temporaryFolder(t), pattern: parsePattern("2:4") });
      // In a file: the windows that are worked on together.
      const activationBytes = 4 * quarter.hiddenSize * (maxActivationBytes === 0 ? 1024 : calibration.ids.length);
      const ids = 12 * calibration.ids.length;
      const peak = device.ledger.peakBytes - modelBytes;
      assert.ok(peak <= blockBytes + hessianBytes + activationBytes + ids, `${peak} of ${blockBytes} + ${hessianBytes} + ${activationBytes}`);
      assert.equal(device.ledger.liveBytes, modelBytes);
    }
    device.close();
  });
}
