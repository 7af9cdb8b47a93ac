/**
 * Block selection against the SMT authors' own code (see the fixture's SOURCE.txt): the same blocks in the same order for both of their scores, both
 * rankings, attention and MLP. Their names mislead: `mean_abs` is |mean g| (ours `absOfMean`), `abs_mean` is mean |g| (ours `meanOfAbs`).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { GradientScoring, linearsOf } from "../../../src/core/methods/smt/scoring.ts";
import { blocksInBudget, type ScoreGrid, selectBlocks, sharesOf } from "../../../src/core/methods/smt/selection.ts";
import type { Projection } from "../../../src/core/model/config.ts";
import { runBatch } from "../../../src/core/model/llama.ts";
import { readI32 } from "../../support/goldens.ts";
import { openStory, plainBatch } from "../../support/storyModel.ts";

const fixtures = new URL("../../fixtures/golden-torch/", import.meta.url).pathname;
const golden: Record<string, Record<string, [number, number][]>> = JSON.parse(
  readFileSync(`${fixtures}smt_selection_block16.json`, "utf8"),
).selection;
const kinds: Record<string, Projection[]> = { attn: ["q_proj", "k_proj", "v_proj"], mlp: ["gate_proj", "up_proj", "down_proj"] };

async function scored(score: "meanOfAbs" | "absOfMean" | "absOfAccumulated"): Promise<ScoreGrid[]> {
  const model = await openStory(openReferenceDevice(), "f32", 64);
  const scoring = new GradientScoring(model.device, linearsOf(model.tensors), score, 16);
  const forward = `${fixtures}story_forward.safetensors`;
  const batch = plainBatch(4, 64, await readI32(forward, "input_ids"), await readI32(forward, "target_ids"));
  await runBatch(model, scoring, batch, 1 / batch.unmaskedTokens);
  const grids = await scoring.grids();
  model.device.close();
  return grids;
}

/** `v_proj.0` → blocks in rank order, as the golden lists them. */
function byMatrix(grids: ScoreGrid[], blocks: number, mode: "global" | "perMatrix"): Record<string, [number, number][]> {
  const lists: Record<string, [number, number][]> = {};
  for (const { projection, layer, row, column } of selectBlocks(grids, 16, blocks, mode)) {
    const key = `${projection}.${layer}`;
    lists[key] = [...(lists[key] ?? []), [row, column]];
  }
  return lists;
}

describe("selection equals the authors'", async () => {
  const grids = { abs_mean: await scored("meanOfAbs"), mean_abs: await scored("absOfMean") };
  for (const [kind, targets] of Object.entries(kinds))
    for (const score of ["abs_mean", "mean_abs"] as const) {
      const candidates = grids[score].filter(({ projection }) => targets.includes(projection));
      test(`${kind}, ${score}, the best 24 of all`, () =>
        assert.deepEqual(byMatrix(candidates, 24, "global"), golden[`${kind}/${score}/no_restriction`]));
      test(`${kind}, ${score}, the best 4 of each matrix`, () =>
        assert.deepEqual(byMatrix(candidates, 4 * candidates.length, "perMatrix"), golden[`${kind}/${score}/norm_dist`]));
    }
  test("after one micro-batch the accumulated gradient gives the same scores", async () => {
    const accumulated = await scored("absOfAccumulated");
    for (const [i, { scores }] of accumulated.entries())
      for (const [j, score] of scores.entries()) assert.ok(Math.abs(score - grids.abs_mean[i].scores[j]) <= 1e-6 * score);
  });
});

describe("budgets and rankings", () => {
  const config = {
    vocabSize: 2048,
    hiddenSize: 128,
    intermediateSize: 384,
    numLayers: 2,
    numHeads: 8,
    numKeyValueHeads: 4,
    headSize: 16,
    tiedEmbeddings: true,
  } as never;
  const all: Projection[] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
  const grid = (name: string, shape: [number, number], scores: number[]): ScoreGrid => ({
    name,
    layer: 0,
    projection: "q_proj",
    shape,
    scores: Float32Array.from(scores),
  });

  test("the demo's ratio buys 128 blocks", () => assert.equal(blocksInBudget(config, all, 16, { ratio: 0.05 }), 128));
  test("no block is refused with a ratio that works", () => {
    const refused = (ratio: number) => blocksInBudget(config, all, 256, { ratio });
    assert.throws(
      () => refused(1e-6),
      (error: Error & { action: string }) => {
        const ratio = Number(/ratio to at least ([\d.e-]+)/.exec(error.action)?.[1]);
        assert.equal(refused(ratio), 1);
        return true;
      },
    );
  });
  test("more blocks than there are is refused, with the most that the key given may be", () => {
    const refused = (budget: object, action: RegExp) =>
      assert.throws(
        () => blocksInBudget(config, all, 16, budget),
        (error: Error & { action: string }) => /hold 1536/.test(error.message) && action.test(error.action),
      );
    refused({ blocks: 100000 }, /^Set blocks to at most 1536,/);
    refused({ trainableParameters: 1e9 }, /^Set trainableParameters to at most 393216,/);
    refused({ ratio: 1 }, /^Set ratio to at most 0\.\d+,/);
  });
  test("ties break by matrix, row, column", () => {
    const chosen = selectBlocks([grid("a", [2, 2], [1, 1, 1, 1]), grid("b", [2, 2], [1, 2, 1, 1])], 1, 4, "global");
    assert.deepEqual(
      chosen.map(({ name, row, column }) => `${name}${row}${column}`),
      ["b01", "a00", "a01", "a10"],
    );
  });
  test("ragged edge blocks cost their own entries", () => {
    // 3 × 3 in blocks of 2: 4 + 2 + 2 + 1 entries. Two whole blocks buy 8 entries: the best three of these cost 4 + 2 + 2.
    const chosen = selectBlocks([grid("a", [3, 3], [4, 3, 2, 1])], 2, 2, "global");
    assert.equal(chosen.length, 3);
  });
  test("a score that is not finite is named", () => assert.throws(() => selectBlocks([grid("a", [1, 2], [1, Number.NaN])], 1, 1, "global"), /a:0,1/));
  test("shares sum to 1", () => {
    const chosen = selectBlocks([grid("a", [32, 32], [1, 2, 3, 4])], 16, 3, "global");
    assert.deepEqual(sharesOf(chosen, config, 16).q_proj, 1);
  });
});
