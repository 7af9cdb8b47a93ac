/** SparseGPT on TensorFlow: a model pruned as the processor prunes it. Op by op it is judged by the conformance suite. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { pruneModel } from "../../../../src/core/pruning/prune.ts";
import { storyFolder } from "../../../support/storyModel.ts";
import { temporaryFolder } from "../../run/smallRuns.ts";

test("prune --method sparsegpt on TensorFlow: as many zeros as on the processor, and its errors", async (t) => {
  const folder = temporaryFolder(t);
  const prune = (device: "tensorflow" | "cpu") =>
    pruneModel(
      {
        ...{ model: storyFolder, method: "sparsegpt", pattern: "2:4", calibration: path.resolve(storyFolder, "../data/gsm8k-train.jsonl") },
        ...{ samples: 1, sequenceLength: 16, targets: ["v_proj"], to: path.join(folder, device), device, threads: 1 },
      },
      () => {},
      new AbortController().signal,
    );
  const [ours, theirs] = [await prune("tensorflow"), await prune("cpu")];
  assert.equal(ours.zeros, theirs.zeros);
  assert.equal(ours.zeros * 2, ours.entries);
  for (const [i, { name, error }] of ours.matrices.entries()) {
    const expected = theirs.matrices[i].error as number;
    // Entries with scores alike may be chosen otherwise.
    assert.ok(expected > 0.01 && Math.abs((error as number) / expected - 1) < 0.02, `${name}: ${error} beside ${expected}`);
  }
});
