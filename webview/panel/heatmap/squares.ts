/**
 * How a matrix's blocks are put together into squares that can be seen: one block a square from 3 px up; below that, as many blocks a square as it takes to
 * make it 3 px. Arithmetic only. The rule to keep: every block lies in exactly one square and every square is drawn, so that nothing chosen can vanish.
 */
import { type CellPlace, cellOf } from "./grids.ts";
import type { HeatmapModel } from "./model.ts";
import { chosenAt, type HeatmapMode, valueAt } from "./values.ts";

/** Below this many CSS pixels a block is not drawn on its own. */
export const smallestCellPixels = 3;

/** A matrix as squares; equal to its grid of blocks where nothing is put together. */
export interface Squares {
  rows: number;
  columns: number;
}

/** The squares of a matrix of this many blocks when a block is this large on the screen. */
export function squaresOf(grid: { rows: number; columns: number }, cellPixels: number): Squares {
  if (cellPixels >= smallestCellPixels) return { rows: grid.rows, columns: grid.columns };
  const along = (blocks: number) => Math.min(blocks, Math.max(1, Math.floor((blocks * cellPixels) / smallestCellPixels)));
  return { rows: along(grid.rows), columns: along(grid.columns) };
}

/** First block of square `index`, of `squares` squares over `blocks` blocks; `index` may be `squares`, for the end. */
export function firstBlock(index: number, squares: number, blocks: number): number {
  return Math.floor((index * blocks) / squares);
}

/** The square that holds a block. */
export function squareOf(block: number, squares: number, blocks: number): number {
  return Math.ceil(((block + 1) * squares) / blocks) - 1;
}

/** The block that a square's colour speaks of: the best ranked of the chosen, or the one with the highest value; the first where nothing is known. */
export function spokesman(
  model: HeatmapModel,
  mode: HeatmapMode,
  matrix: number,
  squares: Squares,
  squareRow: number,
  squareColumn: number,
): CellPlace {
  const grid = model.matrices[matrix];
  const rows = [firstBlock(squareRow, squares.rows, grid.rows), firstBlock(squareRow + 1, squares.rows, grid.rows)];
  const columns = [firstBlock(squareColumn, squares.columns, grid.columns), firstBlock(squareColumn + 1, squares.columns, grid.columns)];
  let best: CellPlace = { matrix, row: rows[0], column: columns[0] };
  let most = Number.NEGATIVE_INFINITY;
  for (let row = rows[0]; row < rows[1]; row++)
    for (let column = columns[0]; column < columns[1]; column++) {
      const place = { matrix, row, column };
      const weight = weightOf(model, mode, place);
      if (weight > most) [best, most] = [place, weight];
    }
  return best;
}

function weightOf(model: HeatmapModel, mode: HeatmapMode, place: CellPlace): number {
  const cell = cellOf(model.matrices, place);
  if (mode !== "selected") return valueAt(model, mode, place.matrix, cell)?.value ?? Number.NEGATIVE_INFINITY;
  return chosenAt(model, cell) && model.chosen ? -model.chosen.ranks[model.chosen.ofCell[cell]] : Number.NEGATIVE_INFINITY;
}
