/**
 * Rounding to bf16 with the arithmetic of f32 alone, because no engine of TensorFlow for JavaScript has the type or lets bits be seen.
 * The rule to keep: the results are those of floatFormats.ts for every f32 number, subnormal ones, both zeros, infinities and NaN among them.
 */
import type { Tensor, Tensor1D } from "@tensorflow/tfjs-core";
import type { Engine, Tf } from "./engine.ts";
import { byElements } from "./strips.ts";

/** x to the nearest bf16. */
export function roundToBfloat16<T extends Tensor>(engine: Engine, x: T): T {
  const { tf } = engine;
  return tf.tidy(() => tf.reshape(byElements(engine, [tf.reshape(x, [x.size]) as Tensor1D], ([part]) => [rounded(tf, part)])[0], x.shape)) as T;
}

/**
 * To the nearest bf16, ties to even. The unit in the first place of |x| is what multiplying by 1 − 2⁻²⁴ takes away from (2²³ + 1)|x|; adding and
 * taking away 1.5·2¹⁶ of it leaves eight significant bits, rounded as f32 rounds. A power of two first brings |x| where nothing of that over- or underflows.
 */
function rounded(tf: Tf, x: Tensor1D): Tensor {
  const size = tf.abs(x);
  const scale = tf.add(tf.mul(tf.cast(tf.less(size, 1), "float32"), 2 ** 64), 2 ** -64);
  const scaled = tf.mul(size, scale);
  const wide = tf.mul(scaled, 2 ** 23 + 1);
  const unit = tf.sub(wide, tf.mul(wide, 1 - 2 ** -24));
  // Below bf16's normal numbers the spacing stays that of the smallest of them.
  const shift = tf.mul(tf.maximum(unit, tf.mul(scale, 2 ** -126)), 1.5 * 2 ** 16);
  const nearest = tf.div(tf.sub(tf.add(scaled, shift), shift), scale);
  // Not tf.sign, which takes small numbers for 0. Zeros keep theirs; infinities and NaN have no unit: they stay.
  return tf.where(tf.greater(unit, 0), tf.where(tf.less(x, 0), tf.neg(nearest), nearest), x);
}
