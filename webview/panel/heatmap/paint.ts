/**
 * Pixels of the heatmap: one RGBA number a square, 0 (transparent) where nothing is known. Typed arrays in and out, no canvas.
 * The rules to keep: a square of many blocks is "chosen" when any of them is, and has the highest of their values; NaN counts as unknown.
 */
import type { HeatmapModel } from "./model.ts";
import { type FlatColors, pixelOf, rampPixels } from "./ramp.ts";
import { type ColorScale, colorIndex } from "./scale.ts";
import { type Squares, squareOf } from "./squares.ts";
import { byteStep, chosenValues, type HeatmapMode, hasAllScores, type ValueMode } from "./values.ts";

/** How a mode is painted; `scale` is null where the mode has no values. */
export interface Paint {
  mode: HeatmapMode;
  scale: ColorScale | null;
  flat: FlatColors;
}

/** Paints a matrix into the first rows · columns numbers of `out`. Returns whether squares are left of which nothing is known. */
export function paintMatrix(model: HeatmapModel, matrix: number, { mode, scale, flat }: Paint, squares: Squares, out: Uint32Array): boolean {
  if (mode === "selected") return paintChosen(model, matrix, flat, squares, out);
  if (!scale) return paintNothing(squares, out);
  if (mode === "score" && hasAllScores(model, matrix)) return paintScores(model, matrix, scale, squares, out);
  return paintChosenValues(model, matrix, mode, scale, squares, out);
}

function paintNothing(squares: Squares, out: Uint32Array): boolean {
  out.fill(0, 0, squares.rows * squares.columns);
  return true;
}

function paintChosen(model: HeatmapModel, matrix: number, flat: FlatColors, squares: Squares, out: Uint32Array): boolean {
  if (!model.chosen) return paintNothing(squares, out);
  out.fill(pixelOf(flat.notChosen), 0, squares.rows * squares.columns);
  const color = pixelOf(flat.chosen);
  forEachChosen(model, matrix, squares, (_, square) => {
    out[square] = color;
  });
  return false;
}

/** Calls back with each chosen block of a matrix and the square that it lies in. */
function forEachChosen(model: HeatmapModel, matrix: number, squares: Squares, visit: (block: number, square: number) => void): void {
  if (!model.chosen) return;
  const { first, counts, cells } = model.chosen;
  const { rows, columns, offset } = model.matrices[matrix];
  for (let block = first[matrix]; block < first[matrix] + counts[matrix]; block++) {
    const cell = cells[block] - offset;
    const row = squareOf(Math.floor(cell / columns), squares.rows, rows);
    visit(block, row * squares.columns + squareOf(cell % columns, squares.columns, columns));
  }
}

function paintScores(model: HeatmapModel, matrix: number, scale: ColorScale, squares: Squares, out: Uint32Array): boolean {
  const { low, step } = byteStep(model, matrix);
  if (!Number.isFinite(low + step)) return paintNothing(squares, out);
  const pixels = pixelsOfBytes(low, step, scale);
  const { rows, columns } = model.matrices[matrix];
  const { bytes, starts } = model.scores as NonNullable<HeatmapModel["scores"]>;
  const start = starts[matrix];
  if (squares.rows === rows && squares.columns === columns) {
    for (let cell = 0; cell < rows * columns; cell++) out[cell] = pixels[bytes[start + cell]];
    return false;
  }
  const columnSquares = squaresOfColumns(columns, squares.columns);
  const highest = new Uint8Array(squares.rows * squares.columns);
  for (let row = 0; row < rows; row++) {
    const [from, base] = [start + row * columns, squareOf(row, squares.rows, rows) * squares.columns];
    for (let column = 0; column < columns; column++) {
      const square = base + columnSquares[column];
      if (bytes[from + column] > highest[square]) highest[square] = bytes[from + column];
    }
  }
  for (let square = 0; square < highest.length; square++) out[square] = pixels[highest[square]];
  return false;
}

/** Matrices have few widths, and all of them are painted ten times a second. */
const columnSquaresKept = new Map<string, Int32Array>();

function squaresOfColumns(columns: number, squares: number): Int32Array {
  const key = `${columns} ${squares}`;
  let kept = columnSquaresKept.get(key);
  if (!kept) {
    if (columnSquaresKept.size > 100) columnSquaresKept.clear();
    kept = Int32Array.from({ length: columns }, (_, column) => squareOf(column, squares, columns));
    columnSquaresKept.set(key, kept);
  }
  return kept;
}

/** The pixel of each of the 256 bytes of a matrix. */
function pixelsOfBytes(low: number, step: number, scale: ColorScale): Uint32Array {
  const pixels = new Uint32Array(256);
  const { edges, flat } = scale;
  // Bytes rise, so their colours do: walking along the edges needs no logarithm.
  let index = colorIndex(scale, low);
  for (let byte = 0; byte < 256; byte++) {
    const value = low + byte * step;
    while (!flat && index < 255 && value >= edges[index + 1]) index++;
    pixels[byte] = rampPixels[index];
  }
  return pixels;
}

function paintChosenValues(model: HeatmapModel, matrix: number, mode: ValueMode, scale: ColorScale, squares: Squares, out: Uint32Array): boolean {
  paintNothing(squares, out);
  const values = chosenValues(model, mode);
  const count = squares.rows * squares.columns;
  if (!values) return true;
  const highest = new Float64Array(count).fill(Number.NaN);
  let known = 0;
  forEachChosen(model, matrix, squares, (block, square) => {
    const value = values[block];
    if (!Number.isFinite(value)) return;
    if (Number.isNaN(highest[square])) known++;
    else if (value <= highest[square]) return;
    highest[square] = value;
    out[square] = rampPixels[colorIndex(scale, value)];
  });
  return known < count;
}
