/**
 * Prunes a Hugging Face model into a new folder of the same layout, with `pruning.json` beside the weights: what a pruning is from its options to its
 * report. Embeddings, norms and head stay dense. The rule to keep: everything that can be refused is refused before weights are loaded, the target folder
 * first of all; nothing is written before everything is pruned.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import type { PrunedMatrix, PruningGrouping, PruningMethod, PruningProgress, PruningReport } from "../../protocol/pruning.ts";
import { UserError } from "../../protocol/userError.ts";
import { checkSequenceLength } from "../data/loadData.ts";
import { openTokenizer } from "../data/tokenizer.ts";
import type { Device, SparsityPattern } from "../devices/device.ts";
import { openDevice } from "../devices/open.ts";
import { jsonText, requireFreeBytes } from "../files/durableFile.ts";
import { exportMerged, type WeightOverride } from "../files/mergedExport.ts";
import { type ModelFolder, openModelFolder } from "../files/modelFolder.ts";
import { requireEmptyFolder } from "../files/newFolder.ts";
import { baseHash } from "../files/smtDelta.ts";
import { type ModelConfig, type Projection, projectionName, projectionShape, projections } from "../model/config.ts";
import type { Llama } from "../model/llama.ts";
import { ropeTables } from "../model/rope.ts";
import { allocateTensors, loadWeights, readPieces } from "../model/tensors.ts";
import { bytesOfActivations } from "./activations.ts";
import { errorTokens, pruneBlocks } from "./blockwise.ts";
import { type Calibration, readCalibration } from "./calibration.ts";
import { magnitude } from "./magnitude.ts";
import { parsePattern } from "./patterns.ts";
import { permutedNames } from "./permuteModel.ts";
import type { Pruner } from "./pruner.ts";
import { ria } from "./ria.ts";
import { sparseGpt } from "./sparseGpt.ts";
import { wanda } from "./wanda.ts";
import { WorkMeter } from "./workMeter.ts";

export interface PruneOptions {
  /** Hugging Face folder. */
  model: string;
  method: PruningMethod;
  /** `0.5`, `2:4`, … */
  pattern: string;
  /** RIA alone: where the lowest scores of a share are looked for; default the whole matrix. */
  grouping?: PruningGrouping;
  /**
   * Puts channels into an order first in which an n:m pattern keeps more, throughout the model, which computes the same; for methods that score weights.
   * Default false.
   */
  permute?: boolean;
  /** Text, JSON lines or JSON; null only for magnitude, which then measures no errors. */
  calibration: string | null;
  /** Windows of the calibration; default 128. */
  samples?: number;
  /** Tokens of a window; default: the model's positions, at most 2048. */
  sequenceLength?: number;
  /** Draws the windows; default 0. */
  seed?: number;
  /** New or empty folder. */
  to: string;
  device: "auto" | "cpu" | "webgpu" | "tensorflow";
  threads: number | "auto";
  /** Projections that are pruned; default all seven. */
  targets?: readonly string[];
  /** Hidden states kept in memory, at most; more go to a temporary file. Default 1 GiB. */
  maxActivationBytes?: number;
  /** Told what there is to know before the work begins, and what was done otherwise than usual. */
  onNotes?(notes: readonly string[]): void;
}

export const defaultSamples = 128;
export const longestWindow = 2048;
const defaultActivationBytes = 2 ** 30;

const pruners: Record<PruningMethod, (options: Pick<PruneOptions, "grouping">) => Pruner> = {
  magnitude,
  wanda,
  sparsegpt: () => sparseGpt(),
  ria: ({ grouping }) => ria({ grouping }),
};

export const reportFile = "pruning.json";

/**
 * Prunes. Throws UserError (`export/not-empty`, `prune/…`, `model/…`, `data/…`, `run/disk-full`), and the signal's reason when it is aborted; nothing stays
 * behind then.
 */
export async function pruneModel(
  options: PruneOptions,
  onProgress: (progress: PruningProgress) => void,
  signal: AbortSignal,
): Promise<PruningReport> {
  await requireEmptyFolder(options.to);
  const pattern = parsePattern(options.pattern);
  const targets = targetsOf(options.targets);
  checkVariants(options, pattern);
  if (options.calibration === null && options.method !== "magnitude") throw noCalibration(options.method);
  const base = await openModelFolder(options.model);
  try {
    checkGroups(pattern, base.config, targets);
    const calibration = await calibrationOf(options, base);
    await checkDisk(options, base, calibration);
    signal.throwIfAborted();
    // One pass over the weights, most of it to and from the host: a card is used where it is asked for by name.
    const { device, reasons } = await openDevice(options.device === "auto" ? "cpu" : options.device, options.threads);
    try {
      options.onNotes?.([...reasons, ...(calibration?.notes ?? [])]);
      return await pruneOn(device, base, options, { pattern, targets, calibration }, onProgress, signal);
    } finally {
      device.close();
    }
  } finally {
    await base.close();
  }
}

/** What was read from the options and checked. */
export interface PreparedPruning {
  pattern: SparsityPattern;
  targets: ReadonlySet<string>;
  calibration: Calibration | null;
}

/** With a device at hand: load, prune, write. Exported for tests that look at the device's ledger. */
export async function pruneOn(
  device: Device,
  base: ModelFolder,
  options: PruneOptions,
  { pattern, targets, calibration }: PreparedPruning,
  onProgress: (progress: PruningProgress) => void,
  signal: AbortSignal,
): Promise<PruningReport> {
  const pruner = pruners[options.method](options);
  const { permute = false } = options;
  const tokens = calibration?.ids.length ?? 0;
  const hessianTokens = pruner.needsHessian ? tokens : Math.min(tokens, errorTokens);
  const permutes = permute ? (pruner.needsSumSquares ? "by inputs" : "by weights") : null;
  const meter = new WorkMeter(base.config, { targets, tokens, hessianTokens, sweeps: pruner.needsHessian, permutes }, onProgress);
  meter.at("loading");
  const model = await loadModel(device, base, calibration?.sequenceLength ?? 1, (share) => {
    signal.throwIfAborted();
    meter.loaded(share);
  });
  const weights = weightNames(base.config, targets);
  const baseSha256 = await baseHash(base, weights);
  signal.throwIfAborted();
  const matrices = await pruneBlocks(model, {
    pruner,
    pattern,
    targets,
    calibration,
    permute,
    dtypeOf: ({ name }) => base.tensor(`${name}.weight`).dtype,
    maxActivationBytes: options.maxActivationBytes ?? defaultActivationBytes,
    activationFolder: await existingFolder(options.to),
    meter,
    signal,
    onNote: (note) => options.onNotes?.([note]),
  });
  meter.at("writing", base.config.numLayers - 1);
  const report = reportOf(options, calibration, path.basename(path.resolve(base.path)), baseSha256, matrices);
  const changed = permute ? permutedNames(model) : weights;
  await exportMerged(base, overridesOf(model, changed, meter, signal), options.to, { signal, texts: { [reportFile]: jsonText(report) } });
  meter.written(1);
  return report;
}

function targetsOf(asked: readonly string[] | undefined): ReadonlySet<Projection> {
  if (!asked) return new Set(projections);
  for (const name of asked)
    if (!projections.includes(name as Projection))
      throw new UserError("prune/unknown-target", `${name} is no projection of a decoder layer.`, `Choose from ${projections.join(", ")}.`);
  return new Set(projections.filter((projection) => asked.includes(projection)));
}

/** Refuses what has no meaning with this method or pattern. */
function checkVariants({ method, grouping, permute }: PruneOptions, pattern: SparsityPattern): void {
  if (grouping !== undefined && (method !== "ria" || pattern.kind !== "share"))
    throw new UserError(
      "prune/grouping",
      "Only RIA, and only for a share of zeros such as 0.5, can look for the lowest scores of the matrix or of each row.",
      "Leave --grouping out.",
    );
  if (permute && (method === "sparsegpt" || pattern.kind !== "groups"))
    throw new UserError(
      "prune/permute",
      method === "sparsegpt"
        ? "SparseGPT changes weights while it prunes: it has no scores by which channels could be put into an order."
        : "Another order of channels changes nothing for a share of zeros.",
      method === "sparsegpt" ? "Leave --permute out, or prune by wanda or ria." : "Leave --permute out, or give a pattern such as 2:4.",
    );
}

function noCalibration(method: PruningMethod): UserError {
  return new UserError(
    "prune/no-calibration",
    `The method ${method} looks at a layer's inputs and needs text.`,
    "Give a file with --calibration, or prune by magnitude.",
  );
}

function checkGroups(pattern: SparsityPattern, config: ModelConfig, targets: ReadonlySet<Projection>): void {
  if (pattern.kind !== "groups") return;
  for (const projection of targets) {
    const columns = projectionShape(config, projection)[1];
    if (columns % pattern.of !== 0)
      throw new UserError(
        "prune/pattern",
        `${projection} has ${columns} input columns, which do not fall into groups of ${pattern.of}.`,
        "Choose another pattern, such as 0.5.",
      );
  }
}

async function calibrationOf(options: PruneOptions, base: ModelFolder): Promise<Calibration | null> {
  if (options.calibration === null) return null;
  const sequenceLength = options.sequenceLength ?? Math.min(longestWindow, base.config.maxPositions);
  checkSequenceLength(sequenceLength, base.config, "--sequence-length");
  const { samples = defaultSamples, seed = 0, calibration: file } = options;
  return readCalibration({ file, samples, sequenceLength, seed }, await openTokenizer(base.path), base.config);
}

/** Room for the new weights, and for activations that do not stay in memory. */
async function checkDisk(options: PruneOptions, base: ModelFolder, calibration: Calibration | null): Promise<void> {
  const activations = calibration ? bytesOfActivations({ tokens: calibration.ids.length, columns: base.config.hiddenSize }) : 0;
  const spilled = activations > (options.maxActivationBytes ?? defaultActivationBytes) ? activations : 0;
  await requireFreeBytes(options.to, await existingFolder(options.to), base.weightBytes + spilled);
}

/** The nearest folder above a path that is there: what will be written lands on its disk. */
async function existingFolder(place: string): Promise<string> {
  for (let folder = path.dirname(path.resolve(place)); ; folder = path.dirname(folder)) {
    const status = await stat(folder).catch(() => null);
    if (status?.isDirectory() || folder === path.dirname(folder)) return folder;
  }
}

async function loadModel(device: Device, base: ModelFolder, positions: number, onProgress: (share: number) => void): Promise<Llama> {
  const stored = [...base.tensors.values()].every(({ dtype }) => dtype === "BF16") ? "bf16" : "f32";
  const tensors = allocateTensors(device, base.config, stored);
  let loaded = 0;
  await loadWeights(device, tensors, base, (bytes) => {
    loaded += bytes;
    onProgress(loaded / base.weightBytes);
  });
  return { device, config: base.config, tensors, rope: ropeTables(device, base.config, positions), precision: stored, recompute: "none" };
}

function weightNames(config: ModelConfig, targets: ReadonlySet<string>): string[] {
  const names: string[] = [];
  for (let layer = 0; layer < config.numLayers; layer++)
    for (const projection of projections) if (targets.has(projection)) names.push(`${projectionName(layer, projection)}.weight`);
  return names;
}

function overridesOf({ device, tensors }: Llama, names: readonly string[], meter: WorkMeter, signal: AbortSignal): Map<string, WeightOverride> {
  let written = 0;
  async function* floats(name: string): AsyncGenerator<Float32Array> {
    const tensor = tensors.byName.get(name);
    if (!tensor) throw new Error(`there is no weight ${name}`);
    for await (const piece of readPieces(device, tensor)) {
      signal.throwIfAborted();
      yield piece;
    }
    written++;
    meter.written(Math.min(0.99, written / names.length));
  }
  return new Map(names.map((name) => [name, { floats: () => floats(name) }]));
}

function reportOf(
  { method, pattern, grouping, permute, calibration: file, seed = 0 }: PruneOptions,
  calibration: Calibration | null,
  base: string,
  baseSha256: string,
  matrices: PrunedMatrix[],
): PruningReport {
  const total = (of: (matrix: PrunedMatrix) => number) => matrices.reduce((sum, matrix) => sum + of(matrix), 0);
  const calibrated = calibration && { file: path.basename(file ?? ""), samples: calibration.samples, tokens: calibration.ids.length, seed };
  return {
    method,
    pattern,
    ...(grouping === undefined ? {} : { grouping }),
    ...(permute ? { permuted: true } : {}),
    base,
    baseSha256,
    calibration: calibrated,
    matrices,
    zeros: total(({ zeros }) => zeros),
    entries: total(({ entries }) => entries),
  };
}
