/**
 * The ops of SparseGPT: the sweep column by column, and putting a factored matrix back. The factor itself is found on the processor (hostFactor.ts). It reads
 * and makes engine tensors and knows no handle. Which entries of a block go is decided on the host: no engine sorts so that equal scores keep their order.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { SparsityPattern, SweepOptions } from "../device.ts";
import { zerosOfShare } from "../pruningShapes.ts";
import type { Engine } from "./engine.ts";
import { product } from "./products.ts";
import { byRows } from "./strips.ts";

/** h with what is below the diagonal above it too, and `diagonal` on it. */
export function mirrored(engine: Engine, h: Tensor2D, diagonal: Tensor1D): Tensor {
  const { tf } = engine;
  const C = h.shape[0];
  return byRows(engine, [h, tf.transpose(h)], ([rows, columns], first) => {
    const n = rows.shape[0];
    const [below, on] = [new Uint8Array(n * C), new Uint8Array(n * C)];
    for (let i = 0; i < n; i++) {
      below.fill(1, i * C, i * C + first + i);
      on[i * C + first + i] = 1;
    }
    const outside = tf.where(tf.tensor2d(below, [n, C], "bool"), rows, columns);
    return [tf.where(tf.tensor2d(on, [n, C], "bool"), tf.tile(tf.reshape(diagonal, [1, C]), [n, 1]), outside)];
  })[0];
}

interface Swept {
  w: Tensor2D;
  upper: Tensor2D;
  diagonal: Tensor1D;
}

/** w after the sweep, −err of its columns, and what the losses of the rows are to be added. */
export function swept(engine: Engine, { w, upper, diagonal }: Swept, { pattern, blockSize, first, count }: SweepOptions): Tensor[] {
  const { tf } = engine;
  const [R, C] = w.shape;
  const kept = tf.notEqual(diagonal, 0);
  const pieces: Tensor2D[] = first > 0 ? [tf.slice(w, [0, 0], [R, first])] : [];
  const errors: Tensor2D[] = [];
  let rest = tf.slice(w, [0, first], [R, C - first]);
  for (let start = first; start < first + count; start += blockSize) {
    const width = Math.min(blockSize, first + count - start);
    const [block, error, later] = tf.tidy(() => {
      const live = tf.tile(tf.reshape(tf.cast(tf.slice(kept, start, width), "float32"), [1, width]), [R, 1]);
      const given = tf.slice(rest, [0, 0], [R, width]);
      const values = tf.where(tf.greater(live, 0), given, tf.zerosLike(given)) as Tensor2D;
      const result = sweptBlock(engine, values, tf.slice(upper, [start, start], [width, width]), pattern);
      const right = C - start - width;
      const factor = tf.slice(upper, [start, start + width], [width, right]);
      const behind = byRows(engine, [rest, result.error], ([rows, errs]) => [
        tf.add(tf.slice(rows, [0, width], [rows.shape[0], right]), product(engine, errs, factor)),
      ]);
      return [result.values, result.error, behind[0] as Tensor2D];
    });
    rest.dispose();
    rest = later;
    pieces.push(block);
    errors.push(error);
  }
  const error = tf.concat2d(errors, 1);
  return [tf.concat2d([...pieces, rest], 1), error, tf.sum(tf.mul(error, error), 1)];
}

/** A block's columns after the sweep over them, and −err. */
function sweptBlock(engine: Engine, block: Tensor2D, upper: Tensor2D, pattern: SparsityPattern): { values: Tensor2D; error: Tensor2D } {
  const { tf } = engine;
  const [R, width] = block.shape;
  const factor = upper.dataSync();
  const pivots = Float32Array.from({ length: width }, (_, j) => factor[j * (width + 1)]);
  const goes = new Uint8Array(R * width);
  if (pattern.kind === "share") mark(goes, block.dataSync() as Float32Array, pivots, [0, width], zerosOfShare(pattern.share, R, width));
  let values = block;
  const errors: Tensor2D[] = [];
  for (let j = 0; j < width; j++) {
    if (pattern.kind === "groups" && j % pattern.of === 0) {
      const now = values.dataSync() as Float32Array;
      for (let i = 0; i < R; i++)
        mark(goes.subarray(i * width, (i + 1) * width), now.subarray(i * width, (i + 1) * width), pivots, [j, j + pattern.of], pattern.zeros);
    }
    const [next, error] = tf.tidy(() => {
      const chosen = Uint8Array.from({ length: R }, (_, i) => goes[i * width + j]);
      const column = tf.slice(values, [0, j], [R, 1]);
      const err = tf.where(tf.tensor2d(chosen, [R, 1], "bool"), tf.div(column, pivots[j]), tf.zerosLike(column)) as Tensor2D;
      // Row j of U from its pivot on; before it nothing changes.
      const row = tf.tensor2d(
        Float32Array.from({ length: width }, (_, k) => (k > j ? factor[j * width + k] : 0)),
        [1, width],
      );
      const less = tf.sub(values, tf.mul(err, row));
      const here = Uint8Array.from({ length: R * width }, (_, at) => (at % width === j ? goes[at] : 0));
      return [tf.where(tf.tensor2d(here, [R, width], "bool"), tf.zerosLike(less), less) as Tensor2D, tf.neg(err) as Tensor2D];
    });
    if (values !== block) values.dispose();
    values = next;
    errors.push(error);
  }
  return { values, error: tf.concat2d(errors, 1) };
}

/** Marks the lowest |w|/U_jj in columns [from, to) of rows as wide as the pivots; the first of equal ones. */
function mark(goes: Uint8Array, values: Float32Array, pivots: Float32Array, [from, to]: [number, number], count: number): void {
  const width = pivots.length;
  const scored: { at: number; score: number }[] = [];
  for (let at = 0; at < values.length; at++)
    if (at % width >= from && at % width < to) scored.push({ at, score: Math.fround(Math.abs(values[at]) / pivots[at % width]) });
  scored.sort((a, b) => a.score - b.score || a.at - b.at);
  for (const { at } of scored.slice(0, count)) goes[at] = 1;
}
