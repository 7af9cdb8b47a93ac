/** A model ready to be read, not trained: a Hugging Face folder, a run folder's base with what the run trained, or a base with an adapter's folder beside it. */
import path from "node:path";
import { parseRunFile, type RunConfig } from "../protocol/runConfig.ts";
import { UserError } from "../protocol/userError.ts";
import { adapterOf, adapterShapes } from "./adapterParameters.ts";
import { putAdapter } from "./adapterRun.ts";
import { checkpointFiles } from "./checkpointing.ts";
import { openTokenizer, type Tokenizer } from "./data/tokenizer.ts";
import { bytesOf, type Device, type Tensor } from "./devices/device.ts";
import { openDeviceFor } from "./devices/open.ts";
import { isAdapterFolder, openAdapter } from "./files/adapterFile.ts";
import { findCheckpoint } from "./files/checkpoint.ts";
import { type ModelFolder, openModelFolder } from "./files/modelFolder.ts";
import { isRunFolder, runFiles } from "./files/runFolder.ts";
import { openSafetensors } from "./files/safetensors.ts";
import { openDelta } from "./files/smtDelta.ts";
import { checkpointAdapter, type StoredAdapter } from "./files/storedAdapter.ts";
import { readText } from "./files/textFile.ts";
import { attachAdapter } from "./methods/adapters.ts";
import { Frozen } from "./methods/frozen.ts";
import type { TuningMethod } from "./methods/method.ts";
import { writeBlocks } from "./methods/smt/layout.ts";
import { type ModelConfig, weightShapes } from "./model/config.ts";
import type { Llama } from "./model/llama.ts";
import { ropeTables } from "./model/rope.ts";
import { allocateTensors, loadWeights, type Precision } from "./model/tensors.ts";
import { hasWarmedBase, warmedFolder } from "./run.ts";

export interface OpenModel {
  model: Llama;
  /** Runs the linear maps: the adapter where there is one, else the weights as they are. */
  method: TuningMethod;
  tokenizer: Tokenizer;
  /** Of a run: its configuration; null for a model folder. */
  config: RunConfig | null;
  /** Why the device is not the one that was tried first, and what there is to know of an adapter. */
  reasons: string[];
  close(): void;
}

/** What is known of a model before a device is opened and weights are read. */
export interface KnownModel {
  model: Pick<Llama, "config">;
  tokenizer: Tokenizer;
  /** As in {@link OpenModel}. */
  config: RunConfig | null;
}

export interface InferenceOptions<Prepared = unknown> {
  device: "auto" | "cpu" | "webgpu" | "tensorflow";
  threads: number | "auto";
  /** Positions the rotary tables reach. */
  positions: number;
  /** Default: bf16 where the folder stores it, else f32. */
  precision?: Precision;
  /** The model that an adapter's folder belongs to. */
  base?: string | null;
  /** Reads what the model is for, and refuses what cannot be done with it, before anything is loaded. */
  prepare?(known: KnownModel): Promise<Prepared>;
}

/** The files a model is made of. */
export interface ModelSource {
  base: string;
  /** smt.safetensors, or trained.safetensors of a fully fine-tuned run. */
  delta: string | null;
  trained: string | null;
  /** trained.safetensors of a run with adapters, or an adapter's folder. */
  adapter: string | null;
  /** Of a run: its configuration; null for a model folder. */
  config: RunConfig | null;
}

/**
 * Finds what a path to a model, a run or an adapter stands for; `base` is the model that an adapter's folder belongs to. Throws UserError when a run has
 * nothing trained yet, and when `base` is missing or means nothing.
 */
export async function modelSource(modelOrRun: string, base: string | null = null): Promise<ModelSource> {
  if (!(await isRunFolder(modelOrRun))) return folderSource(modelOrRun, base);
  if (base !== null) throw new UserError("run/base-given", `${modelOrRun} is a run folder, which knows its base.`, "Leave --base out.");
  const file = path.join(modelOrRun, runFiles.config);
  const config = parseRunFile(await readText(file), file);
  const { checkpoint } = await findCheckpoint(modelOrRun, { readOnly: true });
  if (!checkpoint) throw new UserError("run/nothing-trained", `${modelOrRun} has no checkpoint yet.`, "Wait for the first one, or resume the run.");
  const has = (name: string) => (checkpoint.files.has(name) ? path.join(checkpoint.folder, name) : null);
  const trained = has(checkpointFiles.trained);
  const adapted = adapterOf(config.method) !== null;
  return {
    base: hasWarmedBase(config) ? warmedFolder(modelOrRun) : config.model,
    delta: has(runFiles.delta),
    trained: adapted ? null : trained,
    adapter: adapted ? trained : null,
    config,
  };
}

async function folderSource(folder: string, base: string | null): Promise<ModelSource> {
  const adapter = await isAdapterFolder(folder);
  if (adapter && base === null)
    throw new UserError(
      "adapter/no-base",
      `${folder} is an adapter, which needs the model it was trained on.`,
      "Name that model's folder with --base.",
    );
  if (!adapter && base !== null)
    throw new UserError(
      "adapter/no-adapter",
      `${folder} is no adapter's folder, and needs no base.`,
      "Leave --base out, or give an adapter's folder.",
    );
  return { base: base ?? folder, delta: null, trained: null, adapter: adapter ? folder : null, config: null };
}

/** Opens the adapter of a source that has one, checked against its base. Throws UserError. */
export async function openSourceAdapter({ adapter, config }: ModelSource, base: ModelFolder): Promise<StoredAdapter> {
  const method = config && adapterOf(config.method);
  if (!method) return openAdapter(adapter as string, base);
  return checkpointAdapter(await openSafetensors(adapter as string), method, config.train.precision, adapterShapes(method, base.config));
}

/** Loads it onto a device; `prepared` is what `prepare` returned. */
export async function openModel<Prepared>(
  modelOrRun: string,
  options: InferenceOptions<Prepared>,
): Promise<OpenModel & { prepared: Awaited<Prepared> }> {
  const source = await modelSource(modelOrRun, options.base ?? null);
  const folder = await openModelFolder(source.base);
  try {
    const tokenizer = await openTokenizer(source.base);
    const prepared = (await options.prepare?.({ model: { config: folder.config }, tokenizer, config: source.config })) as Awaited<Prepared>;
    const adapter = source.adapter ? await openSourceAdapter(source, folder) : null;
    const precision = options.precision ?? source.config?.train.precision ?? adapter?.precision ?? storedPrecision(folder);
    const { device, reasons } = await openDeviceFor(weightBytes(folder.config, precision), options.device, options.threads);
    try {
      const model = await loadModel(device, folder, precision, options);
      if (source.delta) await putDelta(model, source.delta);
      if (source.trained) await putTrained(model, source.trained);
      const method = adapter ? await withAdapter(model, adapter, source.config?.train.seed ?? 0) : new Frozen(device);
      const close = () => device.close();
      return { model, method, tokenizer, config: source.config, reasons: [...reasons, ...(adapter?.notices ?? [])], close, prepared };
    } catch (error) {
      device.close();
      throw error;
    } finally {
      await adapter?.close();
    }
  } finally {
    await folder.close();
  }
}

async function loadModel(device: Device, folder: ModelFolder, precision: Precision, { positions }: InferenceOptions): Promise<Llama> {
  const tensors = allocateTensors(device, folder.config, precision);
  await loadWeights(device, tensors, folder);
  const rope = ropeTables(device, folder.config, Math.min(positions, folder.config.maxPositions));
  return { device, config: folder.config, tensors, rope, precision, recompute: "none" };
}

function weightBytes(config: ModelConfig, precision: Precision): number {
  return [...weightShapes(config).values()].reduce((sum, shape) => sum + bytesOf(shape, precision), 0);
}

function storedPrecision({ tensors }: ModelFolder): Precision {
  return [...tensors.values()].every(({ dtype }) => dtype === "BF16") ? "bf16" : "f32";
}

async function withAdapter({ device, tensors }: Llama, adapter: StoredAdapter, seed: number): Promise<TuningMethod> {
  const method = attachAdapter(device, tensors, adapter.config, seed);
  await putAdapter(device, method, adapter);
  method.beginBatch?.(null);
  return method;
}

async function putDelta({ device, tensors }: Llama, file: string): Promise<void> {
  const delta = await openDelta(file);
  for (const [name, { index }] of delta.matrices) writeBlocks(device, tensors.byName.get(name) as Tensor, index, await delta.readBlocks(name));
  await delta.close();
}

async function putTrained({ device, tensors }: Llama, file: string): Promise<void> {
  const trained = await openSafetensors(file);
  for (const [name, tensor] of tensors.byName) device.load(tensor, 0, await trained.readBytes(name), "F32");
  await trained.close();
}
