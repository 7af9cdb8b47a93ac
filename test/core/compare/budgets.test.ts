/** What each method becomes at a budget: nearest ranks, blocks and groups on the bundled model's shapes, judged by counting each alternative. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type NamedMethod, pointsOf } from "../../../src/core/compare/budgets.ts";
import { methodSizes } from "../../../src/core/compare/methodSizes.ts";
import { openModelConfig } from "../../../src/core/files/modelFolder.ts";
import { diagonalSize } from "../../../src/core/methods/smt/diagonal.ts";
import { resolveSmt } from "../../../src/core/smtRun.ts";
import { labelOf, methodOf, parseCompareFile } from "../../../src/protocol/compareConfig.ts";
import type { MethodConfig } from "../../../src/protocol/runConfig.ts";
import { storyFolder } from "../../support/storyModel.ts";

const { config: model } = await openModelConfig(storyFolder);
const sizes = methodSizes(model);

function methods(text: string, budgets = true): NamedMethod[] {
  const config = parseCompareFile(`model: m\ndata: { train: a, eval: b }\nmethods: [${text}]\n${budgets ? "budgets: [1]\n" : ""}`, "/c.yaml");
  return config.methods.map((method) => ({ label: labelOf(method), method: methodOf(method) }));
}

const budgets = [1500, 3000, 9000, 30_000, 100_000];

for (const name of ["lora", "dora", "lors", "sqft"] as const)
  test(`${name}: no other rank comes nearer to any budget, and alpha keeps its proportion`, () => {
    const [{ method: asked }] = methods(`{ name: ${name} }`);
    if (!("rank" in asked)) throw new Error("no rank");
    for (const { point, method } of pointsOf(methods(`{ name: ${name} }`), budgets, sizes)) {
      if (!("rank" in method) || point.budget === null) throw new Error("no rank");
      assert.equal(point.trainableParameters, sizes.parameters(method));
      assert.equal(point.setting, `rank ${method.rank}`);
      assert.ok(Math.abs(method.alpha / method.rank - asked.alpha / asked.rank) < 1e-12);
      for (let rank = 1; rank <= 64; rank++) {
        const other = { ...method, rank } as MethodConfig;
        if (!sizes.accepts(other)) continue;
        const [far, near] = [Math.abs(sizes.parameters(other) - point.budget), Math.abs(point.trainableParameters - point.budget)];
        assert.ok(far >= near, `budget ${point.budget}: rank ${rank} is nearer than ${method.rank}`);
      }
    }
  });

test("smt: whole blocks, as near as they come, never none and never more than there are", () => {
  const [small] = pointsOf(methods("{ name: smt, blockSize: 16 }"), [10], sizes);
  assert.deepEqual([small.point.setting, small.point.trainableParameters], ["1 block", 256]);
  assert.match(small.point.note, /256 is the nearest to the 10 asked for/);
  const [near] = pointsOf(methods("{ name: smt, blockSize: 16 }"), [1500], sizes);
  assert.deepEqual([near.point.setting, near.point.trainableParameters, near.point.note], ["6 blocks", 1536, ""]);
  const [most] = pointsOf(methods("{ name: smt, blockSize: 16 }"), [1e9], sizes);
  assert.ok(most.point.trainableParameters < 656_000 && sizes.accepts(most.method));
});

test("diagonal: whole diagonals, at the block size that comes nearest", () => {
  for (const { point, method } of pointsOf(methods("{ name: smt, score: diagonal }"), budgets, sizes)) {
    if (method.name !== "smt" || point.budget === null || method.blockSize === "auto") throw new Error("no block size");
    const plan = resolveSmt(method, model);
    assert.equal(point.trainableParameters, plan.wholeDiagonal?.entries, "the run trains whole diagonals");
    for (let blockSize = 1; blockSize <= 64; blockSize++) {
      const { entries } = diagonalSize(model, plan.targets, blockSize);
      assert.ok(
        Math.abs(entries - point.budget) >= Math.abs(point.trainableParameters - point.budget),
        `budget ${point.budget}: ${blockSize} is nearer`,
      );
    }
  }
});

test("diagonal with a block size of one's own: blocks as smt has them", () => {
  const [point] = pointsOf(methods("{ name: smt, score: diagonal, blockSize: 16 }"), [2000], sizes).map((sized) => sized.point);
  assert.deepEqual([point.setting, point.trainableParameters], ["8 blocks", 2048]);
});

test("spp: groups that divide every target's rows", () => {
  for (const { point, method } of pointsOf(methods("{ name: spp }"), budgets, sizes)) {
    if (method.name !== "spp" || point.budget === null) throw new Error("no groups");
    assert.ok(sizes.accepts(method), point.setting);
    for (let groups = 1; groups <= 512; groups++) {
      const other: MethodConfig = { ...method, groups };
      if (sizes.accepts(other))
        assert.ok(Math.abs(sizes.parameters(other) - point.budget) >= Math.abs(point.trainableParameters - point.budget), `${groups} groups`);
    }
  }
});

test("full fine-tuning is one point at its own size, in its place of the first round", () => {
  const points = pointsOf(methods("{ name: smt, blockSize: 16 }, { name: full }, { name: lora }"), [3000, 9000], sizes);
  assert.deepEqual(
    points.map(({ point }) => point.id),
    ["smt-3000", "full", "lora-3000", "smt-9000", "lora-9000"],
  );
  assert.deepEqual([points[1].point.budget, points[1].point.trainableParameters], [null, 656_000]);
});

test("budgets that come to the same make one point, of the nearest", () => {
  const points = pointsOf(methods("{ name: smt, blockSize: 16 }"), [250, 260, 600], sizes);
  assert.deepEqual(
    points.map(({ point }) => [point.budget, point.trainableParameters]),
    [
      [260, 256],
      [600, 512],
    ],
  );
});

test("without budgets the methods are taken as they are given, with names that are folders' names", () => {
  const named = methods("{ name: lora, label: 'LoRA r=4', rank: 4 }, { name: lora, label: 'lora R 4', rank: 8 }, { name: full, label: 全参 }", false);
  const points = pointsOf(named, [], sizes);
  assert.deepEqual(
    points.map(({ point }) => [point.id, point.budget, point.setting]),
    [
      ["lora-r-4", null, "rank 4"],
      ["lora-r-4-2", null, "rank 8"],
      ["method", null, ""],
    ],
  );
});

test("a method that the model takes at no size is refused by its name", () => {
  assert.throws(() => pointsOf(methods("{ name: lora, targets: [q_porj] }"), [1000], sizes), { code: "method/unknown-target" });
});
