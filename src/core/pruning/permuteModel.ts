/**
 * Carries an order of channels through a model so that it computes what it did: where a stage's input columns change places, the rows that make these inputs
 * change places with them. Nothing is left to be put back at run time, so the model loads as it is and its n:m groups stand in the weights as they are
 * stored. Three kinds of channels can do that: of the MLP (gate and up make what down reads), of a head's values (v makes what o reads, within each key/value
 * head and alike for all its query heads), and of the residual stream, in one order for the whole model.
 * The rule to keep: one of these is changed as a whole or not at all; sums may round differently, nothing else changes.
 */
import type { Device, SparsityPattern, Tensor } from "../devices/device.ts";
import { columnsOf } from "../devices/shapes.ts";
import type { Linear } from "../methods/method.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Llama } from "../model/llama.ts";
import { overPieces, type RowScores } from "./patterns.ts";
import { findOrder } from "./permutation.ts";

export type GroupPattern = Extract<SparsityPattern, { kind: "groups" }>;

/** A weight with the scores by which it will be pruned. */
export interface Scored {
  weight: Tensor;
  scores: RowScores;
}

/** Stages whose inputs are the residual stream, normalised: of q, k, v, and of gate, up. */
export const residualStages: readonly number[] = [0, 2];

/** The order of the residual stream that keeps most of all these weights' scores. */
export async function findResidualOrder({ device, config }: Llama, scored: readonly Scored[], pattern: GroupPattern, onPiece: () => void) {
  const forEachScores = async (body: (scores: Float32Array) => void) => {
    for (const one of scored) await overScores(device, one, body, onPiece);
  };
  return (await findOrder({ count: config.hiddenSize, span: config.hiddenSize, forEachScores }, pattern)).order;
}

/** Puts the residual stream into an order: everything that writes it or reads it. */
export async function permuteResidual({ device, tensors }: Llama, order: Int32Array): Promise<void> {
  const { embedding, head, finalNorm, layers } = tensors;
  for (const tensor of new Set([embedding, head, finalNorm])) await permuteColumns(device, tensor, order);
  for (const { inputNorm, postAttentionNorm, linears } of layers) {
    const { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj } = linears;
    for (const tensor of [inputNorm, postAttentionNorm]) await permuteColumns(device, tensor, order);
    for (const { weight } of [q_proj, k_proj, v_proj, gate_proj, up_proj]) await permuteColumns(device, weight, order);
    for (const linear of [o_proj, down_proj]) await permuteOutputs(device, linear, order);
  }
}

/**
 * Finds an order for the inputs of o_proj or down_proj, brings the rows that make them into it, and returns it for the columns that read them, which stay as
 * they are. Null where nothing would be won or no group fits between heads, and for the other maps.
 */
export async function permuteMakers(
  { device, config, tensors }: Llama,
  reader: Linear,
  scores: RowScores,
  pattern: GroupPattern,
  onPiece: () => void,
): Promise<Int32Array | null> {
  const { v_proj, gate_proj, up_proj } = tensors.layers[reader.layer].linears;
  const heads = headsOf(config);
  const inHeads = reader.projection === "o_proj";
  if ((!inHeads && reader.projection !== "down_proj") || (inHeads && heads.size % pattern.of !== 0)) return null;
  const scored = { weight: reader.weight, scores };
  const columns = columnsOf(reader.weight);
  const channels = inHeads
    ? {
        count: heads.keyValue * heads.size,
        span: heads.size,
        forEachScores: (body: (part: Float32Array) => void) => overScores(device, scored, (rows) => body(byKeyValueHead(rows, heads)), onPiece),
      }
    : { count: columns, span: columns, forEachScores: (body: (part: Float32Array) => void) => overScores(device, scored, body, onPiece) };
  const { order } = await findOrder(channels, pattern);
  if (order.every((from, i) => from === i)) return null;
  for (const maker of inHeads ? [v_proj] : [gate_proj, up_proj]) await permuteOutputs(device, maker, order);
  return inHeads ? forQueryHeads(order, heads) : order;
}

/** The columns of a matrix, or the entries of a vector, in an order. */
export async function permuteColumns(device: Device, tensor: Tensor, order: Int32Array): Promise<void> {
  const columns = order.length;
  const old = new Float32Array(columns);
  await overPieces(device, tensor, (values) => {
    for (let start = 0; start < values.length; start += columns) {
      old.set(values.subarray(start, start + columns));
      for (let i = 0; i < columns; i++) values[start + i] = old[order[i]];
    }
    return true;
  });
}

/** Names of the parameters that a permuted model has in another order, those that are pruned among them. */
export function permutedNames({ tensors }: Llama): string[] {
  return [...tensors.byName.keys()].filter((name) => !/\.([qk]_norm\.weight|[qk]_proj\.bias)$/.test(name));
}

async function permuteOutputs(device: Device, { weight, bias }: Linear, order: Int32Array): Promise<void> {
  const ids = device.allocate([order.length], "i32", "workspace");
  const rows = device.allocate(weight.shape, weight.dtype, "workspace");
  device.write(ids, order);
  device.embeddingForward(rows, weight, ids); // gathers the rows
  device.copy(weight, rows);
  device.free(rows);
  device.free(ids);
  if (bias) await permuteColumns(device, bias, order);
}

async function overScores(device: Device, { weight, scores }: Scored, body: (scores: Float32Array) => void, onPiece: () => void): Promise<void> {
  const columns = columnsOf(weight);
  await overPieces(device, weight, (values, firstRow) => {
    const part = new Float32Array(values.length);
    scores(part, values, firstRow, columns);
    body(part);
    onPiece();
    return false;
  });
}

interface Heads {
  keyValue: number;
  /** Query heads that read one key/value head. */
  sharing: number;
  size: number;
}

function headsOf({ numHeads, numKeyValueHeads, headSize }: ModelConfig): Heads {
  return { keyValue: numKeyValueHeads, sharing: numHeads / numKeyValueHeads, size: headSize };
}

/** Rows over all query heads as rows over the key/value heads: one for the first query head of each, one for the second, … */
function byKeyValueHead(rows: Float32Array, { keyValue, sharing, size }: Heads): Float32Array {
  if (sharing === 1) return rows;
  const turned = new Float32Array(rows.length);
  const columns = keyValue * sharing * size;
  for (let row = 0, to = 0; row < rows.length; row += columns)
    for (let shared = 0; shared < sharing; shared++)
      for (let head = 0; head < keyValue; head++, to += size) {
        const from = row + (head * sharing + shared) * size;
        turned.set(rows.subarray(from, from + size), to);
      }
  return turned;
}

/** The order of what o_proj reads: each query head's channels as those of the values it weighs. */
function forQueryHeads(order: Int32Array, { keyValue, sharing, size }: Heads): Int32Array {
  return Int32Array.from({ length: keyValue * sharing * size }, (_, column) => {
    const [head, channel] = [Math.floor(column / size), column % size];
    const valueHead = Math.floor(head / sharing);
    return head * size + order[valueHead * size + channel] - valueHead * size;
  });
}
