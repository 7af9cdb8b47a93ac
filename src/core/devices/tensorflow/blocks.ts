/**
 * Blocks of a weight as runs of elements of one length: the longest that begins and ends every row of every block, so that a block of aligned columns is
 * gathered and scattered by whole rows of it. And means over the blocks of a grid. It reads and makes engine tensors and knows no handle.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import type { Block } from "../blockShapes.ts";
import type { Engine, Tf } from "./engine.ts";
import { elementsOf, gcd, product, rowsOf } from "./products.ts";
import { joined, tileElements } from "./strips.ts";

interface Runs {
  length: number;
  /** Of each run: its place in the weight and in the flat tensor, in runs. */
  inWeight: Int32Array;
  inFlat: Int32Array;
}

function runsOf(blocks: readonly Block[], columns: number, flatSize: number): Runs {
  const starts = blocks.flatMap(({ columnStart, columnCount, offset }) => [columnStart, columnCount, offset]);
  const length = [columns, flatSize, ...starts].reduce(gcd);
  const count = blocks.reduce((sum, { rowCount, columnCount }) => sum + (rowCount * columnCount) / length, 0);
  const [inWeight, inFlat] = [new Int32Array(count), new Int32Array(count)];
  let at = 0;
  for (const { rowStart, rowCount, columnStart, columnCount, offset } of blocks)
    for (let row = 0; row < rowCount; row++)
      for (let column = 0; column < columnCount; column += length) {
        inWeight[at] = ((rowStart + row) * columns + columnStart + column) / length;
        inFlat[at++] = (offset + row * columnCount + column) / length;
      }
  return { length, inWeight, inFlat };
}

/** `to` with the runs at `places` replaced by the rows of `from`. */
function putRuns(tf: Tf, to: Tensor, from: Tensor, places: Int32Array, length: number): Tensor {
  return tf.tensorScatterUpdate(tf.reshape(to, [to.size / length, length]), tf.tensor2d(places, [places.length, 1], "int32"), from);
}

function takeRuns(tf: Tf, from: Tensor, places: Int32Array, length: number): Tensor {
  return tf.gather(tf.reshape(from, [from.size / length, length]), tf.tensor1d(places, "int32"));
}

/** `flat` with the blocks of weight in it. */
export function gatherBlocks(tf: Tf, flat: Tensor1D, weight: Tensor2D, blocks: readonly Block[]): Tensor {
  const { length, inWeight, inFlat } = runsOf(blocks, weight.shape[1], flat.size);
  return putRuns(tf, flat, takeRuns(tf, weight, inWeight, length), inFlat, length);
}

/** `weight` with the blocks of flat in it. */
export function scatterBlocks(tf: Tf, weight: Tensor2D, flat: Tensor1D, blocks: readonly Block[]): Tensor {
  const { length, inWeight, inFlat } = runsOf(blocks, weight.shape[1], flat.size);
  return putRuns(tf, weight, takeRuns(tf, flat, inFlat, length), inWeight, length);
}

/** `flat` with each block's gradient added where it lies; what is between the blocks stays. */
export function addToBlocks(engine: Engine, flat: Tensor1D, blocks: readonly Block[], gradientOf: (block: Block) => Tensor2D): Tensor {
  const { tf } = engine;
  const pieces: Tensor1D[] = [];
  let end = 0;
  const keepUntil = (offset: number) => {
    if (offset > end) pieces.push(elementsOf(engine, flat, end, offset - end));
  };
  for (const block of [...blocks].sort((a, b) => a.offset - b.offset)) {
    const size = block.rowCount * block.columnCount;
    keepUntil(block.offset);
    pieces.push(tf.tidy(() => tf.add(elementsOf(engine, flat, block.offset, size), tf.reshape(gradientOf(block), [size]))));
    end = block.offset + size;
  }
  keepUntil(flat.size);
  return tf.concat1d(pieces);
}

/** Means over the l × l blocks of x (rows, columns); those at the edge over their own entries. */
export function blockMeans(tf: Tf, x: Tensor2D, l: number): Tensor2D {
  return tf.tidy(() => {
    const [rows, columns] = x.shape;
    const [down, across] = [Math.ceil(rows / l), Math.ceil(columns / l)];
    const padded = tf.pad2d(x, [
      [0, down * l - rows],
      [0, across * l - columns],
    ]);
    const strips = tf.sum(tf.reshape(padded, [down, l, across * l]), 1);
    const sums = tf.sum(tf.reshape(strips, [down, across, l]), 2);
    const own = (block: number, size: number) => Math.min(l, size - block * l);
    const counts = Float32Array.from({ length: down * across }, (_, i) => own(Math.floor(i / across), rows) * own(i % across, columns));
    return tf.div(sums, tf.tensor2d(counts, [down, across])) as Tensor2D;
  });
}

/** Means over the blocks of G = dOutᵀ·x, or of its magnitudes; G exists some whole rows of blocks at a time, as many as a tile holds. */
export function gradientMeans(engine: Engine, dOut: Tensor2D, x: Tensor2D, l: number, signed: boolean): Tensor2D {
  const { tf } = engine;
  const byOut = tf.transpose(dOut);
  const [out, columns] = [byOut.shape[0], x.shape[1]];
  const most = l * Math.max(1, Math.floor(tileElements / (l * columns)));
  const means: Tensor2D[] = [];
  for (let first = 0; first < out; first += most)
    means.push(
      tf.tidy(() => {
        const g = product(engine, rowsOf(engine, byOut, first, Math.min(most, out - first)), x);
        return blockMeans(tf, signed ? g : tf.abs(g), l);
      }),
    );
  return joined(tf, means);
}
