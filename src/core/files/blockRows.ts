/**
 * Walks the rows of chosen blocks through a weight that is read in chunks of whole rows, so that blocks are gathered from, laid over or compared with a
 * file's bytes without holding the weight. Bytes only; no dtype is interpreted.
 */
import type { ModelFolder } from "./modelFolder.ts";
import { storedElementBytes } from "./storedFloats.ts";

/** Four integers a block: rowStart, rowCount, columnStart, columnCount. Its bytes stand back to back in a flat array, in this order, each row-major. */
export type BlockIndex = Int32Array;
export const blockIndexStride = 4;

/** Entries of all blocks. */
export function blockEntries(index: BlockIndex): number {
  let entries = 0;
  for (let i = 0; i < index.length; i += blockIndexStride) entries += index[i + 1] * index[i + 3];
  return entries;
}

/** Whole rows of a weight, as stored. */
export interface RowChunk {
  firstRow: number;
  endRow: number;
  bytes: Uint8Array;
}

const chunkBytes = 8 << 20;

/** All rows of a matrix, at most 8 MB at a time (or one row); the next chunk is read while one is used. */
export async function* rowChunks(folder: ModelFolder, name: string): AsyncGenerator<RowChunk> {
  const { shape, dtype } = folder.tensor(name);
  const rowBytes = shape[1] * storedElementBytes[dtype];
  const step = Math.max(1, Math.floor(chunkBytes / rowBytes));
  const read = (row: number) => folder.readBytes(name, row * rowBytes, Math.min(shape[0], row + step) * rowBytes);
  let next = read(0);
  for (let firstRow = 0; firstRow < shape[0]; firstRow += step) {
    const bytes = await next;
    const endRow = Math.min(shape[0], firstRow + step);
    if (endRow < shape[0]) {
      next = read(endRow);
      next.catch(() => undefined); // reported when it is awaited
    }
    yield { firstRow, endRow, bytes };
  }
}

/** Visits every block row within a chunk: where it starts in the chunk and in the flat array, and its length, all in bytes. */
export function forEachBlockRow(
  index: BlockIndex,
  columns: number,
  elementBytes: number,
  { firstRow, endRow }: Pick<RowChunk, "firstRow" | "endRow">,
  visit: (inChunk: number, inFlat: number, bytes: number, block: number) => void,
): void {
  let flat = 0;
  for (let block = 0; block < index.length / blockIndexStride; block++) {
    const [rowStart, rowCount, columnStart, columnCount] = index.subarray(block * blockIndexStride, (block + 1) * blockIndexStride);
    for (let row = Math.max(rowStart, firstRow); row < Math.min(rowStart + rowCount, endRow); row++) {
      const inChunk = (row - firstRow) * columns + columnStart;
      const inFlat = flat + (row - rowStart) * columnCount;
      visit(inChunk * elementBytes, inFlat * elementBytes, columnCount * elementBytes, block);
    }
    flat += rowCount * columnCount;
  }
}

/** The stored bytes of blocks of a weight, back to back. */
export async function gatherStoredBlocks(folder: ModelFolder, name: string, index: BlockIndex): Promise<Uint8Array> {
  const { shape, dtype } = folder.tensor(name);
  const elementBytes = storedElementBytes[dtype];
  const flat = new Uint8Array(blockEntries(index) * elementBytes);
  for await (const chunk of rowChunks(folder, name)) {
    forEachBlockRow(index, shape[1], elementBytes, chunk, (inChunk, inFlat, bytes) => {
      flat.set(chunk.bytes.subarray(inChunk, inChunk + bytes), inFlat);
    });
  }
  return flat;
}
