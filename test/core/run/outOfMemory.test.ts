/**
 * A device that has no memory left between two updates: the run ends with what the updates so far made on the disk, says what it could not do and what to
 * lower, and ends after a resume as if nothing had been. The device itself computes; only its answer to one allocation is put in its place here. What
 * a graphics card's driver answers with is in devices/webgpu/failures.test.ts.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { describe, test } from "node:test";
import type { Device } from "../../../src/core/devices/device.ts";
import { findCheckpoint } from "../../../src/core/files/checkpoint.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import type { MemoryClass } from "../../../src/protocol/memory.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { prunedCopy } from "./prunedModel.ts";
import { type Overrides, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const smt = { name: "smt", blocks: 20, blockSize: 16, warmup: { steps: 2 } };

/** When a run finds no memory, and what becomes of it. */
interface Shortage {
  overrides: Overrides;
  /** From this event on nothing of that class can be had. */
  after: (event: RunEvent) => boolean;
  memoryClass: MemoryClass;
  message: RegExp;
  /** Of the newest checkpoint; null where there is none yet. */
  saved: number | null;
}

const afterStep = (step: number) => (event: RunEvent) => event.kind === "step" && event.step === step;

const shortages: Record<string, Shortage> = {
  "an evaluation": {
    overrides: { method: smt, evaluate: { every: 4, earlyStopping: 2 } },
    after: afterStep(4),
    memoryClass: "activations",
    message: /^No room\. Measuring after step 4 was broken off; the newest checkpoint is .*step-4\.$/,
    saved: 4,
  },
  "the last evaluation, when the zeros were counted": {
    overrides: { method: { name: "lors", rank: 4, init: "kaiming" }, evaluate: { every: null } },
    after: afterStep(6),
    memoryClass: "activations",
    message: /Measuring after step 6 was broken off; the newest checkpoint is .*step-6\.$/,
    saved: 6,
  },
  "counting zeros": {
    overrides: { method: { name: "lors", rank: 4, init: "kaiming" }, evaluate: { every: 2 } },
    after: afterStep(2),
    memoryClass: "workspace",
    message: /Measuring after step 2 was broken off; the newest checkpoint is .*step-2\.$/,
    saved: 2,
  },
  "scores of blocks anew": {
    overrides: { method: { ...smt, reselectEvery: 3 }, evaluate: { every: null } },
    after: afterStep(3),
    memoryClass: "activations",
    message: /Choosing blocks anew after step 3 was broken off; the newest checkpoint is .*step-3\.$/,
    saved: 3,
  },
  "blocks chosen anew, whose old ones were given back": {
    overrides: { method: { ...smt, reselectEvery: 3 }, evaluate: { every: null } },
    after: afterStep(3),
    memoryClass: "trainable",
    message: /Choosing blocks anew after step 3 was broken off; the newest checkpoint is .*step-0\.$/,
    saved: 0,
  },
  "the first evaluation": {
    overrides: { method: smt },
    after: ({ kind }) => kind === "started",
    memoryClass: "activations",
    message: /^No room\. Nothing was trained yet\.$/,
    saved: null,
  },
};

/** Lets the device refuse whatever is of that class. */
function refuse(device: Device, memoryClass: MemoryClass, full: () => boolean): void {
  const allocate = device.allocate.bind(device);
  device.allocate = (shape, dtype, given, ...rest) => {
    if (given === memoryClass && full()) throw new UserError("device/out-of-memory", "No room.", "Lower something.", { badInput: false });
    return allocate(shape, dtype, given, ...rest);
  };
}

describe("a device without memory for", () => {
  for (const [what, { overrides, after, memoryClass, message, saved }] of Object.entries(shortages))
    test(what, async (t) => {
      const folder = temporaryFolder(t);
      const pruned = /zeros/.test(what);
      const model = pruned ? await prunedCopy(storyFolder, path.join(folder, "model")) : storyFolder;
      const runFile = writeRunFile(folder, { ...overrides, model, train: { steps: 6, batchSize: 1 }, checkpoint: { every: null, keep: 1 } });
      const undisturbed = (await session(runFile)).folder;

      let [full, disturbed]: [boolean, string] = [false, ""];
      const failing = session(runFile, {
        async onOpen(run) {
          disturbed = run.folder;
          refuse(run.device, memoryClass, () => full);
        },
        onEvent(event) {
          full ||= after(event);
        },
      });
      await assert.rejects(failing, (error: UserError) => {
        assert.equal(error.code, "device/out-of-memory");
        assert.match(error.message, message);
        assert.match(error.action, /^Set train\.recompute to layer.* Or end what else uses that memory, and resume\.$/);
        return true;
      });
      assert.equal((await findCheckpoint(disturbed)).checkpoint?.step ?? null, saved);
      assert.equal((await session(runFile, { runFolder: disturbed })).ended, "done");
      assert.deepEqual(resultOf(disturbed), resultOf(undisturbed));
    });
});
