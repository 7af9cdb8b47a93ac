/**
 * The TensorFlow device with a whole model: losses and gradient norms of a few updates beside the cpu device's, for a method of each kind; as many engine
 * tensors after every step, and all given back at the end. Op by op it is judged by the conformance suite.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openDevice } from "../../../../src/core/devices/open.ts";
import { openEngine } from "../../../../src/core/devices/tensorflow/engine.ts";
import { fastDevice } from "../../../support/devices.ts";
import { expectAlike, expectCachedLogits, methodsOfEachKind, trained } from "../../../support/trainedStory.ts";

const { device, reasons } = await openDevice("tensorflow", "auto");
const { tf } = (await openEngine()).engine;
after(() => device.close());

test("the device says which engine computes and what weights cost", () => {
  assert.match(device.description, /^tensorflow: tfjs 4\.22\.0 on WebAssembly.*; each weight takes 4 bytes$/);
  assert.deepEqual(reasons, ["@tensorflow/tfjs-node-gpu is not installed.", "@tensorflow/tfjs-node is not installed."]);
});

for (const [name, attach] of Object.entries(methodsOfEachKind))
  for (const precision of ["f32", "bf16"] as const)
    test(`${name} in ${precision}: losses and gradient norms are the cpu's, and no engine tensor is left`, async () => {
      const cpu = fastDevice();
      const [before, tensorsBefore] = [device.ledger.liveBytes, tf.memory().numTensors];
      const counts: number[] = [];
      const ours = await trained(device, precision, attach, () => counts.push(tf.memory().numTensors));
      const theirs = await trained(cpu, precision, attach);
      cpu.close();
      assert.equal(device.ledger.liveBytes, before);
      assert.equal(tf.memory().numTensors, tensorsBefore);
      assert.ok(counts[0] > tensorsBefore);
      assert.deepEqual(counts, Array(counts.length).fill(counts[0]));
      expectAlike(ours, theirs, precision);
    });

test("logits with and without a cache are the same to rounding", () => expectCachedLogits(device));
