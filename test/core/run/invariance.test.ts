/** Ways of computing the same thing that must agree closely: accumulation against a larger batch, packed documents against documents alone. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { Batch } from "../../../src/core/data/batch.ts";
import { Documents } from "../../../src/core/data/documents.ts";
import { BatchSource } from "../../../src/core/data/packing.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import { SparseMatrixTuning } from "../../../src/core/methods/smt/smt.ts";
import { type Llama, runBatch } from "../../../src/core/model/llama.ts";
import { zeroGradients } from "../../../src/core/optim/update.ts";
import { Random } from "../../../src/core/random.ts";
import { testDevices } from "../../support/devices.ts";
import { relativeL2 } from "../../support/goldens.ts";
import { integers } from "../../support/randomTensors.ts";
import { openStory } from "../../support/storyModel.ts";
import { resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

/** Documents of random tokens, about half of them targets. */
function randomDocuments(lengths: readonly number[]): Documents {
  const random = new Random(5);
  return Documents.from(
    lengths.map((length, line) => ({
      ids: integers(line + 1, length, 2048),
      marks: Uint8Array.from({ length }, (_, i) => (i === 1 || random.uniform() < 0.5 ? 1 : 0)),
      line,
    })),
  );
}

/** Row `row` of a batch as a batch of its own. */
function rowOf(batch: Batch, row: number): Batch {
  const T = batch.sequenceLength;
  const of = (values: Int32Array) => values.slice(row * T, (row + 1) * T);
  const targets = of(batch.targets);
  return {
    batchSize: 1,
    sequenceLength: T,
    inputs: of(batch.inputs),
    targets,
    positions: of(batch.positions),
    documentStart: of(batch.documentStart),
    unmaskedTokens: targets.filter((target) => target >= 0).length,
    tokens: T,
  };
}

for (const { name, open } of testDevices())
  describe(`accumulation and packing on ${name}`, () => {
    const documents = randomDocuments([40, 7, 23, 31, 12, 40, 18, 5, 9]);
    const options = { sequenceLength: 40, padTokenId: 2 };

    for (const method of ["full", "smt"])
      test(`the gradient of 4 × 1 is that of 1 × 4, whatever each row counts (${method})`, async () => {
        const model = await openStory(open(), "f32", 64);
        const batch = new BatchSource(documents, { ...options, batchSize: 4, seed: 1 }).batch(0);
        const rows = [0, 1, 2, 3].map((row) => rowOf(batch, row));
        assert.ok(new Set(rows.map(({ unmaskedTokens }) => unmaskedTokens)).size > 1);
        const blocks = [0, 1].flatMap((layer) =>
          ["self_attn.v_proj", "mlp.down_proj"].map((matrix) => ({ name: `model.layers.${layer}.${matrix}`, row: 1, column: 2 })),
        );
        const tuned =
          method === "full" ? new FullFineTuning(model.device, model.tensors) : new SparseMatrixTuning(model.device, model.tensors, blocks, 16);
        const gradients = async (batches: readonly Batch[]) => {
          zeroGradients(model.device, tuned.parameters);
          let loss = 0;
          for (const part of batches) loss += (await runBatch(model, tuned, part, 1 / batch.unmaskedTokens)) / batch.unmaskedTokens;
          return { loss, values: await Promise.all(tuned.parameters.map(({ gradient }) => model.device.read(gradient))) };
        };
        const whole = await gradients([batch]);
        const parts = await gradients(rows);
        // The same products in f32, added in another order: a few times 2^-24 of the sum of magnitudes.
        assert.ok(Math.abs(whole.loss - parts.loss) <= 1e-6 * whole.loss, `${whole.loss} and ${parts.loss}`);
        for (const [i, { name }] of tuned.parameters.entries()) {
          const distance = relativeL2(parts.values[i], whole.values[i]);
          assert.ok(distance <= 1e-5, `${name}: ${distance}`);
        }
        model.device.close();
      });

    test("a document's loss is the same alone and packed with others", async () => {
      const model = await openStory(open(), "f32", 64);
      const packed = new BatchSource(documents, { ...options, batchSize: 2, seed: 3 });
      let seen = 0;
      for (let index = 0; index < packed.batchesPerEpoch(0); index++) {
        const batch = packed.batch(index);
        for (const { document, row, start, length } of packed.placements(index)) {
          const inPack = await lossWithin(model, batch, row, start, length);
          const alone = await lossAlone(model, documents, document);
          assert.ok(Math.abs(inPack - alone) <= 2e-6 * alone, `document ${document}: ${inPack} packed, ${alone} alone`);
          seen++;
        }
      }
      assert.equal(seen, documents.count);
      model.device.close();
    });
  });

/** Σ NLL over the targets of one stretch of a row; every other target is masked. */
function lossWithin(model: Llama, batch: Batch, row: number, start: number, length: number): Promise<number> {
  const first = row * batch.sequenceLength + start;
  const targets = batch.targets.map((target, place) => (place >= first && place < first + length ? target : -1));
  return runBatch(model, new Frozen(model.device), { ...batch, targets }, null);
}

function lossAlone(model: Llama, documents: Documents, document: number): Promise<number> {
  const length = documents.lengthOf(document);
  const marks = documents.marksOf(document);
  const targets = Int32Array.from({ length }, (_, i) => (i + 1 < length && marks[i + 1] & 1 ? documents.tokensOf(document)[i + 1] : -1));
  const batch = {
    batchSize: 1,
    sequenceLength: length,
    inputs: Int32Array.from(documents.tokensOf(document)),
    targets,
    positions: Int32Array.from(targets, (_, i) => i),
  };
  return runBatch(model, new Frozen(model.device), { ...batch, documentStart: new Int32Array(length), unmaskedTokens: length, tokens: length }, null);
}

test("the loss curve of batch 1 × accumulation 4 is that of 4 × 1, with no shift to one side", async (t) => {
  const folder = temporaryFolder(t);
  const curves: number[][] = [];
  for (const [batchSize, gradientAccumulation] of [
    [4, 1],
    [1, 4],
    [2, 2],
  ]) {
    const method = { name: "smt", blocks: 60, blockSize: 16, score: "magnitude" };
    // Rows cut at 20 tokens are all full, so that "the longest first" changes nothing in their order.
    const train = { batchSize, gradientAccumulation, sequenceLength: 20, steps: 30, precision: "f32", learningRate: 1e-3 };
    const runFile = writeRunFile(path.join(folder, String(batchSize)), { method, train, data: { packing: false, eval: null } });
    writeFileSync(path.join(folder, String(batchSize), "train.jsonl"), longRows());
    const { numbers } = resultOf((await session(runFile)).folder);
    curves.push((numbers as { kind: string; loss: number }[]).filter(({ kind }) => kind === "step").map(({ loss }) => loss));
  }
  const [whole, ...others] = curves;
  assert.ok(whole[0] - whole[29] > 0.3, "it learns, so that a curve can differ");
  for (const other of others) {
    const residuals = other.map((loss, step) => loss - whole[step]);
    const mean = residuals.reduce((sum, residual) => sum + residual, 0) / residuals.length;
    // f32 sums in another order start 1e-7 apart; AdamW divides by small second moments and lets them grow. A forgotten micro-batch shifts all by 1e-2.
    assert.ok(Math.max(...residuals.map(Math.abs)) <= 1e-3, `largest ${Math.max(...residuals.map(Math.abs))}`);
    assert.ok(Math.abs(mean) <= 1e-4, `mean ${mean}`);
  }
});

/** Texts of more than 20 tokens each, few enough to be learnt. */
function longRows(): string {
  const words = ["river", "lantern", "seven", "apples", "market", "Sunday", "because", "walked", "blue", "under"];
  const random = new Random(11);
  const text = () => Array.from({ length: 30 }, () => words[random.below(words.length)]).join(" ");
  return Array.from({ length: 40 }, () => `${JSON.stringify({ text: text() })}\n`).join("");
}
