/** Checkpoints: what is saved is found again and damage is seen and set aside. Crashes and full disks are in checkpointCrash.test.ts. */
import assert from "node:assert/strict";
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import {
  type CheckpointContent,
  checkpointBytes,
  findCheckpoint,
  saveCheckpoint,
  sweepCheckpoints,
  verifyCheckpoint,
} from "../../../src/core/files/checkpoint.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { entryOf } from "../../../src/core/files/safetensorsWriter.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { temporaryFolder } from "./smallModels.ts";

const contents = (step: number): Record<string, CheckpointContent> => ({
  "state.json": { json: { step, list: [1, 2.5, "x"] } },
  "optimizer.safetensors": {
    tensors: [entryOf("m", "F32", [50], () => new Float32Array(50).fill(step)), entryOf("i", "I32", [2], () => Int32Array.of(step, -1))],
  },
});
const names = (folder: string) => readdirSync(path.join(folder, "checkpoints")).sort();

test("the newest checkpoint is found with its content, and only `keep` stay", async (t) => {
  const run = temporaryFolder(t);
  assert.deepEqual(await findCheckpoint(run), { checkpoint: null, damaged: [] });
  for (const step of [5, 9, 10, 100]) {
    const folder = await saveCheckpoint(run, step, contents(step), { keep: 2 });
    assert.equal(folder, path.join(run, "checkpoints", `step-${step}`));
    const { checkpoint } = await findCheckpoint(run, { readOnly: true });
    assert.equal(checkpoint?.step, step);
  }
  assert.deepEqual(names(run), ["step-10", "step-100"]);
  const { checkpoint, damaged } = await findCheckpoint(run);
  assert.ok(checkpoint);
  assert.deepEqual([[...checkpoint.files.keys()], damaged], [["optimizer.safetensors", "state.json"], []]);
  assert.deepEqual(JSON.parse(readFileSync(path.join(checkpoint.folder, "state.json"), "utf8")), { step: 100, list: [1, 2.5, "x"] });
  const file = await openSafetensors(path.join(checkpoint.folder, "optimizer.safetensors"));
  const bytes = await file.readBytes("m");
  assert.deepEqual(new Float32Array(bytes.buffer, bytes.byteOffset), new Float32Array(50).fill(100));
  await file.close();
  const size = readdirSync(checkpoint.folder).reduce((sum, name) => sum + readFileSync(path.join(checkpoint.folder, name)).length, 0);
  assert.ok(checkpointBytes(contents(100)) >= size && checkpointBytes(contents(100)) < size + 4096);
});

test("saving a step again replaces it", async (t) => {
  const run = temporaryFolder(t);
  await saveCheckpoint(run, 3, contents(3), { keep: 1 });
  await saveCheckpoint(run, 3, { "state.json": { json: "second" } }, { keep: 1 });
  const { checkpoint } = await findCheckpoint(run);
  assert.equal(readFileSync(path.join(checkpoint?.folder as string, "state.json"), "utf8"), '"second"\n');
  assert.deepEqual(names(run), ["step-3"]);
});

test("a failing source, a bad number and a bad name leave the old checkpoints and nothing else", async (t) => {
  const run = temporaryFolder(t);
  await saveCheckpoint(run, 1, contents(1), { keep: 1 });
  const failing = entryOf("m", "F32", [1], () => Promise.reject(new Error("device lost")));
  const short = entryOf("m", "F32", [2], () => new Float32Array(1));
  const cases: Record<string, CheckpointContent>[] = [
    { "a.safetensors": { tensors: [failing] } },
    { "a.safetensors": { tensors: [short] } },
    { "a.json": { json: Number.NaN } },
    { "../a.json": { json: 1 } },
    { "manifest.json": { json: 1 } },
  ];
  for (const bad of cases) {
    await assert.rejects(saveCheckpoint(run, 2, bad, { keep: 1 }));
    assert.deepEqual(names(run), ["step-1"]);
  }
});

test("every single-bit flip in every file of a checkpoint is seen", async (t) => {
  const run = temporaryFolder(t);
  const folder = await saveCheckpoint(run, 7, contents(7), { keep: 1 });
  let flips = 0;
  for (const name of readdirSync(folder)) {
    const file = path.join(folder, name);
    const whole = readFileSync(file);
    // Every bit of the manifest, every third of the others: about 4000.
    for (let bit = 0; bit < whole.length * 8; bit += name === "manifest.json" ? 1 : 3, flips++) {
      const flipped = Buffer.from(whole);
      flipped[bit >> 3] ^= 1 << (bit & 7);
      writeFileSync(file, flipped);
      const reason = await verifyCheckpoint(folder, 7);
      assert.ok(typeof reason === "string" && reason.includes(name), `bit ${bit} of ${name}: ${reason}`);
    }
    writeFileSync(file, whole);
  }
  assert.ok(flips > 2000, `${flips}`);
  assert.equal((await findCheckpoint(run)).checkpoint?.step, 7);
});

test("truncated or missing files are seen; the previous checkpoint is used and the damaged one kept under another name", async (t) => {
  const run = temporaryFolder(t);
  await saveCheckpoint(run, 1, contents(1), { keep: 2 });
  const folder = await saveCheckpoint(run, 2, contents(2), { keep: 2 });
  const copy = path.join(run, "copy");
  cpSync(folder, copy, { recursive: true });
  const restore = () => {
    rmSync(folder, { recursive: true, force: true });
    cpSync(copy, folder, { recursive: true });
  };
  for (const name of readdirSync(copy)) {
    const { length } = readFileSync(path.join(copy, name));
    for (const cut of [0, 1, 7, 8, Math.floor(length / 2), length - 1]) {
      restore();
      truncateSync(path.join(folder, name), cut);
      const found = await findCheckpoint(run, { readOnly: true });
      assert.deepEqual([found.checkpoint?.step, found.damaged.length], [1, 1], `${name} cut to ${cut}`);
      assert.ok(found.damaged[0].reason.includes(name));
    }
    restore();
    appendFileSync(path.join(folder, name), "x");
    assert.equal((await findCheckpoint(run, { readOnly: true })).checkpoint?.step, 1, `${name} lengthened`);
    restore();
    rmSync(path.join(folder, name));
    assert.match((await findCheckpoint(run, { readOnly: true })).damaged[0].reason, /is missing/);
  }
  for (const expected of ["step-2.damaged", "step-2.damaged-2"]) {
    restore();
    truncateSync(path.join(folder, "state.json"), 3);
    const { checkpoint, damaged } = await findCheckpoint(run);
    assert.deepEqual([checkpoint?.step, damaged[0].folder], [1, path.join(run, "checkpoints", expected)]);
    assert.equal(readFileSync(path.join(damaged[0].folder, "state.json"), "utf8").length, 3);
  }
  cpSync(copy, path.join(run, "checkpoints/step-9"), { recursive: true });
  assert.match((await findCheckpoint(run)).damaged[0].reason, /step 2/);
});

test("what a kill left is swept, and a folder that was moved aside is brought back", async (t) => {
  const run = temporaryFolder(t);
  const folder = await saveCheckpoint(run, 4, contents(4), { keep: 1 });
  mkdirSync(path.join(run, "checkpoints/.tmp-0123"));
  cpSync(folder, path.join(run, "checkpoints/.replaced-step-3"), { recursive: true });
  cpSync(folder, path.join(run, "checkpoints/.replaced-step-4"), { recursive: true });
  await sweepCheckpoints(run);
  assert.deepEqual(names(run), ["step-3", "step-4"]);
});

test("a disk known to be too small is refused before anything is written", async (t) => {
  const run = temporaryFolder(t);
  const huge = { "a.safetensors": { tensors: [{ name: "a", dtype: "U8" as const, shape: [2 ** 52], chunks: () => assert.fail("written") }] } };
  await assert.rejects(
    saveCheckpoint(run, 1, huge, { keep: 1 }),
    (error) => error instanceof UserError && error.code === "run/disk-full" && /needs 4096 TiB, has /.test(error.message),
  );
  assert.deepEqual(names(run), []);
});
