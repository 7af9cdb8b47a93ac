/** SMT's linear map and training against independent references: the authors' layer, full fine-tuning, and the bytes it must not touch. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import type { TuningMethod } from "../../../src/core/methods/method.ts";
import { layOutBlocks, worstCaseBlocks } from "../../../src/core/methods/smt/layout.ts";
import { linearsOf } from "../../../src/core/methods/smt/scoring.ts";
import { gridShape } from "../../../src/core/methods/smt/selection.ts";
import { SparseMatrixTuning } from "../../../src/core/methods/smt/smt.ts";
import { type Llama, runBatch } from "../../../src/core/model/llama.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../../../src/core/optim/update.ts";
import { readF32, readI32, relativeL2 } from "../../support/goldens.ts";
import { openStory, plainBatch } from "../../support/storyModel.ts";

const fixtures = new URL("../../fixtures/golden-torch/", import.meta.url).pathname;

async function upload(device: Device, shape: number[], values: Float32Array): Promise<Tensor> {
  const tensor = device.allocate(shape, "f32", "activations");
  device.write(tensor, values);
  return tensor;
}

async function storyBatch() {
  const forward = `${fixtures}story_forward.safetensors`;
  return plainBatch(2, 16, (await readI32(forward, "input_ids")).subarray(0, 32), (await readI32(forward, "target_ids")).subarray(0, 32));
}

async function step(model: Llama, method: TuningMethod, number: number): Promise<void> {
  const batch = await storyBatch();
  zeroGradients(model.device, method.parameters);
  await runBatch(model, method, batch, 1 / batch.unmaskedTokens);
  updateParameters(model.device, method.parameters, await gradientNorm(model.device, method.parameters), 1e-3, number, {
    betas: [0.9, 0.95],
    epsilon: 1e-8,
    weightDecay: 0.1,
    clipGradNorm: null,
  });
  method.afterUpdate();
}

test("the sparse linear map equals the authors' layer", async () => {
  const file = `${fixtures}smt_linearZ_block16.safetensors`;
  const d = openReferenceDevice();
  const weight = await upload(d, [384, 128], await readF32(file, "weight"));
  const x = await upload(d, [16, 128], await readF32(file, "x"));
  const dOut = await upload(d, [16, 384], await readF32(file, "grad_out"));
  const index = await readI32(file, "index_list");
  const blocks = Array.from({ length: 5 }, (_, i) => ({ name: "l", row: index[2 * i], column: index[2 * i + 1] }));
  const linear = { name: "l", layer: 0, projection: "up_proj" as const, stage: 2, weight, bias: null };
  const { matrices, columns } = layOutBlocks(blocks, [linear], 16);
  const table = (matrices.get("l") as { table: Int32Array }).table;
  const stage = columns.get(2) as Int32Array;
  const slices = d.allocate([16, (stage.length / 2) * 16], "f32", "activations");
  const gradient = d.allocate([5 * 256], "f32", "gradients");
  const y = d.allocate([16, 384], "f32", "activations");
  const dX = d.allocate([16, 128], "f32", "activations");
  d.fill(gradient, 0);
  d.gatherColumns(slices, x, stage);
  d.matmul(y, x, weight, { transposeB: true });
  d.matmul(dX, dOut, weight);
  d.blockGradients(gradient, dOut, slices, table);
  assert.ok(relativeL2(await d.read(y), await readF32(file, "y")) < 1e-6);
  assert.ok(relativeL2(await d.read(dX), await readF32(file, "grad_x")) < 1e-6);
  const theirs = await readF32(file, "grad_selected");
  const ours = await d.read(gradient);
  for (const [k, { row, column }] of blocks.entries()) {
    const at = Array.from({ length: 5 }, (_, i) => i).find((i) => table[6 * i] === row * 16 && table[6 * i + 2] === column * 16) as number;
    assert.ok(relativeL2(ours.subarray(at * 256, (at + 1) * 256), theirs.subarray(k * 256, (k + 1) * 256)) < 1e-6, `block ${row},${column}`);
  }
});

describe("training", () => {
  test("all blocks without a warm-up equal full fine-tuning of those matrices", async () => {
    const sparse = await openStory(openReferenceDevice(), "f32", 64);
    const dense = await openStory(openReferenceDevice(), "f32", 64);
    const every = linearsOf(sparse.tensors).flatMap(({ name, weight }) => {
      const [rows, columns] = gridShape(weight.shape, 16);
      return Array.from({ length: rows * columns }, (_, i) => ({ name, row: Math.floor(i / columns), column: i % columns }));
    });
    const smt = new SparseMatrixTuning(sparse.device, sparse.tensors, every, 16);
    const full = new FullFineTuning(dense.device, dense.tensors);
    const matrices = new Set(linearsOf(dense.tensors).map(({ name }) => `${name}.weight`));
    const rest = full.parameters.filter(({ name }) => !matrices.has(name));
    for (const parameter of rest) full.parameters.splice(full.parameters.indexOf(parameter), 1);
    for (const number of [1, 2]) {
      await step(sparse, smt, number);
      await step(dense, full, number);
    }
    for (const name of matrices) {
      const [a, b] = [sparse, dense].map(({ tensors }) => tensors.byName.get(name) as Tensor);
      // 1e-6: the weights pass through f32 when they are read back.
      assert.ok(relativeL2(await sparse.device.read(a), await dense.device.read(b)) < 1e-6, name);
    }
  });

  test("entries outside the chosen blocks keep their bytes, the others move", async () => {
    const model = await openStory(openReferenceDevice(), "bf16", 64);
    const before = new Map<string, Float32Array>();
    for (const [name, weight] of model.tensors.byName) before.set(name, (await model.device.read(weight)) as Float32Array);
    const chosen = [
      { name: "model.layers.0.self_attn.v_proj", row: 3, column: 7 },
      { name: "model.layers.1.mlp.down_proj", row: 0, column: 23 },
      { name: "model.layers.1.mlp.down_proj", row: 5, column: 23 },
    ];
    const smt = new SparseMatrixTuning(model.device, model.tensors, chosen, 16);
    for (const number of [1, 2, 3]) await step(model, smt, number);
    for (const [name, weight] of model.tensors.byName) {
      const now = await model.device.read(weight);
      const was = before.get(name) as Float32Array;
      const inside = (i: number) =>
        chosen.some(
          (block) =>
            `${block.name}.weight` === name &&
            Math.floor(i / weight.shape[1] / 16) === block.row &&
            Math.floor((i % weight.shape[1]) / 16) === block.column,
        );
      let moved = 0;
      for (let i = 0; i < was.length; i++)
        if (inside(i)) moved += Number(was[i] !== now[i]);
        else assert.equal(now[i], was[i], `${name}[${i}]`);
      assert.equal(
        moved > 0,
        chosen.some((block) => `${block.name}.weight` === name),
        name,
      );
    }
  });

  test("between forward and backward a stage keeps the bytes of its selected slices, shared by q, k and v", async () => {
    const model = await openStory(openReferenceDevice(), "bf16", 64);
    const at = (projection: string, row: number, column: number) => ({ name: `model.layers.0.self_attn.${projection}`, row, column });
    const smt = new SparseMatrixTuning(
      model.device,
      model.tensors,
      [at("q_proj", 0, 2), at("k_proj", 1, 2), at("v_proj", 0, 2), at("v_proj", 0, 5)],
      16,
    );
    const x = model.device.allocate([10, 128], "bf16", "activations");
    const kept = smt.saveInput(0, x) as Tensor;
    assert.deepEqual(kept.shape, [10, 32]);
    assert.equal(smt.saveInput(1, x), null);
    assert.equal(smt.saveInput(4, x), null);
  });

  test("backward stops below the lowest chosen block: what stands lower keeps nothing", async () => {
    const model = await openStory(openReferenceDevice(), "f32", 64);
    const batch = await storyBatch();
    const peak = async (name: string) => {
      const smt = new SparseMatrixTuning(model.device, model.tensors, [{ name, row: 0, column: 0 }], 16);
      model.device.ledger.resetPeak();
      await runBatch(model, smt, batch, 1 / batch.unmaskedTokens);
      smt.release();
      return model.device.ledger.peakBytes;
    };
    assert.ok((await peak("model.layers.1.mlp.down_proj")) < (await peak("model.layers.0.self_attn.q_proj")));
  });

  test("the worst case has as many distinct stripes as the budget allows, from the lowest stage up", async () => {
    const model = await openStory(openReferenceDevice(), "f32", 64);
    const linears = linearsOf(model.tensors);
    const chosen = worstCaseBlocks(linears, 40, 16);
    assert.equal(new Set(chosen.map(({ name, row, column }) => `${name}:${row},${column}`)).size, 40);
    const { columns } = layOutBlocks(chosen, linears, 16);
    assert.equal(
      [...columns.values()].reduce((sum, table) => sum + table.length / 2, 0),
      40,
    );
    assert.deepEqual([...columns.keys()], [0, 1, 2, 3]);
    assert.equal(worstCaseBlocks(linears, 1536, 16).length, 1536);
  });
});
