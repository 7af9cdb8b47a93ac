/**
 * Matrix products, and parts of tensors, the way each engine is fast at them. The rules to keep: WebAssembly's fast product takes two matrices as they lie
 * in memory, so an operand to be read transposed is transposed first, and a batch is multiplied one by one; and a part is taken as the engine takes it.
 */
import type { Rank, Tensor, Tensor1D, Tensor2D, Tensor3D } from "@tensorflow/tfjs-core";
import type { Engine, Tf } from "./engine.ts";

export interface Transposed {
  transposeA?: boolean;
  transposeB?: boolean;
}

/** a·b, with either read as its transpose. */
export function product({ tf, transposes }: Engine, a: Tensor2D, b: Tensor2D, { transposeA = false, transposeB = false }: Transposed = {}): Tensor2D {
  const [M, K] = transposeA ? [a.shape[1], a.shape[0]] : a.shape;
  const N = transposeB ? b.shape[0] : b.shape[1];
  if (M * N * K === 0) return tf.zeros([M, N]);
  if (transposes === "flags") return tf.matMul(a, b, transposeA, transposeB);
  return tf.tidy(() => tf.matMul(transposeA ? tf.transpose(a) : a, transposeB ? tf.transpose(b) : b)) as Tensor2D;
}

/** a·b of each of a batch: (G, M, K)·(G, K, N). */
export function batchProduct(engine: Engine, a: Tensor3D, b: Tensor3D): Tensor3D {
  const { tf, transposes } = engine;
  if (transposes === "flags") return tf.matMul(a, b) as Tensor3D;
  const [batch, M, K] = a.shape;
  const N = b.shape[2];
  const one = (x: Tensor3D, i: number, shape: [number, number]) => tf.reshape(rowsOf(engine, x, i, 1), shape);
  return tf.tidy(() => {
    const products = Array.from({ length: batch }, (_, i) => tf.tidy(() => tf.matMul(one(a, i, [M, K]), one(b, i, [K, N])) as Tensor2D));
    return tf.reshape(tf.concat2d(products, 0), [batch, M, N]);
  });
}

/** The part [first, first + count) of the first dimension. */
export function rowsOf<T extends Tensor<Rank>>(engine: Engine, x: T, first: number, count: number): T {
  if (first === 0 && count === x.shape[0]) return x;
  const { tf } = engine;
  const rest = x.shape.slice(1);
  const width = rest.reduce((size, each) => size * each, 1);
  return tf.tidy(() => tf.reshape(elementsOf(engine, tf.reshape(x, [x.size]) as Tensor1D, first * width, count * width), [count, ...rest])) as T;
}

/** Elements [start, start + size) of a flat tensor. */
export function elementsOf({ tf, elements }: Engine, flat: Tensor1D, start: number, size: number): Tensor1D {
  return size === 0 ? tf.zeros([0]) : elements(flat, start, size);
}

/** Integers as the engine's own, which it may keep. */
export function indices(tf: Tf, values: Int32Array): Tensor1D {
  return tf.tensor1d(values.slice(), "int32");
}

export const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
