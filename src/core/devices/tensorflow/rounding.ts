/**
 * Rounding and dithering to bf16 with the arithmetic of f32 alone, because no engine of TensorFlow for JavaScript has the type or lets bits be seen.
 * The rule to keep: the results are those of floatFormats.ts and dither.ts for every f32 number, subnormal ones, both zeros, infinities and NaN among them.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import { columnFactor, rowFactor } from "../dither.ts";
import type { Engine, Tf } from "./engine.ts";
import { byElements } from "./strips.ts";

/** |x| of finite numbers other than zero where nothing over- or underflows. `unit` is 0 for all others. */
interface Scaled {
  /** |x| · scale. */
  size: Tensor;
  /** A power of two. */
  scale: Tensor;
  /** The unit in the first place of `size`; for the few numbers just below a power of two that power itself. */
  unit: Tensor;
  /** The same, where bf16's spacing is no longer that of the smallest of its normal numbers. */
  spaced: Tensor;
}

/** The unit in the first place of |x| is what multiplying by 1 − 2⁻²⁴ takes away from (2²³ + 1)|x|. */
function scaled(tf: Tf, x: Tensor): Scaled {
  const absolute = tf.abs(x);
  const scale = tf.add(tf.mul(tf.cast(tf.less(absolute, 1), "float32"), 2 ** 64), 2 ** -64);
  const size = tf.mul(absolute, scale);
  const wide = tf.mul(size, 2 ** 23 + 1);
  const unit = tf.sub(wide, tf.mul(wide, 1 - 2 ** -24));
  return { size, scale, unit, spaced: tf.maximum(unit, tf.mul(scale, 2 ** -126)) };
}

/** `size` with x's sign, scaled back. Not tf.sign, which takes small numbers for 0. Zeros keep theirs; infinities and NaN have no unit: they stay. */
function restored(tf: Tf, x: Tensor, size: Tensor, { scale, unit }: Scaled): Tensor {
  const value = tf.div(size, scale);
  return tf.where(tf.greater(unit, 0), tf.where(tf.less(x, 0), tf.neg(value), value), x);
}

/** x to the nearest bf16. */
export function roundToBfloat16<T extends Tensor>(engine: Engine, x: T): T {
  const { tf } = engine;
  return tf.tidy(() => tf.reshape(byElements(engine, [tf.reshape(x, [x.size]) as Tensor1D], ([part]) => [rounded(tf, part)])[0], x.shape)) as T;
}

function rounded(tf: Tf, x: Tensor1D): Tensor {
  const parts = scaled(tf, x);
  return restored(tf, x, nearest(tf, parts.size, parts.spaced), parts);
}

/** Ties to even: adding and taking away 1.5·2¹⁶ units leaves eight significant bits, rounded as f32 rounds. */
function nearest(tf: Tf, size: Tensor, unit: Tensor): Tensor {
  const shift = tf.mul(unit, 1.5 * 2 ** 16);
  return tf.sub(tf.add(size, shift), shift);
}

/** Rows of W̃ from `first` on, (rows, in), to a bf16 beside each entry, by dither.ts's thresholds. */
export function ditherToBfloat16(tf: Tf, x: Tensor2D, first: number): Tensor2D {
  return tf.tidy(() => {
    const parts = scaled(tf, x);
    const { size, spaced } = parts;
    const unit = tf.where(tf.greater(spaced, tf.maximum(size, tf.mul(parts.scale, 2 ** -126))), tf.mul(spaced, 0.5), spaced);
    const step = tf.mul(unit, 2 ** -7);
    const near = nearest(tf, size, unit);
    const below = tf.sub(near, tf.where(tf.greater(near, size), step, tf.zerosLike(step)));
    // What bf16 does not hold, as the whole number that f32's lower bits are.
    const rest = tf.div(tf.sub(size, below), tf.mul(step, 2 ** -16));
    const goesUp = tf.greaterEqual(tf.add(rest, thresholds(tf, first, x.shape)), 2 ** 16);
    return restored(tf, x, tf.where(goesUp, tf.add(below, step), below), parts);
  }) as Tensor2D;
}

/** dither.ts's thresholds of rows from `first` on. Products and differences of i32 wrap, on every engine; not floorDiv, which some do in f32. */
function thresholds(tf: Tf, first: number, [rows, columns]: [number, number]): Tensor {
  const factors = (from: number, count: number, factor: (i: number) => number) => Int32Array.from({ length: count }, (_, i) => factor(from + i) | 0);
  const products = tf.mul(
    tf.tensor2d(factors(first, rows, rowFactor), [rows, 1], "int32"),
    tf.tensor2d(factors(0, columns, columnFactor), [1, columns], "int32"),
  );
  const near = tf.floor(tf.mul(tf.cast(products, "float32"), 2 ** -16));
  const rest = tf.sub(products, tf.mul(tf.cast(near, "int32"), tf.scalar(2 ** 16, "int32")));
  const upper = tf.sub(near, tf.cast(tf.less(rest, tf.scalar(0, "int32")), "float32"));
  return tf.add(upper, tf.mul(tf.cast(tf.less(upper, 0), "float32"), 2 ** 16));
}
