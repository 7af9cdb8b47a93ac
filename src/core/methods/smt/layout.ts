/**
 * Where chosen blocks lie in memory: per matrix a flat f32 tensor of its blocks, per stage the distinct column slices of its input that they read.
 * The linear maps of a stage share their slices (q, k and v read one). Source: METHODS "Linear layer"; blocks come in column stripes.
 */
import { type BlockTable, blockTableStride, type ColumnTable, type Device, type Tensor } from "../../devices/device.ts";
import type { Linear } from "../method.ts";
import type { ChosenBlock } from "./selection.ts";

/** The chosen blocks of one matrix. */
export interface MatrixBlocks {
  linear: Linear;
  /** By column, then row, so that a stripe's blocks stand together. */
  table: BlockTable;
  /** Entries of all its blocks: the length of the flat tensor. */
  entries: number;
}

export interface BlockLayout {
  matrices: Map<string, MatrixBlocks>;
  /** Column slices kept of each stage's input, by stage. */
  columns: Map<number, ColumnTable>;
}

/** Lays out the chosen blocks over the model's linear maps; names are those of `linears`. */
export function layOutBlocks(
  chosen: readonly Pick<ChosenBlock, "name" | "row" | "column">[],
  linears: readonly Linear[],
  blockSize: number,
): BlockLayout {
  const byName = new Map<string, { row: number; column: number }[]>();
  for (const { name, row, column } of chosen) {
    const blocks = byName.get(name);
    if (blocks) blocks.push({ row, column });
    else byName.set(name, [{ row, column }]);
  }
  const used = linears.filter(({ name }) => byName.has(name));
  const columns = new Map<number, ColumnTable>();
  for (const { stage } of used) if (!columns.has(stage)) columns.set(stage, stageColumns(stage, used, byName, blockSize));
  const matrices = new Map<string, MatrixBlocks>();
  for (const linear of used)
    matrices.set(linear.name, matrixBlocks(linear, byName.get(linear.name) ?? [], columns.get(linear.stage) as ColumnTable, blockSize));
  return { matrices, columns };
}

function stageColumns(stage: number, linears: readonly Linear[], byName: Map<string, { column: number }[]>, blockSize: number): ColumnTable {
  const distinct = new Set<number>();
  const width = linears.find((linear) => linear.stage === stage)?.weight.shape[1] ?? 0;
  for (const linear of linears) if (linear.stage === stage) for (const { column } of byName.get(linear.name) ?? []) distinct.add(column);
  const sorted = [...distinct].sort((a, b) => a - b);
  return Int32Array.from(sorted.flatMap((column) => [column * blockSize, Math.min(blockSize, width - column * blockSize)]));
}

/** The order of a matrix's blocks in its flat tensors, in memory and in checkpoints. */
export function inFlatOrder(a: { row: number; column: number }, b: { row: number; column: number }): number {
  return a.column - b.column || a.row - b.row;
}

function matrixBlocks(linear: Linear, blocks: { row: number; column: number }[], columns: ColumnTable, blockSize: number): MatrixBlocks {
  const [out, width] = linear.weight.shape;
  const sliceStart = new Map<number, number>();
  for (let i = 0, start = 0; i < columns.length; start += columns[i + 1], i += 2) sliceStart.set(columns[i], start);
  const sorted = [...blocks].sort(inFlatOrder);
  const table = new Int32Array(sorted.length * blockTableStride);
  let entries = 0;
  let at = 0;
  for (const { row, column } of sorted) {
    const rowStart = row * blockSize;
    const columnStart = column * blockSize;
    const rowCount = Math.min(blockSize, out - rowStart);
    const columnCount = Math.min(blockSize, width - columnStart);
    table[at++] = rowStart;
    table[at++] = rowCount;
    table[at++] = columnStart;
    table[at++] = columnCount;
    table[at++] = entries;
    table[at++] = sliceStart.get(columnStart) as number;
    entries += rowCount * columnCount;
  }
  return { linear, table, entries };
}

/** Width of the gathered slices. */
export function gatheredColumns(columns: ColumnTable): number {
  let total = 0;
  for (let i = 1; i < columns.length; i += 2) total += columns[i];
  return total;
}

interface Candidate {
  name: string;
  row: number;
  column: number;
  /** Columns of the slice it needs. */
  width: number;
  entries: number;
}

/**
 * A selection that needs the most memory a budget can need, for a plan made before the warm-up: as many stripes as the budget can buy, each of a block of
 * its own, and the rest of the budget in blocks that add parameters only. Without recomputation the stripes stand in the lowest stages, so that their
 * slices are kept longest. With it, slices live one layer at a time and the top layer's beside every layer's input: one stripe at the bottom makes
 * backward go all the way down, the others stand in the top layers. Ragged edge blocks make the result a little more than any selection can need.
 */
export function worstCaseBlocks(
  linears: readonly Linear[],
  blocks: number,
  blockSize: number,
  recompute: "none" | "layer" = "none",
): Pick<ChosenBlock, "name" | "row" | "column">[] {
  const budget = blocks * blockSize * blockSize;
  const stripes = stripesInOrder(linears, blockSize, recompute);
  const chosen = stripes.slice(0, affordable(stripes, budget));
  let entries = chosen.reduce((sum, stripe) => sum + stripe.entries, 0);
  const taken = new Map<string, Set<number>>(linears.map(({ name }) => [name, new Set()]));
  for (const stripe of chosen) taken.get(stripe.name)?.add(placeOf(stripe));
  for (const whole of [true, false])
    for (const candidate of candidatesOf(linears, blockSize)) {
      if (entries >= budget) break;
      if ((candidate.entries === blockSize * blockSize) !== whole || taken.get(candidate.name)?.has(placeOf(candidate))) continue;
      chosen.push(candidate);
      entries += candidate.entries;
    }
  return chosen;
}

/** One number a block of a matrix; no dimension passes 2^24. */
const placeOf = ({ row, column }: Candidate) => row * 2 ** 24 + column;

/** Every column of every stage once, by the cheapest block in it; whole stripes before cut ones, then those first whose slices cost the most at the peak. */
function stripesInOrder(linears: readonly Linear[], blockSize: number, recompute: "none" | "layer"): Candidate[] {
  const stages = [...new Set(linears.map(({ stage }) => stage))].sort((a, b) => a - b);
  const byStage = stages.map((stage) =>
    cheapestOfColumns(
      linears.filter((linear) => linear.stage === stage),
      blockSize,
    ),
  );
  const bottom = recompute === "layer" ? (byStage[0]?.slice(0, 1) ?? []) : [];
  const ordered = (recompute === "layer" ? byStage.reverse() : byStage).flat().filter((stripe) => !bottom.includes(stripe));
  return [...bottom, ...ordered.sort((a, b) => b.width - a.width)];
}

function cheapestOfColumns(linears: readonly Linear[], blockSize: number): Candidate[] {
  const cheapest = new Map<number, Candidate>();
  for (const linear of linears) {
    const lastRow = Math.ceil(linear.weight.shape[0] / blockSize) - 1;
    for (const candidate of candidatesOf([linear], blockSize, lastRow)) {
      const other = cheapest.get(candidate.column);
      if (!other || candidate.entries < other.entries) cheapest.set(candidate.column, candidate);
    }
  }
  return [...cheapest.values()];
}

/** The blocks of matrices from a row of blocks on; one at a time, because a large model in small blocks has millions. */
function* candidatesOf(linears: readonly Linear[], blockSize: number, firstRow = 0): Generator<Candidate> {
  for (const { name, weight } of linears) {
    const [out, width] = weight.shape;
    for (let row = firstRow; row * blockSize < out; row++)
      for (let column = 0; column * blockSize < width; column++) {
        const columns = Math.min(blockSize, width - column * blockSize);
        yield { name, row, column, width: columns, entries: Math.min(blockSize, out - row * blockSize) * columns };
      }
  }
}

/** How many stripes a budget of entries can buy, the cheapest ones taken; at least one. */
function affordable(stripes: readonly Candidate[], budget: number): number {
  let left = budget;
  let count = 0;
  for (const cost of stripes.map(({ entries }) => entries).sort((a, b) => a - b)) {
    if (cost > left) break;
    left -= cost;
    count++;
  }
  return Math.max(1, count);
}

/**
 * Writes blocks into the weight they lie in, rounded to its dtype. `index` holds four integers a block, as in smt.safetensors: rowStart, rowCount,
 * columnStart, columnCount; `values` their entries back to back.
 */
export function writeBlocks(device: Device, weight: Tensor, index: Int32Array, values: Float32Array): void {
  const table = new Int32Array((index.length / 4) * blockTableStride);
  for (let block = 0, offset = 0; block < index.length / 4; block++) {
    const place = index.subarray(4 * block, 4 * block + 4);
    table.set([...place, offset, 0], block * blockTableStride);
    offset += place[1] * place[3];
  }
  const flat = device.allocate([values.length], "f32", "workspace");
  device.write(flat, values);
  device.scatterBlocks(weight, flat, table);
  device.free(flat);
}
