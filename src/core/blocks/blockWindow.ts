/**
 * Windows of a block, and their values out of a file: only the bytes of the entries that are asked for are read.
 * It knows neither runs nor checkpoints; where a block begins in a tensor is the caller's knowledge.
 */
import { type BlockPlace, type BlockWindow, maxBlockValues } from "../../protocol/coreProtocol.ts";
import type { MethodConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import type { FileDType } from "../devices/device.ts";
import { decodeFloats, storedElementBytes } from "../files/storedFloats.ts";

/** Rows and columns of a block, smaller at a matrix's edge. */
export interface BlockShape {
  rows: number;
  columns: number;
}

/** Refuses a block or window that does not exist: UserError `inspect/no-block`. */
export function noBlock(message: string): UserError {
  return new UserError("inspect/no-block", message, "Ask for a block of the run's selection.");
}

/** The shape of a block of a matrix (height, width). Throws UserError `inspect/no-block` where the matrix has none there. */
export function shapeOfBlock([height, width]: readonly number[], blockSize: number, { row, column }: Pick<BlockPlace, "row" | "column">): BlockShape {
  if (row * blockSize >= height || column * blockSize >= width)
    throw noBlock(`The matrix has ${height} × ${width} entries: there is no such block of ${blockSize}.`);
  return { rows: Math.min(blockSize, height - row * blockSize), columns: Math.min(blockSize, width - column * blockSize) };
}

/** The window cut at the block's edges, or the whole block. Throws UserError `inspect/no-window` for one outside it or of too many values. */
export function windowWithin({ rows, columns }: BlockShape, window: BlockWindow = { row: 0, column: 0, rows, columns }): BlockWindow {
  const { row, column } = window;
  const smaller = "Ask for a window inside the block, of fewer values.";
  if (row >= rows || column >= columns)
    throw new UserError("inspect/no-window", `The window reaches outside its block of ${rows} × ${columns}.`, smaller);
  const inside = { row, column, rows: Math.min(window.rows, rows - row), columns: Math.min(window.columns, columns - column) };
  if (inside.rows * inside.columns > maxBlockValues)
    throw new UserError(
      "inspect/no-window",
      `${inside.rows} × ${inside.columns} values are more than the ${maxBlockValues} that are read at once.`,
      smaller,
    );
  return inside;
}

/** The window of values, and on demand the whole block that it is cut from: null where that is too large, undefined where it was not asked for. */
export interface WindowRead {
  values: Float32Array;
  whole?: Float32Array | null;
}

/** Reads a window; with `analyze` the whole block at the same time, unless it is too large. Why there are no values is passed on. */
export async function readWithWhole(
  block: BlockShape,
  window: BlockWindow,
  analyze: boolean,
  read: (window: BlockWindow) => Promise<Float32Array | string>,
): Promise<WindowRead | string> {
  const tooLarge = block.rows * block.columns > maxBlockValues;
  const values = await read(analyze && !tooLarge ? { row: 0, column: 0, ...block } : window);
  if (typeof values === "string") return values;
  if (!analyze) return { values };
  return tooLarge ? { values, whole: null } : { values: cut(values, block.columns, window), whole: values };
}

/** A window of values with rows of `stride`, as values of its own. */
export function cut(values: Float32Array, stride: number, { row, column, rows, columns }: BlockWindow): Float32Array {
  const window = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) window.set(values.subarray((row + r) * stride + column, (row + r) * stride + column + columns), r * columns);
  return window;
}

/** What windows are read from: a safetensors file, or a model folder. */
export interface TensorBytes {
  readBytes(name: string, begin: number, end: number): Promise<Uint8Array>;
}

/** A block within a tensor: where its first entry stands, and how many entries one row of it is after the last. */
export interface BlockEntries {
  tensor: string;
  dtype: FileDType;
  offset: number;
  stride: number;
}

/** The window's values, row-major. */
export async function readWindow(file: TensorBytes, { tensor, dtype, offset, stride }: BlockEntries, window: BlockWindow): Promise<Float32Array> {
  const bytes = storedElementBytes[dtype];
  const first = offset + window.row * stride + window.column;
  const read = async (begin: number, count: number) => decodeFloats(await file.readBytes(tensor, begin * bytes, (begin + count) * bytes), dtype);
  if (window.columns === stride) return read(first, window.rows * stride);
  const values = new Float32Array(window.rows * window.columns);
  const rows = Array.from({ length: window.rows }, async (_, r) => values.set(await read(first + r * stride, window.columns), r * window.columns));
  await Promise.all(rows);
  return values;
}

/** value − base, rounded to f32. */
export function subtract(values: Float32Array, base: Float32Array): Float32Array {
  return values.map((value, i) => value - base[i]);
}

/** Mean of the absolute values, summed in their order in f64. */
export function meanOfAbsolute(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.abs(values[i]);
  return sum / values.length;
}

/** Why a run that is no SMT run has no blocks. */
export function whyNoBlocks({ name }: MethodConfig): string {
  return name === "full"
    ? "This run trains whole matrices: it has no blocks."
    : "This run trains adapters beside the model's matrices: it has no blocks.";
}
