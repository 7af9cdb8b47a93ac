/**
 * RIA, relative importance and activations (Zhang et al., ICLR 2024): the smallest (|W_ij|/Σ_i|W_ij| + |W_ij|/Σ_j|W_ij|)·‖x_j‖₂^a of the matrix become
 * zero, or of each row; a = 0.5, and a = 0 is RI, which needs no data. A row or column of zeros contributes 0.
 */
import type { PruningGrouping } from "../../protocol/pruning.ts";
import type { Device, Tensor } from "../devices/device.ts";
import { columnsOf, rowsOf } from "../devices/shapes.ts";
import { type RowScores, zeroLowest } from "./patterns.ts";
import type { PruneContext, Pruner, StageStatistics } from "./pruner.ts";
import { columnNorms } from "./wanda.ts";

export const riaExponent = 0.5;

/** Σ|W| of each row and column. */
export interface AbsoluteSums {
  rows: Float64Array;
  columns: Float64Array;
}

export async function absoluteSums(device: Device, w: Tensor): Promise<AbsoluteSums> {
  const sums = { rows: new Float64Array(rowsOf(w)), columns: new Float64Array(columnsOf(w)) };
  for (let row = 0; row < sums.rows.length; row++) {
    const values = (await device.read(w, row * sums.columns.length, sums.columns.length)) as Float32Array;
    let sum = 0;
    for (let j = 0; j < values.length; j++) {
      const size = Math.abs(values[j]);
      sum += size;
      sums.columns[j] += size;
    }
    sums.rows[row] = sum;
  }
  await device.turn();
  return sums;
}

/** @param powers ‖x_j‖₂^a of each input column. */
export function riaScores(sums: AbsoluteSums, powers: Float32Array): RowScores {
  const inverse = (sum: number) => (sum > 0 ? 1 / sum : 0);
  const [rows, columnSums] = [sums.rows.map(inverse), sums.columns.map(inverse)];
  return (scores, weights, firstRow, columns) => {
    for (let start = 0, row = firstRow; start < weights.length; start += columns, row++)
      for (let j = 0; j < columns; j++) scores[start + j] = Math.abs(weights[start + j]) * (columnSums[j] + rows[row]) * powers[j];
  };
}

/** `grouping`: where a share's lowest scores are looked for. */
export function ria({ exponent = riaExponent, grouping = "matrix" as PruningGrouping } = {}): Pruner {
  const scores = async (context: Pick<PruneContext, "device">, w: Tensor, { sumSquares }: StageStatistics) => {
    const norms = sumSquares ? await columnNorms(context, sumSquares) : new Float32Array(columnsOf(w)).fill(1);
    const powers = norms.map((norm) => norm ** exponent);
    return riaScores(await absoluteSums(context.device, w), powers);
  };
  return {
    needsSumSquares: exponent !== 0,
    needsHessian: false,
    scores,
    async prune(context, w, statistics) {
      await zeroLowest(context.device, w, context.pattern, grouping, await scores(context, w, statistics));
    },
  };
}
