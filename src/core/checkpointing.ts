/**
 * What a checkpoint of a run holds, and how a run goes on from one. `state.json`: step, data position, hashes, device; `optimizer.safetensors`: moments;
 * SMT: `selection.json`, `smt.safetensors` (masters beside the base's original bytes); the others: `trained.safetensors`. Beside the moments, but not in full
 * fine-tuning, stand the gradients of the last update, which are there to be looked at. And the result of a run that is done: the last such values alone.
 * The rule to keep: restoring a checkpoint leaves values, gradients, moments, weights and state bit for bit as they were when it was saved.
 */
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import type { AdapterConfig } from "../protocol/runConfig.ts";
import { parseSelection, type Selection } from "../protocol/selection.ts";
import { UserError } from "../protocol/userError.ts";
import { adapterOf } from "./adapterParameters.ts";
import { attachRunAdapter } from "./adapterRun.ts";
import type { Tensor } from "./devices/device.ts";
import { writeAdapter } from "./files/adapterFile.ts";
import { gatherStoredBlocks } from "./files/blockRows.ts";
import { type Checkpoint, type CheckpointContent, saveCheckpoint } from "./files/checkpoint.ts";
import { runFiles } from "./files/runFolder.ts";
import { openSafetensors } from "./files/safetensors.ts";
import { type TensorEntry, writeSafetensors } from "./files/safetensorsWriter.ts";
import { baseHash, type DeltaMatrix, deltaContent, openDelta } from "./files/smtDelta.ts";
import type { StoredAdapter } from "./files/storedAdapter.ts";
import { adapterParameters } from "./methods/adapters.ts";
import { FullFineTuning } from "./methods/full.ts";
import type { AdapterMethod, Parameter, TuningMethod } from "./methods/method.ts";
import { writeBlocks } from "./methods/smt/layout.ts";
import { blocksInBudget } from "./methods/smt/selection.ts";
import type { SparseMatrixTuning } from "./methods/smt/smt.ts";
import { type ModelConfig, weightShapes } from "./model/config.ts";
import { loadPieces, readPieces } from "./model/tensors.ts";
import { attachFull, attachSmt, blockKey, hasWarmedBase, type Run, trainedBlocks } from "./run.ts";
import type { SmtPlan } from "./smtRun.ts";
import { isAdapterMethod } from "./sparsity.ts";
import type { Emit, TrainerState } from "./trainer.ts";

interface SavedState extends TrainerState {
  totalSteps: number;
  hashes: Run["hashes"];
  device: string;
}

/** Files of a checkpoint. */
export const checkpointFiles = { state: "state.json", optimizer: "optimizer.safetensors", trained: "trained.safetensors" } as const;

/** Saves the run as it is; returns the checkpoint's folder. Throws UserError `run/disk-full` with the older checkpoints intact. */
export async function saveRunCheckpoint(run: Run): Promise<string> {
  const method = run.method as TuningMethod;
  const state: SavedState = { ...run.state, totalSteps: run.totalSteps, hashes: run.hashes, device: run.device.description };
  const contents: Record<string, CheckpointContent> = {
    [checkpointFiles.state]: { json: state },
    [checkpointFiles.optimizer]: { tensors: method.parameters.flatMap((parameter) => optimizerEntries(run, parameter)) },
  };
  if (run.selection) {
    contents[runFiles.selection] = { json: run.selection };
    contents[runFiles.delta] = await runDelta(run);
  } else contents[checkpointFiles.trained] = { tensors: method.parameters.map(({ name, value }) => tensorEntry(run, name, value)) };
  return saveCheckpoint(run.folder, run.state.step, contents, { keep: run.config.checkpoint.keep });
}

/** Writes the result of a run that is done to the run folder's root: smt.safetensors, or the folder adapter/. Fully fine-tuned weights stay where they are. */
export async function writeRunResult(run: Run): Promise<void> {
  if (isAdapterMethod(run.method)) {
    const folder = path.join(run.folder, runFiles.adapter);
    // A kill may have come between this and the event that the run is done.
    await rm(folder, { recursive: true, force: true });
    await writeAdapter(folder, liveAdapter(run, run.method), run.base);
  } else if (run.selection) {
    const { tensors, metadata } = await runDelta(run);
    await writeSafetensors(path.join(run.folder, runFiles.delta), tensors, metadata);
  }
}

/** The adapter as it stands on the device. */
function liveAdapter({ device, config }: Run, { parameters }: AdapterMethod): StoredAdapter {
  const values = new Map(parameters.map(({ name, value }) => [name, value]));
  return {
    config: adapterOf(config.method) as AdapterConfig,
    precision: config.train.precision,
    shapes: new Map(parameters.map(({ name, value }) => [name, value.shape])),
    read: async (name) => (await device.read(values.get(name) as Tensor)) as Float32Array,
    notices: [],
    close: async () => {},
  };
}

/** A gradient adds a quarter to small checkpoints; to those of full fine-tuning it would add a third of the model's size. */
function optimizerEntries(run: Run, { name, gradient, firstMoment, secondMoment }: Parameter): TensorEntry[] {
  const moments = [tensorEntry(run, `${name}.firstMoment`, firstMoment), tensorEntry(run, `${name}.secondMoment`, secondMoment)];
  return run.holdsGradients && !(run.method instanceof FullFineTuning) ? [...moments, tensorEntry(run, `${name}.gradient`, gradient)] : moments;
}

function tensorEntry(run: Run, name: string, tensor: Tensor): TensorEntry {
  return { name, dtype: "F32", shape: tensor.shape, chunks: () => bytesInPieces(run, tensor) };
}

async function* bytesInPieces(run: Run, tensor: Tensor): AsyncGenerator<Uint8Array> {
  for await (const values of readPieces(run.device, tensor)) yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Every block the run has trained, chosen now or earlier, with the base's bytes. */
async function runDelta(run: Run): Promise<{ tensors: TensorEntry[]; metadata: Record<string, string> }> {
  const blockSize = (run.selection as Selection).blockSize;
  const byName = new Map<string, { row: number; column: number; values: Float32Array }[]>();
  for (const block of [...(await trainedBlocks(run, run.method as SparseMatrixTuning)), ...run.retired])
    byName.set(block.name, [...(byName.get(block.name) ?? []), block]);
  // In an order that does not depend on when a block was chosen or the run resumed: equal runs write equal files.
  const sorted = [...byName].sort(([a], [b]) => (a < b ? -1 : 1));
  const matrices: DeltaMatrix[] = sorted.map(([name, blocks]) => {
    blocks.sort((a, b) => a.row - b.row || a.column - b.column);
    const weight = `${name}.weight`;
    const { shape, dtype } = run.base.tensor(weight);
    const index = Int32Array.from(
      blocks.flatMap(({ row, column }) => {
        const [rowStart, columnStart] = [row * blockSize, column * blockSize];
        return [rowStart, Math.min(blockSize, shape[0] - rowStart), columnStart, Math.min(blockSize, shape[1] - columnStart)];
      }),
    );
    return {
      weight,
      dtype,
      index,
      blocks: () => concatenate(blocks.map(({ values }) => values)),
      original: () => gatherStoredBlocks(run.base, weight, index),
    };
  });
  return deltaContent(matrices, {
    blockSize,
    baseSha256: await deltaBaseHash(
      run,
      matrices.map(({ weight }) => weight),
    ),
  });
}

/** Hash of the base's headers and touched tensors; taken once a selection, because it reads those tensors. */
async function deltaBaseHash(run: Run, weights: readonly string[]): Promise<string> {
  const key = [run.base.path, ...weights].join("\n");
  if (run.deltaBase?.key !== key) run.deltaBase = { key, sha256: await baseHash(run.base, weights) };
  return run.deltaBase.sha256;
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Brings a freshly loaded run to the checkpoint's state. Says so when the device is another one, on which bits may differ. */
export async function restoreCheckpoint(run: Run, checkpoint: Checkpoint, emit: Emit): Promise<void> {
  const { totalSteps, hashes, device, ...state } = await readState(checkpoint.folder);
  run.state = state;
  // Early stopping may have lowered it; where the configuration was changed since, what it says now holds.
  if (hashes.config === run.hashes.config && hashes.data === run.hashes.data) run.totalSteps = totalSteps;
  if (device !== run.device.description)
    emit({
      kind: "notice",
      code: "run/other-device",
      message: `The run was saved on "${device}" and goes on on "${run.device.description}": losses may differ in the last bits.`,
    });
  const adapter = adapterOf(run.config.method);
  if (run.smt) await restoreBlocks(run, checkpoint.folder);
  else await restoreParameters(run, adapter ? attachRunAdapter(run, adapter) : attachFull(run), checkpoint.folder);
  await restoreOptimizer(run, checkpoint.folder);
}

/** Moments, and gradients where they were saved: not by older versions, nor where there were none. */
async function restoreOptimizer(run: Run, folder: string): Promise<void> {
  const optimizer = await openSafetensors(path.join(folder, checkpointFiles.optimizer));
  const { parameters } = run.method as TuningMethod;
  run.holdsGradients = parameters.every(({ name }) => optimizer.header.tensors.has(`${name}.gradient`));
  for (const { name, gradient, firstMoment, secondMoment } of parameters) {
    await loadPieces(run.device, firstMoment, optimizer, `${name}.firstMoment`);
    await loadPieces(run.device, secondMoment, optimizer, `${name}.secondMoment`);
    if (run.holdsGradients) await loadPieces(run.device, gradient, optimizer, `${name}.gradient`);
  }
  await optimizer.close();
}

/** state.json of a checkpoint folder. */
export async function readState(folder: string): Promise<SavedState> {
  return JSON.parse(await readFile(path.join(folder, checkpointFiles.state), "utf8"));
}

async function restoreParameters(run: Run, method: TuningMethod, folder: string): Promise<void> {
  const trained = await openSafetensors(path.join(folder, checkpointFiles.trained));
  for (const { name, value } of method.parameters) await loadPieces(run.device, value, trained, name);
  await trained.close();
  method.afterUpdate();
}

/** Masters of the chosen blocks from the delta; blocks that earlier selections trained go straight into the weights. */
async function restoreBlocks(run: Run, folder: string): Promise<void> {
  const file = path.join(folder, runFiles.selection);
  const selection = parseSelection(await readFile(file, "utf8"), file);
  const method = attachSmt(run, selection);
  const { values, weights, baseSha256 } = await readDeltaBlocks(path.join(folder, runFiles.delta));
  if (hasWarmedBase(run.config) && (await deltaBaseHash(run, weights)) !== baseSha256)
    throw new UserError(
      "run/changed-base",
      `${run.base.path} is not the model that the warm-up left: it was changed or damaged.`,
      "Start a new run.",
    );
  const chosen = new Set(selection.blocks.map(blockKey));
  run.retired = [...values.values()].filter((block) => !chosen.has(blockKey(block)));
  writeRetired(run);
  for (const [name, { table, parameter }] of method.matrices)
    for (let i = 0; i < table.length; i += 6) {
      const key = blockKey({ name, row: table[i] / selection.blockSize, column: table[i + 2] / selection.blockSize });
      run.device.write(parameter.value, (values.get(key) as { values: Float32Array }).values, table[i + 4]);
    }
  method.afterUpdate();
}

/** The blocks of a delta by key, and what it says of its base. */
async function readDeltaBlocks(file: string): Promise<{ values: Map<string, Run["retired"][number]>; weights: string[]; baseSha256: string }> {
  const delta = await openDelta(file);
  const blocks = new Map<string, Run["retired"][number]>();
  for (const [weight, { index }] of delta.matrices) {
    const values = await delta.readBlocks(weight);
    const name = weight.replace(/\.weight$/, "");
    for (let i = 0, at = 0; i < index.length; i += 4) {
      const entries = index[i + 1] * index[i + 3];
      const block = { name, row: index[i] / delta.blockSize, column: index[i + 2] / delta.blockSize, values: values.slice(at, at + entries) };
      blocks.set(blockKey(block), block);
      at += entries;
    }
  }
  await delta.close();
  return { values: blocks, weights: [...delta.matrices.keys()], baseSha256: delta.baseSha256 };
}

/** Writes what earlier selections trained into the weights it belongs to. */
function writeRetired({ device, model, selection, retired }: Run): void {
  const blockSize = (selection as Selection).blockSize;
  for (const { name, row, column, values } of retired) {
    const weight = model.tensors.byName.get(`${name}.weight`) as Tensor;
    const [rowStart, columnStart] = [row * blockSize, column * blockSize];
    const index = Int32Array.of(
      rowStart,
      Math.min(blockSize, weight.shape[0] - rowStart),
      columnStart,
      Math.min(blockSize, weight.shape[1] - columnStart),
    );
    writeBlocks(device, weight, index, values);
  }
}

/** Refuses to go on when the base, the configuration or the data is not what the checkpoint was made with; `override` goes on and says so. */
export async function requireSame(checkpoint: Checkpoint, hashes: Run["hashes"], override: boolean, emit: Emit): Promise<void> {
  const saved = (await readState(checkpoint.folder)).hashes;
  const what: Record<keyof Run["hashes"], string> = { base: "base model", config: "configuration (run.yaml)", data: "data" };
  for (const key of ["base", "config", "data"] as const) {
    if (saved[key] === hashes[key]) continue;
    const message = `The ${what[key]} has changed since the checkpoint of step ${checkpoint.step}: ${saved[key].slice(0, 12)}… then, ${hashes[key].slice(0, 12)}… now.`;
    if (!override)
      throw new UserError(`run/changed-${key}`, message, "Put back what it was, or resume with --accept-changes to go on with what is there now.");
    emit({ kind: "notice", code: `run/changed-${key}`, message });
  }
}

/** Bytes of one checkpoint, before the blocks are known: values, two moments and a gradient a trained entry, and of blocks the base's bytes. */
export function checkpointBytesOf(
  config: ModelConfig,
  smt: SmtPlan | null,
  selection: Selection | null,
  adapter: AdapterConfig | null = null,
): number {
  if (adapter) return 16 * adapterParameters(adapter, config) + (1 << 20);
  if (!smt) return 12 * [...weightShapes(config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0) + (1 << 20);
  const blocks = selection?.blocks.length ?? blocksInBudget(config, smt.targets, smt.blockSize, smt.budget);
  return blocks * (smt.blockSize ** 2 * 20 + 256) + (1 << 20);
}
