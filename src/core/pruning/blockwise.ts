/**
 * Pruning from the first decoder block to the last. Of each block: all calibration windows run through it while it is dense and leave statistics of its
 * stages' inputs; its linear maps are pruned; the windows run through it again, now pruned, to become the next block's inputs.
 * The rule to keep: beside the model there is at any time one block's work (a weight as it is pruned, what a forward pass holds), no more Hessians than take
 * the largest one's memory, and one set of activations. For that a block is looked at in passes from its last stage to its first: down_proj, whose Hessian is
 * the largest, is pruned and its Hessian given back before those of the other stages are gathered, whose inputs it does not change.
 */

import type { PrunedMatrix } from "../../protocol/pruning.ts";
import type { FileDType, SparsityPattern, Tensor } from "../devices/device.ts";
import { Frozen } from "../methods/frozen.ts";
import type { Linear } from "../methods/method.ts";
import { type Projection, projections } from "../model/config.ts";
import { forwardLayer, type Llama } from "../model/llama.ts";
import type { Calibration } from "./calibration.ts";
import { CalibrationWindows, type WindowsOptions } from "./calibrationWindows.ts";
import { type GroupPattern, permuteColumns, permuteMakers } from "./permuteModel.ts";
import type { Pruner } from "./pruner.ts";
import { measure, roundTo } from "./reconstruction.ts";
import { permuteResidualStream } from "./residualOrder.ts";
import { freeStatistics, type Gathered, type ObservedStage, Observing, passesOf, stagesOf } from "./statistics.ts";
import type { WorkMeter } from "./workMeter.ts";

export interface BlockwiseOptions extends WindowsOptions {
  pruner: Pruner;
  pattern: SparsityPattern;
  /** Projections that are pruned. */
  targets: ReadonlySet<string>;
  /** Null: no statistics and no errors; for a method that needs none. */
  calibration: Calibration | null;
  /** How a file stores a weight. */
  dtypeOf(linear: Linear): FileDType;
  /** Whether channels are put into an order first in which an n:m pattern keeps more of the scores; for a method that has scores. */
  permute?: boolean;
  meter: WorkMeter;
  signal: AbortSignal;
  /** Told what was done otherwise than usual, with the name of the map. */
  onNote?(note: string): void;
}

/** Tokens whose inputs measure the errors of methods that gather no Hessian of their own. */
export const errorTokens = 16384;

/** Prunes the model in place and returns its matrices in order. Throws the signal's reason when it ends it; the model is then part pruned. */
export async function pruneBlocks(model: Llama, options: BlockwiseOptions): Promise<PrunedMatrix[]> {
  const { meter } = options;
  if (options.permute) await permuteResidualStream(model, options);
  const windows = options.calibration && (await CalibrationWindows.open(model, options.calibration, options));
  const matrices: PrunedMatrix[] = [];
  try {
    for (let layer = 0; layer < model.config.numLayers; layer++) {
      const pruned = await pruneBlock(model, windows, layer, options);
      matrices.push(...pruned.sort((a, b) => projections.indexOf(a.projection as Projection) - projections.indexOf(b.projection as Projection)));
      meter.at("calibrating", layer);
      if (windows && layer + 1 < model.config.numLayers) await advance(model, windows, layer, options);
    }
    return matrices;
  } finally {
    await windows?.close();
  }
}

/** Prunes a block, pass by pass; its matrices in the order in which they were done. */
async function pruneBlock(model: Llama, windows: CalibrationWindows | null, layer: number, options: BlockwiseOptions): Promise<PrunedMatrix[]> {
  const { meter, pruner } = options;
  const stages = stagesOf(model.tensors.layers[layer], options.targets);
  const matrices: PrunedMatrix[] = [];
  for (const [pass, numbers] of passesOf(model.config, options.targets).entries()) {
    const hessians = stages.filter(({ linears }) => numbers.includes(linears[0].stage - 4 * layer));
    // Sums of squares are small: the first pass gathers those of all stages.
    const sumSquares = pass === 0 && pruner.needsSumSquares ? stages : [];
    meter.at("calibrating", layer);
    if (windows) await observe(model, windows, layer, { sumSquares, hessians }, pass, options);
    meter.at("pruning", layer);
    for (const stage of hessians)
      for (const matrix of await pruneStage(model, stage, options)) {
        matrices.push(matrix);
        meter.finished(matrix);
      }
  }
  return matrices;
}

/** Runs the windows through a block whose maps before these stages are still dense, and fills the stages' statistics. */
async function observe(
  model: Llama,
  windows: CalibrationWindows,
  layer: number,
  gathered: Gathered,
  pass: number,
  { pruner, signal, meter }: BlockwiseOptions,
): Promise<void> {
  const observing = new Observing(model.device, gathered);
  const { parts } = windows;
  // Evenly over all windows: every n-th part measures the errors of a method that has no use for a Hessian.
  const every = pruner.needsHessian ? 1 : Math.ceil((parts * windows.activations.tokensOf(0)) / errorTokens);
  const step = gathered.sumSquares.length > 0 ? 1 : every;
  const look = async (x: Tensor, part: number) => {
    observing.withHessian = part % every === 0;
    forwardLayer(model, observing, windows.batch(part), layer, x);
    await model.device.turn();
    signal.throwIfAborted();
    meter.observed(pass, Math.min(step, parts - part) / parts);
  };
  await windows.activations.forEach(look, step);
}

/** Runs the windows through a block that is pruned now. */
async function advance(model: Llama, windows: CalibrationWindows, layer: number, { signal, meter }: BlockwiseOptions): Promise<void> {
  const frozen = new Frozen(model.device);
  for (let part = 0; part < windows.parts; part++) {
    await windows.activations.update(part, (x) => forwardLayer(model, frozen, windows.batch(part), layer, x));
    await model.device.turn();
    signal.throwIfAborted();
    meter.advanced(1 / windows.parts);
  }
}

/** The order in which a stage's input columns will stand, those that make them being in it already; null when they stay as they are. */
async function orderOf(model: Llama, { linears, statistics }: ObservedStage, { pruner, pattern, permute, signal }: BlockwiseOptions) {
  if (!permute || !pruner.scores) return null;
  const [reader] = linears;
  const scores = await pruner.scores(model, reader.weight, statistics);
  const order = await permuteMakers(model, reader, scores, pattern as GroupPattern, () => signal.throwIfAborted());
  if (order && statistics.sumSquares) await permuteColumns(model.device, statistics.sumSquares, order);
  return order;
}

/** Prunes the maps of a stage, puts them into the model and gives the stage's statistics back. */
async function pruneStage(model: Llama, stage: ObservedStage, options: BlockwiseOptions): Promise<PrunedMatrix[]> {
  const { device } = model;
  const { linears, statistics } = stage;
  const { pruner, signal, meter } = options;
  const order = await orderOf(model, stage, options);
  const context = (linear: Linear) => ({
    device,
    pattern: options.pattern,
    signal,
    onProgress: (done: number) => meter.pruning(linear, done),
    onNote: (note: string) => options.onNote?.(`${linear.name}: ${note}`),
  });
  await pruner.beginStage?.(context(linears[0]), statistics);
  const pruned: Tensor[] = [];
  for (const linear of linears) {
    signal.throwIfAborted();
    const w = device.allocate(linear.weight.shape, "f32", "workspace");
    device.copy(w, linear.weight);
    if (order) await permuteColumns(device, w, order);
    await pruner.prune(context(linear), w, statistics);
    const rounded = linear.weight.dtype === "f32" ? w : device.allocate(linear.weight.shape, linear.weight.dtype, "workspace");
    await roundTo(device, rounded, w, options.dtypeOf(linear));
    if (rounded !== w) device.free(w);
    pruned.push(rounded);
    meter.pruning(linear, 1);
  }
  await pruner.endStage?.(context(linears[0]), statistics);
  const matrices: PrunedMatrix[] = [];
  for (const [i, linear] of linears.entries()) {
    signal.throwIfAborted();
    const { zeros, entries, error } = await measure(device, linear.weight, pruned[i], statistics.hessian, order);
    device.copy(linear.weight, pruned[i]);
    device.free(pruned[i]);
    matrices.push({ name: linear.name, layer: linear.layer, projection: linear.projection, zeros, entries, error });
  }
  freeStatistics(device, statistics);
  return matrices;
}
