/**
 * Matrix products, and parts of tensors, the way each engine is fast at them. The rules to keep: WebAssembly's fast product takes two matrices as they lie
 * in memory, so an operand to be read transposed is transposed first, and a batch is multiplied one by one; and its slice copies all of a tensor to take
 * a part of it, so a small part is gathered there.
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

/** To gather an element costs as much as to copy so many. */
const gatherCost = 8;

/** The part [first, first + count) of the first dimension. */
export function rowsOf<T extends Tensor<Rank>>({ tf, transposes }: Engine, x: T, first: number, count: number): T {
  if (first === 0 && count === x.shape[0]) return x;
  const rest = x.shape.slice(1);
  if (transposes === "flags" || count * gatherCost > x.shape[0]) return tf.slice(x, [first, ...rest.map(() => 0)], [count, ...rest]) as T;
  return tf.tidy(() =>
    tf.gather(
      x,
      tf.tensor1d(
        Int32Array.from({ length: count }, (_, i) => first + i),
        "int32",
      ),
    ),
  ) as T;
}

/** Elements [start, start + size) of a flat tensor, by the longest runs that it and they are made of. */
export function elementsOf(engine: Engine, flat: Tensor1D, start: number, size: number): Tensor1D {
  const { tf } = engine;
  const run = [start, size, flat.size].reduce(gcd);
  if (engine.transposes === "flags" || size * gatherCost > flat.size || size / run > mostRuns) return tf.slice(flat, start, size);
  return tf.tidy(() => tf.reshape(rowsOf(engine, tf.reshape(flat, [flat.size / run, run]), start / run, size / run), [size]));
}

/** More runs than this, each an index, are no cheaper than a copy. */
const mostRuns = 2 ** 16;

/** Integers as the engine's own, which it may keep. */
export function indices(tf: Tf, values: Int32Array): Tensor1D {
  return tf.tensor1d(values.slice(), "int32");
}

export const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
