/**
 * Training steps on fixed synthetic tokens, timed: the work a peer does too, so that losses must agree and speeds can be divided.
 * Token p of the stream is (7919 p + 13) mod V; every position is a target; constant learning rate, no clipping, no weight decay.
 */
import type { Batch } from "../data/batch.ts";
import { bytesOf, type Device, type Tensor } from "../devices/device.ts";
import { openModelFolder } from "../files/modelFolder.ts";
import type { TuningMethod } from "../methods/method.ts";
import type { ModelConfig } from "../model/config.ts";
import { type Llama, runBatch } from "../model/llama.ts";
import { ropeTables } from "../model/rope.ts";
import { allocateTensors, loadWeights, type Precision } from "../model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../optim/update.ts";
import { attachBenchMethod, type BenchMethod } from "./benchMethods.ts";

/** What is trained, and how much of it. */
export interface SyntheticRun {
  modelFolder: string;
  method: BenchMethod;
  precision: Precision;
  batchSize: number;
  sequenceLength: number;
  steps: number;
}

/** What a synthetic training gave: its losses are those of the peer, its speed is what is compared. */
export interface SyntheticResult {
  losses: number[];
  /** Seconds of each step. */
  stepSeconds: number[];
  /** Median over the steps but the first. */
  tokensPerSecond: number;
  /** By the device's ledger. */
  peakBytes: number;
  /** Bytes that one linear map, the first v_proj, makes backward keep, its input among them. */
  keptBytes: number;
}

/** Micro-batch of one step (B·T tokens), every position a target; ids follow the formula at the top of this file. */
export function syntheticBatch(config: ModelConfig, batchSize: number, sequenceLength: number, step: number): Batch {
  const tokens = batchSize * sequenceLength;
  const id = (position: number) => (7919 * position + 13) % config.vocabSize;
  const first = step * tokens;
  return {
    batchSize,
    sequenceLength,
    inputs: Int32Array.from({ length: tokens }, (_, i) => id(first + i)),
    targets: Int32Array.from({ length: tokens }, (_, i) => id(first + i + 1)),
    positions: Int32Array.from({ length: tokens }, (_, i) => i % sequenceLength),
    documentStart: new Int32Array(tokens),
    unmaskedTokens: tokens,
    tokens,
  };
}

/** Loads the model onto the device, trains and times it, and gives the memory back. */
export async function trainSynthetic(device: Device, run: SyntheticRun): Promise<SyntheticResult> {
  const { batchSize, sequenceLength, precision } = run;
  device.ledger.resetPeak();
  const folder = await openModelFolder(run.modelFolder);
  const tensors = allocateTensors(device, folder.config, precision);
  await loadWeights(device, tensors, folder);
  await folder.close();
  const model: Llama = {
    device,
    config: folder.config,
    tensors,
    rope: ropeTables(device, folder.config, sequenceLength),
    precision,
    recompute: "none",
  };
  const method = attachBenchMethod(device, tensors, folder.config, run.method);
  const keptBytes = measureKept(model, method, batchSize * sequenceLength);
  const losses: number[] = [];
  const stepSeconds: number[] = [];
  for (let step = 0; step < run.steps; step++) {
    const batch = syntheticBatch(folder.config, batchSize, sequenceLength, step);
    const began = performance.now();
    zeroGradients(device, method.parameters);
    method.beginBatch?.({ step: step + 1, batch: step });
    const lossSum = await runBatch(model, method, batch, 1 / batch.unmaskedTokens);
    const gradNorm = await gradientNorm(device, method.parameters);
    updateParameters(device, method.parameters, gradNorm, 1e-4, step + 1, { betas: [0.9, 0.95], epsilon: 1e-8, weightDecay: 0, clipGradNorm: null });
    method.afterUpdate();
    stepSeconds.push((performance.now() - began) / 1000);
    losses.push(lossSum / batch.unmaskedTokens);
  }
  const peakBytes = device.ledger.peakBytes;
  method.release();
  for (const tensor of [...tensors.byName.values(), model.rope.cos, model.rope.sin]) device.free(tensor);
  const timed = stepSeconds.length > 1 ? stepSeconds.slice(1) : stepSeconds;
  return { losses, stepSeconds, tokensPerSecond: (batchSize * sequenceLength) / median(timed), peakBytes, keptBytes };
}

/** Runs one linear map forward, counts what stays until backward, and runs its backward. Gradients are left with what that added. */
function measureKept({ device, tensors, precision }: Llama, method: TuningMethod, tokens: number): number {
  const linear = tensors.layers[0].linears.v_proj;
  const [out, width] = linear.weight.shape;
  const [x, dX] = [0, 0].map(() => device.allocate([tokens, width], precision, "activations"));
  const y = device.allocate([tokens, out], precision, "activations");
  device.fill(x, 0);
  device.fill(y, 0);
  const kept: Tensor[] = [];
  const before = device.ledger.liveBytes;
  method.beginBatch?.({ step: 1, batch: 0 });
  method.linearForward(y, linear, x, false, (tensor) => kept.push(tensor));
  const saved = method.saveInput(linear.stage, x);
  const bytes = device.ledger.liveBytes - before + (saved === x ? bytesOf(x.shape, x.dtype) : 0);
  method.linearBackward(dX, linear, y, saved, false, kept[0] ?? null);
  for (const tensor of new Set([...kept, ...(saved ? [saved] : []), x, dX, y])) device.free(tensor);
  return bytes;
}

/** Median; the mean of the middle two for an even count. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
