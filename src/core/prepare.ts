/**
 * Opens a run: everything that can be refused is refused here, by name, before memory is taken or a file overwritten, in the order from cheap to dear:
 * configuration against the model, selection, data, disk, memory; only then the device, the weights, and the run folder's state.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { RunConfig } from "../protocol/runConfig.ts";
import { parseSelection, type Selection } from "../protocol/selection.ts";
import { UserError } from "../protocol/userError.ts";
import { adapterOf } from "./adapterParameters.ts";
import { checkpointBytesOf, restoreCheckpoint } from "./checkpointing.ts";
import { checkSequenceLength, type LoadedData, loadData } from "./data/loadData.ts";
import { BatchSource, evaluationBatches } from "./data/packing.ts";
import { openTokenizer, type Tokenizer } from "./data/tokenizer.ts";
import { memoryOf } from "./deviceMemory.ts";
import { type Choice, chooseDevice } from "./devices/choose.ts";
import type { Device } from "./devices/device.ts";
import { type MemoryPlace, openDevice, plannedDevice } from "./devices/open.ts";
import { type Checkpoint, checkpointsFolder } from "./files/checkpoint.ts";
import { freeBytes } from "./files/durableFile.ts";
import { hashFile } from "./files/fileHash.ts";
import { type ModelFolder, openModelFolder } from "./files/modelFolder.ts";
import { runFiles } from "./files/runFolder.ts";
import { readText } from "./files/textFile.ts";
import { changeThatFits } from "./fitting.ts";
import { checkAdapter } from "./methods/adapters.ts";
import { blocksInBudget } from "./methods/smt/selection.ts";
import type { ModelConfig } from "./model/config.ts";
import { ropeTables } from "./model/rope.ts";
import { allocateTensors, loadWeights } from "./model/tensors.ts";
import { type MemoryPlan, planMemory } from "./plan.ts";
import { freshState, hasWarmedBase, type Run, warmedFolder } from "./run.ts";
import { checkGiven, diagonalNotice, resolveSmt, type SmtPlan } from "./smtRun.ts";
import { isPruned, openMeter, shareOfZeros, zerosWarning } from "./sparsity.ts";
import { formatBytes } from "./terminal/format.ts";
import type { Emit } from "./trainer.ts";

/** A sentence for the giver of a run, with a stable code. */
interface Notice {
  code: string;
  message: string;
}

/** What is known of a run before any memory is taken. */
export interface CheckedRun {
  config: RunConfig;
  base: ModelFolder;
  tokenizer: Tokenizer;
  data: LoadedData;
  smt: SmtPlan | null;
  /** From a file, when the run file names one. */
  selection: Selection | null;
  /** Whether the base has zeros to watch. */
  pruned: boolean;
  /** The device it will compute on. */
  device: Choice;
  /** What the run would do that its giver may not want. */
  notices: Notice[];
  plan: MemoryPlan;
  hashes: Run["hashes"];
}

/** Checks a run file against its model and data, and plans its memory. `runFolder`: the run that was begun with it, if one was. Throws UserError. */
export async function checkRun(config: RunConfig, runFolder: string | null = null): Promise<CheckedRun> {
  const base = await openModelFolder(config.model);
  try {
    const { smt, selection, notices } = await checkMethod(config, base.config, runFolder);
    const tokenizer = await openTokenizer(config.model);
    const data = await loadData(
      { ...config.data, sequenceLength: config.train.sequenceLength, evaluationRows: config.evaluate.rows },
      tokenizer,
      base.config,
    );
    const zeros = await shareOfZeros(base);
    const pruned = isPruned(zeros);
    const warning = zerosWarning(config.method, zeros);
    if (warning) notices.push({ code: "method/loses-zeros", message: warning });
    const device = await chooseDevice(config.device);
    const plan = await planMemory(config, base.config, selection, plannedDevice(device.name, config.threads, device.tried), { pruned });
    const hashes = {
      base: await hashOfModel(base),
      config: hashOfConfig(config),
      data: createHash("sha256").update(`${data.hash} ${tokenizer.hash}`).digest("hex"),
    };
    return { config, base, tokenizer, data, smt, selection, pruned, device, notices, plan, hashes };
  } catch (error) {
    await base.close();
    throw error;
  }
}

/**
 * The part of the checks that needs neither weights nor data: sequence length, targets, budget, selection file. A run that was begun has kept the
 * selection, whatever became of that file.
 */
export async function checkMethod(
  config: RunConfig,
  model: ModelConfig,
  runFolder: string | null = null,
): Promise<{ smt: SmtPlan | null; selection: Selection | null; notices: Notice[] }> {
  checkSequenceLength(config.train.sequenceLength, model);
  const adapter = adapterOf(config.method);
  if (adapter) checkAdapter(adapter, model);
  if (config.method.name !== "smt") return { smt: null, selection: null, notices: [] };
  const smt = resolveSmt(config.method, model);
  if (!smt.selectionFile) {
    blocksInBudget(model, smt.targets, smt.blockSize, smt.budget);
    const off = diagonalNotice(config.method, model, smt);
    return { smt, selection: null, notices: off ? [{ code: "method/not-the-diagonals", message: off }] : [] };
  }
  const kept = runFolder === null ? null : path.join(runFolder, runFiles.selection);
  const begun = kept !== null && existsSync(kept);
  const file = begun ? kept : smt.selectionFile;
  const selection = parseSelection(await readText(file), file);
  const unused = begun ? null : checkGiven(config.method, selection);
  const notices = unused ? [{ code: "method/budget-unused", message: unused }] : [];
  return { smt: resolveSmt(config.method, model, selection), selection, notices };
}

/** Refuses what would run out of disk or memory on the way. */
async function checkResources(checked: CheckedRun, runFolder: string): Promise<void> {
  const { config, base, smt } = checked;
  const oneBytes = checkpointBytesOf(base.config, smt, checked.selection, adapterOf(config.method));
  const warmedBytes = hasWarmedBase(config) ? [...base.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0) : 0;
  const neededBytes = oneBytes * (config.checkpoint.keep + 1) + warmedBytes;
  // What an earlier part of the run has written is a part of what it needs.
  const hadBytes = (await freeBytes(runFolder)) + (await bytesUnder(checkpointsFolder(runFolder))) + (await bytesUnder(warmedFolder(runFolder)));
  if (hadBytes < neededBytes)
    throw new UserError(
      "run/disk-too-small",
      `${runFolder}: ${config.checkpoint.keep} checkpoints and one being written need ${formatBytes(neededBytes)}${warmedBytes > 0 ? ", the model after its warm-up included" : ""}; ${formatBytes(hadBytes)} can be had.`,
      "Free space, set output to another disk, or lower checkpoint.keep.",
    );
  await checkMemory(checked, placeOf(checked));
}

/** Where the run's tensors will lie, as far as that is known before the device is open. */
function placeOf({ device, config }: CheckedRun): MemoryPlace | undefined {
  return plannedDevice(device.name, config.threads, device.tried).place;
}

/** Refuses a run that the memory of its device has no room for, with the change that would fit. What drivers do not tell is not refused for. */
async function checkMemory({ config, base, selection, pruned, plan, device }: CheckedRun, place: MemoryPlace | undefined): Promise<void> {
  const { kind, mostBytes, text } = await memoryOf(place);
  if (plan.peakBytes <= mostBytes) return;
  const planned = plannedDevice(device.name, config.threads, device.tried);
  const peakOf = async (changed: RunConfig) => (await planMemory(changed, base.config, selection, planned, { pruned })).peakBytes;
  const more = { card: " Or use device: cpu, or end what else uses the card.", engine: " Or use device: cpu.", machine: "", unknown: "" }[kind];
  const action = `${await changeThatFits(config, mostBytes, peakOf)}${more}`;
  throw new UserError("run/memory-too-small", `The run is planned to need ${formatBytes(plan.peakBytes)} ${text}.`, action);
}

/** Bytes of the files in a folder and its folders; 0 when there is none. */
async function bytesUnder(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const found = await Promise.all(names.map((name) => stat(path.join(folder, name))));
  return found.reduce((bytes, entry) => bytes + (entry.isFile() ? entry.size : 0), 0);
}

/** Opens the device, loads the weights, and brings the run to where the checkpoint left it (or to its start). Throws UserError. */
export async function openRun(checked: CheckedRun, runFolder: string, checkpoint: Checkpoint | null, emit: Emit): Promise<Run> {
  await checkResources(checked, runFolder);
  const base = await currentBase(checked, runFolder, checkpoint);
  const { device, reasons, place } = await openDevice(checked.device.name, checked.config.threads);
  try {
    const { passedOver } = checked.device;
    if (passedOver) emit({ kind: "notice", code: "device/auto", message: passedOver });
    for (const reason of reasons) emit({ kind: "notice", code: "device/fallback", message: reason });
    // What is installed may have turned out not to work, or not on a card; and another card may have been opened than was tried.
    if (place && !isDeepStrictEqual(place, placeOf(checked))) await checkMemory(checked, place);
    return await openOn(device, base, checked, runFolder, checkpoint, emit);
  } catch (error) {
    device.close();
    await base.close();
    throw error;
  }
}

async function openOn(
  device: Device,
  base: ModelFolder,
  checked: CheckedRun,
  runFolder: string,
  checkpoint: Checkpoint | null,
  emit: Emit,
): Promise<Run> {
  const { config, data } = checked;
  const { batchSize, sequenceLength, precision, recompute, seed, gradientAccumulation } = config.train;
  const rows = { batchSize, sequenceLength, packing: config.data.packing, padTokenId: data.padTokenId };
  const batches = new BatchSource(data.train, { ...rows, seed, longestFirst: true });
  const tensors = allocateTensors(device, base.config, precision);
  await loadWeights(device, tensors, base);
  const totalSteps = config.train.steps ?? Math.ceil(epochMicroBatches(batches, config.train.epochs ?? 1) / gradientAccumulation);
  const run: Run = {
    folder: runFolder,
    config,
    base,
    hashes: checked.hashes,
    device,
    model: { device, config: base.config, tensors, rope: ropeTables(device, base.config, sequenceLength), precision, recompute },
    batches,
    evaluation: evaluationBatches(data.evaluation, rows),
    padTokenId: data.padTokenId,
    totalSteps,
    scheduledSteps: totalSteps,
    smt: checked.smt,
    selection: null,
    method: null,
    meter: checked.pruned ? await openMeter(device, tensors, config.model, base.path !== config.model) : null,
    retired: [],
    holdsGradients: false,
    deltaBase: null,
    state: freshState(),
    lastCheckpoint: checkpoint?.folder ?? null,
    reportedPeakBytes: 0,
  };
  if (checkpoint) await restoreCheckpoint(run, checkpoint, emit);
  return run;
}

/** Micro-batches of so many passes over the data; the last pass may be a part of one. */
function epochMicroBatches(batches: BatchSource, epochs: number): number {
  let total = 0;
  for (let epoch = 0; epoch < Math.floor(epochs); epoch++) total += batches.batchesPerEpoch(epoch);
  const rest = epochs - Math.floor(epochs);
  return Math.max(1, total + Math.round(rest * batches.batchesPerEpoch(Math.floor(epochs))));
}

/** The run's own base when a warm-up by full fine-tuning made one; what an interrupted warm-up left is removed. */
async function currentBase({ config, base }: CheckedRun, runFolder: string, checkpoint: Checkpoint | null): Promise<ModelFolder> {
  const warmed = warmedFolder(runFolder);
  if (!checkpoint) {
    await rm(warmed, { recursive: true, force: true });
    return base;
  }
  if (!hasWarmedBase(config)) return base;
  const opened = await openModelFolder(warmed);
  await base.close();
  return opened;
}

/** sha256 over config.json and the weight files, each remembered by size and time. */
export async function hashOfModel(folder: ModelFolder): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["config.json", ...folder.files.keys()]) hash.update(`${name} ${await hashFile(path.join(folder.path, name))}\n`);
  return hash.digest("hex");
}

/** sha256 of everything in the configuration that the numbers of a run depend on; where it runs and when it saves do not count. */
function hashOfConfig(config: RunConfig): string {
  const { method, train, data, evaluate } = config;
  const { train: _train, eval: _eval, ...layout } = data; // the files count by their content
  // What was the only way before there was a choice counts as no choice: runs of earlier versions go on.
  const chosen = method.name === "full" && method.sparse === "ignore" ? { name: method.name } : method;
  const stopping = evaluate.earlyStopping === null ? null : evaluate; // when held-out loss is measured counts only where it can end the run
  return createHash("sha256")
    .update(JSON.stringify({ method: chosen, train, data: layout, stopping }))
    .digest("hex");
}
