/**
 * Causal attention within documents, forward and backward, some queries of one sequence at a time, so that the scores that exist at once are bounded.
 * Heads that share keys stand below each other in one product. It reads and writes engine tensors and knows no handle.
 * The rule to keep: only keys that some query of the part sees are touched; a cache holds anything behind them.
 */
import type { Tensor, Tensor2D, Tensor3D } from "@tensorflow/tfjs-core";
import type { AttentionShape } from "../device.ts";
import type { Engine, Tf } from "./engine.ts";
import { batchProduct, rowsOf } from "./products.ts";
import { joined, tileElements } from "./strips.ts";

/** Queries [first, end) of a sequence, and the keys [firstKey, endKey) of it that they see. */
interface Part {
  sequence: number;
  first: number;
  end: number;
  firstKey: number;
  endKey: number;
}

function* partsOf({ transposes }: Engine, starts: Int32Array, shape: AttentionShape): Generator<Part> {
  const { batchSize, queryLength, keyLength, numHeads, numKeyValueHeads } = shape;
  const together = transposes === "flags" ? numHeads : numHeads / numKeyValueHeads;
  const most = Math.max(1, Math.floor(tileElements / (together * keyLength)));
  for (let sequence = 0; sequence < batchSize; sequence++)
    for (let first = 0; first < queryLength; first += most) {
      const end = Math.min(queryLength, first + most);
      const firstKey = starts.subarray(sequence * queryLength + first, sequence * queryLength + end).reduce((a, b) => Math.min(a, b));
      yield { sequence, first, end, firstKey, endKey: keyLength - queryLength + end };
    }
}

/** What the parts of one call share. */
class Heads {
  readonly engine: Engine;
  readonly tf: Tf;
  readonly shape: AttentionShape;
  readonly starts: Int32Array;
  readonly sharing: number;

  constructor(engine: Engine, shape: AttentionShape, starts: Int32Array) {
    this.engine = engine;
    this.tf = engine.tf;
    this.shape = shape;
    this.starts = starts;
    this.sharing = shape.numHeads / shape.numKeyValueHeads;
  }

  /** Rows of queries (tokens, NH·width) as (NKV, sharing·queries, width). */
  ofQueries(x: Tensor2D, { sequence, first, end }: Part): Tensor3D {
    const { queryLength, numHeads, numKeyValueHeads } = this.shape;
    const width = x.shape[1] / numHeads;
    return this.tf.tidy(() => {
      const rows = rowsOf(this.engine, x, sequence * queryLength + first, end - first);
      const heads = this.tf.reshape(rows, [end - first, numKeyValueHeads, this.sharing, width]);
      return this.tf.reshape(this.tf.transpose(heads, [1, 2, 0, 3]), [numKeyValueHeads, this.sharing * (end - first), width]);
    });
  }

  /** The way back: (NKV, sharing·queries, width) as (queries, NH·width). */
  toQueries(x: Tensor, { first, end }: Part): Tensor2D {
    const { numHeads, numKeyValueHeads } = this.shape;
    const width = x.size / (numHeads * (end - first));
    const heads = this.tf.reshape(x, [numKeyValueHeads, this.sharing, end - first, width]);
    return this.tf.reshape(this.tf.transpose(heads, [2, 0, 1, 3]), [end - first, numHeads * width]);
  }

  /** Rows of keys (rows, NKV·HS) as (NKV, HS, keys). */
  ofKeys(x: Tensor2D, { sequence, firstKey, endKey }: Part): Tensor3D {
    const { keyStride, numKeyValueHeads, headSize } = this.shape;
    return this.tf.tidy(() => {
      const rows = rowsOf(this.engine, x, sequence * keyStride + firstKey, endKey - firstKey);
      return this.tf.transpose(this.tf.reshape(rows, [endKey - firstKey, numKeyValueHeads, headSize]), [1, 2, 0]);
    });
  }

  /** Gradients of keys (NKV, HS, keys) as rows for all of a sequence (keyLength, NKV·HS), zero where no query looked. */
  toKeys(x: Tensor3D, { firstKey, endKey }: Part): Tensor2D {
    const { keyLength, numKeyValueHeads, headSize } = this.shape;
    const rows = this.tf.reshape(this.tf.transpose(x, [2, 0, 1]), [endKey - firstKey, numKeyValueHeads * headSize]) as Tensor2D;
    return this.tf.pad2d(rows, [
      [firstKey, keyLength - endKey],
      [0, 0],
    ]);
  }

  /** Works on all heads at once, or on one after the other where batches are multiplied so anyway: nothing as large as the scores is taken apart. */
  byHead(tensors: readonly Tensor3D[], work: (parts: readonly Tensor3D[]) => Tensor3D[]): Tensor3D[] {
    if (this.engine.transposes === "flags") return work(tensors);
    const results = Array.from({ length: this.shape.numKeyValueHeads }, (_, head) =>
      this.tf.tidy(() => work(tensors.map((x) => rowsOf(this.engine, x, head, 1)))),
    );
    return results[0].map((_, i) =>
      joined(
        this.tf,
        results.map((parts) => parts[i]),
      ),
    );
  }

  /** Scaled scores (NKV, sharing·queries, keys), −∞ where the mask lets nothing through: added, because spreading a condition is slow. */
  scores(q: Tensor3D, keys: Tensor3D, { sequence, first, end, firstKey, endKey }: Part): Tensor3D {
    const { queryLength, keyLength, headSize } = this.shape;
    const [queries, width] = [end - first, endKey - firstKey];
    const mask = new Float32Array(queries * width).fill(Number.NEGATIVE_INFINITY);
    for (let i = 0; i < queries; i++) {
      const start = this.starts[sequence * queryLength + first + i];
      mask.fill(0, i * width + start - firstKey, i * width + keyLength - queryLength + first + i + 1 - firstKey);
    }
    const scores = this.tf.mul(batchProduct(this.engine, q, keys), 1 / Math.sqrt(headSize)) as Tensor3D;
    const masked = this.tf.add(this.tf.reshape(scores, [q.shape[0] * this.sharing, queries, width]), this.tf.tensor2d(mask, [queries, width]));
    return this.tf.reshape(masked, scores.shape);
  }
}

const across = (tf: Tf, x: Tensor3D) => tf.transpose(x, [0, 2, 1]) as Tensor3D;

/** out (B·queryLength, NH·HS) and logSumExp (B·queryLength, NH). */
export function attentionForward(engine: Engine, q: Tensor2D, k: Tensor2D, v: Tensor2D, starts: Int32Array, shape: AttentionShape) {
  const { tf } = engine;
  const heads = new Heads(engine, shape, starts);
  const [outs, sums]: Tensor2D[][] = [[], []];
  for (const part of partsOf(engine, starts, shape)) {
    const [out, logSumExp] = tf.tidy(() => {
      const given = [heads.ofQueries(q, part), heads.ofKeys(k, part), across(tf, heads.ofKeys(v, part))];
      const results = heads.byHead(given, ([query, keys, values]) => {
        const scores = heads.scores(query, keys, part);
        const largest = tf.max(scores, 2, true);
        const weights = tf.exp(tf.sub(scores, largest)) as Tensor3D;
        const sum = tf.sum(weights, 2, true);
        return [tf.div(batchProduct(engine, weights, values), sum), tf.add(largest, tf.log(sum))];
      });
      return results.map((x) => heads.toQueries(x, part));
    });
    outs.push(out);
    sums.push(logSumExp);
  }
  return { out: joined(tf, outs), logSumExp: joined(tf, sums) };
}

export interface AttentionGiven {
  dOut: Tensor2D;
  q: Tensor2D;
  k: Tensor2D;
  v: Tensor2D;
  out: Tensor2D;
  logSumExp: Tensor2D;
}

/** The gradients, with queryLength = keyLength = keyStride. */
export function attentionBackward(engine: Engine, { dOut, q, k, v, out, logSumExp }: AttentionGiven, starts: Int32Array, shape: AttentionShape) {
  const { tf } = engine;
  const heads = new Heads(engine, shape, starts);
  const [dQ, dK, dV]: Tensor2D[][] = [[], [], []];
  for (const part of partsOf(engine, starts, shape)) {
    const [dQuery, dKey, dValue] = tf.tidy(() => {
      const byQuery = [q, dOut, out, logSumExp].map((x) => heads.ofQueries(x, part));
      const given = [...byQuery, heads.ofKeys(k, part), heads.ofKeys(v, part)];
      const results = heads.byHead(given, ([query, dMixed, mixed, lse, keys, values]) => {
        const weights = tf.exp(tf.sub(heads.scores(query, keys, part), lse)) as Tensor3D;
        const delta = tf.sum(tf.mul(dMixed, mixed), 2, true);
        const dWeights = tf.sub(batchProduct(engine, dMixed, values), delta);
        const dScores = tf.mul(tf.mul(weights, dWeights), 1 / Math.sqrt(shape.headSize)) as Tensor3D;
        return [
          batchProduct(engine, dScores, across(tf, keys)),
          batchProduct(engine, across(tf, query), dScores),
          batchProduct(engine, across(tf, dMixed), weights),
        ];
      });
      return [heads.toQueries(results[0], part), heads.toKeys(results[1], part), heads.toKeys(results[2], part)];
    });
    dQ.push(dQuery);
    // Parts of one sequence add up.
    if (part.first === 0) {
      dK.push(dKey);
      dV.push(dValue);
    } else {
      dK.push(tf.add(dK.pop() as Tensor2D, dKey));
      dV.push(tf.add(dV.pop() as Tensor2D, dValue));
    }
  }
  return { dQ: joined(tf, dQ), dK: joined(tf, dK), dV: joined(tf, dV) };
}
