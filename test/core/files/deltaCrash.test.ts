/** Applying and undoing a delta when the process dies or the disk fills at any call to the file system. */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { Freezer, watchFileSystem } from "./faultyFileSystem.ts";
import { randomTensors, temporaryFolder, tinyConfig, writeModel } from "./smallModels.ts";

const freezer = new Freezer();
let failAtWrite = 0;
await watchFileSystem((call) => {
  if ((call === "write" || call === "copyFile") && failAtWrite > 0 && --failAtWrite === 0)
    throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
  return freezer.before();
});
const { gatherStoredBlocks } = await import("../../../src/core/files/blockRows.ts");
const { applyDelta, undoDelta } = await import("../../../src/core/files/deltaApply.ts");
const { exportMerged } = await import("../../../src/core/files/mergedExport.ts");
const { openModelFolder } = await import("../../../src/core/files/modelFolder.ts");
const { baseHash, writeDelta } = await import("../../../src/core/files/smtDelta.ts");

const weights = ["model.layers.0.self_attn.v_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.layers.1.self_attn.q_proj.weight"];
const contentOf = (folder: string) =>
  readdirSync(folder)
    .sort()
    .map((name) => [name, readFileSync(path.join(folder, name)).toString("base64")]);

/** A sharded model and a delta over three weights in two of its shards. */
async function setUp(root: string) {
  const model = writeModel(path.join(root, "model"), { tensors: randomTensors(tinyConfig, "BF16"), shards: 3 });
  const delta = path.join(root, "smt.safetensors");
  const folder = await openModelFolder(model);
  const index = Int32Array.of(0, 16, 0, 16);
  const originals = new Map<string, Uint8Array>();
  for (const weight of weights) originals.set(weight, await gatherStoredBlocks(folder, weight, index));
  const matrices = weights.map((weight) => ({
    weight,
    dtype: "BF16" as const,
    index,
    blocks: () => new Float32Array(256).fill(0.5),
    original: () => originals.get(weight) as Uint8Array,
  }));
  await writeDelta(delta, matrices, { blockSize: 16, baseSha256: await baseHash(folder, weights) });
  await folder.close();
  const applied = path.join(root, "applied");
  cpSync(model, applied, { recursive: true });
  const { files } = await applyDelta(applied, delta);
  assert.equal(files.length, 2);
  return { model, delta, applied };
}

test("killed at any call, the folder is a mix of whole files that the same command finishes and undo takes back", async (t) => {
  const root = temporaryFolder(t);
  const { model, delta, applied } = await setUp(root);
  const [base, target] = [contentOf(model), contentOf(applied)];
  for (const [start, work, end] of [
    [model, applyDelta, target],
    [applied, undoDelta, base],
  ] as const) {
    let mixed = 0;
    for (let at = 1, ended = false; !ended; at++) {
      const folder = path.join(root, "work");
      cpSync(start, folder, { recursive: true });
      ended = await freezer.runUntil(at, () => work(folder, delta));
      const kept = contentOf(folder).filter(([name]) => !name.startsWith(".tmp-"));
      kept.forEach(([name, content], i) => {
        assert.ok(content === base[i][1] || content === target[i][1], `call ${at}: ${name} is half written`);
      });
      if (JSON.stringify(kept) !== JSON.stringify(base) && JSON.stringify(kept) !== JSON.stringify(target)) mixed++;
      if (JSON.stringify(kept) !== JSON.stringify(end)) await work(folder, delta);
      else if (!ended) await assert.rejects(work(folder, delta));
      assert.deepEqual(
        contentOf(folder).filter(([name]) => !name.startsWith(".tmp-")),
        end,
        `call ${at}`,
      );
      rmSync(folder, { recursive: true });
    }
    assert.ok(mixed > 0, "a kill between two files was among the points");
  }
});

test("a full disk while a delta is applied changes nothing and leaves nothing", async (t) => {
  const root = temporaryFolder(t);
  const { model, delta } = await setUp(root);
  const base = contentOf(model);
  for (const at of [1, 2]) {
    failAtWrite = at;
    await assert.rejects(applyDelta(model, delta), { code: "run/disk-full" });
    failAtWrite = 0;
    assert.deepEqual(contentOf(model), base);
  }
});

test("an export appears whole or not at all, at any call", async (t) => {
  const root = temporaryFolder(t);
  const { model } = await setUp(root);
  const to = path.join(root, "out");
  for (let at = 1, ended = false; !ended; at++) {
    const base = await openModelFolder(model);
    ended = await freezer.runUntil(at, () => exportMerged(base, new Map(), to));
    const names = readdirSync(root);
    if (names.includes("out")) await (await openModelFolder(to)).close();
    await base.close();
    for (const name of names) if (name === "out" || name.startsWith(".tmp-")) rmSync(path.join(root, name), { recursive: true });
  }
});
