/**
 * Which blocks are trained: the budget, the ranking and the shares. Plain numbers in, plain numbers out; how scores come about is not known here.
 * The rule to keep: ties break by (layer, projection, row, column), so that the same data and seed choose the same blocks.
 * Source: SMT (arXiv 2405.15525) §3; the per-matrix and per-kind rankings are our additions to its single global one.
 */
import { UserError } from "../../../protocol/userError.ts";
import { type ModelConfig, type Projection, projectionShape, projections, weightShapes } from "../../model/config.ts";

/** Block scores of one matrix (rows × columns blocks, row-major). */
export interface ScoreGrid {
  name: string;
  layer: number;
  projection: Projection;
  /** (out, in) of the weight. */
  shape: readonly [number, number];
  scores: Float32Array;
}

export interface ChosenBlock {
  name: string;
  layer: number;
  projection: Projection;
  /** Position in blocks, not in elements. */
  row: number;
  column: number;
  score: number;
  /** 0 is the best. */
  rank: number;
}

export type SelectionMode = "global" | "perMatrix" | "perKind";

/** Rows and columns of a matrix in blocks; edge blocks count. */
export function gridShape(shape: readonly number[], blockSize: number): [number, number] {
  return [Math.ceil(shape[0] / blockSize), Math.ceil(shape[1] / blockSize)];
}

/** The largest power of two ≤ 256 that divides every dimension of every target. */
export function automaticBlockSize(config: ModelConfig, targets: readonly Projection[]): number {
  for (let size = 256; size > 1; size /= 2) if (targets.every((target) => projectionShape(config, target).every((n) => n % size === 0))) return size;
  return 1;
}

/** Parameters of all matrices of the model, embedding and head included: what the paper's percentages are shares of. */
export function totalMatrixParameters(config: ModelConfig): number {
  let total = 0;
  for (const shape of weightShapes(config).values()) if (shape.length === 2) total += shape[0] * shape[1];
  return total;
}

export interface Budget {
  ratio?: number | null;
  blocks?: number | null;
  trainableParameters?: number | null;
}

/**
 * Number of whole blocks a budget buys: ⌊ratio · totalMatrixParameters / l²⌋, or `blocks`, or ⌊trainableParameters / l²⌋.
 * Throws UserError when that is none, or more than the targets hold.
 */
export function blocksInBudget(config: ModelConfig, targets: readonly Projection[], blockSize: number, budget: Budget): number {
  const entries = blockSize * blockSize;
  const total = totalMatrixParameters(config);
  const wanted = budget.blocks ?? Math.floor((budget.trainableParameters ?? (budget.ratio ?? 0) * total) / entries + 1e-9);
  const available = targets.reduce((sum, target) => {
    const [out, columns] = projectionShape(config, target);
    return sum + (config.numLayers * (out * columns)) / entries;
  }, 0);
  if (wanted < 1)
    throw new UserError(
      "method/no-block",
      `The budget buys no block of ${blockSize} × ${blockSize}.`,
      `Set ratio to at least ${smallestRatio(entries, total)}, trainableParameters to at least ${entries}, or a smaller blockSize.`,
    );
  if (wanted > Math.ceil(available))
    throw new UserError(
      "method/too-many-blocks",
      `The budget asks for ${wanted} blocks of ${blockSize} × ${blockSize}, but the targets hold ${Math.floor(available)}.`,
      `Set ${mostOf(budget, available, entries, total)}, or add targets.`,
    );
  return wanted;
}

/** The key that was given, with the most it may be. */
function mostOf({ blocks, trainableParameters }: Budget, available: number, entries: number, total: number): string {
  if (blocks) return `blocks to at most ${Math.floor(available)}`;
  if (trainableParameters) return `trainableParameters to at most ${Math.floor(available * entries)}`;
  return `ratio to at most ${((available * entries) / total).toPrecision(4)}`;
}

/** A ratio that buys one block, rounded up to four digits so that typing it works. */
function smallestRatio(entries: number, total: number): number {
  const exact = entries / total;
  const digit = 10 ** (Math.floor(Math.log10(exact)) - 3);
  return Number((Math.ceil(exact / digit) * digit).toPrecision(4));
}

/**
 * The best blocks. `blocks` is counted in whole blocks; where edge blocks are ragged it is a budget of entries, and the ranking is followed until the
 * next block would exceed it. `perMatrix` and `perKind` give every matrix, or every projection, an equal part of it.
 */
export function selectBlocks(grids: readonly ScoreGrid[], blockSize: number, blocks: number, mode: SelectionMode): ChosenBlock[] {
  const groups = new Map<string, ScoreGrid[]>();
  for (const grid of grids) {
    const key = mode === "global" ? "" : mode === "perMatrix" ? grid.name : grid.projection;
    groups.set(key, [...(groups.get(key) ?? []), grid]);
  }
  const entries = splitEvenly(
    blocks * blockSize * blockSize,
    [...groups.values()].map((group) => group.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0)),
    blockSize * blockSize,
  );
  return ranked(
    [...groups.values()].flatMap((group, i) => bestOf(group, blockSize, entries[i])),
    grids,
  );
}

/** Every block whose score passes, best first. */
export function blocksWhere(grids: readonly ScoreGrid[], blockSize: number, passes: (score: number) => boolean): ChosenBlock[] {
  const passing: ChosenBlock[] = [];
  for (const { name, layer, projection, shape, scores } of grids) {
    const columns = gridShape(shape, blockSize)[1];
    for (const [i, score] of scores.entries())
      if (passes(score)) passing.push({ name, layer, projection, row: Math.floor(i / columns), column: i % columns, score, rank: 0 });
  }
  return ranked(passing, grids);
}

function ranked(chosen: ChosenBlock[], grids: readonly ScoreGrid[]): ChosenBlock[] {
  const order = new Map(grids.map((grid, i) => [grid.name, i]));
  chosen.sort((a, b) => b.score - a.score || (order.get(a.name) as number) - (order.get(b.name) as number) || a.row - b.row || a.column - b.column);
  return chosen.map((block, rank) => ({ ...block, rank }));
}

function bestOf(group: readonly ScoreGrid[], blockSize: number, entries: number): ChosenBlock[] {
  const candidates: ChosenBlock[] = [];
  for (const { name, layer, projection, shape, scores } of group) {
    const [rows, columns] = gridShape(shape, blockSize);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        candidates.push({ name, layer, projection, row, column, score: scores[row * columns + column], rank: 0 });
  }
  const bad = candidates.find(({ score }) => !Number.isFinite(score));
  if (bad)
    throw new UserError(
      "method/score-not-finite",
      `The score of block ${bad.name}:${bad.row},${bad.column} is not finite.`,
      "The model overflows on this data: try precision f32, or look at the data of the warm-up with preview.",
      { badInput: false },
    );
  candidates.sort((a, b) => b.score - a.score); // stable: equal scores stay in (layer, projection, row, column) order
  const shapes = new Map(group.map(({ name, shape }) => [name, shape]));
  let left = entries;
  const end = candidates.findIndex((block) => {
    left -= blockEntries(shapes.get(block.name) as readonly number[], block, blockSize);
    return left < 0;
  });
  return end < 0 ? candidates : candidates.slice(0, end);
}

/** Entries of a block: l², fewer at a ragged edge. */
export function blockEntries(shape: readonly number[], block: { row: number; column: number }, blockSize: number): number {
  return Math.min(blockSize, shape[0] - block.row * blockSize) * Math.min(blockSize, shape[1] - block.column * blockSize);
}

/** Splits a budget into equal parts of whole units, none above its capacity; what one cannot take goes to those that can, first ones first. */
function splitEvenly(total: number, capacities: readonly number[], unit: number): number[] {
  const parts = capacities.map(() => 0);
  let left = total;
  while (left > 0) {
    const open = capacities.flatMap((capacity, i) => (parts[i] < capacity ? [i] : []));
    if (open.length === 0) break;
    const share = Math.max(unit, Math.floor(left / open.length / unit) * unit);
    for (const i of open) {
      const part = Math.min(share, left, capacities[i] - parts[i]);
      parts[i] += part;
      left -= part;
    }
  }
  return parts;
}

/** Share of the chosen entries per projection; every projection is listed; sums to 1. */
export function sharesOf(chosen: readonly ChosenBlock[], config: ModelConfig, blockSize: number): Record<Projection, number> {
  const shares = Object.fromEntries(projections.map((projection) => [projection, 0])) as Record<Projection, number>;
  let total = 0;
  for (const block of chosen) {
    const entries = blockEntries(projectionShape(config, block.projection), block, blockSize);
    shares[block.projection] += entries;
    total += entries;
  }
  for (const projection of projections) shares[projection] /= total || 1;
  return shares;
}
