/**
 * Causal attention of the portable device, tile by tile with a running softmax: the tiles live in the device's scratch, T × T never exists.
 * Backward forms the probabilities again from log-sum-exp: once by query tiles for dQ, once by key tiles for dK and dV, so that every
 * gradient element is one float64 sum in a fixed order. Only visible pairs are computed: nothing, not even a NaN, crosses a document's border.
 * Source: FlashAttention (arXiv 2205.14135), FlashAttention-2 (arXiv 2307.08691).
 */
import type { AttentionShape } from "../../device.ts";
import { UnsupportedError } from "../../unsupported.ts";
import { addScaled, dots } from "./dots.ts";
import { checkIndex, type FloatData, load, type Scratch, scratchElements, store } from "./formats.ts";

const mostTileRows = 32;

/** Rows of a tile: as many vectors as fit into one scratch row. */
function tileRowsOf(op: string, { headSize }: AttentionShape): number {
  if (headSize > scratchElements) throw new UnsupportedError(op, `head size ${headSize}`);
  return Math.min(mostTileRows, Math.floor(scratchElements / headSize));
}

/** The first key each query sees must not lie behind its own position. */
function checkDocumentStarts(op: string, documentStart: Int32Array, { queryLength, keyLength }: AttentionShape): void {
  for (let t = 0; t < documentStart.length; t++) checkIndex(op, "documentStart", documentStart[t], keyLength - queryLength + (t % queryLength) + 1);
}

/** Where vectors lie: `query(t, h)` in q-shaped data (t counts all rows), `key(b, s, h)` in k-shaped data. */
function offsets({ keyStride, numHeads, numKeyValueHeads, headSize }: AttentionShape) {
  return {
    query: (t: number, h: number) => (t * numHeads + h) * headSize,
    key: (b: number, s: number, keyHead: number) => ((b * keyStride + s) * numKeyValueHeads + keyHead) * headSize,
  };
}

/** Copies `count` vectors that lie `stride` apart into a tile. */
function loadTile(tile: Float32Array, data: FloatData, offset: number, stride: number, count: number, size: number): void {
  for (let r = 0; r < count; r++) load(tile, data, offset + r * stride, size, r * size);
}

/** A row's softmax so far: its largest score and the sum of exp(score − largest). */
interface RunningSoftmax {
  max: Float64Array;
  sum: Float64Array;
}

/** Takes `count` scores into row r: result (row r) and sum shrink to the new largest score, scores become weights. */
function absorb(r: number, scores: Float64Array, count: number, { max, sum }: RunningSoftmax, result: Float64Array, headSize: number): void {
  let highest = max[r];
  for (let s = 0; s < count; s++) highest = Math.max(highest, scores[s]);
  const shrink = max[r] === Number.NEGATIVE_INFINITY ? 0 : Math.exp(max[r] - highest);
  let total = sum[r] * shrink;
  if (shrink !== 1) for (let d = r * headSize; d < (r + 1) * headSize; d++) result[d] *= shrink;
  for (let s = 0; s < count; s++) {
    scores[s] = Math.exp(scores[s] - highest);
    total += scores[s];
  }
  sum[r] = total;
  max[r] = highest;
}

export function attentionForward(
  out: FloatData,
  logSumExp: Float32Array,
  q: FloatData,
  k: FloatData,
  v: FloatData,
  documentStart: Int32Array,
  shape: AttentionShape,
  { rows: [queries, keys, values], sums: [result] }: Scratch,
): void {
  const tileRows = tileRowsOf("attentionForward", shape);
  checkDocumentStarts("attentionForward", documentStart, shape);
  const { batchSize, queryLength, keyLength, numHeads, numKeyValueHeads, headSize } = shape;
  const at = offsets(shape);
  const scale = 1 / Math.sqrt(headSize);
  const scores = new Float64Array(mostTileRows);
  const softmax = { max: new Float64Array(mostTileRows), sum: new Float64Array(mostTileRows) };
  for (let b = 0; b < batchSize; b++) {
    for (let h = 0; h < numHeads; h++) {
      const keyHead = Math.floor(h / (numHeads / numKeyValueHeads));
      for (let first = 0; first < queryLength; first += tileRows) {
        const count = Math.min(tileRows, queryLength - first);
        const t = b * queryLength + first;
        const own = keyLength - queryLength + first;
        const starts = documentStart.subarray(t, t + count);
        loadTile(queries, q, at.query(t, h), numHeads * headSize, count, headSize);
        result.fill(0, 0, count * headSize);
        softmax.max.fill(Number.NEGATIVE_INFINITY);
        softmax.sum.fill(0);
        for (let key = Math.min(...starts); key < own + count; key += tileRows) {
          const keyCount = Math.min(tileRows, own + count - key);
          loadTile(keys, k, at.key(b, key, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
          loadTile(values, v, at.key(b, key, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
          for (let r = 0; r < count; r++) {
            const from = Math.max(0, starts[r] - key);
            const seen = Math.min(keyCount, own + r - key + 1) - from;
            if (seen <= 0) continue;
            dots(scores, queries, r * headSize, keys, from * headSize, seen, headSize, scale);
            absorb(r, scores, seen, softmax, result, headSize);
            addScaled(result, r * headSize, scores, values, from * headSize, seen, headSize);
          }
        }
        for (let r = 0; r < count; r++) {
          for (let d = 0; d < headSize; d++) result[r * headSize + d] /= softmax.sum[r];
          store(out, at.query(t + r, h), result, headSize, r * headSize);
          logSumExp[(t + r) * numHeads + h] = softmax.max[r] + Math.log(softmax.sum[r]);
        }
      }
    }
  }
}

export interface AttentionBackwardData {
  dQ: FloatData;
  dK: FloatData;
  dV: FloatData;
  dOut: FloatData;
  q: FloatData;
  k: FloatData;
  v: FloatData;
  out: FloatData;
  logSumExp: Float32Array;
  documentStart: Int32Array;
}

export function attentionBackward(data: AttentionBackwardData, shape: AttentionShape, scratch: Scratch): void {
  const tileRows = tileRowsOf("attentionBackward", shape);
  checkDocumentStarts("attentionBackward", data.documentStart, shape);
  for (let b = 0; b < shape.batchSize; b++) {
    for (let h = 0; h < shape.numHeads; h++) queryGradients(data, shape, scratch, tileRows, b, h);
    for (let keyHead = 0; keyHead < shape.numKeyValueHeads; keyHead++) keyGradients(data, shape, scratch, tileRows, b, keyHead);
  }
}

/** Loads a tile of queries with their dOut, log-sum-exp and delta = dOut·out; `outputs` is used on the way. */
function loadQueries(
  { dOut, q, out, logSumExp }: AttentionBackwardData,
  { numHeads, headSize }: AttentionShape,
  { rows: [queries, , , gradients, outputs] }: Scratch,
  t: number,
  h: number,
  count: number,
  lse: Float64Array,
  delta: Float64Array,
): void {
  const [offset, stride] = [(t * numHeads + h) * headSize, numHeads * headSize];
  loadTile(queries, q, offset, stride, count, headSize);
  loadTile(gradients, dOut, offset, stride, count, headSize);
  loadTile(outputs, out, offset, stride, count, headSize);
  for (let r = 0; r < count; r++) {
    lse[r] = logSumExp[(t + r) * numHeads + h];
    let sum = 0;
    for (let d = r * headSize; d < (r + 1) * headSize; d++) sum += gradients[d] * outputs[d];
    delta[r] = sum;
  }
}

/** dQ of one head: a tile of queries against all tiles of keys it sees. */
function queryGradients(data: AttentionBackwardData, shape: AttentionShape, scratch: Scratch, tileRows: number, b: number, h: number): void {
  const { keyLength: T, numHeads, numKeyValueHeads, headSize } = shape;
  const [queries, keys, values, gradients] = scratch.rows;
  const [dQueries] = scratch.sums;
  const at = offsets(shape);
  const keyHead = Math.floor(h / (numHeads / numKeyValueHeads));
  const scale = 1 / Math.sqrt(headSize);
  const [lse, delta, scores, dScores] = [0, 1, 2, 3].map(() => new Float64Array(mostTileRows));
  for (let t0 = 0; t0 < T; t0 += tileRows) {
    const count = Math.min(tileRows, T - t0);
    const starts = data.documentStart.subarray(b * T + t0, b * T + t0 + count);
    loadQueries(data, shape, scratch, b * T + t0, h, count, lse, delta);
    dQueries.fill(0, 0, count * headSize);
    for (let s0 = Math.min(...starts); s0 < t0 + count; s0 += tileRows) {
      const keyCount = Math.min(tileRows, t0 + count - s0);
      loadTile(keys, data.k, at.key(b, s0, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
      loadTile(values, data.v, at.key(b, s0, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
      for (let r = 0; r < count; r++) {
        const from = Math.max(0, starts[r] - s0);
        const seen = Math.min(keyCount, t0 + r - s0 + 1) - from;
        if (seen <= 0) continue;
        dots(scores, queries, r * headSize, keys, from * headSize, seen, headSize, scale);
        dots(dScores, gradients, r * headSize, values, from * headSize, seen, headSize, 1);
        for (let s = 0; s < seen; s++) dScores[s] = Math.exp(scores[s] - lse[r]) * (dScores[s] - delta[r]) * scale;
        addScaled(dQueries, r * headSize, dScores, keys, from * headSize, seen, headSize);
      }
    }
    for (let r = 0; r < count; r++) store(data.dQ, at.query(b * T + t0 + r, h), dQueries, headSize, r * headSize);
  }
}

/** dK and dV of one key/value head: a tile of keys against all tiles of queries, of every head of its group, that see it. */
function keyGradients(data: AttentionBackwardData, shape: AttentionShape, scratch: Scratch, tileRows: number, b: number, keyHead: number): void {
  const { keyLength: T, numHeads, numKeyValueHeads, headSize } = shape;
  const [queries, keys, values, gradients] = scratch.rows;
  const [dKeys, dValues] = scratch.sums;
  const at = offsets(shape);
  const group = numHeads / numKeyValueHeads;
  const scale = 1 / Math.sqrt(headSize);
  const [lse, delta, scores, dScores] = [0, 1, 2, 3].map(() => new Float64Array(mostTileRows));
  for (let s0 = 0; s0 < T; s0 += tileRows) {
    const keyCount = Math.min(tileRows, T - s0);
    loadTile(keys, data.k, at.key(b, s0, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
    loadTile(values, data.v, at.key(b, s0, keyHead), numKeyValueHeads * headSize, keyCount, headSize);
    dKeys.fill(0, 0, keyCount * headSize);
    dValues.fill(0, 0, keyCount * headSize);
    for (let h = keyHead * group; h < (keyHead + 1) * group; h++) {
      for (let t0 = s0; t0 < T; t0 += tileRows) {
        const count = Math.min(tileRows, T - t0);
        const starts = data.documentStart.subarray(b * T + t0, b * T + t0 + count);
        if (Math.min(...starts) >= s0 + keyCount) continue;
        loadQueries(data, shape, scratch, b * T + t0, h, count, lse, delta);
        for (let s = 0; s < keyCount; s++) {
          // The queries that see a key are a run of rows, as long as documents lie one behind another; other rows end the run.
          let from = Math.max(0, s0 + s - t0);
          while (from < count) {
            while (from < count && starts[from] > s0 + s) from++;
            let to = from;
            while (to < count && starts[to] <= s0 + s) to++;
            dots(scores, keys, s * headSize, queries, from * headSize, to - from, headSize, scale);
            dots(dScores, values, s * headSize, gradients, from * headSize, to - from, headSize, 1);
            for (let r = 0; r < to - from; r++) {
              scores[r] = Math.exp(scores[r] - lse[from + r]);
              dScores[r] = scores[r] * (dScores[r] - delta[from + r]) * scale;
            }
            addScaled(dValues, s * headSize, scores, gradients, from * headSize, to - from, headSize);
            addScaled(dKeys, s * headSize, dScores, queries, from * headSize, to - from, headSize);
            from = to;
          }
        }
      }
    }
    for (let s = 0; s < keyCount; s++) {
      store(data.dK, at.key(b, s0 + s, keyHead), dKeys, headSize, s * headSize);
      store(data.dV, at.key(b, s0 + s, keyHead), dValues, headSize, s * headSize);
    }
  }
}
