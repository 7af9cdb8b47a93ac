/** Model folders: names, shapes, tied heads, shards, links, and a scan of 13 GB that reads headers only. */
import assert from "node:assert/strict";
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { openModelConfig, openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { weightShapes } from "../../../src/core/model/config.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { type RawTensor, randomTensors, rawSafetensors, temporaryFolder, tinyConfig, writeModel } from "./smallModels.ts";

const indexName = "model.safetensors.index.json";

async function refused(folder: string, code: string, ...words: string[]): Promise<void> {
  await assert.rejects(openModelFolder(folder), (error) => {
    assert.ok(error instanceof UserError, (error as Error).stack);
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.ok(error.message.includes(word), `${error.message} does not name ${word}`);
    return true;
  });
}

/** The index of a sharded folder, changed. */
function editIndex(folder: string, edit: (map: Record<string, unknown>) => unknown): void {
  const file = path.join(folder, indexName);
  const index = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(file, JSON.stringify(edit(index.weight_map) ?? index));
}

test("every weight is found under its name, single and sharded, and its bytes are read by position", async (t) => {
  const root = temporaryFolder(t);
  for (const dtype of ["F32", "BF16", "F16"] as const) {
    for (const shards of [0, 3]) {
      const tensors = randomTensors(tinyConfig, dtype);
      const folder = await openModelFolder(writeModel(path.join(root, `${dtype}-${shards}`), { tensors, shards }));
      assert.deepEqual([...folder.tensors.keys()], [...weightShapes(folder.config).keys()]);
      assert.deepEqual([folder.unexpected, folder.sharded, folder.files.size], [[], shards > 0, shards || 1]);
      for (const [name, { shape, bytes }] of Object.entries(tensors)) {
        const stored = folder.tensor(name);
        assert.deepEqual([stored.dtype, stored.shape, stored.bytes, stored.storedName], [dtype, shape, bytes.length, name]);
        assert.ok(Buffer.from(await folder.readTensor(name)).equals(bytes), name);
        assert.ok(Buffer.from(await folder.readBytes(name, 4, 12)).equals(bytes.subarray(4, 12)), name);
        assert.ok(
          readFileSync(path.join(folder.path, stored.file))
            .subarray(stored.position, stored.position + stored.bytes)
            .equals(bytes),
          name,
        );
      }
      assert.equal(
        folder.weightBytes,
        Object.values(tensors).reduce((sum, { bytes }) => sum + bytes.length, 0),
      );
      await folder.close();
    }
  }
});

test("a tied head may be stored under either name or both, if both are the same", async (t) => {
  const root = temporaryFolder(t);
  const { "model.embed_tokens.weight": embedding, ...rest } = randomTensors(tinyConfig);
  const cases: [string, Record<string, RawTensor>, string][] = [
    ["embedding", { "model.embed_tokens.weight": embedding, ...rest }, "model.embed_tokens.weight"],
    ["head", { "lm_head.weight": embedding, ...rest }, "lm_head.weight"],
    ["both", { "lm_head.weight": embedding, "model.embed_tokens.weight": embedding, ...rest }, "model.embed_tokens.weight"],
  ];
  for (const [name, tensors, storedName] of cases) {
    for (const shards of [0, 2]) {
      const folder = await openModelFolder(writeModel(path.join(root, `${name}-${shards}`), { tensors, shards }));
      assert.deepEqual([folder.tensor("model.embed_tokens.weight").storedName, folder.unexpected], [storedName, []]);
      assert.ok(Buffer.from(await folder.readTensor("model.embed_tokens.weight")).equals(embedding.bytes));
      await folder.close();
    }
  }
  const other = Buffer.from(embedding.bytes);
  other[other.length - 1] ^= 1;
  await refused(
    writeModel(path.join(root, "differ"), { tensors: { ...cases[2][1], "lm_head.weight": { ...embedding, bytes: other } } }),
    "model/head-not-tied",
    "lm_head",
  );
});

test("an untied model needs both, and a tied one that says so in vain is refused", async (t) => {
  const root = temporaryFolder(t);
  const config = { ...tinyConfig, tie_word_embeddings: false };
  const tensors = randomTensors(config);
  const folder = await openModelFolder(writeModel(path.join(root, "untied"), { config, tensors }));
  assert.ok(folder.tensors.has("lm_head.weight"));
  await folder.close();
  const { "lm_head.weight": _head, ...headless } = tensors;
  await refused(writeModel(path.join(root, "headless"), { config, tensors: headless }), "model/missing-weight", "lm_head.weight");
});

test("weights that are missing, of another shape, dtype or prefix are refused by name; others are listed", async (t) => {
  const root = temporaryFolder(t);
  const tensors = randomTensors(tinyConfig);
  const name = "model.layers.1.mlp.up_proj.weight";
  const changed = (change: Partial<RawTensor>) => ({ tensors: { ...tensors, [name]: { ...tensors[name], ...change } } });
  const without = Object.fromEntries(Object.entries(tensors).filter(([key]) => key !== name));
  await refused(writeModel(path.join(root, "a"), { tensors: without }), "model/missing-weight", name);
  await refused(writeModel(path.join(root, "b"), changed({ shape: [32, 48] })), "model/wrong-shape", name, "(32, 48)", "(48, 32)");
  await refused(writeModel(path.join(root, "c"), changed({ dtype: "I32" })), "model/unsupported-dtype", name, "I32");
  const renamed = (rename: (key: string) => string) => ({
    tensors: Object.fromEntries(Object.entries(tensors).map(([key, value]) => [rename(key), value])),
  });
  await refused(
    writeModel(
      path.join(root, "d"),
      renamed((key) => key.replace("model.", "")),
    ),
    "model/unexpected-prefix",
    '"embed_tokens.weight"',
    "missing",
  );
  await refused(
    writeModel(
      path.join(root, "e"),
      renamed((key) => `language_model.${key}`),
    ),
    "model/unexpected-prefix",
    '"language_model.model.embed_tokens.weight"',
  );
  const inverse: RawTensor = { dtype: "F32", shape: [4], bytes: new Uint8Array(16) };
  const extra = { "model.layers.0.self_attn.rotary_emb.inv_freq": inverse, "model.layers.0.self_attn.q_proj.bias": inverse };
  const folder = await openModelFolder(writeModel(path.join(root, "f"), { tensors: { ...tensors, ...extra } }));
  assert.deepEqual(folder.unexpected, ["model.layers.0.self_attn.q_proj.bias"]);
  await folder.close();
});

test("an index and its shards must agree, file by file and name by name", async (t) => {
  const root = temporaryFolder(t);
  let number = 0;
  const sharded = () => writeModel(path.join(root, String(number++)), { shards: 3 });
  const [first, second] = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"];

  let folder = sharded();
  rmSync(path.join(folder, second));
  await refused(folder, "model/missing-shard", second);

  folder = sharded();
  cpSync(path.join(folder, first), path.join(folder, "model-00004-of-00004.safetensors"));
  await refused(folder, "model/extra-shard", "model-00004-of-00004");

  for (const shard of [
    "../model-00001-of-00003.safetensors",
    "/etc/passwd",
    "sub/x.safetensors",
    "sub\\x.safetensors",
    "..",
    "",
    "a\0.safetensors",
    indexName,
    "config.json",
  ]) {
    folder = sharded();
    editIndex(folder, (map) => {
      map["model.norm.weight"] = shard;
    });
    await refused(folder, "model/bad-shard-name");
  }

  folder = sharded();
  editIndex(folder, (map) => {
    map["model.norm.weight"] = map["model.norm.weight"] === first ? second : first;
  });
  await refused(folder, "model/index-mismatch", "model.norm.weight");

  folder = sharded();
  editIndex(folder, (map) => {
    map["model.extra.weight"] = first;
  });
  await refused(folder, "model/index-mismatch", "model.extra.weight");

  folder = sharded();
  editIndex(folder, (map) => {
    delete map["model.norm.weight"];
  });
  await refused(folder, "model/index-mismatch", "model.norm.weight");

  folder = sharded();
  cpSync(path.join(folder, first), path.join(folder, second));
  await refused(folder, "model/index-mismatch");

  for (const [index, code] of [
    ["{}", "model/bad-index"],
    ['{"weight_map":[]}', "model/bad-index"],
    ['{"weight_map":{}}', "model/bad-index"],
    ['{"weight_map":{"a":1}}', "model/bad-index"],
    ['{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', "model/bad-json"],
    ['{"weight_map":{"__proto__":"x.safetensors"}}', "model/bad-json"],
    ["", "model/bad-json"],
    ["\ufeff{}", "model/bad-json"],
  ]) {
    folder = sharded();
    writeFileSync(path.join(folder, indexName), index);
    await refused(folder, code, indexName);
  }

  folder = sharded();
  truncateSync(path.join(folder, second), 100);
  await refused(folder, "safetensors/InvalidHeaderLength", second);
});

test("folders without weights say what they have instead", async (t) => {
  const root = temporaryFolder(t);
  const folder = writeModel(path.join(root, "m"));
  assert.equal((await openModelConfig(folder)).config.hiddenSize, 32);
  renameSync(path.join(folder, "model.safetensors"), path.join(folder, "pytorch_model.bin"));
  await refused(folder, "model/no-weights", "pytorch_model.bin", "pickle");
  assert.equal((await openModelConfig(folder)).config.hiddenSize, 32, "a plan needs config.json alone");
  rmSync(path.join(folder, "config.json"));
  await refused(folder, "model/no-config", "config.json");
  await refused(path.join(root, "absent"), "model/no-folder", "missing");
  await refused(path.join(folder, "pytorch_model.bin"), "model/no-folder", "file");
  const pointer = writeModel(path.join(root, "lfs"));
  writeFileSync(path.join(pointer, "model.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n");
  await refused(pointer, "safetensors/LfsPointer", "model.safetensors");
});

test("links may not leave the folder, except into the blobs of a Hugging Face cache", { skip: process.platform === "win32" }, async (t) => {
  const root = temporaryFolder(t);
  const outside = writeModel(path.join(root, "outside"));
  const linked = (name: string, file: string, target: string) => {
    const folder = writeModel(path.join(root, name));
    rmSync(path.join(folder, file));
    symlinkSync(target, path.join(folder, file));
    return folder;
  };
  await refused(linked("a", "model.safetensors", path.join(outside, "model.safetensors")), "model/link-outside", "outside");
  await refused(linked("b", "config.json", path.join(outside, "config.json")), "model/link-outside", "config.json");
  await refused(linked("c", "model.safetensors", "model.safetensors"), "model/missing-file", "circle");

  const inside = writeModel(path.join(root, "d"));
  mkdirSync(path.join(inside, "files"));
  renameSync(path.join(inside, "model.safetensors"), path.join(inside, "files/weights"));
  symlinkSync("files/weights", path.join(inside, "model.safetensors"));
  await (await openModelFolder(inside)).close();

  const repository = path.join(root, "models--a--b");
  const snapshot = path.join(repository, "snapshots/0123abc");
  mkdirSync(path.join(repository, "blobs"), { recursive: true });
  mkdirSync(snapshot, { recursive: true });
  for (const name of ["config.json", "model.safetensors"]) {
    cpSync(path.join(outside, name), path.join(repository, "blobs", `sha-${name}`));
    symlinkSync(`../../blobs/sha-${name}`, path.join(snapshot, name));
  }
  await (await openModelFolder(snapshot)).close();
  symlinkSync(snapshot, path.join(root, "link-to-snapshot"));
  await (await openModelFolder(path.join(root, "link-to-snapshot"))).close();
  rmSync(path.join(snapshot, "model.safetensors"));
  symlinkSync(path.join(outside, "model.safetensors"), path.join(snapshot, "model.safetensors"));
  await refused(snapshot, "model/link-outside");
});

test("13 GB in shards are scanned in under 2 s and 200 MB", async (t) => {
  const folder = temporaryFolder(t);
  const config = {
    ...tinyConfig,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    vocab_size: 32000,
    tie_word_embeddings: false,
  };
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  const shapes = [...weightShapes(parseModelConfig(config, "config.json"))];
  const weightMap: Record<string, string> = {};
  let totalBytes = 0;
  for (let shard = 0; shard < 3; shard++) {
    const file = `model-0000${shard + 1}-of-00003.safetensors`;
    const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
    let position = 0;
    for (const [name, shape] of shapes.slice(Math.ceil((shard * shapes.length) / 3), Math.ceil(((shard + 1) * shapes.length) / 3))) {
      const bytes = 2 * shape.reduce((product, n) => product * n, 1);
      header[name] = { dtype: "BF16", shape, data_offsets: [position, position + bytes] };
      position += bytes;
      weightMap[name] = file;
    }
    const bytes = rawSafetensors(header);
    writeFileSync(path.join(folder, file), bytes);
    // Sparse: the file system stores no block of it.
    truncateSync(path.join(folder, file), bytes.length + position);
    totalBytes += position;
  }
  writeFileSync(path.join(folder, indexName), JSON.stringify({ weight_map: weightMap }));
  assert.ok(totalBytes > 13e9);
  const before = process.memoryUsage.rss();
  const started = performance.now();
  const opened = await openModelFolder(folder);
  const milliseconds = performance.now() - started;
  const grown = process.memoryUsage.rss() - before;
  assert.equal(opened.weightBytes, totalBytes);
  assert.equal((await opened.readBytes("lm_head.weight", 262_000_000, 262_000_100)).length, 100);
  await opened.close();
  assert.ok(milliseconds < 2000 && grown < 200e6, `${milliseconds} ms, ${grown} bytes`);
});

test("the real story model opens, tied through lm_head alone", async (t) => {
  const story = sharedData("llama-story-2m");
  if (!story) return t.skip("not run: no shared data");
  const folder = await openModelFolder(story);
  assert.equal(folder.tensor("model.embed_tokens.weight").storedName, "lm_head.weight");
  const embedding = await folder.readTensor("model.embed_tokens.weight");
  assert.equal(new DataView(embedding.buffer, embedding.byteOffset).getFloat32(4 * 50, true), 0.14453125);
  const down = await folder.readBytes("model.layers.0.mlp.down_proj.weight", 400, 404);
  assert.equal(new DataView(down.buffer, down.byteOffset).getFloat32(0, true), -0.0625);
  await folder.close();
});

test("a folder that is refused leaves no file open", { skip: process.platform !== "linux" }, async (t) => {
  const folder = writeModel(path.join(temporaryFolder(t), "m"), { shards: 3 });
  appendFileSync(path.join(folder, "model-00003-of-00003.safetensors"), "x");
  const open = () => readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 5; i++) await refused(folder, "safetensors/MetadataIncompleteBuffer");
  assert.ok(open() <= before);
});
