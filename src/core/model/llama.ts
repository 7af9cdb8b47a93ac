/**
 * The whole Llama, forward and backward, written out: read it from top to bottom. No tape; each layer's backward undoes its forward line by line.
 * It holds no parameters of its own and knows no device and no method from inside: devices compute, the method runs the linear maps.
 * The rules to keep: the residual stream `x` and its gradient `dx` are f32 and updated in place; everything kept for backward is in the run's
 * precision; what backward will not visit is not kept; every tensor allocated here is freed here.
 *
 * Letters: B batch, T sequence length, N = B·T, C hidden, H intermediate, NH query heads, NKV key/value heads, HS head size, V vocabulary.
 */
import type { Batch } from "../data/batch.ts";
import type { AttentionShape, Device, Tensor } from "../devices/device.ts";
import { type Linear, stageOf, type TuningMethod } from "../methods/method.ts";
import type { ModelConfig, Projection } from "./config.ts";
import type { RopeTables } from "./rope.ts";
import type { LayerTensors, LlamaTensors, Precision } from "./tensors.ts";

export interface Llama {
  device: Device;
  config: ModelConfig;
  tensors: LlamaTensors;
  rope: RopeTables;
  precision: Precision;
  /** `layer`: keep only each layer's input and run its forward again in backward; same bits, less memory, more time. */
  recompute: "none" | "layer";
}

/** A micro-batch on the device, and its attention shape. */
export interface DeviceBatch {
  /** (N) i32 each. */
  inputs: Tensor;
  positions: Tensor;
  documentStart: Tensor;
  shape: AttentionShape;
  /** N. */
  tokens: number;
}

/** Keys and values of the positions seen so far, per layer (sequences · capacity, NKV·HS), for generation. */
export interface KeyValueCache {
  layers: { k: Tensor; v: Tensor }[];
  /** Positions held of every sequence; those of a shorter one begin with padding. */
  length: number;
  capacity: number;
}

// ---------------------------------------------------------------------------------------------------------------- training and evaluation

/**
 * Forward and, unless `scale` is null, backward of one micro-batch. Gradients of scale · Σ NLL are added to the method's accumulators;
 * scale = 1 / (unmasked tokens of the whole update), so that accumulating micro-batches gives the gradient of the update's mean loss.
 * Returns Σ NLL over the unmasked targets.
 */
export async function runBatch(m: Llama, method: TuningMethod, batch: Batch, scale: number | null): Promise<number> {
  const { device: d } = m;
  const input = uploadBatch(m, batch);
  const x = d.allocate([input.tokens, m.config.hiddenSize], "f32", "activations");
  d.embeddingForward(x, m.tensors.embedding, input.inputs);
  const kept: (LayerKept | null)[] = [];
  for (let layer = 0; layer < m.config.numLayers; layer++) {
    kept.push(scale === null ? forwardOnly(m, method, input, layer, x) : forwardKeeping(m, method, input, layer, x));
    await d.turn();
  }
  const { losses, counted, dx } = await headAndLoss(m, method, batch, x, scale);
  if (dx) {
    for (let layer = m.config.numLayers - 1; layer >= 0 && kept[layer]; layer--) {
      backwardFromKept(m, method, input, layer, dx, kept[layer] as LayerKept);
      await d.turn();
    }
    const dEmbedding = method.gradientOf("model.embed_tokens.weight");
    if (dEmbedding) d.embeddingBackward(dEmbedding, dx, input.inputs);
    d.free(dx);
  }
  freeBatch(d, input);
  // Read when everything is under way: the only wait for the device.
  let lossSum = 0;
  for (const loss of await d.read(losses, 0, counted)) lossSum += loss;
  d.free(losses);
  return lossSum;
}

/** Logits (rows, V) f32 of the last `rows` positions of a single sequence; with a cache, `ids` continue it. The caller frees them. */
export function runLogits(m: Llama, method: TuningMethod, ids: Int32Array, rows: number, cache: KeyValueCache | null): Promise<Tensor> {
  const past = cache?.length ?? 0;
  const positions = Int32Array.from(ids, (_, i) => past + i);
  const batch = { batchSize: 1, sequenceLength: ids.length, inputs: ids, positions, documentStart: new Int32Array(ids.length) };
  const last = Int32Array.from({ length: rows }, (_, i) => ids.length - rows + i);
  return runLogitsAt(m, method, batch, last, cache);
}

/**
 * Logits (rows.length, V) f32 of the listed rows of a batch; with a cache, each of its sequences continues what the cache holds of it, and
 * `documentStart` counts from the cache's first position. The caller frees them.
 */
export async function runLogitsAt(m: Llama, method: TuningMethod, batch: Inputs, rows: Int32Array, cache: KeyValueCache | null): Promise<Tensor> {
  const hidden = await hiddenAt(m, method, batch, rows, cache);
  const logits = m.device.allocate([rows.length, m.config.vocabSize], "f32", "activations");
  m.device.matmul(logits, hidden, m.tensors.head, { transposeB: true });
  m.device.free(hidden);
  return logits;
}

/** −log p of token `targets[i]` coming after row `rows[i]` of a batch. A row may be listed several times. */
export async function runTokenLosses(m: Llama, method: TuningMethod, batch: Inputs, rows: Int32Array, targets: Int32Array): Promise<Float32Array> {
  const { device: d, config } = m;
  const hidden = await hiddenAt(m, method, batch, rows, null);
  const chunk = headChunkRows(rows.length, config.vocabSize);
  const logits = d.allocate([chunk, config.vocabSize], "f32", "activations");
  const losses = d.allocate([rows.length], "f32", "activations");
  const ids = d.allocate([rows.length], "i32", "activations");
  d.write(ids, targets);
  for (let first = 0; first < rows.length; first += chunk) {
    const count = Math.min(chunk, rows.length - first);
    const part = d.rows(logits, 0, count);
    d.matmul(part, d.rows(hidden, first, count), m.tensors.head, { transposeB: true });
    d.crossEntropy(d.rows(losses, first, count), part, d.rows(ids, first, count), null);
    await d.turn();
  }
  const read = (await d.read(losses)) as Float32Array;
  freeAll(d, [hidden, logits, losses, ids]);
  return read;
}

/** What the model reads of a batch. */
export type Inputs = Pick<Batch, "batchSize" | "sequenceLength" | "inputs" | "positions" | "documentStart">;

/** Forward without a backward: the listed rows (rows.length, C) after the final norm. */
async function hiddenAt(m: Llama, method: TuningMethod, batch: Inputs, rows: Int32Array, cache: KeyValueCache | null): Promise<Tensor> {
  const { device: d, config } = m;
  const input = uploadBatch(m, batch);
  if (cache) input.shape = { ...input.shape, keyLength: cache.length + batch.sequenceLength, keyStride: cache.capacity };
  const x = d.allocate([input.tokens, config.hiddenSize], "f32", "activations");
  d.embeddingForward(x, m.tensors.embedding, input.inputs);
  for (let layer = 0; layer < config.numLayers; layer++) {
    layerForward(m, method, input, layer, x, null, cache);
    await d.turn();
  }
  if (cache) cache.length += batch.sequenceLength;
  const rowIds = d.allocate([rows.length], "i32", "activations");
  const gathered = d.allocate([rows.length, config.hiddenSize], "f32", "activations");
  const rstd = d.allocate([rows.length], "f32", "activations");
  const hidden = d.allocate([rows.length, config.hiddenSize], m.precision, "activations");
  d.write(rowIds, rows);
  d.embeddingForward(gathered, x, rowIds); // gathers the rows
  d.rmsNormForward(hidden, rstd, gathered, m.tensors.finalNorm, config.rmsNormEpsilon);
  freeAll(d, [x, rowIds, gathered, rstd]);
  freeBatch(d, input);
  return hidden;
}

/** A micro-batch onto the device; {@link freeBatch} gives it back. */
export function uploadBatch(m: Llama, batch: Inputs): DeviceBatch {
  const { batchSize, sequenceLength } = batch;
  const { numHeads, numKeyValueHeads, headSize } = m.config;
  const upload = (data: Int32Array) => {
    const tensor = m.device.allocate([data.length], "i32", "activations");
    m.device.write(tensor, data);
    return tensor;
  };
  return {
    inputs: upload(batch.inputs),
    positions: upload(batch.positions),
    documentStart: upload(batch.documentStart),
    shape: { batchSize, queryLength: sequenceLength, keyLength: sequenceLength, keyStride: sequenceLength, numHeads, numKeyValueHeads, headSize },
    tokens: batchSize * sequenceLength,
  };
}

export function freeBatch(d: Device, batch: DeviceBatch): void {
  freeAll(d, [batch.inputs, batch.positions, batch.documentStart]);
}

// ---------------------------------------------------------------------------------------------------------------- head and loss

/** Rows of logits formed at a time: at most 64 MiB of them, at least 64 rows so that the matmul stays a matmul. */
export function headChunkRows(tokens: number, vocabSize: number): number {
  return Math.min(tokens, Math.max(64, Math.floor((64 << 20) / (4 * vocabSize))));
}

/**
 * Final norm, head and cross-entropy over the rows that count, a chunk at a time: N × V logits never exist. Frees x.
 * Returns the NLL of those rows, the first `counted` of `losses` (N) f32, and, with a scale, dx (N, C) f32, the gradient of the residual stream.
 */
async function headAndLoss(
  m: Llama,
  method: TuningMethod,
  batch: Batch,
  x: Tensor,
  scale: number | null,
): Promise<{ losses: Tensor; counted: number; dx: Tensor | null }> {
  const { device: d, config, tensors } = m;
  const [N, C] = x.shape;
  const chunk = headChunkRows(N, config.vocabSize);
  const hidden = d.allocate([N, C], m.precision, "activations");
  const rstd = d.allocate([N], "f32", "activations");
  d.rmsNormForward(hidden, rstd, x, tensors.finalNorm, config.rmsNormEpsilon);
  const dx = scale === null ? null : d.allocate([N, C], "f32", "activations");
  if (dx) d.fill(dx, 0);
  const losses = d.allocate([N], "f32", "activations");
  const part = {
    hidden: d.allocate([chunk, C], m.precision, "activations"),
    dHidden: dx && d.allocate([chunk, C], "f32", "activations"),
    logits: d.allocate([chunk, config.vocabSize], "f32", "activations"),
    targets: d.allocate([chunk], "i32", "activations"),
    rowIds: d.allocate([chunk], "i32", "activations"),
  };
  const counted = rowsWithTarget(batch.targets);
  const dHead = method.gradientOf(tensors.headName);
  for (let first = 0; first < counted.length; first += chunk) {
    const rowIds = counted.subarray(first, first + chunk);
    const count = rowIds.length;
    const at = (tensor: Tensor) => d.rows(tensor, 0, count);
    d.write(part.rowIds, rowIds);
    d.write(
      part.targets,
      rowIds.map((row) => batch.targets[row]),
    );
    d.embeddingForward(at(part.hidden), hidden, at(part.rowIds)); // gathers the rows
    d.matmul(at(part.logits), at(part.hidden), tensors.head, { transposeB: true });
    d.crossEntropy(d.rows(losses, first, count), at(part.logits), at(part.targets), scale);
    if (dx && part.dHidden) {
      d.matmul(at(part.dHidden), at(part.logits), tensors.head);
      if (dHead) d.matmul(dHead, at(part.logits), at(part.hidden), { transposeA: true, accumulate: true });
      d.embeddingBackward(dx, at(part.dHidden), at(part.rowIds)); // puts the rows back
    }
    await d.turn();
  }
  if (dx) d.rmsNormBackward(dx, method.gradientOf("model.norm.weight"), dx, x, tensors.finalNorm, rstd, false);
  freeAll(d, [hidden, rstd, x, ...Object.values(part)]);
  return { losses, counted: counted.length, dx };
}

function rowsWithTarget(targets: Int32Array): Int32Array {
  const rows = new Int32Array(targets.length);
  let count = 0;
  for (let row = 0; row < targets.length; row++) if (targets[row] >= 0) rows[count++] = row;
  return rows.subarray(0, count);
}

// ---------------------------------------------------------------------------------------------------------------- one decoder layer

/** What a layer's forward leaves for its backward; entries that backward will not reach are absent. Tensors may stand in two entries. */
interface LayerKept {
  /** The layer's input alone, f32, when the rest is to be recomputed. */
  checkpoint?: Tensor;
  /** Residual stream at the layer's start and after attention (N, C), with 1/rms of each row. */
  input?: Tensor;
  inputRstd?: Tensor;
  middle?: Tensor;
  middleRstd?: Tensor;
  /** q, k before their norm (Qwen3), with 1/rms of each head. */
  qBeforeNorm?: Tensor;
  kBeforeNorm?: Tensor;
  qRstd?: Tensor;
  kRstd?: Tensor;
  /** Rotated q (N, NH·HS), k, v (N, NKV·HS); attention's output (N, NH·HS) and log-sum-exp (N, NH). */
  q?: Tensor;
  k?: Tensor;
  v?: Tensor;
  attention?: Tensor;
  logSumExp?: Tensor;
  /** (N, H). */
  gate?: Tensor;
  up?: Tensor;
  /** What the method keeps of each stage's input. */
  stageInput: (Tensor | null)[];
  /** What the method keeps of a linear map beside its stage's input. */
  linear: Partial<Record<Projection, Tensor>>;
}

/** x (N, C), the residual stream before a layer, becomes the one after it. For what goes through a model layer by layer, such as pruning. */
export function forwardLayer(m: Llama, method: TuningMethod, batch: DeviceBatch, layer: number, x: Tensor): void {
  layerForward(m, method, batch, layer, x, null, null);
}

function forwardOnly(m: Llama, method: TuningMethod, batch: DeviceBatch, layer: number, x: Tensor): null {
  layerForward(m, method, batch, layer, x, null, null);
  return null;
}

/** Forward of one layer, keeping what backward needs; null when backward will not come down here. */
function forwardKeeping(m: Llama, method: TuningMethod, batch: DeviceBatch, layer: number, x: Tensor): LayerKept | null {
  if (method.lowestStage >= 4 * (layer + 1)) return forwardOnly(m, method, batch, layer, x);
  const kept: LayerKept = { stageInput: [null, null, null, null], linear: {} };
  if (m.recompute === "none") {
    layerForward(m, method, batch, layer, x, kept, null);
    return kept;
  }
  kept.checkpoint = m.device.allocate(x.shape, "f32", "activations");
  m.device.copy(kept.checkpoint, x);
  forwardOnly(m, method, batch, layer, x);
  return kept;
}

function backwardFromKept(m: Llama, method: TuningMethod, batch: DeviceBatch, layer: number, dx: Tensor, kept: LayerKept): void {
  if (kept.checkpoint) layerForward(m, method, batch, layer, kept.checkpoint, kept, null);
  layerBackward(m, method, batch, layer, dx, kept);
  const { stageInput, linear, ...tensors } = kept;
  freeAll(m.device, [...stageInput, ...Object.values(linear), ...Object.values(tensors)]);
}

/** x (N, C) += attention(norm(x)); x += mlp(norm(x)). Fills `kept` down to the method's lowest stage. */
function layerForward(
  m: Llama,
  method: TuningMethod,
  batch: DeviceBatch,
  layer: number,
  x: Tensor,
  kept: LayerKept | null,
  cache: KeyValueCache | null,
): void {
  const { device: d, config, precision } = m;
  const w = m.tensors.layers[layer];
  const { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj } = w.linears;
  const N = batch.tokens;
  const reach = kept ? method.lowestStage - 4 * layer : Number.POSITIVE_INFINITY; // lowest stage backward visits in this layer, from 0
  const activation = (columns: number) => d.allocate([N, columns], precision, "activations");
  const temporary: (Tensor | null)[] = [];
  const keep = <K extends Exclude<keyof LayerKept, "stageInput" | "linear">>(upTo: number, entries: Record<K, Tensor>) => {
    if (kept && reach <= upTo) Object.assign(kept, entries);
    else temporary.push(...Object.values<Tensor>(entries));
  };
  const keepStageInput = (stage: 0 | 1 | 2 | 3, input: Tensor) => {
    if (kept && reach <= stage) kept.stageInput[stage] = method.saveInput(4 * layer + stage, input);
    if (kept?.stageInput[stage] !== input) temporary.push(input);
  };
  const run = (out: Tensor, linear: Linear, input: Tensor, accumulate: boolean) => {
    const keepOf = (tensor: Tensor) => {
      if (kept) kept.linear[linear.projection] = tensor;
    };
    method.linearForward(out, linear, input, accumulate, kept && reach <= stageOf[linear.projection] ? keepOf : null);
  };

  // Attention
  const h = activation(config.hiddenSize);
  normalise(m, h, x, w.inputNorm, (input, inputRstd) => keep(-1, { input, inputRstd }), reach <= -1);
  let q = activation(q_proj.weight.shape[0]);
  let k = activation(k_proj.weight.shape[0]);
  const v = activation(v_proj.weight.shape[0]);
  run(q, q_proj, h, false);
  run(k, k_proj, h, false);
  run(v, v_proj, h, false);
  keepStageInput(0, h);
  freeAll(d, temporary.splice(0));
  if (w.queryNorm && w.keyNorm) {
    const [qBeforeNorm, kBeforeNorm] = [q, k];
    q = activation(q.shape[1]);
    k = activation(k.shape[1]);
    const qRstd = d.allocate([N * config.numHeads], "f32", "activations");
    const kRstd = d.allocate([N * config.numKeyValueHeads], "f32", "activations");
    d.rmsNormForward(q, qRstd, qBeforeNorm, w.queryNorm, config.rmsNormEpsilon);
    d.rmsNormForward(k, kRstd, kBeforeNorm, w.keyNorm, config.rmsNormEpsilon);
    keep(0, { qBeforeNorm, kBeforeNorm, qRstd, kRstd });
    freeAll(d, temporary.splice(0));
  }
  d.rope(q, m.rope.cos, m.rope.sin, batch.positions, config.headSize, false);
  d.rope(k, m.rope.cos, m.rope.sin, batch.positions, config.headSize, false);
  const attention = activation(q.shape[1]);
  const logSumExp = d.allocate([N, config.numHeads], "f32", "activations");
  const [keys, values] = cache ? appendToCache(d, cache, layer, k, v) : [k, v];
  d.attentionForward(attention, logSumExp, q, keys, values, batch.documentStart, batch.shape);
  keep(0, { q, k, v, logSumExp });
  run(x, o_proj, attention, true);
  keepStageInput(1, attention);
  if (kept && reach <= 0) {
    kept.attention = attention; // backward of the softmax reads its output, whatever the method keeps of it
    const index = temporary.indexOf(attention);
    if (index >= 0) temporary.splice(index, 1);
  }
  freeAll(d, temporary.splice(0));

  // MLP
  const h2 = activation(config.hiddenSize);
  normalise(m, h2, x, w.postAttentionNorm, (middle, middleRstd) => keep(1, { middle, middleRstd }), reach <= 1);
  const gate = activation(config.intermediateSize);
  const up = activation(config.intermediateSize);
  run(gate, gate_proj, h2, false);
  run(up, up_proj, h2, false);
  keepStageInput(2, h2);
  freeAll(d, temporary.splice(0));
  const product = activation(config.intermediateSize);
  d.swigluForward(product, gate, up);
  keep(2, { gate, up });
  run(x, down_proj, product, true);
  keepStageInput(3, product);
  freeAll(d, temporary);
}

/** dx (N, C) f32, the gradient after the layer, becomes the gradient before it. Stops at the method's lowest stage. Overwrites gate and up. */
function layerBackward(m: Llama, method: TuningMethod, batch: DeviceBatch, layer: number, dx: Tensor, kept: LayerKept): void {
  const { device: d, config, precision } = m;
  const w = m.tensors.layers[layer];
  const { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj } = w.linears;
  const reach = method.lowestStage - 4 * layer;
  const N = batch.tokens;
  const allocate = (columns: number, dtype: Precision) => d.allocate([N, columns], dtype, "activations");
  const run = (dX: Tensor | null, linear: Linear, dOut: Tensor, accumulate: boolean) =>
    method.linearBackward(dX, linear, dOut, kept.stageInput[stageOf[linear.projection]], accumulate, kept.linear[linear.projection] ?? null);
  const needs = <T>(tensor: T | undefined): T => tensor as T; // kept by forward for exactly the reach tested here

  // MLP: x += down(silu(gate(h2)) ∘ up(h2))
  const dProduct = reach <= 2 ? allocate(config.intermediateSize, precision) : null;
  run(dProduct, down_proj, dx, false);
  if (!dProduct) return;
  const [gate, up] = [needs(kept.gate), needs(kept.up)];
  d.swigluBackward(gate, up, dProduct, gate, up);
  d.free(dProduct);
  const dH2 = reach <= 1 ? allocate(config.hiddenSize, "f32") : null;
  run(dH2, gate_proj, gate, false);
  run(dH2, up_proj, up, true);
  if (!dH2) return;
  const dPostNorm = method.gradientOf(`model.layers.${layer}.post_attention_layernorm.weight`);
  d.rmsNormBackward(dx, dPostNorm, dH2, needs(kept.middle), w.postAttentionNorm, needs(kept.middleRstd), true);
  d.free(dH2);

  // Attention: x += o(attention(rope(q), rope(k), v))
  const dAttention = reach <= 0 ? allocate(o_proj.weight.shape[1], precision) : null;
  run(dAttention, o_proj, dx, false);
  if (!dAttention) return;
  const [dQ, dK, dV] = [q_proj, k_proj, v_proj].map((linear) => allocate(linear.weight.shape[0], precision));
  const { q, k, v, attention, logSumExp } = kept as Required<LayerKept>;
  d.attentionBackward(dQ, dK, dV, dAttention, q, k, v, attention, logSumExp, batch.documentStart, batch.shape);
  d.free(dAttention);
  d.rope(dQ, m.rope.cos, m.rope.sin, batch.positions, config.headSize, true);
  d.rope(dK, m.rope.cos, m.rope.sin, batch.positions, config.headSize, true);
  if (w.queryNorm && w.keyNorm) {
    const gradient = (name: string) => method.gradientOf(`model.layers.${layer}.self_attn.${name}.weight`);
    d.rmsNormBackward(dQ, gradient("q_norm"), dQ, needs(kept.qBeforeNorm), w.queryNorm, needs(kept.qRstd), false);
    d.rmsNormBackward(dK, gradient("k_norm"), dK, needs(kept.kBeforeNorm), w.keyNorm, needs(kept.kRstd), false);
  }
  const dH = reach <= -1 ? allocate(config.hiddenSize, "f32") : null;
  run(dH, q_proj, dQ, false);
  run(dH, k_proj, dK, true);
  run(dH, v_proj, dV, true);
  freeAll(d, [dQ, dK, dV]);
  if (!dH) return;
  const dInputNorm = method.gradientOf(`model.layers.${layer}.input_layernorm.weight`);
  d.rmsNormBackward(dx, dInputNorm, dH, needs(kept.input), w.inputNorm, needs(kept.inputRstd), true);
  d.free(dH);
}

/** out (N, C) = norm(x). Hands a copy of x in the run's precision and 1/rms of its rows to `kept` when backward needs them. */
function normalise(
  m: Llama,
  out: Tensor,
  x: Tensor,
  weight: LayerTensors["inputNorm"],
  keep: (x: Tensor, rstd: Tensor) => void,
  needed: boolean,
): void {
  const { device: d } = m;
  const rstd = d.allocate([x.shape[0]], "f32", "activations");
  d.rmsNormForward(out, rstd, x, weight, m.config.rmsNormEpsilon);
  if (!needed) {
    d.free(rstd);
    return;
  }
  const copy = d.allocate(x.shape, m.precision, "activations");
  d.copy(copy, x);
  keep(copy, rstd);
}

/** Writes k and v of each sequence behind what the cache holds of it and returns the cache's tensors. */
function appendToCache(d: Device, cache: KeyValueCache, layer: number, k: Tensor, v: Tensor): [Tensor, Tensor] {
  const { k: keys, v: values } = cache.layers[layer];
  const sequences = keys.shape[0] / cache.capacity;
  const added = k.shape[0] / sequences;
  for (let sequence = 0; sequence < sequences; sequence++) {
    const at = sequence * cache.capacity + cache.length;
    d.copy(d.rows(keys, at, added), d.rows(k, sequence * added, added));
    d.copy(d.rows(values, at, added), d.rows(v, sequence * added, added));
  }
  return [keys, values];
}

/** Frees each tensor once, however often it stands in the list. */
function freeAll(d: Device, tensors: (Tensor | null | undefined)[]): void {
  for (const tensor of new Set(tensors)) if (tensor) d.free(tensor);
}
