/** SMT deltas: written, checked, applied, undone byte for byte, exported, and refused where they do not belong. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { toBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { blockEntries, gatherStoredBlocks } from "../../../src/core/files/blockRows.ts";
import { applyDelta, undoDelta } from "../../../src/core/files/deltaApply.ts";
import { deltaOverrides, exportMerged } from "../../../src/core/files/mergedExport.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { baseHash, type DeltaMatrix, openDelta, writeDelta } from "../../../src/core/files/smtDelta.ts";
import { decodeFloats, encodeFloats, toFloat16 } from "../../../src/core/files/storedFloats.ts";
import { Random } from "../../../src/core/random.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { packTensors, type RawTensor, randomTensors, temporaryFolder, tinyConfig, writeModel } from "./smallModels.ts";

const weights = ["model.layers.0.self_attn.v_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.layers.1.self_attn.q_proj.weight"];

/** Blocks of these weights, two or three each; block size 16 is ragged at no edge but that of down_proj (32, 48) at 20. */
async function makeDelta(modelFolder: string, file: string, blockSize = 16, change = 0.5): Promise<Map<string, Float32Array>> {
  const folder = await openModelFolder(modelFolder);
  const masters = new Map<string, Float32Array>();
  const matrices: DeltaMatrix[] = [];
  for (const weight of weights) {
    const { shape, dtype } = folder.tensor(weight);
    const last = [Math.ceil(shape[0] / blockSize) - 1, Math.ceil(shape[1] / blockSize) - 1];
    const places = [[last[0], last[1]], [0, 0], ...(last[1] > 1 ? [[0, 1]] : [])];
    const index = Int32Array.from(
      places.flatMap(([row, column]) => [
        row * blockSize,
        Math.min(blockSize, shape[0] - row * blockSize),
        column * blockSize,
        Math.min(blockSize, shape[1] - column * blockSize),
      ]),
    );
    const original = await gatherStoredBlocks(folder, weight, index);
    const values = decodeFloats(original, dtype).map((value, i) => value + change * ((i % 7) - 3) * 1e-3);
    masters.set(weight, values);
    matrices.push({ weight, dtype, index, blocks: () => values, original: () => original });
  }
  await writeDelta(file, matrices, { blockSize, baseSha256: await baseHash(folder, weights) });
  await folder.close();
  return masters;
}

const contentOf = (folder: string) =>
  new Map(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(path.join(folder, name)).toString("base64")]),
  );

async function refused(work: Promise<unknown>, code: string, ...words: string[]): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof UserError, (error as Error).stack);
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.ok(error.message.includes(word), `${error.message} does not name ${word}`);
    return true;
  });
}

const setUp = async (t: TestContext, dtype: "F32" | "BF16" | "F16" = "BF16", shards = 0, blockSize = 16) => {
  const root = temporaryFolder(t);
  const tensors = randomTensors(tinyConfig, dtype);
  const model = writeModel(path.join(root, "model"), { tensors, shards });
  const delta = path.join(root, "smt.safetensors");
  const masters = await makeDelta(model, delta, blockSize);
  return { root, tensors, model, delta, masters };
};

test("apply writes the rounded masters and nothing else; undo gives the base's files back byte for byte", async (t) => {
  for (const dtype of ["BF16", "F32", "F16"] as const) {
    for (const [shards, blockSize] of [
      [0, 16],
      [3, 16],
      [0, 20],
      [2, 7],
    ]) {
      const { model, delta, masters, tensors } = await setUp(t, dtype, shards, blockSize);
      const before = contentOf(model);
      const done = await applyDelta(model, delta);
      assert.deepEqual(done.weights, weights);
      const folder = await openModelFolder(model);
      const opened = await openDelta(delta);
      for (const [name, { bytes: base }] of Object.entries(tensors)) {
        const found = Buffer.from(await folder.readTensor(name));
        if (!weights.includes(name)) assert.ok(found.equals(base), name);
      }
      for (const weight of weights) {
        const { index } = opened.matrices.get(weight) as { index: Int32Array };
        const inside = await gatherStoredBlocks(folder, weight, index);
        assert.ok(Buffer.from(inside).equals(encodeFloats(masters.get(weight) as Float32Array, dtype)), `${weight} ${dtype}`);
        // Outside the blocks: putting the base's blocks back gives the base.
        const found = Buffer.from(await folder.readTensor(weight));
        const changed = found.filter((byte, i) => byte !== tensors[weight].bytes[i]).length;
        assert.ok(changed > 0 && changed <= blockEntries(index) * (dtype === "F32" ? 4 : 2));
      }
      await opened.close();
      await folder.close();
      assert.notDeepEqual(contentOf(model), before);
      await undoDelta(model, delta);
      assert.deepEqual(contentOf(model), before);
    }
  }
});

test("equal deltas are equal files, and nothing but format, version, block size and base stands beside the tensors", async (t) => {
  const { root, model, delta } = await setUp(t);
  await makeDelta(model, path.join(root, "again.safetensors"));
  assert.ok(readFileSync(delta).equals(readFileSync(path.join(root, "again.safetensors"))));
  const file = await openSafetensors(delta);
  assert.deepEqual([...file.header.metadata.keys()], ["baseSha256", "blockSize", "format", "version"]);
  assert.deepEqual(file.info(`${weights[0]}.blocks`).shape, [2, 16, 16]);
  assert.deepEqual(file.info(`${weights[0]}.original`).dtype, "BF16");
  assert.deepEqual(file.info(`${weights[1]}.index`).shape, [3, 4]);
  await file.close();
});

test("apply twice and undo without apply are refused by name, and change nothing", async (t) => {
  const { model, delta } = await setUp(t);
  await refused(undoDelta(model, delta), "delta/not-applied", model);
  await applyDelta(model, delta);
  const after = contentOf(model);
  await refused(applyDelta(model, delta), "delta/already-applied", model);
  assert.deepEqual(contentOf(model), after);
});

test("a folder that is not the delta's base is refused, whatever differs", async (t) => {
  const { root, model, delta, tensors } = await setUp(t);
  const variant = (name: string, change: (copy: Record<string, RawTensor>) => void, config: object = tinyConfig) => {
    const copy = Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [key, { ...tensor, bytes: Uint8Array.from(tensor.bytes) }]));
    change(copy);
    return writeModel(path.join(root, name), { tensors: copy, config });
  };
  const flip = (weight: string, at: number) => (copy: Record<string, RawTensor>) => {
    copy[weight].bytes[at] ^= 1;
  };
  // (0, 0) is in a block; of v_proj (16, 32), block size 16, no entry of the touched rows is outside one, so down_proj's row 16 column 0 serves.
  await refused(applyDelta(variant("in", flip(weights[0], 0)), delta), "delta/wrong-base", weights[0], "row 0, column 0");
  await refused(applyDelta(variant("out", flip(weights[1], 2 * 48 * 16)), delta), "delta/wrong-base", "not the base");
  await refused(undoDelta(variant("out-undo", flip(weights[1], 2 * 48 * 16)), delta), "delta/wrong-base");
  const header = path.join(root, "header");
  writeModel(header, { tensors });
  writeFileSync(path.join(header, "model.safetensors"), packTensors(tensors, { format: "np" }));
  await refused(applyDelta(header, delta), "delta/wrong-base", "hash");
  await refused(applyDelta(writeModel(path.join(root, "f16"), { tensors: randomTensors(tinyConfig, "F16") }), delta), "delta/wrong-base", "F16");
  const small = { ...tinyConfig, num_hidden_layers: 1 };
  await refused(
    applyDelta(writeModel(path.join(root, "small"), { config: small, tensors: randomTensors(small, "BF16") }), delta),
    "delta/wrong-base",
    weights[1],
  );
  // What the delta does not touch may differ: only headers and touched tensors are the base.
  await applyDelta(variant("norm", flip("model.norm.weight", 0)), delta);
  const other = path.join(root, "other.safetensors");
  await makeDelta(model, other, 16, 0.25);
  await applyDelta(model, delta);
  await refused(applyDelta(model, other), "delta/wrong-base", "neither");
});

test("a delta whose masters round to the base is applied without a complaint", async (t) => {
  const { root, model } = await setUp(t);
  const idle = path.join(root, "idle.safetensors");
  await makeDelta(model, idle, 16, 0);
  assert.deepEqual(await applyDelta(model, idle), { files: [], weights: [] });
  assert.deepEqual(await undoDelta(model, idle), { files: [], weights: [] });
});

test("a folder in which only some shards were patched is finished by the same command, either way", async (t) => {
  const { root, model, delta } = await setUp(t, "BF16", 3);
  const patched = path.join(root, "patched");
  cpSync(model, patched, { recursive: true });
  const { files } = await applyDelta(patched, delta);
  assert.ok(files.length > 1, "the weights lie in several shards");
  const base = contentOf(model);
  const whole = contentOf(patched);
  const half = path.join(root, "half");
  cpSync(model, half, { recursive: true });
  cpSync(path.join(patched, files[0]), path.join(half, files[0]));
  writeFileSync(path.join(half, ".tmp-01234567-89ab-4cde-8f01-23456789abcd"), "left by a kill");
  const done = await applyDelta(half, delta);
  assert.deepEqual([contentOf(half), done.files], [whole, files.slice(1)]);
  cpSync(path.join(model, files[0]), path.join(half, files[0]));
  await undoDelta(half, delta);
  assert.deepEqual(contentOf(half), base);
});

test("in a Hugging Face cache the blob stays as it is", { skip: process.platform === "win32" }, async (t) => {
  const { root, model, delta } = await setUp(t);
  const snapshot = path.join(root, "models--x/snapshots/abc");
  mkdirSync(path.join(root, "models--x/blobs"), { recursive: true });
  mkdirSync(snapshot, { recursive: true });
  for (const name of readdirSync(model)) {
    cpSync(path.join(model, name), path.join(root, "models--x/blobs", name));
    symlinkSync(`../../blobs/${name}`, path.join(snapshot, name));
  }
  await applyDelta(snapshot, delta);
  assert.ok(readFileSync(path.join(root, "models--x/blobs/model.safetensors")).equals(readFileSync(path.join(model, "model.safetensors"))));
  await undoDelta(snapshot, delta);
  assert.ok(readFileSync(path.join(snapshot, "model.safetensors")).equals(readFileSync(path.join(model, "model.safetensors"))));
});

test("a patched file keeps its permissions", { skip: process.platform === "win32" }, async (t) => {
  const { model, delta } = await setUp(t);
  const file = path.join(model, "model.safetensors");
  const { chmodSync } = await import("node:fs");
  chmodSync(file, 0o440);
  await applyDelta(model, delta);
  assert.equal(statSync(file).mode & 0o777, 0o440);
});

test("malformed deltas are refused", async (t) => {
  const { root } = await setUp(t);
  const good = {
    "w.blocks": { dtype: "F32", shape: [1, 2, 2], bytes: new Uint8Array(16) },
    "w.original": { dtype: "BF16", shape: [1, 2, 2], bytes: new Uint8Array(8) },
    "w.index": { dtype: "I32", shape: [1, 4], bytes: new Uint8Array(Int32Array.of(0, 2, 2, 2).buffer) },
  };
  const info = { format: "sparse-tuner-smt", version: "1", blockSize: "2", baseSha256: "0".repeat(64) };
  const open = (tensors: Record<string, RawTensor>, metadata: Record<string, string>) => {
    const file = path.join(root, "bad.safetensors");
    writeFileSync(file, packTensors(tensors, metadata));
    return openDelta(file);
  };
  await (await open(good, info)).close();
  const index = (...values: number[]): RawTensor => ({
    dtype: "I32",
    shape: [values.length / 4, 4],
    bytes: new Uint8Array(Int32Array.from(values).buffer),
  });
  const { "w.index": _index, ...withoutIndex } = good;
  const cases: [Record<string, RawTensor>, Record<string, string>, string][] = [
    [good, { ...info, format: "pt" }, "no SMT delta"],
    [good, { ...info, version: "2" }, "version"],
    [good, { ...info, blockSize: "1e99" }, "block size"],
    [good, { ...info, baseSha256: "x" }, "base"],
    [{}, info, "no block"],
    [withoutIndex, info, "lacks"],
    [{ ...good, other: good["w.blocks"] }, info, "unknown tensor"],
    [{ ...good, "w.original": { dtype: "I32", shape: [1, 2, 2], bytes: new Uint8Array(16) } }, info, "dtype"],
    [{ ...good, "w.blocks": { dtype: "F32", shape: [4], bytes: new Uint8Array(16) } }, info, "size"],
    [{ ...good, "w.index": index(0, 2, 1, 2) }, info, "grid"],
    [{ ...good, "w.index": index(-2, 2, 0, 2) }, info, "grid"],
    [{ ...good, "w.index": index(0, 3, 0, 2) }, info, "impossible"],
    [{ ...good, "w.index": index(0, 0, 0, 2) }, info, "impossible"],
    [{ ...good, "w.index": index(0, 2, 0, 2, 0, 2, 0, 2) }, info, "twice"],
  ];
  for (const [tensors, metadata, word] of cases) await refused(open(tensors, metadata), "delta/invalid", word);
});

test("masters that are not finite, or not in the base's dtype, are never written into a model", async (t) => {
  const { root, model } = await setUp(t, "F16");
  const before = contentOf(model);
  const folder = await openModelFolder(model);
  const index = Int32Array.of(0, 16, 0, 16);
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 70000]) {
    const file = path.join(root, "bad.safetensors");
    const original = await gatherStoredBlocks(folder, weights[0], index);
    const blocks = new Float32Array(256);
    blocks[255] = value;
    await writeDelta(file, [{ weight: weights[0], dtype: "F16", index, blocks: () => blocks, original: () => original }], {
      blockSize: 16,
      baseSha256: await baseHash(folder, [weights[0]]),
    });
    await refused(applyDelta(model, file), "delta/not-finite", weights[0]);
  }
  await folder.close();
  assert.deepEqual(contentOf(model), before);
});

test("an export equals the applied model, tensor by tensor, with its companions; shards stay shards; a tied model is written under its embedding", async (t) => {
  for (const shards of [0, 3]) {
    const root = temporaryFolder(t);
    const { "model.embed_tokens.weight": embedding, ...rest } = randomTensors(tinyConfig, "BF16");
    const inverse: RawTensor = { dtype: "F32", shape: [1], bytes: new Uint8Array(4) };
    const tensors = {
      "lm_head.weight": embedding,
      ...rest,
      "model.layers.0.self_attn.rotary_emb.inv_freq": inverse,
      "extra.counter": { ...inverse, dtype: "I32" },
    };
    const model = writeModel(path.join(root, "model"), { tensors, shards });
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "LICENSE", "pytorch_model.bin", "notes.txt"])
      writeFileSync(path.join(model, name), name);
    const delta = path.join(root, "d.safetensors");
    await makeDelta(model, delta);
    const base = await openModelFolder(model);
    const opened = await openDelta(delta);
    const to = path.join(root, "deep/er/out");
    await exportMerged(base, deltaOverrides(base, opened), to);
    await refused(exportMerged(base, new Map(), to), "export/not-empty");
    await opened.close();
    await base.close();
    await applyDelta(model, delta);
    const [applied, exported] = [await openModelFolder(model), await openModelFolder(to)];
    assert.deepEqual(exported.unexpected, ["extra.counter"]);
    assert.equal(exported.tensor("model.embed_tokens.weight").storedName, "model.embed_tokens.weight");
    for (const name of applied.tensors.keys()) assert.ok(Buffer.from(await exported.readTensor(name)).equals(await applied.readTensor(name)), name);
    for (const file of exported.files.values()) assert.deepEqual([...file.header.metadata], [["format", "pt"]]);
    assert.deepEqual([...exported.files.keys()], [...applied.files.keys()]);
    const expected = [
      "config.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "generation_config.json",
      "LICENSE",
      ...exported.files.keys(),
      ...(shards ? ["model.safetensors.index.json"] : []),
    ];
    assert.deepEqual(readdirSync(to).sort(), expected.sort());
    assert.equal(readFileSync(path.join(to, "config.json"), "utf8"), readFileSync(path.join(model, "config.json"), "utf8"));
    if (shards) {
      const { metadata, weight_map } = JSON.parse(readFileSync(path.join(to, "model.safetensors.index.json"), "utf8"));
      assert.equal(metadata.total_size, exported.weightBytes + 4);
      assert.deepEqual(Object.keys(weight_map), Object.keys(weight_map).sort());
    }
    await applied.close();
    await exported.close();
    assert.deepEqual(readdirSync(path.join(root, "deep/er")), ["out"]);
  }
});

test("an export takes f32 values for any weight, rounds them, and leaves nothing when one is not finite", async (t) => {
  const { root, model, tensors } = await setUp(t);
  const base = await openModelFolder(model);
  const values = new Float32Array(32).map((_, i) => 1 / (i + 3));
  await exportMerged(base, new Map([["model.norm.weight", { floats: () => [values.subarray(0, 10), values.subarray(10)] }]]), path.join(root, "out"));
  const exported = await openModelFolder(path.join(root, "out"));
  const found = await exported.readTensor("model.norm.weight");
  assert.deepEqual(new Uint16Array(found.buffer, found.byteOffset, 32), Uint16Array.from(values, toBfloat16));
  assert.ok(Buffer.from(await exported.readTensor(weights[0])).equals(tensors[weights[0]].bytes));
  await exported.close();
  const names = readdirSync(root);
  for (const bad of [() => [new Float32Array(32).fill(Number.NaN)], () => [new Float32Array(32).fill(3.4e38)]]) {
    await refused(
      exportMerged(base, new Map([["model.norm.weight", { floats: bad }]]), path.join(root, "bad")),
      "export/not-finite",
      "model.norm.weight",
    );
  }
  await assert.rejects(exportMerged(base, new Map([["nobody.weight", { floats: () => [values] }]]), path.join(root, "bad")));
  await base.close();
  assert.deepEqual(readdirSync(root), names);
});

test("floats are rounded to F16 as the format says, both ways for all its values", () => {
  for (let half = 0; half < 65536; half++) {
    const [value] = decodeFloats(new Uint8Array(Uint16Array.of(half).buffer), "F16");
    if (!Number.isNaN(value)) assert.equal(toFloat16(value), half);
    else assert.equal(toFloat16(value) & 0x7c00, 0x7c00);
  }
  const random = new Random(5);
  const known = (bits: number) => decodeFloats(new Uint8Array(Uint16Array.of(bits).buffer), "F16")[0];
  for (let i = 0; i < 20000; i++) {
    const x = random.normal() * 2 ** (random.below(44) - 30);
    const rounded = known(toFloat16(x));
    if (!Number.isFinite(rounded)) assert.ok(Math.abs(x) >= 65519.99, `${x}`);
    else
      for (const next of [1, -1])
        assert.ok(
          Math.abs(rounded - Math.fround(x)) <= Math.abs(known((toFloat16(x) + next) & 0xffff) - Math.fround(x)) ||
            !Number.isFinite(known((toFloat16(x) + next) & 0xffff)),
          `${x}`,
        );
  }
  assert.deepEqual(
    [1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 3 * 2 ** -25, 65519.99, 65520, -0].map(toFloat16),
    [0x3c00, 0x3c02, 0, 2, 0x7bff, 0x7c00, 0x8000],
  );
});
