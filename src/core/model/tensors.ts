/**
 * The weights of a model on a device: matrices in the run's precision, one-dimensional weights (norms, biases) always f32.
 * One resident copy of each; a tied head is the embedding itself. Values are checked for NaN and infinity while they are loaded.
 */
import { UserError } from "../../protocol/userError.ts";
import { type Device, sizeOf, type Tensor } from "../devices/device.ts";
import type { ModelFolder } from "../files/modelFolder.ts";
import type { SafetensorsFile } from "../files/safetensors.ts";
import { type Linear, stageOf } from "../methods/method.ts";
import { type ModelConfig, projectionName, projections, weightShapes } from "./config.ts";

export type Precision = "f32" | "bf16";

export interface LayerTensors {
  inputNorm: Tensor;
  postAttentionNorm: Tensor;
  queryNorm: Tensor | null;
  keyNorm: Tensor | null;
  linears: Record<Linear["projection"], Linear>;
}

export interface LlamaTensors {
  /** Every parameter by its Hugging Face name, in file order; a tied head is not listed twice. */
  byName: Map<string, Tensor>;
  /** (V, C). */
  embedding: Tensor;
  /** (V, C), the embedding itself when tied. */
  head: Tensor;
  headName: string;
  finalNorm: Tensor;
  layers: LayerTensors[];
}

/** Allocates every weight; contents are undefined. */
export function allocateTensors(device: Device, config: ModelConfig, precision: Precision): LlamaTensors {
  const byName = new Map<string, Tensor>();
  for (const [name, shape] of weightShapes(config)) byName.set(name, device.allocate(shape, shape.length === 1 ? "f32" : precision, "weights"));
  const of = (name: string) => byName.get(name) as Tensor;
  const headName = config.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  return {
    byName,
    embedding: of("model.embed_tokens.weight"),
    head: of(headName),
    headName,
    finalNorm: of("model.norm.weight"),
    layers: Array.from({ length: config.numLayers }, (_, layer) => layerTensors(byName, layer)),
  };
}

function layerTensors(byName: Map<string, Tensor>, layer: number): LayerTensors {
  const of = (name: string) => byName.get(`model.layers.${layer}.${name}`) as Tensor;
  const linears = Object.fromEntries(
    projections.map((projection) => {
      const name = projectionName(layer, projection);
      const weight = byName.get(`${name}.weight`) as Tensor;
      return [projection, { name, layer, projection, stage: 4 * layer + stageOf[projection], weight, bias: byName.get(`${name}.bias`) ?? null }];
    }),
  ) as LayerTensors["linears"];
  return {
    inputNorm: of("input_layernorm.weight"),
    postAttentionNorm: of("post_attention_layernorm.weight"),
    queryNorm: of("self_attn.q_norm.weight") ?? null,
    keyNorm: of("self_attn.k_norm.weight") ?? null,
    linears,
  };
}

const chunkBytes = 2 << 20;
/** Disks are fastest with a few requests waiting. */
const readsAhead = 4;

/**
 * Fills the weights from a model folder, chunk by chunk, the next ones being read while one is converted.
 * Throws UserError naming the tensor and the entry when a value is NaN or infinite.
 */
export async function loadWeights(device: Device, tensors: LlamaTensors, folder: ModelFolder, onProgress?: (bytes: number) => void): Promise<void> {
  const pieces: { name: string; begin: number; end: number }[] = [];
  for (const name of tensors.byName.keys()) {
    const { bytes } = folder.tensor(name);
    for (let begin = 0; begin < bytes; begin += chunkBytes) pieces.push({ name, begin, end: Math.min(bytes, begin + chunkBytes) });
  }
  // Buffers in turn: fresh ones would be garbage of the model's size before the collector looks.
  const buffers = Array.from({ length: readsAhead }, () => new Uint8Array(chunkBytes));
  const read = (i: number) => folder.readBytes(pieces[i].name, pieces[i].begin, pieces[i].end, buffers[i % readsAhead]);
  const ahead: Promise<Uint8Array>[] = [];
  for (let i = 0; i < pieces.length; i++) {
    // The chunk before is on the device: its buffer is free again.
    while (ahead.length < Math.min(readsAhead, pieces.length - i)) {
      const next = read(i + ahead.length);
      next.catch(() => undefined); // a failure is reported when its turn comes
      ahead.push(next);
    }
    const { name, begin, end } = pieces[i];
    const data = (await ahead.shift()) as Uint8Array;
    const { dtype } = folder.tensor(name);
    const elementBytes = dtype === "F32" ? 4 : 2;
    const bad = device.load(tensors.byName.get(name) as Tensor, begin / elementBytes, data, dtype);
    if (bad >= 0)
      throw new UserError(
        "model/not-finite",
        `${folder.path}: ${name} holds NaN or infinity at entry ${begin / elementBytes + bad}.`,
        "Download or export the model again; a damaged weight cannot be trained.",
      );
    onProgress?.(end - begin);
  }
}

/** Fills one tensor from a weight of a model folder, a few megabytes at a time; values were checked when the whole model was loaded, or are the caller's to check. */
export async function loadTensor(device: Device, tensor: Tensor, folder: ModelFolder, name: string): Promise<void> {
  const { bytes, dtype } = folder.tensor(name);
  const buffer = new Uint8Array(Math.min(bytes, chunkBytes));
  for (let begin = 0; begin < bytes; begin += chunkBytes)
    device.load(tensor, begin / (dtype === "F32" ? 4 : 2), await folder.readBytes(name, begin, Math.min(bytes, begin + chunkBytes), buffer), dtype);
}

/** The values of a tensor a few megabytes at a time, so that writing it to a file needs little memory beside the device's. */
export async function* readPieces(device: Device, tensor: Tensor): AsyncGenerator<Float32Array> {
  const entries = sizeOf(tensor.shape);
  for (let first = 0; first < entries; first += chunkBytes / 4)
    yield (await device.read(tensor, first, Math.min(chunkBytes / 4, entries - first))) as Float32Array;
}

/** Fills a tensor from one of the same size in a file, as {@link readPieces} was written, a few megabytes at a time. */
export async function loadPieces(device: Device, tensor: Tensor, file: SafetensorsFile, name: string): Promise<void> {
  const bytes = 4 * sizeOf(tensor.shape);
  const buffer = new Uint8Array(Math.min(bytes, chunkBytes));
  for (let begin = 0; begin < bytes; begin += chunkBytes)
    device.load(tensor, begin / 4, await file.readBytes(name, begin, Math.min(bytes, begin + chunkBytes), buffer), "F32");
}
