/**
 * Values of one block of an open run, read between two steps: only the entries asked for leave the device.
 * The rule to keep: what the run does not hold at this step is said to be missing, with the reason; nothing is ever filled in.
 */
import type { BlockPart, BlockPlace, BlockWindow, CoreParams } from "../../protocol/coreProtocol.ts";
import { cut, noBlock, readWithWhole, shapeOfBlock, type WindowRead, whyNoBlocks, windowWithin } from "../blocks/blockWindow.ts";
import { blockTableStride, type Tensor } from "../devices/device.ts";
import { decodeFloats, storedElementBytes } from "../files/storedFloats.ts";
import type { Parameter } from "../methods/method.ts";
import { SparseMatrixTuning, type TrainedMatrix } from "../methods/smt/smt.ts";
import { hasUpdates, type RetiredBlock, type Run } from "../run.ts";

/** `values` are the row-major entries of the window. */
export interface LiveBlock extends WindowRead {
  step: number;
  rows: number;
  columns: number;
  blockRows: number;
  blockColumns: number;
}

export interface MissingBlock {
  step: number;
  reason: string;
}

/** A block's place in its weight, in elements. */
export interface Place {
  rowStart: number;
  columnStart: number;
  blockRows: number;
  blockColumns: number;
  /** Row length of the whole weight. */
  width: number;
}

/** Reads at a step boundary. Throws UserError for a block that the model does not have or a window outside it. */
export async function readLiveBlock(
  run: Run,
  { name, row, column, part, window, analyze = false }: CoreParams["readBlock"],
): Promise<LiveBlock | MissingBlock> {
  const { step } = run.state;
  const place = findBlock(run, { name, row, column });
  if (!place) return { step, reason: whyNoBlocks(run.config.method) };
  const shape = { rows: place.blockRows, columns: place.blockColumns };
  const inside = windowWithin(shape, window);
  const read = await readWithWhole(shape, inside, analyze, (asked) => readPart(run, name, place, asked, part));
  if (typeof read === "string") return { step, reason: read };
  return { step, ...read, rows: inside.rows, columns: inside.columns, blockRows: place.blockRows, blockColumns: place.blockColumns };
}

/** Where a block lies; null in a run that has no blocks. Throws UserError `inspect/no-block` for one that the model does not have. */
export function findBlock(run: Run, { name, row, column }: BlockPlace): Place | null {
  const blockSize = run.selection?.blockSize ?? run.smt?.blockSize;
  if (!blockSize) return null;
  const weight = run.model.tensors.byName.get(`${name}.weight`);
  if (weight?.shape.length !== 2) throw noBlock(`The model has no matrix ${name}.`);
  const { rows, columns } = shapeOfBlock(weight.shape, blockSize, { row, column });
  return { rowStart: row * blockSize, columnStart: column * blockSize, blockRows: rows, blockColumns: columns, width: weight.shape[1] };
}

/** The values, or why there are none. */
async function readPart(run: Run, name: string, place: Place, window: BlockWindow, part: BlockPart): Promise<Float32Array | string> {
  const trained = trainedBlock(run, name, place);
  if (trained) {
    const { parameter } = trained.matrix;
    const missing = whyMissing(run, part);
    if (missing !== null) return missing;
    const values = await readWindow(run, tensorOf(parameter, part), trained.offset, place.blockColumns, window);
    return part === "delta" ? subtract(values, await readBase(run, name, place, window)) : values;
  }
  const retired = retiredBlock(run, name, place);
  if (part === "delta" && retired) return subtract(cut(retired.values, place.blockColumns, window), await readBase(run, name, place, window));
  if (part !== "weight") return notTrained(run, retired !== null);
  const weight = run.model.tensors.byName.get(`${name}.weight`) as Tensor;
  return readWindow(run, weight, place.rowStart * place.width + place.columnStart, place.width, window);
}

/** Why a block that is trained lacks something; null where it does not. */
function whyMissing(run: Run, part: BlockPart): string | null {
  if (part === "weight" || part === "delta") return null;
  if (!hasUpdates(run)) return "No update was made since the blocks were chosen.";
  if (part !== "gradient" || run.holdsGradients) return null;
  return run.state.skippedInRow > 0
    ? "The last update was skipped, because its loss or its gradient was not finite: there is no gradient of it."
    : "The checkpoint that the run went on from holds no gradients: the next update has them.";
}

function notTrained({ method }: Run, retired: boolean): string {
  if (!method) return "No blocks have been chosen yet.";
  return retired
    ? "This block was trained earlier and is not trained at this step: it has no gradient and no moments."
    : "This block is not trained at this step: it has no gradient and no moments, and its weight is the base model's.";
}

function tensorOf(parameter: Parameter, part: BlockPart): Tensor {
  return part === "weight" || part === "delta" ? parameter.value : parameter[part];
}

/** The matrix that trains a block, with the block's place in its flat tensors; null where the block is not trained. */
export function trainedBlock({ method }: Run, name: string, { rowStart, columnStart }: Place): { matrix: TrainedMatrix; offset: number } | null {
  const matrix = method instanceof SparseMatrixTuning ? method.matrices.get(name) : undefined;
  if (!matrix) return null;
  const { table } = matrix;
  for (let i = 0; i < table.length; i += blockTableStride)
    if (table[i] === rowStart && table[i + 2] === columnStart) return { matrix, offset: table[i + 4] };
  return null;
}

/** What an earlier selection trained of a block that the present one does not. */
export function retiredBlock(run: Run, name: string, { rowStart, columnStart }: Place): RetiredBlock | null {
  const blockSize = run.selection?.blockSize ?? 1;
  const isIt = (block: RetiredBlock) => block.name === name && block.row * blockSize === rowStart && block.column * blockSize === columnStart;
  return run.retired.find(isIt) ?? null;
}

/** Entries of a window whose block starts at `offset` of a tensor with rows of `stride` elements. */
async function readWindow(run: Run, tensor: Tensor, offset: number, stride: number, window: BlockWindow): Promise<Float32Array> {
  // One question to a card instead of one a row.
  if (window.columns === stride) return (await run.device.read(tensor, offset + window.row * stride, window.rows * stride)) as Float32Array;
  const values = new Float32Array(window.rows * window.columns);
  for (let r = 0; r < window.rows; r++)
    values.set(
      (await run.device.read(tensor, offset + (window.row + r) * stride + window.column, window.columns)) as Float32Array,
      r * window.columns,
    );
  return values;
}

/** The same of the model that deltas count from, out of its file. */
async function readBase({ base }: Run, name: string, place: Place, window: BlockWindow): Promise<Float32Array> {
  const { dtype } = base.tensor(`${name}.weight`);
  const bytes = storedElementBytes[dtype];
  const values = new Float32Array(window.rows * window.columns);
  for (let r = 0; r < window.rows; r++) {
    const begin = ((place.rowStart + window.row + r) * place.width + place.columnStart + window.column) * bytes;
    values.set(decodeFloats(await base.readBytes(`${name}.weight`, begin, begin + window.columns * bytes), dtype), r * window.columns);
  }
  return values;
}

function subtract(values: Float32Array, base: Float32Array): Float32Array {
  return values.map((value, i) => value - base[i]);
}
