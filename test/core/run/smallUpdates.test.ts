/**
 * Runs in bf16 whose updates are far smaller than the steps of bf16: those that form W̃ inside products learn what the same run learns in f32, and a model
 * merged into bf16 computes just what the run computes.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { exportResult } from "../../../src/core/commands/export.ts";
import { openModel } from "../../../src/core/inference.ts";
import { runLogits } from "../../../src/core/model/llama.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { compareZeros, prunedCopy, valuesOf } from "./prunedModel.ts";
import { session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const base = await prunedCopy(storyFolder, path.join(common, "pruned in bf16"));

/** SPP's own changes at such rates are too small beside the noise of the dither to be compared on four rows. */
const compared = ["lors", "sqft"];
const methods: Record<string, { method: object; learningRate: number }> = {
  lors: { method: { name: "lors", rank: 8, initSamples: 8 }, learningRate: 2e-5 },
  spp: { method: { name: "spp" }, learningRate: 1e-3 },
  sqft: { method: { name: "sqft", rank: 8 }, learningRate: 5e-5 },
};

/** Held-out losses before and after, and the run's folder. */
async function learned(name: string, precision: string): Promise<{ folder: string; first: number; last: number }> {
  const { method, learningRate } = methods[name];
  const train = { precision, steps: 12, learningRate, learningRateWarmupSteps: 0 };
  const runFile = writeRunFile(path.join(common, `${name} ${precision}`), {
    model: base,
    method,
    train,
    evaluate: { every: 12 },
    checkpoint: { every: null },
  });
  const { folder, events } = await session(runFile);
  const losses = events.filter((event): event is Extract<RunEvent, { kind: "evaluation" }> => event.kind === "evaluation").map(({ loss }) => loss);
  return { folder, first: losses[0], last: losses.at(-1) as number };
}

const ids = Int32Array.from({ length: 24 }, (_, i) => ((i * 37 + 11) % 2000) + 3);

async function logitsOf(modelOrRun: string): Promise<Float32Array> {
  const opened = await openModel(modelOrRun, { device: "auto", threads: 2, positions: 64, base: null });
  const logits = (await opened.model.device.read(await runLogits(opened.model, opened.method, ids, ids.length, null))) as Float32Array;
  opened.close();
  return logits;
}

for (const name of Object.keys(methods))
  describe(`${name} in bf16`, () => {
    let run: Awaited<ReturnType<typeof learned>>;
    before(async () => {
      run = await learned(name, "bf16");
    });

    const compare = compared.includes(name) ? test : () => {};
    compare("held-out loss falls as in f32", async () => {
      const whole = await learned(name, "f32");
      const [narrow, wide] = [run.first - run.last, whole.first - whole.last];
      assert.ok(wide > 0.002, `the run in f32 learns too little to compare: ${wide}`);
      assert.ok(Math.abs(narrow / wide - 1) < 0.3, `${narrow} in bf16, ${wide} in f32`);
    });

    test("a merged export in bf16 computes what the run computes, bit for bit, keeps the zeros, and says how it was rounded", async () => {
      const [narrow, whole] = ["bf16", "f32"].map((dtype) => path.join(common, `${name} merged ${dtype}`));
      const notes = (await exportResult({ runFolder: run.folder, format: "merged", to: narrow, dtype: null })).notes.filter((note) =>
        note.includes("BF16"),
      );
      assert.equal(notes.length, 1);
      assert.match(notes[0], /fixed dither.*kept in the mean.*--dtype f32/);
      const ofRun = await logitsOf(run.folder);
      assert.notDeepEqual(ofRun, await logitsOf(base));
      assert.deepEqual(await logitsOf(narrow), ofRun);
      assert.equal((await compareZeros(base, narrow)).lost, 0);
      const exact = await exportResult({ runFolder: run.folder, format: "merged", to: whole, dtype: "f32" });
      assert.ok(!exact.notes.some((note) => note.includes("BF16")));
      // The note's promise, over all weights.
      const [old, kept] = [await valuesOf(base), await valuesOf(narrow)];
      let [along, all] = [0, 0];
      for (const [weight, { values }] of await valuesOf(whole)) {
        const dense = (old.get(weight) ?? old.get("lm_head.weight"))?.values as Float32Array;
        const stored = kept.get(weight)?.values as Float32Array;
        for (const [i, value] of values.entries()) {
          along += (stored[i] - dense[i]) * (value - dense[i]);
          all += (value - dense[i]) ** 2;
        }
      }
      assert.ok(Math.abs(along / all - 1) < 0.1, `${along / all} of the change is in the files`);
    });
  });
