/**
 * The blocks that `score: diagonal` trains: the diagonal of every target matrix, whole. In a matrix that is not square it is stretched, so that each block
 * row and each block column meets it. Shapes in, places out; nothing is read or computed on a device.
 * The rule to keep: no matrix is preferred. A budget below the diagonals takes the same share of each, one above them the same share of what lies nearest.
 * Source: DiaBlo (arXiv 2506.03230); its oblong blocks are here as many square ones as they are long.
 */
import { type ModelConfig, type Projection, projectionShape } from "../../model/config.ts";
import { type Budget, blockEntries, gridShape, totalMatrixParameters } from "./selection.ts";

/** What the diagonals of all targets hold. */
export interface DiagonalSize {
  blocks: number;
  entries: number;
}

/** The diagonals of the targets at a block size. */
export function diagonalSize(config: ModelConfig, targets: readonly Projection[], blockSize: number): DiagonalSize {
  const size = { blocks: 0, entries: 0 };
  for (const target of targets) {
    const shape = projectionShape(config, target);
    const [rows, columns] = gridShape(shape, blockSize);
    const length = Math.max(rows, columns);
    size.blocks += config.numLayers * length;
    for (let i = 0; i < length; i++)
      size.entries += config.numLayers * blockEntries(shape, { row: along(i, length, rows), column: along(i, length, columns) }, blockSize);
  }
  return size;
}

/**
 * The block size at which the diagonals of the targets come nearest to a budget, in blocks where it counts blocks. All sizes are tried, because blocks that
 * are cut at the edges make some larger sizes hold less.
 */
export function diagonalBlockSize(config: ModelConfig, targets: readonly Projection[], budget: Budget): number {
  const { wanted, unit } = wantedOf(config, budget);
  const shortest = Math.min(...targets.flatMap((target) => projectionShape(config, target)));
  let [best, bestDistance] = [1, Number.POSITIVE_INFINITY];
  for (let size = 1; size <= shortest; size++) {
    const distance = Math.abs(diagonalSize(config, targets, size)[unit] - wanted);
    if (distance < bestDistance) [best, bestDistance] = [size, distance];
  }
  return best;
}

/** A budget as a number of entries, or of blocks. */
export function wantedOf(config: ModelConfig, { ratio, blocks, trainableParameters }: Budget): { wanted: number; unit: keyof DiagonalSize } {
  if (blocks) return { wanted: blocks, unit: "blocks" };
  return { wanted: trainableParameters ?? (ratio ?? 0) * totalMatrixParameters(config), unit: "entries" };
}

/** Scores of a matrix of rows × columns blocks, row-major: 1 and less, above ½, on the diagonal; then ring by ring away from it. */
export function diagonalScores(rows: number, columns: number): Float32Array {
  const shorter = Math.min(rows, columns);
  const distances = Int32Array.from({ length: rows * columns }, (_, i) =>
    Math.abs(along(Math.floor(i / columns), rows, shorter) - along(i % columns, columns, shorter)),
  );
  const rings = new Int32Array(shorter);
  for (const distance of distances) rings[distance]++;
  const before = new Int32Array(shorter);
  // The share of its ring that stands before a block is the same for equal places in any two matrices, so that all are taken from evenly.
  return Float32Array.from(distances, (distance) => 1 / (1 + distance + before[distance]++ / rings[distance]));
}

/** Whether a block with this score lies on its diagonal. */
export function onDiagonal(score: number): boolean {
  return score > 0.5;
}

/** Where the middle of piece `i` of `from` equal ones lies among `to` equal ones. */
function along(i: number, from: number, to: number): number {
  return Math.floor(((i + 0.5) * to) / from);
}
