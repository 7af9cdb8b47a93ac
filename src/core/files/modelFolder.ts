/**
 * Opens a Hugging Face model folder: config.json and safetensors, single or sharded, every expected weight found under its canonical name with the
 * right shape and a dtype we read. Values are read by position later; opening reads headers only.
 * It does not look at the tokenizer, and it never runs or follows anything that lies outside the folder, except the blobs of a Hugging Face cache.
 * The rule to keep: after opening, `tensors` has exactly the names of `weightShapes(config)`.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import type { FileDType } from "../devices/device.ts";
import { type ModelConfig, weightShapes } from "../model/config.ts";
import { parseModelConfig } from "./modelConfig.ts";
import type { SafetensorsFile, TensorInfo } from "./safetensors.ts";
import { quote } from "./strictJson.ts";
import { insideFolder, type Located, locate, openWeightFiles, readJson } from "./weightFiles.ts";

/** Where a weight lies. */
export interface StoredTensor {
  /** Canonical Hugging Face name. */
  name: string;
  /** Name in the file; another one for a tied model that stores only `lm_head.weight`. */
  storedName: string;
  dtype: FileDType;
  shape: readonly number[];
  /** Name of the file in the folder, and the position of the first byte in it. */
  file: string;
  position: number;
  bytes: number;
}

export const headName = "lm_head.weight";
const embeddingName = "model.embed_tokens.weight";
/** An open model folder. Close it when the weights are loaded or copied. */
export class ModelFolder {
  readonly path: string;
  readonly config: ModelConfig;
  /** config.json as it stands. */
  readonly rawConfig: Record<string, unknown>;
  /** By canonical name, in the order of `weightShapes`. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Stored tensors that the model does not use; rotary tables and the second copy of a tied head are not listed. */
  readonly unexpected: readonly string[];
  /** Weight files by their name in the folder, sorted. */
  readonly files: ReadonlyMap<string, SafetensorsFile>;
  readonly sharded: boolean;

  constructor(contents: Pick<ModelFolder, "path" | "config" | "rawConfig" | "tensors" | "unexpected" | "files" | "sharded">) {
    this.path = contents.path;
    this.config = contents.config;
    this.rawConfig = contents.rawConfig;
    this.tensors = contents.tensors;
    this.unexpected = contents.unexpected;
    this.files = contents.files;
    this.sharded = contents.sharded;
  }

  /** Bytes of all weights as stored. */
  get weightBytes(): number {
    let total = 0;
    for (const { bytes } of this.tensors.values()) total += bytes;
    return total;
  }

  /** Where a weight lies, by canonical name; an unknown name is a bug and throws. */
  tensor(name: string): StoredTensor {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new Error(`${this.path} has no weight ${name}`);
    return tensor;
  }

  /** Bytes [begin, end) of a weight, counted from its start, in a fresh buffer or in the start of `into`. Calls may overlap. */
  readBytes(name: string, begin: number, end: number, into?: Uint8Array): Promise<Uint8Array> {
    const tensor = this.tensor(name);
    return (this.files.get(tensor.file) as SafetensorsFile).readBytes(tensor.storedName, begin, end, into);
  }

  /** All bytes of a weight. */
  readTensor(name: string): Promise<Uint8Array> {
    return this.readBytes(name, 0, this.tensor(name).bytes);
  }

  async close(): Promise<void> {
    await closeAll(this.files);
  }
}

async function closeAll(files: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  await Promise.all([...files.values()].map((file) => file.close()));
}

/**
 * Opens a model folder. Throws UserError: `model/…` for the folder, its config and its names, `safetensors/…` for a file.
 * A 13 GB sharded folder opens in well under a second.
 */
export async function openModelFolder(folder: string): Promise<ModelFolder> {
  const { config, rawConfig } = await openModelConfig(folder);
  const files = new Map<string, SafetensorsFile>();
  try {
    const index = await openWeightFiles(folder, files);
    const stored = locate(folder, files, index);
    const { tensors, unexpected } = matchWeights(folder, config, files, stored);
    const opened = new ModelFolder({ path: folder, config, rawConfig, tensors, unexpected, files, sharded: index !== null });
    if (config.tiedEmbeddings && stored.has(headName) && stored.has(embeddingName)) await requireSameHead(opened, stored.get(headName) as Located);
    return opened;
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/** The configuration of a folder in which config.json alone is needed. */
export async function openModelConfig(folder: string): Promise<{ config: ModelConfig; rawConfig: Record<string, unknown> }> {
  const status = await stat(folder).catch(() => null);
  if (!status?.isDirectory()) {
    throw new UserError(
      "model/no-folder",
      `${folder} is ${status ? "a file" : "missing"}; a model is a Hugging Face folder.`,
      "Give a folder with config.json and model.safetensors.",
    );
  }
  const file = path.join(folder, "config.json");
  if (!(await exists(file))) throw new UserError("model/no-config", `${folder} has no config.json.`, "Give a Hugging Face model folder.");
  await insideFolder(folder, "config.json");
  return readModelConfig(file);
}

/** The configuration in a config.json. */
export async function readModelConfig(file: string): Promise<{ config: ModelConfig; rawConfig: Record<string, unknown> }> {
  const rawConfig = await readJson(file, file);
  return { config: parseModelConfig(rawConfig, file), rawConfig: rawConfig as Record<string, unknown> };
}

async function exists(file: string): Promise<boolean> {
  return (await stat(file).catch(() => null)) !== null;
}

/** Finds every weight the configuration calls for, with its shape and a dtype we read. */
function matchWeights(
  folder: string,
  config: ModelConfig,
  files: Map<string, SafetensorsFile>,
  stored: Map<string, Located>,
): Pick<ModelFolder, "tensors" | "unexpected"> {
  const tensors = new Map<string, StoredTensor>();
  const rest = new Set(stored.keys());
  for (const [name, shape] of weightShapes(config)) {
    const storedName = config.tiedEmbeddings && name === embeddingName && !stored.has(name) ? headName : name;
    const located = stored.get(storedName);
    if (!located) throw missingWeight(folder, name, stored);
    rest.delete(storedName);
    const { header } = files.get(located.file) as SafetensorsFile;
    const info = header.tensors.get(storedName) as TensorInfo;
    const where = `${path.join(folder, located.file)}: ${storedName}`;
    if (info.dtype !== "F32" && info.dtype !== "F16" && info.dtype !== "BF16") {
      throw new UserError(
        "model/unsupported-dtype",
        `${where} is stored as ${info.dtype}; F32, F16 and BF16 are read.`,
        "Use the model in one of these.",
      );
    }
    if (info.shape.length !== shape.length || info.shape.some((n, i) => n !== shape[i])) {
      const found = info.shape.length > 4 ? `${info.shape.length} dimensions` : `the shape (${info.shape.join(", ")})`;
      const message = `${where} has ${found}, but config.json calls for (${shape.join(", ")}).`;
      throw new UserError("model/wrong-shape", message, "Use the config.json that belongs to these weights.");
    }
    const position = header.dataStart + info.begin;
    tensors.set(name, { name, storedName, dtype: info.dtype, shape, file: located.file, position, bytes: info.end - info.begin });
  }
  const unexpected = [...rest].filter((name) => !name.endsWith(".rotary_emb.inv_freq") && !(config.tiedEmbeddings && name === headName));
  return { tensors, unexpected };
}

function missingWeight(folder: string, name: string, stored: Map<string, Located>): UserError {
  const other = [...stored.keys()].find((candidate) => candidate.endsWith(`.${name}`) || name.endsWith(`.${candidate}`));
  if (other) {
    return new UserError(
      "model/unexpected-prefix",
      `${folder}: ${name} is stored as ${quote(other)}, with ${other.length > name.length ? "a prefix too many" : "a prefix missing"}.`,
      "Save the model again as the causal language model of its family.",
    );
  }
  return new UserError(
    "model/missing-weight",
    `${folder}: the weight ${name} that config.json calls for is missing.`,
    "Download the model again, or correct config.json.",
  );
}

/**
 * A tied model that stores its head a second time must store the same bytes: transformers uses one of the two, and which one depends on its version.
 * Throws UserError `model/head-not-tied`.
 */
async function requireSameHead(folder: ModelFolder, head: Located): Promise<void> {
  const file = folder.files.get(head.file) as SafetensorsFile;
  const info = file.info(headName);
  const embedding = folder.tensor(embeddingName);
  let same = info.dtype === embedding.dtype && info.end - info.begin === embedding.bytes;
  const step = 8 << 20;
  for (let begin = 0; same && begin < embedding.bytes; begin += step) {
    const end = Math.min(embedding.bytes, begin + step);
    const [ours, theirs] = await Promise.all([folder.readBytes(embeddingName, begin, end), file.readBytes(headName, begin, end)]);
    same = Buffer.compare(ours, theirs) === 0;
  }
  if (same) return;
  throw new UserError(
    "model/head-not-tied",
    `${folder.path}: tie_word_embeddings is true, but ${headName} and ${embeddingName} are stored with different values.`,
    "Set tie_word_embeddings to false in config.json if the model has a head of its own, or remove the tensor that is wrong.",
  );
}
