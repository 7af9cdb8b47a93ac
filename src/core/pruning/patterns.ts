/**
 * Which entries of a weight become zero: patterns as they are written (0.5, 2:4), and the choice of the lowest scores, exact in count, the first of equal
 * ones first. It knows no score and no device but to read and write rows. The rule to keep: no array of a whole matrix on the host.
 */
import type { PruningGrouping } from "../../protocol/pruning.ts";
import { UserError } from "../../protocol/userError.ts";
import type { Device, SparsityPattern, Tensor } from "../devices/device.ts";
import { zerosOfShare } from "../devices/pruningShapes.ts";
import { columnsOf, rowsOf } from "../devices/shapes.ts";

/** Fills scores, none negative, for rows of a weight from `firstRow` on, `columns` to a row. */
export type RowScores = (scores: Float32Array, weights: Float32Array, firstRow: number, columns: number) => void;

/** Entries read at a time. */
const pieceEntries = 1 << 20;

/** Reads 0.5 or 2:4. Throws UserError `prune/pattern`. */
export function parsePattern(text: string): SparsityPattern {
  const groups = /^([1-9][0-9]?):([1-9][0-9]?)$/.exec(text);
  if (groups && Number(groups[1]) < Number(groups[2])) return { kind: "groups", zeros: Number(groups[1]), of: Number(groups[2]) };
  const share = Number(text);
  if (/^0?\.[0-9]{1,6}$/.test(text) && share > 0) return { kind: "share", share };
  throw new UserError("prune/pattern", `${text} is no pattern.`, "Give a share of zeros such as 0.5, or n zeros of m neighbours such as 2:4 or 4:8.");
}

/** Rows a piece has. */
function pieceRows(columns: number): number {
  return Math.max(1, Math.floor(pieceEntries / columns));
}

/** Calls body for w's rows, piece by piece, in order; what it returns true for is written back. */
export async function overPieces(device: Device, w: Tensor, body: (values: Float32Array, firstRow: number, rows: number) => boolean): Promise<void> {
  const [rows, columns] = [rowsOf(w), columnsOf(w)];
  for (let first = 0; first < rows; first += pieceRows(columns)) {
    const count = Math.min(pieceRows(columns), rows - first);
    const values = (await device.read(w, first * columns, count * columns)) as Float32Array;
    if (body(values, first, count)) device.write(w, values, first * columns);
    await device.turn();
  }
}

/** Zeroes the entries of w (out, in) f32 with the lowest scores, as the pattern says; `grouping` is for a share. */
export async function zeroLowest(device: Device, w: Tensor, pattern: SparsityPattern, grouping: PruningGrouping, score: RowScores): Promise<void> {
  const [rows, columns] = [rowsOf(w), columnsOf(w)];
  const scores = new Float32Array(Math.min(rows, pieceRows(columns)) * columns);
  const scored = (values: Float32Array, first: number) => {
    const part = scores.subarray(0, values.length);
    score(part, values, first, columns);
    return part;
  };
  if (pattern.kind === "groups")
    await overPieces(device, w, (values, first) => zeroInGroups(values, scored(values, first), pattern.zeros, pattern.of) > 0);
  else if (grouping === "row")
    await overPieces(device, w, (values, first) => zeroInRows(values, scored(values, first), columns, zerosOfShare(pattern.share, 1, columns)) > 0);
  else {
    const lowest = new LowestOfAll(zerosOfShare(pattern.share, rows, columns));
    for (const round of ["upper", "lower"] as const) {
      await overPieces(device, w, (values, first) => {
        lowest.count(scored(values, first), round);
        return false;
      });
      lowest.close(round);
    }
    await overPieces(device, w, (values, first) => lowest.zero(values, scored(values, first)) > 0);
  }
}

/** In each group of `of` neighbours, zeroes the `zeros` with the lowest scores. Returns how many were chosen. Changes scores. */
export function zeroInGroups(values: Float32Array, scores: Float32Array, zeros: number, of: number): number {
  for (let start = 0; start < values.length; start += of)
    for (let n = 0; n < zeros; n++) {
      let lowest = start;
      for (let i = start + 1; i < start + of; i++) if (scores[i] < scores[lowest]) lowest = i;
      values[lowest] = 0;
      scores[lowest] = Number.POSITIVE_INFINITY;
    }
  return (values.length / of) * zeros;
}

/** In each row, zeroes the `count` entries with the lowest scores. Returns how many were chosen. */
export function zeroInRows(values: Float32Array, scores: Float32Array, columns: number, count: number): number {
  if (count === 0) return 0;
  const work = new Float32Array(columns);
  for (let start = 0; start < values.length; start += columns) {
    const row = scores.subarray(start, start + columns);
    work.set(row);
    const limit = nthLowest(work, count - 1);
    let ties = count;
    for (let i = 0; i < columns; i++) if (row[i] < limit) ties--;
    for (let i = 0; i < columns; i++) if (row[i] < limit || (row[i] === limit && ties-- > 0)) values[start + i] = 0;
  }
  return (values.length / columns) * count;
}

/** The value that would stand at `n` if x were sorted; reorders x. Hoare's selection, pivot the median of three. */
export function nthLowest(x: Float32Array, n: number): number {
  let low = 0;
  let high = x.length - 1;
  while (low < high) {
    const [a, b, c] = [x[low], x[(low + high) >>> 1], x[high]];
    const pivot = a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b;
    let i = low;
    let j = high;
    while (i <= j) {
      while (x[i] < pivot) i++;
      while (x[j] > pivot) j--;
      if (i > j) break;
      const held = x[i];
      x[i++] = x[j];
      x[j--] = held;
    }
    if (n <= j) high = j;
    else if (n >= i) low = i;
    else return x[n];
  }
  return x[n];
}

/**
 * Finds the `wanted` lowest of any number of scores that are seen three times in the same order: their bits are counted by the upper 16, then by the lower 16
 * of those that share the limit's upper ones, then those at or below the limit are taken. Scores are not negative, so that bits are ordered as they are.
 */
export class LowestOfAll {
  readonly #wanted: number;
  #counts = new Float64Array(65536);
  #limit = 0;
  /** Scores equal to the limit (after `upper`: sharing its upper bits) that still belong to the lowest. */
  #ties: number;

  constructor(wanted: number) {
    this.#wanted = wanted;
    this.#ties = wanted;
  }

  count(scores: Float32Array, round: "upper" | "lower"): void {
    const bits = bitsOf(scores);
    const counts = this.#counts;
    const upper = this.#limit;
    if (round === "upper") for (let i = 0; i < bits.length; i++) counts[bits[i] >>> 16]++;
    else for (let i = 0; i < bits.length; i++) if (bits[i] >>> 16 === upper) counts[bits[i] & 0xffff]++;
  }

  close(round: "upper" | "lower"): void {
    let bin = 0;
    while (bin < 65535 && this.#counts[bin] < this.#ties) this.#ties -= this.#counts[bin++];
    this.#limit = round === "upper" ? bin : this.#limit * 65536 + bin;
    this.#counts.fill(0);
  }

  /** Zeroes the values of the lowest; returns how many. */
  zero(values: Float32Array, scores: Float32Array): number {
    if (this.#wanted === 0) return 0;
    const bits = bitsOf(scores);
    let zeroed = 0;
    for (let i = 0; i < bits.length; i++) {
      if (bits[i] > this.#limit || (bits[i] === this.#limit && this.#ties-- <= 0)) continue;
      values[i] = 0;
      zeroed++;
    }
    return zeroed;
  }
}

function bitsOf(scores: Float32Array): Uint32Array {
  return new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
}
