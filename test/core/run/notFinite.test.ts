/**
 * NaN and infinity in losses, gradients and weights, put there by a stand-in around a real device: the update is skipped, nothing that is trained
 * changes, the skip is counted and shown; five in a row end the run with the last good checkpoint named.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { checkRun, openRun } from "../../../src/core/prepare.ts";
import { attachFull, chooseBlocks, type Run } from "../../../src/core/run.ts";
import { evaluate, type RunControl, save, train } from "../../../src/core/trainer.ts";
import type { RunEventBody } from "../../../src/protocol/events.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { type Overrides, readConfig, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const control: RunControl = { stopRequested: async () => false, waitForSpace: async () => false, eventsWritten: async () => true };

type Poison = "loss" | "gradient" | "infinite gradient" | "weight";

/** The device, which puts a NaN or an infinity into what it computes while `poison` is set. */
function poisonable(device: Device): { device: Device; poison: Poison | null } {
  const state: { device: Device; poison: Poison | null } = { device, poison: null };
  state.device = new Proxy(device, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        const result = value.apply(target, args);
        const out = args[0] as Tensor;
        if (state.poison === "loss" && name === "crossEntropy") target.write(out, Float32Array.of(Number.NaN));
        const forms = name === "blockGradients" || (name === "matmul" && out.memoryClass === "gradients");
        if (forms && state.poison === "gradient") target.write(out, Float32Array.of(Number.NaN), 7);
        if (forms && state.poison === "infinite gradient") target.write(out, Float32Array.of(Number.NEGATIVE_INFINITY), 3);
        return result;
      };
    },
  });
  return state;
}

/** Every bit that training may change. */
async function fingerprint({ device, model, method }: Run): Promise<string> {
  const hash = createHash("sha256");
  const tensors = [
    ...model.tensors.byName.values(),
    ...(method?.parameters ?? []).flatMap(({ value, firstMoment, secondMoment }) => [value, firstMoment, secondMoment]),
  ];
  for (const tensor of tensors) hash.update(new Uint8Array((await device.read(tensor)).buffer));
  return hash.digest("hex");
}

async function open(folder: string, overrides: Overrides): Promise<{ run: Run; state: ReturnType<typeof poisonable>; events: RunEventBody[] }> {
  const config = readConfig(writeRunFile(folder, overrides));
  const events: RunEventBody[] = [];
  const emit = (event: RunEventBody) => void events.push(event);
  const run = await openRun(await checkRun(config), await createRunFolder(config.output, "poisoned", stringifyRunConfig(config)), null, emit);
  const state = poisonable(run.device);
  run.device = state.device;
  run.model = { ...run.model, device: state.device };
  if (run.smt) await chooseBlocks(run, emit, control);
  else attachFull(run);
  await save(run, emit, control);
  return { run, state, events };
}

async function close(run: Run): Promise<void> {
  run.device.close();
  await run.base.close();
}

const smt = { name: "smt", blocks: 20, blockSize: 16, warmup: { steps: 1 } };

describe("a NaN or an infinity", () => {
  for (const [kind, method, precision] of [
    ["loss", smt, "bf16"],
    ["gradient", smt, "f32"],
    ["infinite gradient", smt, "bf16"],
    ["weight", smt, "bf16"],
    ["loss", { name: "full" }, "bf16"],
    ["gradient", { name: "full" }, "bf16"],
    ["infinite gradient", { name: "full" }, "f32"],
  ] as const)
    test(`in the ${kind}, ${method.name} ${precision}: the update is skipped and nothing else changes`, async (t) => {
      const { run, state, events } = await open(temporaryFolder(t), {
        method,
        train: { precision, steps: 9 },
        evaluate: { every: null },
        checkpoint: { every: null },
      });
      run.evaluation = [];
      const prints = new Map<number, string>();
      const norm = run.model.tensors.layers[0].inputNorm;
      const healthy = (await run.device.read(norm)) as Float32Array;
      await train(run, (event) => void events.push(event), {
        ...control,
        // Asked before every step: steps 3, 6 and 9 are poisoned.
        async stopRequested() {
          if (kind === "weight") run.device.write(norm, healthy);
          prints.set(run.state.step, await fingerprint(run));
          state.poison = run.state.step % 3 === 2 ? kind : null;
          if (state.poison === "weight") run.device.write(norm, Float32Array.of(Number.POSITIVE_INFINITY), 5);
          return false;
        },
      });
      if (kind === "weight") run.device.write(norm, healthy);
      prints.set(9, await fingerprint(run));
      const skipped = events.flatMap((event) => (event.kind === "skipped" ? [event] : []));
      assert.deepEqual(
        skipped.map(({ step }) => step),
        [3, 6, 9],
      );
      const why = kind === "loss" || kind === "weight" ? /loss is NaN/ : /gradient's norm is (NaN|Infinity)/;
      for (const { reason } of skipped) assert.match(reason, why);
      for (let step = 1; step <= 9; step++) assert.equal(prints.get(step) === prints.get(step - 1), step % 3 === 0, `step ${step}`);
      assert.deepEqual(
        { skipped: run.state.skipped, updates: run.state.updates, inRow: run.state.skippedInRow },
        { skipped: 3, updates: 6, inRow: 1 },
      );
      assert.equal(events.filter((event) => event.kind === "step").length, 6);
      await close(run);
    });

  test("five in a row end the run; the checkpoint named is there, holds the state before, and is gone on from", async (t) => {
    const folder = temporaryFolder(t);
    const overrides = { method: smt, train: { steps: 12 }, checkpoint: { every: 2, keep: 3 } };
    const { run, state, events } = await open(folder, overrides);
    let before = "";
    const failing = train(run, (event) => void events.push(event), {
      ...control,
      async stopRequested() {
        if (run.state.step === 3) before = await fingerprint(run);
        if (run.state.step >= 3) state.poison = "gradient";
        return false;
      },
    });
    await assert.rejects(failing, (error: Error & { code: string; badInput: boolean }) => {
      assert.deepEqual([error.code, error.badInput], ["run/not-finite", false]);
      assert.match(error.message, /5 updates in a row were skipped .* checkpoint is .*step-6/);
      return true;
    });
    assert.equal(run.state.step, 8);
    assert.equal(await fingerprint(run), before, "values, moments and weights are those of step 3");
    await close(run);
    const { ended } = await session(writeRunFile(folder, overrides), { runFolder: run.folder });
    assert.equal(ended, "done");
  });

  test("in the held-out loss it is said, is no best loss, and the run can still be saved", async (t) => {
    const { run, state, events } = await open(temporaryFolder(t), { method: smt, evaluate: { earlyStopping: 3 } });
    state.poison = "loss";
    await evaluate(run, (event) => void events.push(event));
    state.poison = null;
    assert.equal(run.state.bestEvaluation, null);
    assert.ok(events.some((event) => event.kind === "notice" && event.code === "run/evaluation-not-finite"));
    await save(run, () => {}, control);
    await evaluate(run, () => {});
    assert.equal((run.state.bestEvaluation as { step: number } | null)?.step, 0);
    await close(run);
  });

  test("in the warm-up ends it with the step named: blocks cannot be ranked by it", async (t) => {
    const { run, state } = await open(temporaryFolder(t), { method: smt });
    for (const poison of ["loss", "weight"] as const) {
      state.poison = poison;
      if (poison === "weight") run.device.write(run.model.tensors.finalNorm, Float32Array.of(Number.NaN));
      await assert.rejects(
        chooseBlocks(run, () => {}, control),
        (error: Error & { code: string }) => error.code === "method/score-not-finite",
      );
    }
    await close(run);
  });

  test("in the gradient of a warm-up that trains ends it at that step, before an update is left out", async (t) => {
    const { run, state } = await open(temporaryFolder(t), { method: smt });
    run.smt = { ...(run.smt as NonNullable<Run["smt"]>), warmup: { steps: 3, update: true } };
    state.poison = "infinite gradient";
    await assert.rejects(
      chooseBlocks(run, () => {}, control),
      (error: Error & { code: string }) =>
        error.code === "method/score-not-finite" && /^The gradient's norm of warm-up step 1 is (Infinity|NaN)/.test(error.message),
    );
    await close(run);
  });
});
