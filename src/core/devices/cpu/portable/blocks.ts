/** The ops on blocks of a weight of the portable device, on raw data; formulas as in device.ts, blocks already checked. */
import type { Block } from "../../blockShapes.ts";
import type { BlockMean, ColumnTable } from "../../device.ts";
import { type FloatData, load, type Scratch, scratchElements } from "./formats.ts";
import { type GemmWorkspace, multiply, type Operand, tileColumns } from "./gemm.ts";
import { copyElements } from "./layers.ts";

export function gatherColumns(out: FloatData, x: FloatData, columns: ColumnTable, N: number, C: number, gathered: number, scratch: Scratch): void {
  for (let n = 0; n < N; n++) {
    let at = n * gathered;
    for (let i = 0; i < columns.length; i += 2) {
      copyElements(out, at, x, n * C + columns[i], columns[i + 1], scratch);
      at += columns[i + 1];
    }
  }
}

export function gatherBlocks(out: Float32Array, weight: FloatData, blocks: Block[], C: number, scratch: Scratch): void {
  for (const { rowStart, rowCount, columnStart, columnCount, offset } of blocks) {
    for (let r = 0; r < rowCount; r++) copyElements(out, offset + r * columnCount, weight, (rowStart + r) * C + columnStart, columnCount, scratch);
  }
}

export function scatterBlocks(weight: FloatData, values: Float32Array, blocks: Block[], C: number, scratch: Scratch): void {
  for (const { rowStart, rowCount, columnStart, columnCount, offset } of blocks) {
    for (let r = 0; r < rowCount; r++) copyElements(weight, (rowStart + r) * C + columnStart, values, offset + r * columnCount, columnCount, scratch);
  }
}

/** Columns from `start` of x (N, C) as the left operand xᵀ, or as the right operand x. */
const transposed = (data: FloatData, start: number, C: number): Operand => ({ data, offset: start, rowStride: 1, columnStride: C });
const plain = (data: FloatData, start: number, C: number): Operand => ({ data, offset: start, rowStride: C, columnStride: 1 });

/** @param O Columns of dOut. @param S Columns of the gathered slices. */
export function blockGradients(
  dBlocks: Float32Array,
  dOut: FloatData,
  slices: FloatData,
  blocks: Block[],
  N: number,
  O: number,
  S: number,
  workspace: GemmWorkspace,
): void {
  for (const { rowStart, rowCount, columnCount, offset, sliceStart } of blocks) {
    multiply(rowCount, columnCount, N, transposed(dOut, rowStart, O), plain(slices, sliceStart, S), workspace, (row, rows, column, columns, tile) => {
      for (let i = 0; i < rows; i++) {
        const to = offset + (row + i) * columnCount + column;
        for (let j = 0; j < columns; j++) dBlocks[to + j] += tile[i * tileColumns + j];
      }
    });
  }
}

/** Calls body with every l × l block of a (rows, columns) matrix and its index in row-major order; edge blocks are smaller. */
function forEachBlock(
  rows: number,
  columns: number,
  l: number,
  body: (index: number, rowStart: number, rowCount: number, columnStart: number, columnCount: number) => void,
): void {
  let index = 0;
  for (let r = 0; r < rows; r += l) {
    for (let c = 0; c < columns; c += l) body(index++, r, Math.min(l, rows - r), c, Math.min(l, columns - c));
  }
}

/** @param O Columns of dOut. @param C Columns of x. */
export function blockScores(
  scores: Float32Array,
  dOut: FloatData,
  x: FloatData,
  l: number,
  signed: boolean,
  N: number,
  O: number,
  C: number,
  workspace: GemmWorkspace,
): void {
  forEachBlock(O, C, l, (index, rowStart, rowCount, columnStart, columnCount) => {
    let sum = 0;
    multiply(rowCount, columnCount, N, transposed(dOut, rowStart, O), plain(x, columnStart, C), workspace, (_row, rows, _column, columns, tile) => {
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) sum += signed ? tile[i * tileColumns + j] : Math.abs(tile[i * tileColumns + j]);
      }
    });
    scores[index] += sum / (rowCount * columnCount);
  });
}

export function blockMeans(
  scores: Float32Array,
  x: FloatData,
  l: number,
  mean: BlockMean,
  columnScale: Float32Array | null,
  R: number,
  C: number,
  { rows: [piece] }: Scratch,
): void {
  forEachBlock(R, C, l, (index, rowStart, rowCount, columnStart, columnCount) => {
    let sum = 0;
    for (let r = rowStart; r < rowStart + rowCount; r++) {
      for (let c = columnStart; c < columnStart + columnCount; c += scratchElements) {
        const count = Math.min(scratchElements, columnStart + columnCount - c);
        load(piece, x, r * C + c, count);
        if (mean === "value") for (let i = 0; i < count; i++) sum += piece[i];
        else if (columnScale) for (let i = 0; i < count; i++) sum += piece[i] * piece[i] * columnScale[c + i];
        else for (let i = 0; i < count; i++) sum += Math.abs(piece[i]);
      }
    }
    scores[index] = sum / (rowCount * columnCount);
  });
}
