/** Merged exports of runs on a base in 16 bits: what rounding takes is measured and said, and `dtype` writes what was learned whole, with a configuration that says so. */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { exportResult } from "../../../src/core/commands/export.ts";
import { deltaOverrides, exportMerged } from "../../../src/core/files/mergedExport.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { openDelta } from "../../../src/core/files/smtDelta.ts";
import { decodeFloats, encodeFloats } from "../../../src/core/files/storedFloats.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { packTensors, type RawTensor, randomTensors, tinyConfig, writeModel } from "../files/smallModels.ts";
import { prunedCopy, valuesOf } from "./prunedModel.ts";
import { session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const base = await prunedCopy(storyFolder, path.join(common, "in bf16"), { dense: true });
const train = { steps: 3, learningRate: 1e-4, learningRateWarmupSteps: 0 };
const methods: Record<string, object> = {
  smt: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 1 } },
  full: { name: "full" },
  lora: { name: "lora", rank: 4, targets: ["v_proj"] },
};
const configOf = (folder: string) => JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8"));
const embedding = "model.embed_tokens.weight";

for (const [name, method] of Object.entries(methods))
  describe(`${name} on a base in bf16`, () => {
    const [whole, rounded] = ["whole", "rounded"].map((kind) => path.join(common, `${name} ${kind}`));
    let notes: { whole: string[]; rounded: string[] };
    let runFolder: string;
    before(async () => {
      ({ folder: runFolder } = await session(writeRunFile(path.join(common, name), { model: base, method, train, checkpoint: { every: null } })));
      const write = async (to: string, dtype: "f32" | null) =>
        (await exportResult({ runFolder, format: "merged", to, dtype })).notes.filter((note) => note.includes("rounding"));
      notes = { whole: await write(whole, "f32"), rounded: await write(rounded, null) };
    });

    test("the note is the share of the change that the files lost, and in f32 there is none", async () => {
      assert.deepEqual(notes.whole, []);
      const [old, exact, kept] = [await valuesOf(base), await valuesOf(whole), await valuesOf(rounded)];
      let [lost, all, changed, returned] = [0, 0, 0, 0];
      for (const [weight, { values }] of exact) {
        const dense = (old.get(weight) ?? old.get("lm_head.weight"))?.values as Float32Array;
        const written = kept.get(weight)?.values as Float32Array;
        for (const [i, value] of values.entries()) {
          const change = value - dense[i];
          if (change === 0) continue;
          changed++;
          if (written[i] === dense[i]) returned++;
          lost += change * (value - written[i]);
          all += change * change;
        }
      }
      assert.ok(changed > 1000 && lost / all > 0.1, `${changed}, ${lost / all}`);
      const [note] = notes.rounded;
      const changer = name === "lora" ? "adapter" : "run";
      const said = new RegExp(`^The base is stored in BF16, and rounding to it takes ([\\d.]+) % of what the ${changer} changed`).exec(note)?.[1];
      assert.ok(Math.abs(Number(said) / 100 - lost / all) < 2e-3, `${note}: ${lost / all}`);
      const again = /\(([\d.]+) % of the changed weights have the base's value again\)/.exec(note)?.[1];
      if (name === "lora") assert.equal(again, undefined);
      else assert.ok(Math.abs(Number(again) / 100 - returned / changed) < 2e-3, `${note}: ${returned / changed}`);
      assert.match(note, /--dtype f32/);
    });

    test("f32 is the dtype of every weight and of the configuration; nothing else of it changes", async () => {
      const folder = await openModelFolder(whole);
      assert.deepEqual([...new Set([...folder.tensors.values()].map(({ dtype }) => dtype))], ["F32"]);
      await folder.close();
      assert.equal(configOf(base).torch_dtype, "bfloat16");
      assert.deepEqual(configOf(whole), { ...configOf(base), torch_dtype: "float32" });
      assert.deepEqual(configOf(rounded), configOf(base));
      if (name !== "full") assert.deepEqual((await valuesOf(whole)).get(embedding)?.values, (await valuesOf(base)).get("lm_head.weight")?.values);
    });

    test("an adapter or a delta has no dtype to choose", async () => {
      const refused = exportResult({ runFolder, format: name === "smt" ? "delta" : "adapter", to: path.join(common, "no"), dtype: "f32" });
      await assert.rejects(refused, (error) => error instanceof UserError && error.code === "export/dtype-given");
    });
  });

test("bf16 from f32, and f32 from f16 shards: every number, the index and integers as they were", async (t) => {
  const root = temporaryFolder(t);
  const counter: RawTensor = { dtype: "I32", shape: [1], bytes: new Uint8Array(4) };
  for (const [stored, wanted] of [
    ["F32", "BF16"],
    ["F16", "F32"],
  ] as const) {
    const tensors = { ...randomTensors(tinyConfig, stored), "extra.counter": counter };
    const model = writeModel(path.join(root, stored), { tensors, shards: 3, config: { ...tinyConfig, dtype: "float16", torch_dtype: "float16" } });
    const folder = await openModelFolder(model);
    const to = path.join(root, `${stored} as ${wanted}`);
    await exportMerged(folder, new Map(), to, { dtype: wanted });
    const written = await openModelFolder(to);
    assert.deepEqual(written.unexpected, ["extra.counter"]);
    for (const [name, { dtype }] of written.tensors) {
      assert.equal(dtype, wanted);
      const expected = encodeFloats(decodeFloats(await folder.readTensor(name), stored), wanted);
      assert.ok(Buffer.from(expected).equals(await written.readTensor(name)), name);
    }
    const spelt = wanted === "F32" ? "float32" : "bfloat16";
    assert.deepEqual([configOf(to).dtype, configOf(to).torch_dtype], [spelt, spelt]);
    const index = JSON.parse(readFileSync(path.join(to, "model.safetensors.index.json"), "utf8"));
    assert.equal(index.metadata.total_size, written.weightBytes + 4);
    await written.close();
    await folder.close();
  }
});

test("a delta in another dtype carries its masters unrounded; a configuration that names no dtype gets one", async (t) => {
  const root = temporaryFolder(t);
  const model = writeModel(path.join(root, "model"), { tensors: randomTensors(tinyConfig, "BF16") });
  const folder = await openModelFolder(model);
  const weight = "model.layers.1.mlp.up_proj.weight";
  const masters = Float32Array.from({ length: 256 }, (_, i) => 1 + i / 70000);
  const index = Int32Array.of(16, 16, 0, 16);
  const file = path.join(root, "smt.safetensors");
  const raw = (dtype: string, shape: number[], bytes: Uint8Array): RawTensor => ({ dtype, shape, bytes });
  writeFileSync(
    file,
    packTensors(
      {
        [`${weight}.blocks`]: raw("F32", [1, 16, 16], new Uint8Array(masters.buffer)),
        [`${weight}.original`]: raw("BF16", [1, 16, 16], new Uint8Array(512)),
        [`${weight}.index`]: raw("I32", [1, 4], new Uint8Array(index.buffer)),
      },
      { format: "sparse-tuner-smt", version: "1", blockSize: "16", baseSha256: "0".repeat(64) },
    ),
  );
  const delta = await openDelta(file);
  const to = path.join(root, "out");
  await assert.rejects(exportMerged(folder, deltaOverrides(folder, delta), to, { dtype: "F32" }), /bytes of BF16/);
  rmSync(to, { recursive: true, force: true });
  await exportMerged(folder, deltaOverrides(folder, delta, true), to, { dtype: "F32" });
  const values = (await valuesOf(to)).get(weight)?.values as Float32Array;
  const expected = decodeFloats(await folder.readTensor(weight), "BF16");
  for (let row = 0; row < 16; row++) expected.set(masters.subarray(16 * row, 16 * row + 16), (16 + row) * tinyConfig.hidden_size);
  assert.deepEqual(values, expected);
  assert.equal(configOf(to).torch_dtype, "float32");
  await delta.close();
  await folder.close();
});
