/**
 * A run on a card: how often it waits, what it holds, and what becomes of it when the card has no memory left for a step, is lost, and is lost twice. What
 * a run ends with that went through all of this is compared with an undisturbed one's, bit for bit. The card is watched, taken away, and its memory bounded at
 * WebGPU's own interface.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { openGpu } from "../../../../src/core/devices/webgpu/gpu.ts";
import { openWebgpuDevice, WebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import { findCheckpoint } from "../../../../src/core/files/checkpoint.ts";
import { readEvents } from "../../../../src/core/files/eventLog.ts";
import { checkRun } from "../../../../src/core/prepare.ts";
import type { RunEvent } from "../../../../src/protocol/events.ts";
import type { UserError } from "../../../../src/protocol/userError.ts";
import { prepareGraphicsCard } from "../../../support/graphicsCard.ts";
import { readConfig, resultOf, session, temporaryFolder, writeRunFile } from "../../run/smallRuns.ts";

const { skip, software } = await findCard();

async function findCard(): Promise<{ skip: string | false; software: boolean }> {
  try {
    const { software } = prepareGraphicsCard();
    (await openGpu()).close();
    return { skip: false, software };
  } catch (error) {
    return { skip: `not run: ${error instanceof Error ? error.message : error}`, software: false };
  }
}

/** What tests see of the cards that runs open, and how they disturb them. */
const card = {
  opened: [] as GPUDevice[],
  /** Takes each away at once. */
  losing: false,
  /** Has no memory for a tensor any more. The software card has no gibibyte in one piece: the error is the driver's own. */
  full: false,
  waits: 0,
  heldBytes: 0,
  peakBytes: 0,
};
const giveBack: (() => void)[] = [];

/** Wraps a method of WebGPU until the tests are done. */
function wrap<Owner extends object, Name extends keyof Owner>(owner: Owner, name: Name, make: (original: Owner[Name]) => Owner[Name]): void {
  const original = owner[name];
  owner[name] = make(original);
  giveBack.push(() => {
    owner[name] = original;
  });
}

function watchCards(): void {
  wrap(
    GPUAdapter.prototype,
    "requestDevice",
    (requestDevice) =>
      async function (this: GPUAdapter, ...given) {
        const device = await requestDevice.apply(this, given);
        card.opened.push(device);
        if (card.losing) device.destroy();
        return device;
      },
  );
  wrap(
    GPUDevice.prototype,
    "createBuffer",
    (createBuffer) =>
      function (this: GPUDevice, descriptor) {
        const isTensor = (descriptor.usage & 0x0080) !== 0; // STORAGE
        if (card.full && isTensor) return createBuffer.call(this, { ...descriptor, size: this.limits.maxBufferSize });
        const isHosts = (descriptor.usage & 0x0001) !== 0; // MAP_READ
        if (!isHosts) card.heldBytes += descriptor.size;
        card.peakBytes = Math.max(card.peakBytes, card.heldBytes);
        return createBuffer.call(this, descriptor);
      },
  );
  wrap(
    GPUBuffer.prototype,
    "destroy",
    (destroy) =>
      function (this: GPUBuffer) {
        if ((this.usage & 0x0001) === 0) card.heldBytes -= this.size;
        return destroy.call(this);
      },
  );
  wrap(
    GPUBuffer.prototype,
    "mapAsync",
    (mapAsync) =>
      function (this: GPUBuffer, ...given) {
        card.waits++;
        return mapAsync.apply(this, given);
      },
  );
  wrap(
    GPUQueue.prototype,
    "onSubmittedWorkDone",
    (done) =>
      function (this: GPUQueue) {
        card.waits++;
        return done.call(this);
      },
  );
}

describe("a run on a card", { skip }, () => {
  const folder = temporaryFolder({ after });
  let undisturbed: string;
  let disturbed: string;
  let runFile: string;
  /** Everything the disturbed run told, session after session. */
  const told: RunEvent[] = [];
  const waitsAtStep: number[] = [];
  let ledgerBytes = 0;

  before(async () => {
    watchCards();
    runFile = writeRunFile(path.join(folder, "run"), {
      method: { name: "smt", selection: "selection.json" },
      train: { steps: 4, batchSize: 1, sequenceLength: 8, precision: "f32" },
      data: { eval: null },
      checkpoint: { every: null, keep: 1 },
      device: "webgpu",
    });
    const blocks = [0, 5].map((row, rank) => ({ name: "model.layers.1.mlp.down_proj", row, column: row, rank }));
    writeFileSync(path.join(folder, "run", "selection.json"), JSON.stringify({ version: 1, blockSize: 16, blocks }));
    const onEvent = (event: RunEvent) => {
      if (event.kind === "step") waitsAtStep.push(card.waits);
      if (event.kind === "memory") ledgerBytes = event.peakBytes;
    };
    undisturbed = (await session(runFile, { onEvent })).folder;
  });
  after(() => {
    for (const restore of giveBack) restore();
  });

  test("waits for the card for its loss and its gradient's norm alone", () => {
    // From one step's numbers to the next one's.
    assert.deepEqual(
      waitsAtStep.slice(1).map((waits, i) => waits - waitsAtStep[i]),
      [2, 2, 2],
    );
  });

  test("holds no more than its ledger counts, and that is what was planned", async () => {
    const { plan, base } = await checkRun(readConfig(runFile));
    await base.close();
    assert.equal(plan.exact, true);
    assert.equal(ledgerBytes, plan.peakBytes);
    assert.ok(card.peakBytes <= ledgerBytes, `${card.peakBytes} bytes of buffers`);
    assert.ok(card.peakBytes > 0.9 * ledgerBytes, `${card.peakBytes} bytes of buffers`);
    assert.equal(card.heldBytes, 0);
  });

  test("keeps freed memory for tensors of the same size, and never more than its peak", async () => {
    const device = new WebgpuDevice(await openGpu()); // without the products that a card with f16 is tried by, which leave memory as well
    const openedBytes = card.heldBytes;
    const use = (mebibytes: number) => device.free(device.allocate([mebibytes << 18], "f32", "activations"));
    use(10);
    for (const size of [1, 2, 3, 4, 1, 2, 3, 4]) use(size);
    // The largest was given up for the others, which together are as large.
    assert.equal(card.heldBytes - openedBytes, 10 << 20);
    const both = [device.allocate([4 << 18], "f32", "activations"), device.allocate([7 << 18], "f32", "activations")];
    assert.equal(card.heldBytes - openedBytes, 11 << 20);
    for (const tensor of both) device.free(tensor);
    assert.equal(device.ledger.liveBytes, 64 << 20);
    assert.equal(device.ledger.peakBytes, 75 << 20);
    device.close();
    assert.equal(card.heldBytes, 0);
  });

  test("has done what was asked for before a tensor that it has no memory for", async (t) => {
    if (!software) return t.skip("not run: the memory of a real card is not bounded here");
    const device = await openWebgpuDevice();
    const written = device.allocate([1024], "f32", "trainable");
    device.fill(written, 3);
    card.full = true;
    device.fill(device.allocate([2048], "f32", "workspace"), 5);
    card.full = false;
    await assert.rejects(device.read(written), { code: "device/out-of-memory" });
    assert.deepEqual(await device.read(written), new Float32Array(1024).fill(3));
    device.close();
  });

  /** A session of the disturbed run that fails; the error. */
  async function failing(options: Parameters<typeof session>[1]): Promise<UserError> {
    let failure: unknown;
    const onEvent = (event: RunEvent) => {
      told.push(event);
      if (event.kind === "started") disturbed = event.run;
      options?.onEvent?.(event);
    };
    await session(runFile, { ...options, onEvent }).catch((error) => {
      failure = error;
    });
    assert.ok(failure instanceof Error, "the run did not fail");
    assert.equal(told.at(-1)?.kind, "failed");
    return failure as UserError;
  }

  test("that finds no memory for a step stops with what the steps before it left", async (t) => {
    if (!software) {
      const onEvent = (event: RunEvent) => void told.push(event);
      const stopRequested = () => told.some((event) => event.kind === "step" && event.step === 2);
      disturbed = (await session(runFile, { onEvent, stopRequested })).folder;
      return t.skip("not run: the memory of a real card is not bounded here");
    }
    const onEvent = (event: RunEvent) => {
      card.full ||= event.kind === "step" && event.step === 2;
    };
    const error = await failing({ onEvent });
    card.full = false;
    assert.equal(error.code, "device/out-of-memory");
    assert.match(error.message, /has no [\d.]+ MiB left beside the \d+ MiB that are held\. Step 3 changed nothing; .*step-2\.$/);
    assert.match(error.action, /^Set train\.recompute to layer.* Or end what else uses that memory, and resume\.$/);
    assert.equal((await findCheckpoint(disturbed)).checkpoint?.step, 2);
  });

  test("that loses its card twice stops and keeps its checkpoint", async () => {
    card.losing = true;
    card.opened.length = 0;
    const error = await failing({ runFolder: disturbed });
    card.losing = false;
    assert.equal(card.opened.length, 2);
    assert.equal(error.code, "device/lost");
    assert.match(error.message, /had been lost and opened again before/);
    assert.equal((await findCheckpoint(disturbed)).checkpoint?.step, 2);
  });

  test("that loses its card once ends as if nothing had been, and nothing of it is missing in the log", async () => {
    card.opened.length = 0;
    let lost = false;
    const onEvent = (event: RunEvent) => {
      told.push(event);
      // In the midst of the step after it.
      if (event.kind === "step" && event.step === 3 && !lost) setImmediate(() => card.opened[0].destroy());
      lost ||= event.kind === "step" && event.step === 3;
    };
    const { ended, events } = await session(runFile, { runFolder: disturbed, onEvent });
    assert.equal(ended, "done");
    assert.equal(card.opened.length, 2);
    assert.deepEqual(resultOf(disturbed), resultOf(undisturbed));
    const notice = events.find((event) => event.kind === "notice" && event.code === "device/lost");
    assert.match((notice as { message: string }).message, /lost \(.+\)\. It is opened again, and the run goes on/);
    assert.deepEqual(
      events.filter(({ kind }) => kind === "resumed").map((event) => "fromStep" in event && event.fromStep),
      [2, 2],
    );
    const written = await readEvents(disturbed);
    assert.deepEqual(written, told);
    assert.deepEqual(
      written.map(({ sequence }) => sequence),
      written.map((_, i) => i + 1),
    );
  });
});
