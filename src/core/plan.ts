/**
 * The memory plan: the very steps a run takes, run on the `meta` device, which allocates nothing and counts everything. Its peak is the plan.
 * With a known selection and full batches it equals the ledger's measured peak to the byte; before the selection it is the worst case and says so.
 */

import type { BytesByClass } from "../protocol/memory.ts";
import type { AdapterConfig, RunConfig, SmtConfig } from "../protocol/runConfig.ts";
import type { Selection } from "../protocol/selection.ts";
import { adapterOf } from "./adapterParameters.ts";
import { needsInitialising } from "./adapterRun.ts";
import type { Batch } from "./data/batch.ts";
import type { Device } from "./devices/device.ts";
import { openMetaDevice } from "./devices/meta.ts";
import type { PlannedDevice } from "./devices/open.ts";
import { attachAdapter } from "./methods/adapters.ts";
import { Frozen } from "./methods/frozen.ts";
import { FullFineTuning } from "./methods/full.ts";
import { LoRS } from "./methods/lors.ts";
import { initialiseLors } from "./methods/lorsInit.ts";
import type { AdapterMethod, Linear, TuningMethod } from "./methods/method.ts";
import { worstCaseBlocks } from "./methods/smt/layout.ts";
import { ActivationScoring, GradientScoring, linearsOf, scoreNeeds, scoreWeights } from "./methods/smt/scoring.ts";
import { blocksInBudget } from "./methods/smt/selection.ts";
import { SparseMatrixTuning } from "./methods/smt/smt.ts";
import { type ModelConfig, weightShapes } from "./model/config.ts";
import { type Llama, runBatch } from "./model/llama.ts";
import { ropeTables } from "./model/rope.ts";
import { allocateTensors } from "./model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "./optim/update.ts";
import { chosenFrom, resolveSmt, type SmtPlan, targetLinears } from "./smtRun.ts";
import { planSparsity } from "./sparsity.ts";

export interface MemoryPlan {
  peakBytes: number;
  /** What is held at the peak. */
  bytesByClass: BytesByClass;
  /** Weights, trainables, gradients and optimizer over the model's parameters. */
  bytesPerParameter: number;
  /** False before the selection is known: then the plan is the worst case. */
  exact: boolean;
  fullFineTuning: { peakBytes: number; bytesByClass: BytesByClass; bytesPerParameter: number };
}

/**
 * Plans a run. `selection` is what its file says is trained (null where a warm-up is to choose; ignored by methods without one). `chosen` is what its own
 * warm-up chose, once that is over: the plan is exact then, and still of the whole run. `pruned`: the zeros of the base will be watched.
 * Throws UserError `method/selection-mismatch` when it does not fit the model.
 */
export async function planMemory(
  config: RunConfig,
  modelConfig: ModelConfig,
  selection: Selection | null,
  planned: PlannedDevice,
  { pruned = false, chosen = null }: { pruned?: boolean; chosen?: Selection | null } = {},
): Promise<MemoryPlan> {
  const full = await peakOf(config, modelConfig, planned, async (model) => new FullFineTuning(model.device, model.tensors));
  if (config.method.name === "full") {
    const { sparse } = config.method;
    if (!pruned) return { ...full, exact: true, fullFineTuning: full };
    const attach = async (model: Llama) => new FullFineTuning(model.device, model.tensors, { keepZeros: sparse === "keep" });
    return { ...(await peakOf(config, modelConfig, planned, attach, { exact: true })), exact: true, fullFineTuning: full };
  }
  const adapter = adapterOf(config.method);
  if (adapter) {
    const plan = await peakOf(config, modelConfig, planned, (model) => startAdapter(model, adapter, config), pruned ? { exact: true } : null);
    return { ...plan, exact: true, fullFineTuning: full };
  }
  const smt = resolveSmt(config.method as SmtConfig, modelConfig, selection);
  const trained = selection ?? chosen;
  const exact = trained !== null && smt.reselectEvery === null;
  const attach = async (model: Llama) => {
    const { device, tensors } = model;
    const known = trained && chosenFrom(trained, linearsOf(tensors));
    if (!selection) await warmUp(model, config, smt);
    const wanted = () => blocksInBudget(modelConfig, smt.targets, smt.blockSize, smt.budget);
    const blocks = known && exact ? known : worstCaseBlocks(targetLinears(tensors, smt), wanted(), smt.blockSize, config.train.recompute);
    const method = new SparseMatrixTuning(device, tensors, blocks, smt.blockSize);
    // Blocks are chosen anew while the old ones are still held.
    if (smt.reselectEvery !== null) await warmUp(model, config, { ...smt, warmup: { ...smt.warmup, update: false } });
    return method;
  };
  const plan = await peakOf(config, modelConfig, planned, attach, pruned ? { exact } : null);
  return { ...plan, exact, fullFineTuning: full };
}

/** An adapter as a run starts it; what LoRS needs to find its start is the same for any number of rows. */
async function startAdapter(model: Llama, adapter: AdapterConfig, { train }: RunConfig): Promise<AdapterMethod> {
  const method = attachAdapter(model.device, model.tensors, adapter, null);
  if (method instanceof LoRS && needsInitialising(adapter))
    await initialiseLors(model, method, [fullBatch(train.batchSize, train.sequenceLength)], {
      seed: null,
      onProgress: () => {},
      stopped: async () => false,
    });
  return method;
}

async function peakOf(
  config: RunConfig,
  modelConfig: ModelConfig,
  planned: PlannedDevice,
  attach: (model: Llama) => Promise<TuningMethod>,
  watched: { exact: boolean } | null = null,
): Promise<Pick<MemoryPlan, "peakBytes" | "bytesByClass" | "bytesPerParameter">> {
  const device = openMetaDevice(planned);
  const { batchSize, sequenceLength, precision, recompute } = config.train;
  const tensors = allocateTensors(device, modelConfig, precision);
  const model: Llama = { device, config: modelConfig, tensors, rope: ropeTables(device, modelConfig, sequenceLength), precision, recompute };
  const method = await attach(model);
  const held = device.ledger.bytesByClass;
  const batch = fullBatch(batchSize, sequenceLength);
  await trainingStep(device, model, method, batch, config);
  method.beginBatch?.(null);
  await runBatch(model, method, batch, null); // evaluation
  if (watched) await planSparsity(device, tensors, method, watched.exact);
  let parameters = 0;
  for (const shape of weightShapes(modelConfig).values()) parameters += shape.reduce((a, b) => a * b, 1);
  const perParameter = (held.weights + held.trainable + held.gradients + held.optimizer) / parameters;
  return { peakBytes: device.ledger.peakBytes, bytesByClass: device.ledger.peakBytesByClass, bytesPerParameter: perParameter };
}

async function trainingStep(device: Device, model: Llama, method: TuningMethod, batch: Batch, config: RunConfig): Promise<void> {
  zeroGradients(device, method.parameters);
  method.beginBatch?.({ step: 1, batch: 0 });
  await runBatch(model, method, batch, 1);
  updateParameters(device, method.parameters, await gradientNorm(device, method.parameters), 0, 1, config.train);
  method.afterUpdate();
}

async function warmUp(model: Llama, config: RunConfig, smt: SmtPlan): Promise<void> {
  const { device, tensors } = model;
  const targets = targetLinears(tensors, smt);
  const batch = fullBatch(config.train.batchSize, config.train.sequenceLength);
  const needs = scoreNeeds(smt.score);
  if (smt.score === "meanOfAbs" || smt.score === "absOfMean" || smt.score === "absOfAccumulated") {
    const full = smt.warmup.update ? new FullFineTuning(device, tensors) : null;
    const scoring = new GradientScoring(device, targets, smt.score, smt.blockSize, full ?? new Frozen(device));
    await trainingStep(device, model, scoring, batch, config);
    await scoring.grids();
    scoring.release();
    full?.release();
  } else if (needs.forward) {
    const scoring = new ActivationScoring(device, targets, smt.blockSize);
    await runBatch(model, scoring, batch, null);
    await scoring.grids();
    scoring.release();
  } else if (smt.score !== "activation") await scoreWeights(device, oneOfEachShape(targets), smt.score, smt.blockSize, noValues);
}

/** The planner's device keeps no values: millions of random numbers would be drawn for nothing. */
const noValues = { uniform: () => 0, normal: () => 0 };

/** Scores of weights are taken matrix by matrix: those of one shape need the same memory, and the planner need not look at each. */
function oneOfEachShape(linears: readonly Linear[]): Linear[] {
  return [...new Map(linears.map((linear) => [linear.weight.shape.join(), linear])).values()];
}

/** A batch with no padding and every target counted. */
export function fullBatch(batchSize: number, sequenceLength: number): Batch {
  const tokens = batchSize * sequenceLength;
  const zeros = new Int32Array(tokens);
  return { batchSize, sequenceLength, inputs: zeros, targets: zeros, positions: zeros, documentStart: zeros, unmaskedTokens: tokens, tokens };
}
