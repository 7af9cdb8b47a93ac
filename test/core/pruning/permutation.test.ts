/** Orders of channels (golden case P10): what they keep, and that a model in another order computes what it did, in every family and on every device. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { type Llama, runLogits } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import { allocateTensors, loadWeights } from "../../../src/core/model/tensors.ts";
import { greatestAssignment } from "../../../src/core/pruning/assignment.ts";
import type { RowScores } from "../../../src/core/pruning/patterns.ts";
import { type Channels, findOrder } from "../../../src/core/pruning/permutation.ts";
import { findResidualOrder, permuteColumns, permuteMakers, permuteResidual } from "../../../src/core/pruning/permuteModel.ts";
import { testDevices } from "../../support/devices.ts";
import { relativeL2 } from "../../support/goldens.ts";
import { integers, uniforms } from "../../support/randomTensors.ts";

const groups = (zeros: number, of: number) => ({ kind: "groups" as const, zeros, of });

/** Scores of some rows, told a few at a time. */
function channelsOf(scores: Float32Array, count: number, span = count): Channels {
  const forEachScores = async (body: (part: Float32Array) => void) => {
    for (let row = 0; row < scores.length; row += 3 * count) body(scores.subarray(row, row + 3 * count));
  };
  return { count, span, forEachScores };
}

/** Σ of the scores that stay of columns in an order, by sorting every group. */
function retainedBy(scores: Float32Array, order: Int32Array, zeros: number, of: number): number {
  let sum = 0;
  for (let row = 0; row < scores.length; row += order.length)
    for (let group = 0; group < order.length; group += of) {
      const own = Array.from(order.subarray(group, group + of), (column) => scores[row + column]).sort((a, b) => a - b);
      for (const score of own.slice(zeros)) sum += score;
    }
  return sum;
}

test("an assignment is the best of all permutations", () => {
  const sumOf = (values: Float64Array, n: number, columns: readonly number[]) => columns.reduce((sum, c, row) => sum + values[row * n + c], 0);
  const all = (left: number[]): number[][] =>
    left.length === 0 ? [[]] : left.flatMap((c) => all(left.filter((x) => x !== c)).map((rest) => [c, ...rest]));
  for (const n of [1, 2, 5, 6])
    for (let seed = 1; seed <= 8; seed++) {
      // Small integers: many are equal.
      const values = Float64Array.from(seed % 2 === 0 ? integers(seed, n * n, 4) : uniforms(seed, n * n, -3, 3));
      const found = [...greatestAssignment(values, n)];
      assert.deepEqual([...found].sort(), [...Array(n).keys()], "each once");
      const best = Math.max(...all([...Array(n).keys()]).map((columns) => sumOf(values, n, columns)));
      assert.ok(Math.abs(sumOf(values, n, found) - best) < 1e-9, `${n}, ${seed}`);
    }
});

for (const [zeros, of] of [
  [2, 4],
  [4, 8],
  [1, 4],
  [3, 4],
])
  test(`P10, ${zeros}:${of}: a bijection within each span, and no round keeps less than the one before`, async () => {
    // The last: more groups than are assigned together.
    for (const [count, span, rounds] of [[64, 64, 3], [64, 16, 3], ...(of === 4 && zeros === 2 ? [[1088, 1088, 1]] : [])]) {
      // Few rows and columns of very different sizes: there is something to win.
      const rows = count > 1000 ? 4 : 24;
      const sizes = uniforms(7, count, 0, 1).map((x) => x ** 6);
      const scores = uniforms(3, rows * count, 0, 1).map((x, i) => x * sizes[i % count]);
      const { order, retained } = await findOrder(channelsOf(scores, count, span), groups(zeros, of), rounds);
      assert.deepEqual(
        [...order].sort((a, b) => a - b),
        Array.from({ length: count }, (_, i) => i),
      );
      order.forEach((from, to) => {
        assert.equal(Math.floor(from / span), Math.floor(to / span));
      });
      const before = retainedBy(
        scores,
        Int32Array.from({ length: count }, (_, i) => i),
        zeros,
        of,
      );
      assert.ok(Math.abs(retained[0] / before - 1) < 1e-9);
      assert.ok(Math.abs((retained.at(-1) as number) / retainedBy(scores, order, zeros, of) - 1) < 1e-9);
      assert.equal(retained.length, 2 + rounds);
      for (let i = 2; i < retained.length; i++) assert.ok(retained[i] >= retained[i - 1] * (1 - 1e-12), `${retained}`);
      assert.ok((retained.at(-1) as number) > retained[0]);
    }
  });

test("heavy columns that stand together are spread; an order that is as good as any stays", async () => {
  const heavy = Float32Array.from({ length: 3 * 16 }, (_, i) => (i % 16 < 8 ? 10 : 1));
  const { order, retained } = await findOrder(channelsOf(heavy, 16), groups(2, 4));
  assert.deepEqual(retained, [3 * (4 * 10 + 4 * 1), 3 * 8 * 10, 3 * 8 * 10]);
  for (let group = 0; group < 16; group += 4) assert.equal([...order.subarray(group, group + 4)].filter((column) => column < 8).length, 2);
  const even = await findOrder(channelsOf(new Float32Array(32).fill(1), 16), groups(2, 4));
  assert.deepEqual(
    [...even.order],
    Array.from({ length: 16 }, (_, i) => i),
  );
});

const families = path.join(import.meta.dirname, "../../fixtures/families");
const tokens = 24;

async function open(device: Device, family: string): Promise<Llama> {
  const folder = await openModelFolder(path.join(families, family));
  const tensors = allocateTensors(device, folder.config, "f32");
  await loadWeights(device, tensors, folder);
  await folder.close();
  return { device, config: folder.config, tensors, rope: ropeTables(device, folder.config, tokens), precision: "f32", recompute: "none" };
}

/** Scores of a made-up importance: some columns count much more. */
const oddScores: RowScores = (scores, weights, _firstRow, columns) => {
  for (let i = 0; i < weights.length; i++) scores[i] = Math.abs(weights[i]) * (i % columns < columns / 3 ? 9 : 1);
};

const changed = async (device: Device, tensor: Tensor, before: ArrayLike<number>) =>
  relativeL2((await device.read(tensor)) as Float32Array, before) > 0.1;

for (const { name, open: openDevice } of testDevices())
  describe(`in another order, on ${name}`, () => {
    for (const entry of readdirSync(families, { withFileTypes: true }).filter((found) => found.isDirectory()))
      test(`${entry.name} computes what it did`, async () => {
        const device = openDevice();
        const model = await open(device, entry.name);
        const ids = integers(9, tokens, model.config.vocabSize);
        const logits = async () => (await device.read(await runLogits(model, new Frozen(device), ids, tokens, null))) as Float32Array;
        const { embedding, layers } = model.tensors;
        const { q_proj, v_proj, up_proj } = layers[0].linears;
        const places = [embedding, q_proj.weight, v_proj.weight, up_proj.weight];
        const before = await Promise.all(places.map((tensor) => device.read(tensor)));
        const expected = await logits();
        const live = device.ledger.liveBytes;
        const scored = layers.flatMap(({ linears }) => [linears.q_proj, linears.up_proj]).map(({ weight }) => ({ weight, scores: oddScores }));
        await permuteResidual(model, await findResidualOrder(model, scored, groups(2, 4), () => {}));
        for (const { linears } of layers)
          for (const reader of [linears.o_proj, linears.down_proj]) {
            const order = await permuteMakers(model, reader, oddScores, groups(2, 4), () => {});
            assert.ok(order, "there is something to win");
            await permuteColumns(device, reader.weight, order);
          }
        assert.equal(device.ledger.liveBytes, live);
        for (const [i, tensor] of places.entries())
          assert.ok(await changed(device, tensor, before[i] as Float32Array), `${i} stands in another order`);
        assert.ok(relativeL2(await logits(), expected) < 1e-5);
        assert.equal(
          await permuteMakers(model, q_proj, oddScores, groups(2, 4), () => {}),
          null,
          "what reads the residual stream has no makers of its own",
        );
        device.close();
      });
  });
