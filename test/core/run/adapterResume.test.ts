/**
 * A run with adapters that is stopped and resumed, at any step and while LoRS looks for its start, is the undisturbed run, bit for bit: its losses, its
 * zeros, and every file it leaves. Gradients come back with it, to be looked at. Kills of a real process are in kill.test.ts.
 */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { checkpointBytesOf } from "../../../src/core/checkpointing.ts";
import { openModelConfig } from "../../../src/core/files/modelFolder.ts";
import type { Run } from "../../../src/core/run.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import type { AdapterConfig } from "../../../src/protocol/runConfig.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { prunedCopy } from "./prunedModel.ts";
import { methods, readConfig, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const pruned = await prunedCopy(storyFolder, path.join(common, "pruned"));
const shared = { model: pruned, evaluate: { every: 2, rows: 1 }, checkpoint: { every: 2, keep: 10 } };
const names = [
  "lors, bf16",
  "lora with dropout, bf16",
  "dora with dropout, f32",
  "spp, f32",
  "sqft with a search over ranks, f32",
  "full that keeps zeros, bf16",
];

for (const name of names)
  describe(name, () => {
    const overrides = (more: object = {}) => ({ ...shared, ...methods[name], train: { ...methods[name].train, steps: 5, ...more } });

    test("stopped after the third update and resumed", async () => {
      const expected = resultOf((await session(writeRunFile(path.join(common, `${name} whole`), overrides()))).folder);
      const runFile = writeRunFile(path.join(common, `${name} stopped`), overrides());
      let steps = 0;
      const { folder, ended } = await session(runFile, {
        onEvent: ({ kind }) => void (kind === "step" && steps++),
        stopRequested: () => steps === 3,
      });
      assert.equal(ended, "stopped");
      await session(runFile, { runFolder: folder });
      const result = resultOf(folder);
      // The stop left a checkpoint of its own.
      for (const file of Object.keys(result.files)) if (/checkpoints.step-3/.test(file)) delete result.files[file];
      assert.deepEqual(result, expected);
    });
  });

test("stopped between two batches of the search for LoRS' start: it begins again and finds the same", async () => {
  const overrides = { ...shared, ...methods["lors, bf16"], train: { precision: "bf16", steps: 2 } };
  const whole = await session(writeRunFile(path.join(common, "start whole"), overrides));
  const runFile = writeRunFile(path.join(common, "start stopped"), overrides);
  let done = 0;
  const stopped = await session(runFile, {
    onEvent: (event: RunEvent) => {
      if (event.kind === "initialising") done = event.done;
    },
    stopRequested: () => done === 5,
  });
  assert.deepEqual([stopped.ended, done], ["stopped", 5]);
  const last = stopped.events.at(-1);
  assert.ok(last?.kind === "stopped" && last.step === 0 && !last.reason.includes("warm-up"));
  await session(runFile, { runFolder: stopped.folder });
  assert.deepEqual(resultOf(stopped.folder), resultOf(whole.folder));
});

test("gradients of the last update are in the checkpoint and come back, and its size was foreseen", async () => {
  const overrides = { ...shared, ...methods["lora with dropout, bf16"], train: { steps: 4 } };
  const runFile = writeRunFile(path.join(common, "gradients"), overrides);
  const gradientsOf = (run: Run) =>
    Promise.all((run.method?.parameters ?? []).map(async ({ name, gradient }) => [name, await run.device.read(gradient)] as const));
  let run: Run | null = null;
  let kept: Awaited<ReturnType<typeof gradientsOf>> = [];
  const { folder } = await session(runFile, {
    async onOpen(opened) {
      run = opened;
    },
    async atBoundary() {
      if (run?.state.step === 2) kept = await gradientsOf(run);
    },
    stopRequested: () => run?.state.step === 2,
  });
  assert.ok(kept.length > 20 && kept.every(([, values]) => values.some((value) => value !== 0)));
  let back: typeof kept = [];
  await session(runFile, {
    runFolder: folder,
    async onOpen(opened) {
      assert.ok(opened.holdsGradients);
      back = await gradientsOf(opened);
    },
    stopRequested: () => true,
  });
  assert.deepEqual(back, kept);
  const { config: model } = await openModelConfig(pruned);
  const foreseen = checkpointBytesOf(model, null, null, readConfig(runFile).method as AdapterConfig);
  const checkpoint = path.join(folder, "checkpoints/step-2");
  const bytes = readdirSync(checkpoint).reduce((sum, file) => sum + statSync(path.join(checkpoint, file)).size, 0);
  // It leaves a megabyte for names and the rest.
  assert.ok(bytes <= foreseen && bytes > foreseen - (1 << 20), `${bytes} of ${foreseen}`);
});
