/** The change that is proposed is the first, from cheap to dear, that the planner says fits; the update's rows stay while that can be. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeThatFits } from "../../src/core/fitting.ts";
import type { RunConfig } from "../../src/protocol/runConfig.ts";
import { readConfig, temporaryFolder, writeRunFile } from "./run/smallRuns.ts";

/** A planner whose peak grows with what a change lowers. */
const peakOf = async ({ train }: RunConfig) =>
  train.batchSize * train.sequenceLength * (train.recompute === "none" ? 4 : 1) * (train.precision === "f32" ? 2 : 1);

test("from recomputation to shorter rows", async (t) => {
  const train = { batchSize: 6, gradientAccumulation: 2, sequenceLength: 128, recompute: "none", precision: "f32" };
  const config = readConfig(writeRunFile(temporaryFolder(t), { train }));
  const first = async (freeBytes: number) => (await changeThatFits(config, freeBytes, peakOf)).replace(/: the run.*/, "");
  assert.equal(await peakOf(config), 6144);
  assert.equal(await first(1536), "Set train.recompute to layer");
  assert.equal(await first(1535), "Set train.recompute to layer and train.batchSize to 3 and train.gradientAccumulation to 4");
  assert.equal(await first(512), "Set train.recompute to layer and train.batchSize to 2 and train.gradientAccumulation to 6");
  const one = "Set train.recompute to layer and train.batchSize to 1 and train.gradientAccumulation to 12";
  assert.equal(await first(256), one);
  assert.equal(await first(255), `${one} and train.precision to bf16`);
  assert.equal(await first(127), `${one} and train.precision to bf16 and train.sequenceLength to 64`);
  assert.equal(await first(32), `${one} and train.precision to bf16 and train.sequenceLength to 32`);
  assert.match(await first(31), /^No batch size, sequence length or precision fits/);
  assert.match(await changeThatFits(config, 1536, peakOf), /: the run is then planned to need 1\.50 KiB\.$/);
});
