/** Checkpoints when the process dies or the disk fills at any call to the file system. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { Freezer, watchFileSystem } from "./faultyFileSystem.ts";
import { temporaryFolder } from "./smallModels.ts";

const freezer = new Freezer();
let failAtWrite = 0;
let log: string[] = [];
await watchFileSystem((call) => {
  log.push(call);
  if (call === "write" && failAtWrite > 0 && --failAtWrite === 0)
    throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  return freezer.before();
});
const { findCheckpoint, saveCheckpoint } = await import("../../../src/core/files/checkpoint.ts");
const { entryOf } = await import("../../../src/core/files/safetensorsWriter.ts");

const save = (run: string, step: number) => {
  const tensors = [entryOf("m", "F32", [50], () => new Float32Array(50).fill(step))];
  return saveCheckpoint(run, step, { "state.json": { json: { step } }, "optimizer.safetensors": { tensors } }, { keep: 2 });
};
const names = (run: string) => readdirSync(path.join(run, "checkpoints")).sort();
const newRun = (t: TestContext) => {
  const run = temporaryFolder(t);
  mkdirSync(path.join(run, "checkpoints"));
  return run;
};

test("every file is synced before the folder gets its name, the folder after it, and only then old ones go", async (t) => {
  const run = newRun(t);
  await save(run, 1);
  await save(run, 2);
  log = [];
  await save(run, 3);
  const file = "open write sync";
  const large = "open write write sync"; // header, tensor
  const syncFolder = "open sync";
  const expected = `mkdir statfs mkdir ${large} ${file} ${file} ${syncFolder} rename ${syncFolder} rm readdir rename rm`;
  assert.equal(log.join(" "), expected);
});

test("killed at any call while saving, pruning or replacing, the newest reported checkpoint is found whole", async (t) => {
  const reported: number[] = [];
  const saves = async (run: string) => {
    // Step 3 twice: a resumed run may come to a step that has a checkpoint.
    for (const step of [1, 2, 3, 3, 4]) {
      await save(run, step);
      reported.push(step);
    }
  };
  let ended = false;
  let points = 0;
  for (let at = 1; !ended; at++, points++) {
    const run = newRun(t);
    reported.length = 0;
    ended = await freezer.runUntil(at, () => saves(run));
    const newest = reported.at(-1) ?? 0;
    const before = await findCheckpoint(run, { readOnly: true });
    if (newest > 1) assert.ok(before.checkpoint, `call ${at}: one is valid even before any repair`);
    const after = await findCheckpoint(run);
    assert.deepEqual(after.damaged, [], `call ${at}`);
    assert.ok((after.checkpoint?.step ?? 0) >= newest, `call ${at}: reported ${newest}, found ${after.checkpoint?.step}`);
    assert.ok(
      names(run).every((name) => /^step-\d+$/.test(name)),
      `call ${at}: ${names(run)}`,
    );
    // And the run goes on.
    await save(run, 9);
    assert.equal((await findCheckpoint(run)).checkpoint?.step, 9);
    rmSync(run, { recursive: true });
  }
  assert.ok(points > 80, `${points} points`);
});

test("killed while the repair itself runs, the next repair finishes it", async (t) => {
  for (let at = 1, ended = false; !ended; at++) {
    const run = newRun(t);
    for (const step of [1, 2]) await save(run, step);
    mkdirSync(path.join(run, "checkpoints/.tmp-x/y"), { recursive: true });
    const { renameSync, truncateSync } = await import("node:fs");
    renameSync(path.join(run, "checkpoints/step-1"), path.join(run, "checkpoints/.replaced-step-1"));
    truncateSync(path.join(run, "checkpoints/step-2/state.json"), 1);
    ended = await freezer.runUntil(at, () => findCheckpoint(run));
    assert.equal((await findCheckpoint(run)).checkpoint?.step, 1, `call ${at}`);
    assert.deepEqual(names(run), ["step-1", "step-2.damaged"]);
  }
});

test("a full disk at any write is a sentence with both sizes, and the old checkpoints stay", async (t) => {
  for (let at = 1; at <= 5; at++) {
    const run = newRun(t);
    await save(run, 1);
    failAtWrite = at;
    if (at <= 4) {
      await assert.rejects(save(run, 2), (error: Error & { code?: string }) => {
        assert.equal(error.code, "run/disk-full");
        assert.match(error.message, /^The disk is full: the checkpoint of step 2 needs [\d.]+ \w+, has [\d.]+ \w+\.$/);
        return true;
      });
      assert.deepEqual([names(run), (await findCheckpoint(run)).checkpoint?.step], [["step-1"], 1]);
    }
    failAtWrite = 0;
    await save(run, 2);
    assert.deepEqual(names(run), ["step-1", "step-2"]);
  }
});

test("a process killed with SIGKILL at random times leaves a valid checkpoint", async (t) => {
  const script = path.join(import.meta.dirname, "savingForever.ts");
  for (const milliseconds of [0, 3, 8, 15, 29]) {
    const run = newRun(t);
    const child = spawn(process.execPath, [script, run], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    while (!output.includes("saved 2\n")) await wait(1);
    await wait(milliseconds);
    child.kill("SIGKILL");
    await new Promise((resolve) => child.on("close", resolve));
    const reported = Number(/saved (\d+)\n$/.exec(output.slice(0, output.lastIndexOf("\n") + 1))?.[1]);
    const { checkpoint, damaged } = await findCheckpoint(run);
    assert.deepEqual(damaged, []);
    assert.ok(checkpoint && checkpoint.step >= reported, `reported ${reported}, found ${checkpoint?.step}`);
  }
});
