/** The native device's memory: the pool's rule, what leaves the process, and calls that must be refused before they touch anything. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadAddon } from "../../../../src/core/devices/cpu/addon.ts";
import { cpuWorkspaceBytes } from "../../../../src/core/devices/cpu/cpuDevice.ts";
import type { Tensor } from "../../../../src/core/devices/device.ts";
import { Random } from "../../../../src/core/random.ts";
import { randomTensor, skip, withDevice } from "./nativeDevice.ts";

const mebibyte = 2 ** 20;

test("live and pooled bytes never exceed the ledger's peak", { skip }, async () => {
  await withDevice(2, (device) => {
    const random = new Random(3);
    const sizes = [1000, 20_000, 20_000, 300_000, 1_000_000];
    const live: Tensor[] = [];
    let reused = 0;
    for (let i = 0; i < 600; i++) {
      if (live.length > 0 && random.below(5) < 2 + (live.length > 12 ? 2 : 0)) {
        device.free(live.splice(random.below(live.length), 1)[0]);
      } else {
        const before = device.pooledBytes;
        live.push(device.allocate([sizes[random.below(sizes.length)]], "f32", "activations"));
        if (device.pooledBytes < before) reused++;
      }
      if (i === 300) device.ledger.resetPeak();
      // A new peak that starts lower binds the pool from the next allocation on.
      if (i !== 300) assert.ok(device.ledger.liveBytes + device.pooledBytes <= device.ledger.peakBytes || i > 300, `step ${i}`);
    }
    live.push(device.allocate([7], "f32", "activations"));
    assert.ok(device.ledger.liveBytes + device.pooledBytes <= device.ledger.peakBytes);
    assert.ok(reused > 50, `only ${reused} allocations came from the pool`);
    for (const tensor of live) device.free(tensor);
  });
});

test("resident memory follows the ledger, up and down", { skip }, async () => {
  const before = process.memoryUsage.rss();
  await withDevice(2, (device) => {
    const tensors = Array.from({ length: 60 }, (_, i) => device.allocate([500_000 + 1000 * i], i % 2 ? "f32" : "bf16", "weights"));
    for (const tensor of tensors) device.fill(tensor, 1);
    const grown = process.memoryUsage.rss() - before;
    assert.ok(grown <= 1.05 * device.ledger.liveBytes + 64 * mebibyte, `${grown} bytes resident for ${device.ledger.liveBytes}`);
    for (const tensor of tensors) device.free(tensor);
    device.ledger.resetPeak();
    device.free(device.allocate([1], "f32", "weights"));
    const left = process.memoryUsage.rss() - before;
    assert.ok(left <= 1.05 * device.ledger.peakBytes + 64 * mebibyte, `${left} bytes stay resident for ${device.ledger.peakBytes}`);
  });
});

test("the scratch is the ledger's workspace, and close gives it back", { skip }, async () => {
  const device = await withDevice(3, (open) => {
    assert.equal(open.ledger.bytesByClass.workspace, cpuWorkspaceBytes(3));
    assert.equal(loadAddon().workspaceBytes(3), cpuWorkspaceBytes(3));
    return open;
  });
  assert.equal(device.ledger.liveBytes, 0);
  assert.throws(() => device.allocate([1], "f32", "weights"), /closed/);
});

test("memory that is not there is a UserError, and the device goes on", { skip }, async () => {
  await withDevice(1, async (device) => {
    const kept = randomTensor(device, [1000], "f32", 1);
    const { liveBytes, peakBytes } = device.ledger;
    assert.throws(
      () => device.allocate([2 ** 20, 2 ** 18], "f32", "weights"),
      (error: Error & { code?: string }) =>
        error.code === "device/out-of-memory" && /needs 1048577 MiB more memory, and \d+ MiB are free/.test(error.message),
    );
    assert.deepEqual([device.ledger.liveBytes, device.ledger.peakBytes], [liveBytes, peakBytes]);
    assert.equal((await device.read(kept)).length, 1000);
    device.free(device.allocate([1000], "f32", "weights"));
  });
});

test("the addon refuses unknown ids, ranges and indices by itself", { skip }, () => {
  const addon = loadAddon();
  const device = addon.open(1, "");
  try {
    const floats = addon.allocate(device, 100, 0, 0);
    const integers = addon.allocate(device, 10, 2, 0);
    addon.write(
      device,
      integers,
      0,
      Int32Array.from({ length: 10 }, (_, i) => i),
    );
    const refused: [RegExp, () => void][] = [
      [/unknown or freed/, () => addon.fill(device, 999, 0, 1, 0)],
      [/smaller than the op needs/, () => addon.matmul(device, 10, 11, 1, floats, 0, floats, 0, floats, 0, false, false, false)],
      [/out may not be an operand/, () => addon.matmul(device, 5, 5, 5, floats, 0, floats, 10, floats, 50, false, false, false)],
      [/smaller than the op needs/, () => addon.copy(device, 60, floats, 50, floats, 0)],
      [/more elements are written/, () => addon.write(device, floats, 99, new Float32Array(2))],
      [/dtype/, () => addon.write(device, floats, 0, new Int32Array(2))],
      [/token id out of range/, () => addon.embeddingForward(device, 10, 5, 9, floats, 0, floats, 50, integers, 0)],
      [/position out of range/, () => addon.rope(device, 10, 4, 4, 9, floats, 0, floats, 50, floats, 70, integers, 0, false)],
      [/target out of range/, () => addon.crossEntropy(device, 10, 9, floats, 90, floats, 0, integers, 0, null)],
      [/integers where the op computes/, () => addon.addBias(device, 1, 10, integers, 0, floats, 0)],
      [/must be a size/, () => addon.addBias(device, -1, 10, floats, 0, floats, 0)],
      [/lies outside/, () => addon.gatherBlocks(device, 10, 4, 16, floats, 0, floats, 50, Int32Array.from([8, 4, 0, 4, 0, 0]))],
      [
        /starts after its own token/,
        () => addon.attentionForward(device, 1, 5, 5, 5, 1, 1, 2, floats, 0, floats, 90, floats, 10, floats, 20, floats, 30, integers, 1),
      ],
      [/missing argument/, () => addon.matmul(device)],
      [/must be a number/, () => addon.free(device, "1" as unknown as number)],
    ];
    for (const [message, call] of refused) assert.throws(call, message);
    addon.free(device, floats);
    assert.throws(() => addon.free(device, floats), /unknown or freed/);
    assert.throws(() => addon.fill(device + 1, integers, 0, 1, 0), /closed/);
  } finally {
    addon.close(device);
  }
});
