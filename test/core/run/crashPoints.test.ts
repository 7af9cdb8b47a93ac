/**
 * A kill between any two calls by which a run changes the disk: the file system is frozen at the n-th call, for n over the whole run, and the run
 * then resumed. Every number and every file equals the undisturbed run's. It patches the file system of its process, so it tests nothing else.
 */
import { Freezer, watchFileSystem } from "../files/faultyFileSystem.ts";

const freezer = new Freezer();
await watchFileSystem(freezer.before);

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";

const { onlyRun, resultOf, session, temporaryFolder, writeRunFile } = await import("./smallRuns.ts");

const runs = {
  "smt, choosing anew": { method: { name: "smt", blocks: 20, blockSize: 16, warmup: { steps: 1 }, reselectEvery: 1 }, points: 40 },
  "smt after a warm-up that trains": { method: { name: "smt", blocks: 20, blockSize: 16, warmup: { steps: 1, update: true } }, points: 20 },
};

describe("frozen between two calls to the disk", () => {
  for (const [name, { method, points }] of Object.entries(runs))
    test(`${name}: ${points} moments over the run`, async (t) => {
      const folder = temporaryFolder(t);
      const overrides = {
        method,
        train: { steps: 4, sequenceLength: 32, learningRate: 0.02, learningRateWarmupSteps: 0 },
        evaluate: { every: 2 },
        checkpoint: { every: 2, keep: 1 },
      };
      const runFile = (n: string) => writeRunFile(path.join(folder, n), overrides);
      await freezer.runUntil(Number.POSITIVE_INFINITY, () => session(runFile("undisturbed")));
      const calls = freezer.calls;
      const expected = resultOf(onlyRun(path.join(folder, "undisturbed/runs")) as string);
      for (let i = 0; i < points; i++) {
        const n = 1 + Math.floor(((i + 0.5) * calls) / points);
        const file = runFile(String(n));
        const ended = await freezer.runUntil(n, () => session(file));
        assert.equal(ended, false, `call ${n} of ${calls} came after the end`);
        const begun = onlyRun(path.join(folder, String(n), "runs"));
        // The lock of this very process stands for one whose process is gone.
        if (begun) rmSync(path.join(begun, "run.lock"), { force: true });
        const runFolder = begun ? { runFolder: begun } : {};
        const again = await session(file, runFolder).catch((error) => {
          if (error.code !== "ENOENT") throw error; // killed before the run folder was complete: it is no run
          return session(runFile(`${n}-anew`));
        });
        assert.deepEqual(resultOf(again.folder), expected, `killed at call ${n} of ${calls}`);
      }
    });
});
