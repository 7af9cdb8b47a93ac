/** Cross-entropy by rows, and its gradient. It reads and makes engine tensors; targets were checked by who calls. */
import type { Tensor, Tensor2D } from "@tensorflow/tfjs-core";
import type { Engine, Tf } from "./engine.ts";
import { indices } from "./products.ts";
import { byRows } from "./strips.ts";

/** Losses of the rows, 0 where a target is negative; with a scale the logits' gradient beside them. */
export function crossEntropy(engine: Engine, logits: Tensor2D, targets: Int32Array, scale: number | null): Tensor[] {
  return byRows(engine, [logits], ([rows], first) => ofRows(engine.tf, rows, targets.subarray(first, first + rows.shape[0]), scale));
}

function ofRows(tf: Tf, logits: Tensor2D, targets: Int32Array, scale: number | null): Tensor[] {
  const [n, V] = logits.shape;
  const shifted = tf.sub(logits, tf.max(logits, 1, true));
  const powers = tf.exp(shifted);
  const sum = tf.sum(powers, 1, true);
  const counted = tf.tensor1d(
    Float32Array.from(targets, (id) => (id < 0 ? 0 : 1)),
    "float32",
  );
  const at = Int32Array.from(targets, (id, row) => row * V + Math.max(0, id));
  const chosen = tf.gather(tf.reshape(shifted, [n * V]), indices(tf, at));
  const losses = tf.where(tf.greater(counted, 0), tf.sub(tf.log(tf.reshape(sum, [n])), chosen), tf.zeros([n]));
  if (scale === null) return [losses];
  const softmax = tf.reshape(tf.div(powers, sum), [n * V]);
  const places = tf.reshape(indices(tf, at), [n, 1]);
  const without = tf.tensorScatterUpdate(softmax, places, tf.sub(tf.gather(softmax, indices(tf, at)), 1));
  const gradient = tf.mul(tf.reshape(without, [n, V]), scale);
  if (targets.every((id) => id >= 0)) return [losses, gradient];
  // Spread by adding, which is fast; spreading a condition is not.
  const spread = tf.greater(tf.add(tf.zeros([n, V]), tf.reshape(counted, [n, 1])), 0);
  return [losses, tf.where(spread, gradient, tf.zeros([n, V]))];
}
