/**
 * The WebGPU device with a whole model: losses and weights of a few updates beside the cpu device's, for a method of each kind, and memory given back.
 * Op by op it is judged by the conformance suite. On a software card the runs are short.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Device } from "../../../../src/core/devices/device.ts";
import { openWebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import type { Precision } from "../../../../src/core/model/tensors.ts";
import { fastDevice } from "../../../support/devices.ts";
import { openCard } from "../../../support/graphicsCard.ts";
import { expectAlike, expectCachedLogits, methodsOfEachKind, trained } from "../../../support/trainedStory.ts";

const { card, skip } = await openCard();
after(() => card?.close());

/** What the tests below found where each tensor lies in one buffer. */
const inWholes = new Map<string, Awaited<ReturnType<typeof trained>>>();

/** Adapters take the kernels of full fine-tuning and some of their own, which the suite of ops judges in either precision: one is enough here. */
const precisionsOf = (name: string): readonly Precision[] => (name === "smt" || name === "full" ? ["f32", "bf16"] : ["bf16"]);

for (const [name, attach] of Object.entries(methodsOfEachKind))
  for (const precision of precisionsOf(name))
    test(`${name} in ${precision}: losses and gradient norms are the cpu's`, { skip }, async () => {
      const device = card as Device;
      const cpu = fastDevice();
      const before = device.ledger.liveBytes;
      const [ours, theirs] = [await trained(device, precision, attach), await trained(cpu, precision, attach)];
      cpu.close();
      inWholes.set(`${name} in ${precision}`, ours);
      assert.equal(device.ledger.liveBytes, before);
      expectAlike(ours, theirs, precision);
    });

// The embedding lies in eight parts, the larger linear maps in two.
test("full in f32 on a card that binds little at once: the same bits", { skip }, async () => {
  const narrow = await openWebgpuDevice({ bindingBytes: 160 << 10 });
  const inParts = await trained(narrow, "f32", methodsOfEachKind.full);
  narrow.close();
  assert.deepEqual(inParts, inWholes.get("full in f32"));
});

test("logits with and without a cache are the same to rounding", { skip }, () => expectCachedLogits(card as Device));
