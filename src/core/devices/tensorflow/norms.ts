/** RMS norm, forward and backward, by rows. It reads and makes engine tensors and knows no handle. */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { Engine } from "./engine.ts";
import { byRows } from "./strips.ts";

/** The normed rows, and what each was multiplied by (rows, 1). */
export function rmsNorm(engine: Engine, rows: Tensor2D, weight: Tensor1D, epsilon: number): Tensor[] {
  const { tf } = engine;
  return byRows(engine, [rows], ([x]) => {
    const rstd = tf.div(1, tf.sqrt(tf.add(tf.div(tf.sum(tf.mul(x, x), 1, true), x.shape[1]), epsilon)));
    return [tf.mul(tf.mul(x, rstd), weight), rstd];
  });
}

/** The gradients of rows and weight, each made when it is asked for. */
export function rmsNormGradients(engine: Engine, dOut: Tensor2D, x: Tensor2D, weight: Tensor1D, rstd: Tensor2D) {
  const { tf } = engine;
  return {
    dX: (): Tensor =>
      byRows(engine, [dOut, x, rstd], ([dy, rows, factors]) => {
        const normalized = tf.mul(rows, factors);
        const weighted = tf.mul(dy, weight);
        const mean = tf.div(tf.sum(tf.mul(weighted, normalized), 1, true), rows.shape[1]);
        return [tf.mul(factors, tf.sub(weighted, tf.mul(normalized, mean)))];
      })[0],
    dWeight: (): Tensor => tf.tidy(() => tf.sum(tf.mul(dOut, tf.mul(x, rstd)), 0)),
  };
}
