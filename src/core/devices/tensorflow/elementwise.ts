/**
 * Ops that take element beside element: rope, SwiGLU, AdamW, dropout, DoRA's gains. They read and make engine tensors and know no handle.
 * The rule to keep: where the engine has a function of that name but rounds more coarsely, the arithmetic stands here.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { AdamWOptions } from "../device.ts";
import { dropoutHash } from "../dropoutHash.ts";
import type { Engine, Tf } from "./engine.ts";
import { indices } from "./products.ts";
import { byElements, byRows } from "./strips.ts";

/** x (tokens, heads·headSize) turned by its positions, or back. */
export function rope(
  engine: Engine,
  tokens: Tensor2D,
  tables: readonly [cos: Tensor2D, sin: Tensor2D],
  positions: Int32Array,
  headSize: number,
  inverse: boolean,
): Tensor {
  const { tf } = engine;
  return byRows(engine, [tokens], ([x], first) => [turned(tf, x, tables, positions.subarray(first, first + x.shape[0]), headSize, inverse)])[0];
}

function turned(
  tf: Tf,
  x: Tensor2D,
  tables: readonly [cos: Tensor2D, sin: Tensor2D],
  positions: Int32Array,
  headSize: number,
  inverse: boolean,
): Tensor {
  const [N, heads, half] = [x.shape[0], x.shape[1] / headSize, headSize / 2];
  const at = indices(tf, positions);
  const [c, s] = tables.map((table) => tf.reshape(tf.gather(table, at), [N, 1, half]));
  const pairs = tf.reshape(x, [N, heads, headSize]);
  const [a, b] = [tf.slice(pairs, [0, 0, 0], [N, heads, half]), tf.slice(pairs, [0, 0, half], [N, heads, half])];
  const halves = inverse
    ? [tf.add(tf.mul(a, c), tf.mul(b, s)), tf.sub(tf.mul(b, c), tf.mul(a, s))]
    : [tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))];
  return tf.reshape(tf.concat(halves, 2), x.shape);
}

export function swiglu(engine: Engine, gate: Tensor1D, up: Tensor1D): Tensor {
  const { tf } = engine;
  return byElements(engine, [gate, up], ([g, u]) => [tf.mul(tf.mul(g, sigmoid(tf, g)), u)])[0];
}

/** dGate and dUp. */
export function swigluGradients(engine: Engine, dOut: Tensor1D, gate: Tensor1D, up: Tensor1D): Tensor[] {
  const { tf } = engine;
  return byElements(engine, [dOut, gate, up], ([dy, g, u]) => {
    const s = sigmoid(tf, g);
    const slope = tf.mul(s, tf.add(tf.mul(g, tf.sub(1, s)), 1));
    return [tf.mul(tf.mul(dy, u), slope), tf.mul(dy, tf.mul(g, s))];
  });
}

/** Not the engine's own, which rounds more coarsely. */
function sigmoid(tf: Tf, x: Tensor1D): Tensor1D {
  return tf.div(1, tf.add(tf.exp(tf.neg(x)), 1));
}

/** The first moment after a step. */
export function firstMoment(engine: Engine, first: Tensor1D, gradient: Tensor1D, { beta1, gradientScale }: AdamWOptions): Tensor {
  const { tf } = engine;
  return byElements(engine, [first, gradient], ([m, g]) => [tf.add(tf.mul(m, beta1), tf.mul(tf.mul(g, gradientScale), 1 - beta1))])[0];
}

/** The second moment after a step. */
export function secondMoment(engine: Engine, second: Tensor1D, gradient: Tensor1D, { beta2, gradientScale }: AdamWOptions): Tensor {
  const { tf } = engine;
  return byElements(engine, [second, gradient], ([v, given]) => {
    const g = tf.mul(given, gradientScale);
    return [tf.add(tf.mul(v, beta2), tf.mul(tf.mul(g, g), 1 - beta2))];
  })[0];
}

/** The value after a step, out of the moments after it. */
export function adamw(engine: Engine, value: Tensor1D, first: Tensor1D, second: Tensor1D, options: AdamWOptions): Tensor {
  const { tf } = engine;
  const { learningRate, beta1, beta2, epsilon, weightDecay, step } = options;
  return byElements(engine, [value, first, second], ([w, m, v]) => {
    const root = tf.add(tf.sqrt(tf.div(v, 1 - beta2 ** step)), epsilon);
    const change = tf.add(tf.div(tf.div(m, 1 - beta1 ** step), root), tf.mul(w, weightDecay));
    return [tf.sub(w, tf.mul(change, learningRate))];
  })[0];
}

/** The mask is made on the host: no engine has the integer arithmetic of the hash. */
export function dropout(engine: Engine, x: Tensor1D, { seed, threshold, scale }: { seed: number; threshold: number; scale: number }): Tensor {
  const { tf } = engine;
  return byElements(engine, [x], ([part], start) => {
    const kept = new Uint8Array(part.size);
    for (let i = 0; i < part.size; i++) if (dropoutHash(seed, start + i) >= threshold) kept[i] = 1;
    return [tf.where(tf.tensor1d(kept, "bool"), tf.mul(part, scale), tf.zerosLike(part))];
  })[0];
}

/** DoRA's norms out of their parts, and magnitude by norm, 0 where the norm is. */
export function doraGains(tf: Tf, magnitude: Tensor1D, [squares, cross, gram]: readonly Tensor1D[], scale: number): { norm: Tensor; gain: Tensor } {
  const mixed = tf.add(tf.mul(cross, 2 * scale), tf.mul(gram, scale * scale));
  const norm = tf.sqrt(tf.maximum(tf.add(squares, mixed), 0));
  return { norm, gain: tf.where(tf.equal(norm, 0), tf.zerosLike(norm), tf.div(magnitude, norm)) };
}
