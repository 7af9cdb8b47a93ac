/**
 * Work on large tensors some elements or rows at a time: what lies between its inputs and its results exists for one strip only, so that an op needs a few
 * times its largest tensor and not twenty times. It reads and makes engine tensors and knows no handle.
 * The rule to keep: whatever makes more than two tensors on its way goes through here, or through tiles of its own of at most {@link tileElements}.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { Engine, Tf } from "./engine.ts";
import { elementsOf, rowsOf } from "./products.ts";

/** Elements of a strip; a row is never cut. They stay in a processor's cache. */
const stripElements = 2 ** 16;

/** Entries at once, at most, of what is made tile by tile: attention scores, dense gradients. */
export const tileElements = 2 ** 20;

/** What strips and tiles take beside tensors: eight tiles' worth of f32. */
export const stripsBytes = 8 * 4 * tileElements;

/**
 * What an op may hold beside its own tensors, in parts of the largest: an operand rounded and one transposed beside a product, or a result beside the same
 * in strips and put together.
 */
export const largestTensors = 3;

/** The results of `work` on flat tensors of one length; `start` is where the parts it is given begin. */
export function byElements(engine: Engine, flats: readonly Tensor1D[], work: (parts: readonly Tensor1D[], start: number) => Tensor[]): Tensor[] {
  return inStrips(engine.tf, flats[0].size, stripElements, (first, count) => {
    const parts = flats.map((flat) => (count === flat.size ? flat : elementsOf(engine, flat, first, count)));
    return work(parts, first);
  });
}

/** The results of `work` on matrices of as many rows; `first` is the first row of the parts it is given. */
export function byRows(engine: Engine, matrices: readonly Tensor2D[], work: (parts: readonly Tensor2D[], first: number) => Tensor[]): Tensor[] {
  const most = Math.max(1, Math.floor(stripElements / Math.max(1, ...matrices.map(({ shape }) => shape[1]))));
  return inStrips(engine.tf, matrices[0].shape[0], most, (first, count) =>
    work(
      matrices.map((matrix) => rowsOf(engine, matrix, first, count)),
      first,
    ),
  );
}

function inStrips(tf: Tf, count: number, most: number, work: (first: number, count: number) => Tensor[]): Tensor[] {
  const strips: Tensor[][] = [];
  for (let first = 0; first === 0 || first < count; first += most) strips.push(tf.tidy(() => work(first, Math.min(most, count - first))));
  return strips[0].map((_, i) =>
    joined(
      tf,
      strips.map((results) => results[i]),
    ),
  );
}

/** The pieces below each other; they are given back. */
export function joined<T extends Tensor>(tf: Tf, pieces: readonly T[]): T {
  if (pieces.length === 1) return pieces[0];
  const whole = tf.concat([...pieces], 0) as T;
  for (const piece of pieces) piece.dispose();
  return whole;
}
