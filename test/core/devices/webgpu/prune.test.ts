/** SparseGPT with its arithmetic on a graphics card: a model pruned as the processor prunes it, and the way out when f32 does not suffice. */
import assert from "node:assert/strict";
import path from "node:path";
import { after, test } from "node:test";
import type { Device } from "../../../../src/core/devices/device.ts";
import { pruneModel } from "../../../../src/core/pruning/prune.ts";
import { factorHessian } from "../../../../src/core/pruning/sparseGpt.ts";
import { openCard } from "../../../support/graphicsCard.ts";
import { storyFolder } from "../../../support/storyModel.ts";
import { temporaryFolder } from "../../run/smallRuns.ts";

const { card, skip } = await openCard();
after(() => card?.close());

test("prune --method sparsegpt on a card: as many zeros as on the processor, and its errors", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const prune = (device: "webgpu" | "cpu") =>
    pruneModel(
      {
        ...{ model: storyFolder, method: "sparsegpt", pattern: "0.5", calibration: path.resolve(storyFolder, "../data/gsm8k-train.jsonl") },
        ...{ samples: 1, sequenceLength: 16, targets: ["v_proj"], to: path.join(folder, device), device, threads: 1 },
      },
      () => {},
      new AbortController().signal,
    );
  const [ours, theirs] = [await prune("webgpu"), await prune("cpu")];
  assert.equal(ours.zeros, theirs.zeros);
  assert.equal(ours.zeros * 2, ours.entries);
  for (const [i, { name, error }] of ours.matrices.entries()) {
    const expected = theirs.matrices[i].error as number;
    // Entries with scores alike may be chosen otherwise.
    assert.ok(expected > 0.01 && Math.abs((error as number) / expected - 1) < 0.02, `${name}: ${error} beside ${expected}`);
  }
});

test("what a card's f32 cannot factor is factored in float64 and said", { skip }, async () => {
  const device = card as Device;
  const C = 3;
  // Two columns but for a thousandth alike.
  const h = Float32Array.of(1, 0.999999, 0, 0.999999, 1, 0, 0, 0, 2);
  const [matrix, diagonal] = [device.allocate([C, C], "f32", "workspace"), device.allocate([C], "f32", "workspace")];
  device.write(matrix, h);
  assert.equal(await device.inverseCholesky(matrix, diagonal, 1e-9, null), false);
  assert.deepEqual(await device.read(matrix), h);
  const notes: string[] = [];
  assert.equal(await factorHessian({ device, onNote: (note) => notes.push(note) }, matrix, diagonal, 1e-9), 1e-9);
  assert.match(notes.join(), /float64/);
  const [u00, u01] = (await device.read(matrix)) as Float32Array;
  // H⁻¹'s first entry is u00² ; its second u00·u01.
  const det = 1 - Math.fround(0.999999) ** 2;
  assert.ok(Math.abs(u00 ** 2 * det - 1) < 1e-2 && Math.abs((u00 * u01) / (-Math.fround(0.999999) / det) - 1) < 1e-2, `${u00} ${u01}`);
  device.mirrorLower(matrix, diagonal);
  assert.deepEqual(await device.read(matrix), h);
  device.free(matrix);
  device.free(diagonal);
});
