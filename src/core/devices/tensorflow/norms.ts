/** RMS norm, forward and backward, by rows. It reads and makes engine tensors and knows no handle. */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { Tf } from "./engine.ts";

/** The normed rows, and what each was multiplied by (rows, 1). */
export function rmsNorm(tf: Tf, x: Tensor2D, weight: Tensor1D, epsilon: number): { out: Tensor; rstd: Tensor } {
  const rstd = tf.div(1, tf.sqrt(tf.add(tf.div(tf.sum(tf.mul(x, x), 1, true), x.shape[1]), epsilon)));
  return { out: tf.mul(tf.mul(x, rstd), weight), rstd };
}

/** The gradients of rows and weight, each made when it is asked for. */
export function rmsNormGradients(tf: Tf, dOut: Tensor2D, x: Tensor2D, weight: Tensor1D, rstd: Tensor2D) {
  const normalized = tf.mul(x, rstd);
  return {
    dX(): Tensor {
      const weighted = tf.mul(dOut, weight);
      const mean = tf.div(tf.sum(tf.mul(weighted, normalized), 1, true), x.shape[1]);
      return tf.mul(rstd, tf.sub(weighted, tf.mul(normalized, mean)));
    },
    dWeight: (): Tensor => tf.sum(tf.mul(dOut, normalized), 0),
  };
}
