/**
 * Training steps on fixed synthetic tokens, timed: the work a peer does too, so that losses must agree and speeds can be divided.
 * Token p of the stream is (7919 p + 13) mod V; every position is a target; constant learning rate, no clipping, no weight decay.
 */
import type { Batch } from "../data/batch.ts";
import type { Device } from "../devices/device.ts";
import { openModelFolder } from "../files/modelFolder.ts";
import { FullFineTuning } from "../methods/full.ts";
import type { TuningMethod } from "../methods/method.ts";
import { gridShape, totalMatrixParameters } from "../methods/smt/selection.ts";
import { SparseMatrixTuning } from "../methods/smt/smt.ts";
import { type ModelConfig, projectionName, projectionShape } from "../model/config.ts";
import { type Llama, runBatch } from "../model/llama.ts";
import { ropeTables } from "../model/rope.ts";
import { allocateTensors, loadWeights, type Precision } from "../model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "../optim/update.ts";

/** What is trained, and how much of it. */
export interface SyntheticRun {
  modelFolder: string;
  method: "smt" | "full";
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
  peakBytes: number;
}

const blockSize = 256;
const ratio = 0.0084;

/** The first blocks of v_proj in layer order, as many as the ratio buys. */
export function benchBlocks(config: ModelConfig): { name: string; row: number; column: number }[] {
  const count = Math.floor((ratio * totalMatrixParameters(config)) / blockSize / blockSize) || 1;
  const [rows, columns] = gridShape(projectionShape(config, "v_proj"), blockSize);
  return Array.from({ length: count }, (_, i) => {
    const within = i % (rows * columns);
    return { name: projectionName(Math.floor(i / (rows * columns)), "v_proj"), row: Math.floor(within / columns), column: within % columns };
  });
}

/** Matrix parameters a token is multiplied with: all 2-D weights but the embedding look-up. */
export function multipliedParameters(config: ModelConfig): number {
  return totalMatrixParameters(config) - (config.tiedEmbeddings ? 0 : config.vocabSize * config.hiddenSize);
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
  const method: TuningMethod & { release(): void } =
    run.method === "full" ? new FullFineTuning(device, tensors) : new SparseMatrixTuning(device, tensors, benchBlocks(folder.config), blockSize);
  const losses: number[] = [];
  const stepSeconds: number[] = [];
  for (let step = 0; step < run.steps; step++) {
    const batch = syntheticBatch(folder.config, batchSize, sequenceLength, step);
    const began = performance.now();
    zeroGradients(device, method.parameters);
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
  return { losses, stepSeconds, tokensPerSecond: (batchSize * sequenceLength) / median(timed), peakBytes };
}

/** Median; the mean of the middle two for an even count. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
