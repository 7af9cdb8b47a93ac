/**
 * How blocks of an open run fare, each as three numbers: means over its entries of |gradient|, |value − base| and Adam's second moment, measured between
 * two steps. Values themselves are liveBlock's.
 * The rules to keep: a mean is that of the values which `readBlock` gives, summed in their order in f64; the base is read from its file a few megabytes
 * at a time and values a few megabytes or a block at a time; no device memory is taken, so that looking at a run leaves its memory as planned.
 */
import type { Selection } from "../../protocol/selection.ts";
import { type BlockTable, blockTableStride, type FileDType, type Tensor } from "../devices/device.ts";
import { fromBfloat16, fromFloat16 } from "../devices/floatFormats.ts";
import type { ModelFolder } from "../files/modelFolder.ts";
import { storedElementBytes } from "../files/storedFloats.ts";
import { SparseMatrixTuning, type TrainedMatrix } from "../methods/smt/smt.ts";
import { hasUpdates, type Run } from "../run.ts";
import { blocksByMatrix, type Magnitudes } from "./heatmapFrames.ts";

/** Where a block lies in its weight, in elements, and the place of its first entry in the flat tensors of its matrix, where it stands row-major. */
export interface PlacedBlock {
  rowStart: number;
  rowCount: number;
  columnStart: number;
  columnCount: number;
  offset: number;
}

/** Bytes of the base, and entries of a flat tensor, that are read at once. */
const baseBytes = 4 << 20;
const flatEntries = 4 << 20;
/** Rows of the base that nobody asked for are read along when they are no more than this: it is quicker than to read twice. */
const gapBytes = 1 << 16;

/** All chosen blocks, in the order of frames. */
export async function measureChosen(run: Run): Promise<Magnitudes[]> {
  if (!(run.method instanceof SparseMatrixTuning)) return [];
  const { blockSize } = run.selection as Selection;
  const all: Magnitudes[] = [];
  for (const [name, chosen] of blocksByMatrix(run.selection as Selection)) {
    const matrix = run.method.matrices.get(name);
    if (!matrix) continue;
    const blocks = placedBlocks(matrix.table);
    const measured = await measureBlocks(run, matrix, blocks);
    const key = (rowStart: number, columnStart: number) => rowStart * matrix.linear.weight.shape[1] + columnStart;
    const byPlace = new Map(blocks.map(({ rowStart, columnStart }, i) => [key(rowStart, columnStart), measured[i]]));
    for (const { row, column } of chosen) all.push(byPlace.get(key(row * blockSize, column * blockSize)) as Magnitudes);
    await run.device.turn(); // A large model takes a while: the core must still be heard.
  }
  return all;
}

function placedBlocks(table: BlockTable): PlacedBlock[] {
  return Array.from({ length: table.length / blockTableStride }, (_, i) => {
    const [rowStart, rowCount, columnStart, columnCount, offset] = table.subarray(i * blockTableStride, (i + 1) * blockTableStride);
    return { rowStart, rowCount, columnStart, columnCount, offset };
  });
}

/** Blocks of one matrix that are trained, in the order of its table. */
export async function measureBlocks(run: Run, { linear, parameter }: TrainedMatrix, blocks: readonly PlacedBlock[]): Promise<Magnitudes[]> {
  const { device, base, holdsGradients } = run;
  const updated = hasUpdates(run);
  const magnitudes: Magnitudes[] = [];
  for (const group of groupsOf(blocks)) {
    const [first, entries] = [group[0].offset, group.reduce((sum, block) => sum + entriesOf(block), 0)];
    const read = async (tensor: Tensor) => (await device.read(tensor, first, entries)) as Float32Array;
    const gradients = holdsGradients ? meansOfAbsolute(await read(parameter.gradient), group) : null;
    const deltas = await meanChanges(base, `${linear.name}.weight`, group, await read(parameter.value));
    const secondMoments = updated ? meansOfAbsolute(await read(parameter.secondMoment), group) : null;
    for (const [i, delta] of deltas.entries()) magnitudes.push({ gradient: gradients?.[i] ?? null, delta, secondMoment: secondMoments?.[i] ?? null });
  }
  return magnitudes;
}

function entriesOf({ rowCount, columnCount }: PlacedBlock): number {
  return rowCount * columnCount;
}

/** Blocks that follow each other, as many as are read at once. */
function groupsOf(blocks: readonly PlacedBlock[]): PlacedBlock[][] {
  const groups: PlacedBlock[][] = [];
  let entries = Number.POSITIVE_INFINITY;
  for (const block of blocks) {
    entries += entriesOf(block);
    if (entries > flatEntries) {
      groups.push([]);
      entries = entriesOf(block);
    }
    groups[groups.length - 1].push(block);
  }
  return groups;
}

/** `values` are the blocks' back to back. */
function meansOfAbsolute(values: Float32Array, blocks: readonly PlacedBlock[]): number[] {
  let at = 0;
  return blocks.map((block) => {
    const end = at + entriesOf(block);
    let sum = 0;
    for (; at < end; at++) sum += Math.abs(values[at]);
    return sum / entriesOf(block);
  });
}

/** Mean |value − base| of blocks of one weight; `values` are theirs back to back. */
export async function meanChanges(base: ModelFolder, weight: string, blocks: readonly PlacedBlock[], values: Float32Array): Promise<number[]> {
  const sums = blocks.map(() => 0);
  const rowBytes = base.tensor(weight).shape[1] * storedElementBytes[base.tensor(weight).dtype];
  for (const stripe of stripesOf(blocks, gapBytes / rowBytes)) await addChanges(base, weight, blocks, stripe, values, sums);
  return blocks.map((block, i) => sums[i] / entriesOf(block));
}

/** Rows of a weight that are read one after the other, and the indices of the blocks in them. */
interface Stripe {
  rowStart: number;
  rowEnd: number;
  members: number[];
}

function stripesOf(blocks: readonly PlacedBlock[], gapRows: number): Stripe[] {
  const stripes: Stripe[] = [];
  const sorted = [...blocks.keys()].sort((a, b) => blocks[a].rowStart - blocks[b].rowStart);
  for (const i of sorted) {
    const { rowStart, rowCount } = blocks[i];
    const last = stripes.at(-1);
    if (last && rowStart - last.rowEnd <= gapRows) {
      last.members.push(i);
      last.rowEnd = rowStart + rowCount;
    } else stripes.push({ rowStart, rowEnd: rowStart + rowCount, members: [i] });
  }
  return stripes;
}

/** Adds Σ |value − base| of the blocks of a stripe to their sums. */
async function addChanges(
  base: ModelFolder,
  weight: string,
  blocks: readonly PlacedBlock[],
  { rowStart, rowEnd, members }: Stripe,
  values: Float32Array,
  sums: number[],
): Promise<void> {
  const { shape, dtype } = base.tensor(weight);
  const width = shape[1];
  const elementBytes = storedElementBytes[dtype];
  const left = Math.min(...members.map((i) => blocks[i].columnStart));
  const right = Math.max(...members.map((i) => blocks[i].columnStart + blocks[i].columnCount));
  const step = Math.max(1, Math.floor(baseBytes / (width * elementBytes)));
  const spanOf = (rows: number) => ((rows - 1) * width + right - left) * elementBytes;
  const buffer = new Uint8Array(spanOf(Math.min(step, rowEnd - rowStart)));
  const valueAt = storedValues(buffer, dtype);
  for (let first = rowStart; first < rowEnd; first += step) {
    const end = Math.min(rowEnd, first + step);
    const begin = (first * width + left) * elementBytes;
    await base.readBytes(weight, begin, begin + spanOf(end - first), buffer);
    for (const i of members) {
      const block = blocks[i];
      const from = Math.max(first, block.rowStart);
      const to = Math.min(end, block.rowStart + block.rowCount);
      let sum = sums[i];
      for (let row = from; row < to; row++) {
        const stored = (row - first) * width + block.columnStart - left;
        const value = block.offset - blocks[0].offset + (row - block.rowStart) * block.columnCount;
        // Rounded to f32 as the delta itself is.
        for (let c = 0; c < block.columnCount; c++) sum += Math.abs(Math.fround(values[value + c] - valueAt(stored + c)));
      }
      sums[i] = sum;
    }
  }
}

/** Elements of bytes as they are stored in a file. */
function storedValues(bytes: Uint8Array, dtype: FileDType): (index: number) => number {
  if (dtype === "F32") {
    const floats = new Float32Array(bytes.buffer);
    return (index) => floats[index];
  }
  const halves = new Uint16Array(bytes.buffer);
  return dtype === "BF16" ? (index) => fromBfloat16(halves[index]) : (index) => fromFloat16(halves[index]);
}
