/**
 * Orders all blocks for the table: chosen ones by rank, or by a mode's values. Typed arrays only, so that 400,000 blocks take milliseconds.
 * The rule to keep: orders are stable, and blocks without a value come last in either direction.
 */
import type { HeatmapModel } from "./model.ts";
import { byteStep, chosenValues, hasAllScores, type ValueMode } from "./values.ts";

/** `rank`: the chosen ones first, best first, then the others by score. `place`: as the model is. */
export type SortKey = "rank" | "place" | ValueMode;

/** Numbers of all cells in this order. `descending` has no meaning for `rank`. */
export function orderedCells(model: HeatmapModel, key: SortKey, descending: boolean): Uint32Array {
  if (key === "place") {
    const order = Uint32Array.from({ length: model.cellCount }, (_, cell) => cell);
    return descending ? order.reverse() : order;
  }
  if (key !== "rank") return sorted(cellValues(model, key), descending);
  const byScore = sorted(cellValues(model, "score"), true);
  if (!model.chosen) return byScore;
  const { count, cells, ranks, ofCell } = model.chosen;
  const order = new Uint32Array(model.cellCount);
  const byRank = Uint32Array.from({ length: count }, (_, block) => block).sort((a, b) => ranks[a] - ranks[b]);
  for (let i = 0; i < count; i++) order[i] = cells[byRank[i]];
  for (let i = 0, at = count; i < byScore.length; i++) if (ofCell[byScore[i]] < 0) order[at++] = byScore[i];
  return order;
}

/** A mode's value of every cell, NaN where there is none. */
function cellValues(model: HeatmapModel, mode: ValueMode): Float32Array {
  const all = new Float32Array(model.cellCount).fill(Number.NaN);
  const ofChosen = chosenValues(model, mode);
  if (model.chosen && ofChosen) for (let block = 0; block < model.chosen.count; block++) all[model.chosen.cells[block]] = ofChosen[block];
  if (mode !== "score" || !model.scores) return all;
  for (const [matrix, { offset, rows, columns }] of model.matrices.entries()) {
    if (!hasAllScores(model, matrix)) continue;
    const { low, step } = byteStep(model, matrix);
    const { starts, bytes } = model.scores;
    const start = starts[matrix];
    for (let cell = 0; cell < rows * columns; cell++) all[offset + cell] = low + bytes[start + cell] * step;
  }
  return all;
}

/** Indexes in the order of their values: a radix sort over the bits of the f32 numbers, sixteen at a time. Plain loops: they are several times faster. */
function sorted(values: Float32Array, descending: boolean): Uint32Array {
  const length = values.length;
  const bits = new Uint32Array(values.buffer, values.byteOffset, length);
  const keys = new Uint32Array(length);
  for (let i = 0; i < length; i++) {
    const word = bits[i];
    // Positive numbers sort as their bits do, negative ones the other way round; −0 is 0.
    const rising = word === 0x80000000 ? 0x80000000 : word & 0x80000000 ? ~word : word | 0x80000000;
    keys[i] = Number.isNaN(values[i]) ? 0xffffffff : descending ? ~rising : rising;
  }
  let order = new Uint32Array(length);
  for (let i = 0; i < length; i++) order[i] = i;
  for (const shift of [0, 16]) {
    const starts = new Uint32Array(65537);
    for (let i = 0; i < length; i++) starts[((keys[i] >>> shift) & 0xffff) + 1]++;
    for (let digit = 0; digit < 65536; digit++) starts[digit + 1] += starts[digit];
    const next = new Uint32Array(length);
    for (let i = 0; i < length; i++) next[starts[(keys[order[i]] >>> shift) & 0xffff]++] = order[i];
    order = next;
  }
  return order;
}
