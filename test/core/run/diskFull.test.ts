/**
 * A full disk, on a small file system in memory: the run pauses with a sentence, loses nothing, and goes on when there is room; a disk that is
 * too small from the start is refused before anything is allocated.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, rmSync, statfsSync } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { methods, type Overrides, onlyRun, RunProcess, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const disks: string[] = [];
const common = temporaryFolder({
  after: (clean) =>
    after(() => {
      for (const disk of disks) spawnSync("umount", [disk]);
      clean();
    }),
});

/** Mounts a file system of so many MiB at a new folder; null where this user may not. */
function smallDisk(name: string, mebibytes: number): string | null {
  const folder = path.join(common, name);
  mkdirSync(folder);
  if (spawnSync("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", folder]).status !== 0) return null;
  disks.push(folder);
  return folder;
}

const canMount = smallDisk("trial", 1) !== null;
const skip = !canMount && "not run: a small file system cannot be mounted here";

/** Takes all room that is left, to the last byte. */
function fill(disk: string): void {
  const file = path.join(disk, "filler");
  for (let bytes = 1 << 20; bytes >= 1; bytes >>= 1)
    try {
      for (;;) appendFileSync(file, Buffer.alloc(bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  assert.equal(statfsSync(disk).bavail, 0);
}

/** Frees the disk again. */
function free(disk: string): void {
  rmSync(path.join(disk, "filler"), { force: true });
}

const choosing = methods["smt, choosing anew, bf16"];
const warmed = methods["smt after a warm-up that trains, f32"];

describe("the disk is full", { skip }, () => {
  const moments: [string, Overrides, (event: RunEvent) => boolean][] = [
    ["when the blocks are chosen", choosing, (event) => event.kind === "warmup" && event.step === 3],
    ["when the model after the warm-up is written", warmed, (event) => event.kind === "warmup" && event.step === 3],
    ["when a checkpoint is written", choosing, (event) => event.kind === "step" && event.step === 6],
    ["while steps go on", choosing, (event) => event.kind === "checkpoint" && event.step === 3],
    ["when the last checkpoint stands and the result is written", choosing, (event) => event.kind === "checkpoint" && event.step === 12],
  ];
  for (const [i, [name, overrides, at]] of moments.entries())
    test(`${name}: it waits, says so, and the result is the undisturbed run's`, async () => {
      const disk = smallDisk(String(i), 12) as string;
      const expected = resultOf((await session(writeRunFile(path.join(common, `undisturbed-${i}`), overrides))).folder);
      let filled = false;
      const reasons: string[] = [];
      const { folder, ended, events } = await session(writeRunFile(path.join(common, `full-${i}`), { ...overrides, output: disk }), {
        onEvent(event) {
          if (filled || !at(event)) return;
          filled = true;
          fill(disk);
        },
        onWaiting(reason) {
          reasons.push(reason);
          free(disk);
        },
      });
      assert.equal(ended, "done");
      assert.ok(reasons.length > 0, "it went on although the disk was full");
      assert.match(reasons[0], /^The disk is full: /);
      for (const event of events) if (event.kind === "paused") assert.match(event.reason, /The disk is full: .* needs .*, has .*\. Free space/);
      assert.deepEqual(resultOf(folder), expected);
    });

  test("between two checkpoints: steps stop until their events can be written, because nothing is only in memory for long", async () => {
    const disk = smallDisk("events", 12) as string;
    const overrides = { train: { steps: 100 }, evaluate: { every: null }, checkpoint: { every: null } };
    const expected = resultOf((await session(writeRunFile(path.join(common, "undisturbed-events"), overrides))).folder);
    const reasons: string[] = [];
    let seen = 0;
    const { folder } = await session(writeRunFile(path.join(common, "full-events"), { ...overrides, output: disk }), {
      onEvent(event) {
        if (event.kind !== "step") return;
        seen = event.step;
        if (event.step === 3) fill(disk);
      },
      onWaiting(reason) {
        reasons.push(`step ${seen}: ${reason}`);
        free(disk);
      },
    });
    assert.equal(reasons.length, 1);
    // What is left of the file's last page holds some more.
    assert.match(reasons[0], /^step ([3-9]|[1-4]\d): The disk is full: the run waits until its events can be written\.$/);
    assert.deepEqual(resultOf(folder), expected);
  });

  test("asked to stop while it waits, the run fails, keeps its checkpoints, and is resumed when there is room", async () => {
    const disk = smallDisk("stopped", 12) as string;
    const overrides = { ...choosing, output: disk };
    const expected = resultOf((await session(writeRunFile(path.join(common, "undisturbed-stopped"), choosing))).folder);
    const runFile = writeRunFile(path.join(common, "stopped-file"), { ...overrides, train: { steps: 12, precision: "bf16" } });
    const run = new RunProcess("train", runFile);
    await run.seen((event) => event.kind === "checkpoint" && event.step >= 3);
    fill(disk);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const finished = run.child.exitCode !== null;
    if (!finished) run.kill("SIGTERM");
    const { code } = await run.exit;
    if (!finished) {
      assert.equal(code, 1, run.errors);
      assert.match(run.errors, /The disk is full/);
    }
    free(disk);
    const folder = onlyRun(disk) as string;
    const resumed = new RunProcess("resume", folder);
    assert.equal((await resumed.exit).code, 0, resumed.errors);
    assert.deepEqual(resultOf(folder).numbers, expected.numbers);
    assert.deepEqual(resultOf(folder).files["smt.safetensors"], expected.files["smt.safetensors"]);
  });

  test("a disk too small for the checkpoints is refused before anything is allocated", async () => {
    const disk = smallDisk("small", 2) as string;
    const run = new RunProcess("train", writeRunFile(path.join(common, "small-file"), { ...choosing, output: disk }));
    assert.equal((await run.exit).code, 2, run.errors);
    assert.match(run.errors, /2 checkpoints and one being written need .*; .* can be had\.\nFree space, set output/);
    assert.deepEqual(
      run.events.map(({ kind }) => kind),
      ["failed"],
    );
    assert.equal(onlyRun(disk), null, "nothing stays behind");
  });

  test("a resume counts what the run itself has written as room it has", async () => {
    const disk = smallDisk("resumed", 5) as string;
    const { folder } = await session(writeRunFile(path.join(common, "resumed-file"), { ...choosing, output: disk }), {
      stopRequested: (() => {
        let asked = 0;
        return () => ++asked > 12;
      })(),
    });
    const { bavail, bsize } = statfsSync(disk);
    // Three checkpoints of 40 blocks, as a new run must have room for; a little less is free, and the two that stand make up for it.
    const neededBytes = 3 * (40 * (256 * 16 + 256) + (1 << 20));
    appendFileSync(path.join(disk, "other"), Buffer.alloc(bavail * bsize - neededBytes + 150_000));
    assert.equal((await session(path.join(common, "resumed-file/run.yaml"), { runFolder: folder })).ended, "done");
  });
});
