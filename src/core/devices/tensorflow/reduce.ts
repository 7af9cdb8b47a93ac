/** Numbers that the host is told of whole tensors, added up where it is exact. They read engine tensors and know no handle. */
import type { Tensor1D } from "@tensorflow/tfjs-core";
import type { Tf } from "./engine.ts";

/** Elements of a part whose zeros are counted in f32, which counts no further than 2²⁴. */
const partElements = 4096;

/** How many of the elements are 0. */
export function zerosOf(tf: Tf, x: Tensor1D): number {
  const width = Math.min(x.size, partElements);
  const counts = tf.tidy(() => {
    const others = tf.cast(tf.notEqual(x, 0), "float32") as Tensor1D;
    const padded = tf.pad1d(others, [0, Math.ceil(x.size / width) * width - x.size]);
    return tf.sum(tf.reshape(padded, [-1, width]), 1).dataSync();
  });
  return Float64Array.from(counts).reduce((zeros, others) => zeros - others, x.size);
}

/** In float64, which the host has. */
export function squaresOf(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return sum;
}
