/** Random models: every weight there, the right spread, the same bytes for the same seed. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { sha256OfFile } from "../../../src/core/files/fileHash.ts";
import { initModel } from "../../../src/core/files/initModel.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { temporaryFolder, tinyConfig } from "./smallModels.ts";

const config = {
  ...tinyConfig,
  hidden_size: 256,
  vocab_size: 501,
  intermediate_size: 300,
  attention_bias: true,
  tie_word_embeddings: false,
  torch_dtype: "float32",
  initializer_range: 0.1,
};

test("a random model opens, has ones in its norms, zeros in its biases and normals in its matrices", async (t) => {
  const root = temporaryFolder(t);
  writeFileSync(path.join(root, "config.json"), JSON.stringify(config));
  for (const [dtype, name] of [
    ["BF16", "bfloat16"],
    ["F32", "float32"],
    ["F16", "float16"],
  ] as const) {
    const to = path.join(root, dtype);
    await initModel(path.join(root, "config.json"), to, { dtype, seed: 1 });
    assert.deepEqual(readdirSync(to).sort(), ["config.json", "model.safetensors"]);
    assert.deepEqual(JSON.parse(readFileSync(path.join(to, "config.json"), "utf8")), { ...config, torch_dtype: name });
    const folder = await openModelFolder(to);
    assert.deepEqual(folder.unexpected, []);
    for (const [weight, { shape, dtype: stored }] of folder.tensors) {
      assert.equal(stored, dtype);
      const values = decodeFloats(await folder.readTensor(weight), dtype);
      if (shape.length === 1) {
        assert.ok(
          values.every((value) => value === (weight.endsWith(".bias") ? 0 : 1)),
          weight,
        );
        continue;
      }
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
      const kurtosis = values.reduce((sum, value) => sum + value ** 4, 0) / values.length / deviation ** 4;
      assert.ok(
        Math.abs(mean) < 0.003 && Math.abs(deviation - 0.1) < 0.003 && Math.abs(kurtosis - 3) < 0.25,
        `${weight}: ${mean} ${deviation} ${kurtosis}`,
      );
    }
    await folder.close();
  }
});

test("the same seed gives the same file for ever, another seed another one, and matrices differ from each other", async (t) => {
  const root = temporaryFolder(t);
  writeFileSync(path.join(root, "config.json"), JSON.stringify(config));
  const hashes: string[] = [];
  for (const [i, seed] of [1, 1, 2].entries()) {
    await initModel(path.join(root, "config.json"), path.join(root, String(i)), { dtype: "BF16", seed });
    hashes.push(await sha256OfFile(path.join(root, String(i), "model.safetensors")));
  }
  assert.deepEqual([hashes[0] === hashes[1], hashes[0] === hashes[2]], [true, false]);
  assert.equal(hashes[0], "8418fea16c694f841e2b64a41bdadbbd0bd9c237ab1bca4906f7ac672f12f8e5");
  const folder = await openModelFolder(path.join(root, "0"));
  const [q, other] = [
    await folder.readTensor("model.layers.0.self_attn.q_proj.weight"),
    await folder.readTensor("model.layers.1.self_attn.q_proj.weight"),
  ];
  assert.notDeepEqual(q.subarray(0, 64), other.subarray(0, 64));
  await folder.close();
});

test("a folder that is not empty and a config that is refused leave nothing behind", async (t) => {
  const root = temporaryFolder(t);
  writeFileSync(path.join(root, "config.json"), JSON.stringify(config));
  await assert.rejects(initModel(path.join(root, "config.json"), root, { dtype: "BF16", seed: 1 }), { code: "export/not-empty" });
  writeFileSync(path.join(root, "bad.json"), JSON.stringify({ ...config, model_type: "mixtral" }));
  await assert.rejects(initModel(path.join(root, "bad.json"), path.join(root, "x"), { dtype: "BF16", seed: 1 }), {
    code: "model/unsupported-family",
  });
  await assert.rejects(initModel(path.join(root, "absent.json"), path.join(root, "x"), { dtype: "BF16", seed: 1 }), { code: "model/missing-file" });
  const huge = { ...config, vocab_size: 1 << 24, hidden_size: 1 << 20, num_attention_heads: 16, num_key_value_heads: 16 };
  writeFileSync(path.join(root, "huge.json"), JSON.stringify(huge));
  await assert.rejects(initModel(path.join(root, "huge.json"), path.join(root, "x"), { dtype: "F32", seed: 1 }), { code: "run/disk-full" });
  assert.deepEqual(readdirSync(root).sort(), ["bad.json", "config.json", "huge.json"]);
});
