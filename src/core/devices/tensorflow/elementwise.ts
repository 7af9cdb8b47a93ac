/**
 * Ops that take element beside element: rope, SwiGLU, AdamW, dropout, DoRA's gains. They read and make engine tensors and know no handle.
 * The rule to keep: where the engine has a function of that name but rounds more coarsely, the arithmetic stands here.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { AdamWOptions } from "../device.ts";
import { dropoutHash } from "../dropoutHash.ts";
import type { Tf } from "./engine.ts";
import { indices } from "./products.ts";

/** x (tokens, heads·headSize) turned by its positions, or back. */
export function rope(
  tf: Tf,
  x: Tensor2D,
  tables: readonly [cos: Tensor2D, sin: Tensor2D],
  positions: Int32Array,
  headSize: number,
  inverse: boolean,
) {
  const [N, heads, half] = [x.shape[0], x.shape[1] / headSize, headSize / 2];
  const at = indices(tf, positions);
  const [c, s] = tables.map((table) => tf.reshape(tf.gather(table, at), [N, 1, half]));
  const pairs = tf.reshape(x, [N, heads, headSize]);
  const [a, b] = [tf.slice(pairs, [0, 0, 0], [N, heads, half]), tf.slice(pairs, [0, 0, half], [N, heads, half])];
  const turned = inverse
    ? [tf.add(tf.mul(a, c), tf.mul(b, s)), tf.sub(tf.mul(b, c), tf.mul(a, s))]
    : [tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))];
  return tf.concat(turned, 2);
}

export function swiglu(tf: Tf, gate: Tensor1D, up: Tensor1D): Tensor {
  return tf.mul(tf.mul(gate, sigmoid(tf, gate)), up);
}

export function swigluGradients(tf: Tf, dOut: Tensor1D, gate: Tensor1D, up: Tensor1D): { dGate: Tensor; dUp: Tensor } {
  const s = sigmoid(tf, gate);
  const slope = tf.mul(s, tf.add(tf.mul(gate, tf.sub(1, s)), 1));
  return { dGate: tf.mul(tf.mul(dOut, up), slope), dUp: tf.mul(dOut, tf.mul(gate, s)) };
}

/** Not the engine's own, which rounds more coarsely. */
function sigmoid(tf: Tf, x: Tensor1D): Tensor1D {
  return tf.div(1, tf.add(tf.exp(tf.neg(x)), 1));
}

/** Value and moments after a step. */
export function adamw(tf: Tf, w: Tensor1D, gradient: Tensor1D, [first, second]: readonly Tensor1D[], options: AdamWOptions) {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = options;
  const g = tf.mul(gradient, gradientScale);
  const m = tf.add(tf.mul(first, beta1), tf.mul(g, 1 - beta1));
  const v = tf.add(tf.mul(second, beta2), tf.mul(tf.mul(g, g), 1 - beta2));
  const root = tf.add(tf.sqrt(tf.div(v, 1 - beta2 ** step)), epsilon);
  const change = tf.add(tf.div(tf.div(m, 1 - beta1 ** step), root), tf.mul(w, weightDecay));
  return { value: tf.sub(w, tf.mul(change, learningRate)), firstMoment: m, secondMoment: v };
}

/** The mask is made on the host: no engine has the integer arithmetic of the hash. */
export function dropout(tf: Tf, x: Tensor1D, { seed, threshold, scale }: { seed: number; threshold: number; scale: number }) {
  const kept = new Uint8Array(x.size);
  for (let i = 0; i < x.size; i++) if (dropoutHash(seed, i) >= threshold) kept[i] = 1;
  return tf.where(tf.tensor1d(kept, "bool"), tf.mul(x, scale), tf.zerosLike(x));
}

/** DoRA's norms out of their parts, and magnitude by norm, 0 where the norm is. */
export function doraGains(tf: Tf, magnitude: Tensor1D, [squares, cross, gram]: readonly Tensor1D[], scale: number): { norm: Tensor; gain: Tensor } {
  const mixed = tf.add(tf.mul(cross, 2 * scale), tf.mul(gram, scale * scale));
  const norm = tf.sqrt(tf.maximum(tf.add(squares, mixed), 0));
  return { norm, gain: tf.where(tf.equal(norm, 0), tf.zerosLike(norm), tf.div(magnitude, norm)) };
}
