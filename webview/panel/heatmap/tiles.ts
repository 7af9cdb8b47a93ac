/**
 * The matrices' pixels on one hidden canvas, each as large as it has squares, to be drawn from there at any size. Only what changed is written.
 * The rule to keep: one RGBA write a square; a canvas is never read back.
 */
import type { HeatmapModel } from "./model.ts";
import { type Paint, paintMatrix } from "./paint.ts";
import { type Squares, squaresOf } from "./squares.ts";

/** Where a matrix's squares are on the hidden canvas. */
export interface Tile extends Squares {
  x: number;
  y: number;
  /** Squares are left of which nothing is known. */
  gaps: boolean;
}

const shelfWidth = 1024;
/** Writing many tiles one by one takes longer than writing all of them at once. */
const mostSingleWrites = 12;

export class Tiles {
  readonly canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  #tiles: Tile[] = [];
  #image: ImageData | null = null;
  #pixels = new Uint32Array();
  #scratch = new Uint32Array();
  #packed: { matrices: HeatmapModel["matrices"]; cellPixels: number } | null = null;

  constructor() {
    this.canvas = document.createElement("canvas");
    this.#context = this.canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
  }

  tile(matrix: number): Tile {
    return this.#tiles[matrix];
  }

  /** Paints every matrix anew. Returns those that look different now, or null when all of them moved. */
  update(model: HeatmapModel, paint: Paint, cellPixels: number): number[] | null {
    const repacked = this.#pack(model, cellPixels);
    const changed = model.matrices.flatMap((_, matrix) => (this.#paint(model, matrix, paint) ? [matrix] : []));
    if (this.#image) this.#write(this.#image, repacked ? null : changed);
    return repacked ? null : changed;
  }

  /** Gives every matrix a place, on shelves; true when places are other ones than before. */
  #pack(model: HeatmapModel, cellPixels: number): boolean {
    const sizes = model.matrices.map((grid) => squaresOf(grid, cellPixels));
    const same =
      this.#packed?.matrices === model.matrices &&
      sizes.every(({ rows, columns }, matrix) => rows === this.#tiles[matrix].rows && columns === this.#tiles[matrix].columns);
    this.#packed = { matrices: model.matrices, cellPixels };
    if (same) return false;
    let [x, y, shelf, width] = [0, 0, 0, 1];
    this.#tiles = sizes.map(({ rows, columns }) => {
      if (x > 0 && x + columns > shelfWidth) [x, y, shelf] = [0, y + shelf, 0];
      const tile = { x, y, rows, columns, gaps: true };
      x += columns;
      shelf = Math.max(shelf, rows);
      width = Math.max(width, x);
      return tile;
    });
    this.canvas.width = width;
    this.canvas.height = Math.max(1, y + shelf);
    this.#image = new ImageData(this.canvas.width, this.canvas.height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
    this.#scratch = new Uint32Array(Math.max(0, ...sizes.map(({ rows, columns }) => rows * columns)));
    return true;
  }

  /** True when the matrix looks different now. */
  #paint(model: HeatmapModel, matrix: number, paint: Paint): boolean {
    const tile = this.#tiles[matrix];
    const gaps = paintMatrix(model, matrix, paint, tile, this.#scratch);
    let changed = gaps !== tile.gaps;
    tile.gaps = gaps;
    const stride = this.canvas.width;
    for (let row = 0, from = 0; row < tile.rows; row++) {
      let to = (tile.y + row) * stride + tile.x;
      for (const end = from + tile.columns; from < end; from++, to++) {
        if (this.#pixels[to] === this.#scratch[from]) continue;
        this.#pixels[to] = this.#scratch[from];
        changed = true;
      }
    }
    return changed;
  }

  #write(image: ImageData, changed: number[] | null): void {
    if (!changed || changed.length > mostSingleWrites) {
      this.#context.putImageData(image, 0, 0);
      return;
    }
    for (const { x, y, rows, columns } of changed.map((matrix) => this.#tiles[matrix])) this.#context.putImageData(image, 0, 0, x, y, columns, rows);
  }
}
