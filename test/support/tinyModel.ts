/** A Llama of two layers with random weights, small enough for the float64 reference, and text it can learn. */
import { createHash } from "node:crypto";
import type { Batch } from "../../src/core/data/batch.ts";
import type { Device, Tensor } from "../../src/core/devices/device.ts";
import { linearsOf } from "../../src/core/methods/smt/scoring.ts";
import type { ModelConfig } from "../../src/core/model/config.ts";
import type { Llama } from "../../src/core/model/llama.ts";
import { ropeTables } from "../../src/core/model/rope.ts";
import { allocateTensors, type Precision } from "../../src/core/model/tensors.ts";
import { pruneTwoOfFour } from "./adapters.ts";
import { normals } from "./randomTensors.ts";
import { plainBatch } from "./storyModel.ts";

export const tinyConfig: ModelConfig = {
  family: "qwen2",
  hiddenSize: 32,
  intermediateSize: 48,
  numLayers: 2,
  numHeads: 4,
  numKeyValueHeads: 2,
  headSize: 8,
  vocabSize: 64,
  maxPositions: 64,
  rmsNormEpsilon: 1e-5,
  ropeTheta: 10000,
  ropeScaling: { type: "default" },
  tiedEmbeddings: true,
  qkvBias: true,
  outputBias: false,
  mlpBias: false,
  bosTokenId: null,
  eosTokenIds: [],
  queryKeyNorm: false,
};

/** The same weights on every device; its linear maps are 2:4 when asked. */
export function openTiny(device: Device, precision: Precision, options: { pruned?: boolean; recompute?: Llama["recompute"] } = {}): Llama {
  const tensors = allocateTensors(device, tinyConfig, precision);
  const linear = new Set(linearsOf(tensors).map(({ name }) => `${name}.weight`));
  for (const [i, [name, tensor]] of [...tensors.byName].entries()) {
    const count = tensor.shape.reduce((a, b) => a * b, 1);
    const isNorm = name.endsWith("norm.weight");
    const values = normals(100 + i, count, tensor.shape.length === 2 ? 1 / Math.sqrt(tensor.shape[1]) : 0.1);
    const written = isNorm ? values.map((x) => 1 + x) : options.pruned && linear.has(name) ? pruneTwoOfFour(values) : values;
    device.write(tensor, written);
  }
  return { device, config: tinyConfig, tensors, rope: ropeTables(device, tinyConfig, 64), precision, recompute: options.recompute ?? "none" };
}

/** Rows in which each token follows from the one before it: id → 5·id + 3 + row mod 64. */
export function tinyBatch(batchSize = 2, sequenceLength = 16, first = 0): Batch {
  const inputs = new Int32Array(batchSize * sequenceLength);
  const targets = new Int32Array(batchSize * sequenceLength);
  for (let row = 0; row < batchSize; row++) {
    let id = (7 * (first + row) + 1) % 64;
    for (let t = 0; t < sequenceLength; t++) {
      inputs[row * sequenceLength + t] = id;
      id = (5 * id + 3) % 64;
      targets[row * sequenceLength + t] = id;
    }
  }
  return plainBatch(batchSize, sequenceLength, inputs, targets);
}

/** How many entries of `base` are zero, and how many of those `now` has not. */
export function lostZeros(base: ArrayLike<number>, now: ArrayLike<number>): { zeros: number; lost: number } {
  let [zeros, lost] = [0, 0];
  for (let i = 0; i < base.length; i++)
    if (base[i] === 0) {
      zeros++;
      if (now[i] !== 0) lost++;
    }
  return { zeros, lost };
}

/** A digest of a tensor's elements, to compare them bit for bit. */
export async function bitsOf(device: Device, tensor: Tensor): Promise<string> {
  const values = await device.read(tensor);
  return createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");
}
