/** A model ready to be read, not trained: a Hugging Face folder, or a run folder's base with what the run trained put into it. */
import path from "node:path";
import { parseRunFile, type RunConfig } from "../protocol/runConfig.ts";
import { UserError } from "../protocol/userError.ts";
import { checkpointFiles } from "./checkpointing.ts";
import { openTokenizer, type Tokenizer } from "./data/tokenizer.ts";
import type { Tensor } from "./devices/device.ts";
import { openDevice } from "./devices/open.ts";
import { findCheckpoint } from "./files/checkpoint.ts";
import { openModelFolder } from "./files/modelFolder.ts";
import { isRunFolder, runFiles } from "./files/runFolder.ts";
import { openSafetensors } from "./files/safetensors.ts";
import { openDelta } from "./files/smtDelta.ts";
import { readText } from "./files/textFile.ts";
import { writeBlocks } from "./methods/smt/layout.ts";
import type { Llama } from "./model/llama.ts";
import { ropeTables } from "./model/rope.ts";
import { allocateTensors, loadWeights, type Precision } from "./model/tensors.ts";
import { hasWarmedBase, warmedFolder } from "./run.ts";

export interface OpenModel {
  model: Llama;
  tokenizer: Tokenizer;
  /** Of a run: its configuration; null for a model folder. */
  config: RunConfig | null;
  /** Why the device is not the one that was tried first. */
  reasons: string[];
  close(): void;
}

export interface InferenceOptions {
  device: "auto" | "cpu" | "webgpu" | "tensorflow";
  threads: number | "auto";
  /** Positions the rotary tables reach. */
  positions: number;
  /** Default: bf16 where the folder stores it, else f32. */
  precision?: Precision;
}

/** The files a model is made of. */
export interface ModelSource {
  base: string;
  /** smt.safetensors, or trained.safetensors of a fully fine-tuned run. */
  delta: string | null;
  trained: string | null;
  /** Of a run: its configuration; null for a model folder. */
  config: RunConfig | null;
}

/** Finds what a path to a model or a run stands for. Throws UserError when a run has nothing trained yet. */
export async function modelSource(modelOrRun: string): Promise<ModelSource> {
  if (!(await isRunFolder(modelOrRun))) return { base: modelOrRun, delta: null, trained: null, config: null };
  const file = path.join(modelOrRun, runFiles.config);
  const config = parseRunFile(await readText(file), file);
  const { checkpoint } = await findCheckpoint(modelOrRun, { readOnly: true });
  if (!checkpoint) throw new UserError("run/nothing-trained", `${modelOrRun} has no checkpoint yet.`, "Wait for the first one, or resume the run.");
  const has = (name: string) => (checkpoint.files.has(name) ? path.join(checkpoint.folder, name) : null);
  return {
    base: hasWarmedBase(config) ? warmedFolder(modelOrRun) : config.model,
    delta: has(runFiles.delta),
    trained: has(checkpointFiles.trained),
    config,
  };
}

/** Loads it onto a device. */
export async function openModel(modelOrRun: string, options: InferenceOptions): Promise<OpenModel> {
  const source = await modelSource(modelOrRun);
  const folder = await openModelFolder(source.base);
  const tokenizer = await openTokenizer(source.base);
  const stored = [...folder.tensors.values()].every(({ dtype }) => dtype === "BF16") ? "bf16" : "f32";
  const precision = options.precision ?? source.config?.train.precision ?? stored;
  const { device, reasons } = await openDevice(options.device, options.threads);
  const tensors = allocateTensors(device, folder.config, precision);
  await loadWeights(device, tensors, folder);
  const model: Llama = {
    device,
    config: folder.config,
    tensors,
    rope: ropeTables(device, folder.config, Math.min(options.positions, folder.config.maxPositions)),
    precision,
    recompute: "none",
  };
  await folder.close();
  if (source.delta) await putDelta(model, source.delta);
  if (source.trained) await putTrained(model, source.trained);
  return { model, tokenizer, config: source.config, reasons, close: () => device.close() };
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
