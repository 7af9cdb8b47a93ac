/**
 * The checks of the ops on blocks of a weight (SMT); see shapes.ts, whose rules hold here too. The tables are checked entry by entry,
 * because a wrong offset would write over another block.
 */
import type { BlockMean, BlockTable, ColumnTable, Tensor } from "./device.ts";
import { blockTableStride, sizeOf } from "./device.ts";
import { columnsOf, describe, expect, expectDType, expectShape, expectSize, floats, rowsOf } from "./shapes.ts";

/** One row of a {@link BlockTable} by name. */
export interface Block {
  rowStart: number;
  rowCount: number;
  columnStart: number;
  columnCount: number;
  /** Where the block begins in the flat tensor. */
  offset: number;
  /** Where its columns begin in the gathered slices. */
  sliceStart: number;
}

/** The table's rows by name, in order. */
export function blocksOf(table: BlockTable): Block[] {
  const blocks: Block[] = [];
  for (let i = 0; i < table.length; i += blockTableStride)
    blocks.push({
      rowStart: table[i],
      rowCount: table[i + 1],
      columnStart: table[i + 2],
      columnCount: table[i + 3],
      offset: table[i + 4],
      sliceStart: table[i + 5],
    });
  return blocks;
}

/** @param columns How many columns bound a block: those of the weight, or of the gathered slices with `sliced`. */
function checkBlocks(op: string, table: BlockTable, flat: Tensor, rows: number, columns: number, sliced: boolean): Block[] {
  expect(table instanceof Int32Array && table.length % blockTableStride === 0, op, () => `the block table holds no rows of ${blockTableStride}`);
  const blocks = blocksOf(table);
  const size = sizeOf(flat.shape);
  for (const block of blocks) {
    const start = sliced ? block.sliceStart : block.columnStart;
    const inside =
      block.rowStart >= 0 &&
      block.rowCount > 0 &&
      block.rowStart + block.rowCount <= rows &&
      start >= 0 &&
      block.columnCount > 0 &&
      start + block.columnCount <= columns;
    expect(inside, op, () => `block ${JSON.stringify(block)} does not lie within (${rows}, ${columns})`);
    const stored = block.offset >= 0 && block.offset + block.rowCount * block.columnCount <= size;
    expect(stored, op, () => `block ${JSON.stringify(block)} does not lie within the flat ${describe(flat)}`);
  }
  return blocks;
}

export function checkGatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): { N: number; C: number; gathered: number } {
  const op = "gatherColumns";
  expectDType(op, { out, x }, floats);
  expect(columns instanceof Int32Array && columns.length % 2 === 0, op, () => "the column table holds no pairs");
  let gathered = 0;
  for (let i = 0; i < columns.length; i += 2) {
    const [start, count] = [columns[i], columns[i + 1]];
    expect(
      start >= 0 && count > 0 && start + count <= columnsOf(x),
      op,
      () => `columns [${start}, ${start + count}) do not lie within ${describe(x)}`,
    );
    gathered += count;
  }
  expectShape(op, { out }, rowsOf(x), gathered);
  return { N: rowsOf(x), C: columnsOf(x), gathered };
}

export function checkGatherBlocks(out: Tensor, weight: Tensor, table: BlockTable): Block[] {
  expectDType("gatherBlocks", { out }, ["f32"]);
  expectDType("gatherBlocks", { weight }, floats);
  return checkBlocks("gatherBlocks", table, out, rowsOf(weight), columnsOf(weight), false);
}

export function checkScatterBlocks(weight: Tensor, values: Tensor, table: BlockTable): Block[] {
  expectDType("scatterBlocks", { values }, ["f32"]);
  expectDType("scatterBlocks", { weight }, floats);
  return checkBlocks("scatterBlocks", table, values, rowsOf(weight), columnsOf(weight), false);
}

export function checkBlockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, table: BlockTable): { N: number; blocks: Block[] } {
  const op = "blockGradients";
  expectDType(op, { dBlocks }, ["f32"]);
  expectDType(op, { dOut, slices }, floats);
  expect(rowsOf(dOut) === rowsOf(slices), op, () => `dOut ${describe(dOut)} and slices ${describe(slices)} have different numbers of rows`);
  return { N: rowsOf(dOut), blocks: checkBlocks(op, table, dBlocks, columnsOf(dOut), columnsOf(slices), true) };
}

function expectScores(op: string, scores: Tensor, rows: number, columns: number, blockSize: number): void {
  expectDType(op, { scores }, ["f32"]);
  expect(Number.isInteger(blockSize) && blockSize > 0, op, () => `${blockSize} is no block size`);
  expectShape(op, { scores }, Math.ceil(rows / blockSize), Math.ceil(columns / blockSize));
}

export function checkBlockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number): { N: number; out: number; in: number } {
  const op = "blockScores";
  expectDType(op, { dOut, x }, floats);
  expect(rowsOf(dOut) === rowsOf(x), op, () => `dOut ${describe(dOut)} and x ${describe(x)} have different numbers of rows`);
  expectScores(op, scores, columnsOf(dOut), columnsOf(x), blockSize);
  return { N: rowsOf(x), out: columnsOf(dOut), in: columnsOf(x) };
}

export function checkBlockMeans(
  scores: Tensor,
  x: Tensor,
  blockSize: number,
  mean: BlockMean,
  columnScale: Tensor | null,
): { rows: number; columns: number } {
  const op = "blockMeans";
  expectDType(op, { x }, floats);
  expectScores(op, scores, rowsOf(x), columnsOf(x), blockSize);
  expect((mean === "squareScaled") === (columnScale !== null), op, () => `mean ${mean} ${columnScale ? "takes no" : "needs a"} columnScale`);
  expectDType(op, { columnScale }, ["f32"]);
  expectSize(op, { columnScale }, columnsOf(x));
  return { rows: rowsOf(x), columns: columnsOf(x) };
}

export function checkColumnSumSquares(sums: Tensor, x: Tensor): { N: number; C: number } {
  expectDType("columnSumSquares", { sums }, ["f32"]);
  expectDType("columnSumSquares", { x }, floats);
  expectSize("columnSumSquares", { sums }, columnsOf(x));
  return { N: rowsOf(x), C: columnsOf(x) };
}
