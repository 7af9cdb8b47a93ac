/**
 * Wanda (Sun et al., arXiv 2306.11695): in each row the entries with the smallest |W_ij|·‖x_j‖₂ become zero, exactly ⌊in·share⌋ of them. It minimises the
 * output's error over masks of that size if the inputs' columns were uncorrelated. No weight is changed otherwise.
 */
import { UserError } from "../../protocol/userError.ts";
import type { Tensor } from "../devices/device.ts";
import { type RowScores, zeroLowest } from "./patterns.ts";
import type { PruneContext, Pruner, StageStatistics } from "./pruner.ts";

/** @param norms ‖x_j‖₂ of each input column. */
export function wandaScores(norms: Float32Array): RowScores {
  return (scores, weights, _firstRow, columns) => {
    for (let start = 0; start < weights.length; start += columns)
      for (let j = 0; j < columns; j++) scores[start + j] = Math.abs(weights[start + j]) * norms[j];
  };
}

/** ‖x_j‖₂ from Σ x². Throws UserError `prune/not-finite`: scores that are no numbers have no lowest. */
export async function columnNorms({ device }: Pick<PruneContext, "device">, sumSquares: Tensor): Promise<Float32Array> {
  const norms = ((await device.read(sumSquares)) as Float32Array).map(Math.sqrt);
  if (norms.every(Number.isFinite)) return norms;
  throw new UserError(
    "prune/not-finite",
    "A layer's inputs on the calibration text hold NaN or infinity.",
    "Check the model and the calibration text, or prune by magnitude.",
    { badInput: false },
  );
}

export function wanda(): Pruner {
  const scores = async (context: Pick<PruneContext, "device">, _w: Tensor, { sumSquares }: StageStatistics) =>
    wandaScores(await columnNorms(context, sumSquares as Tensor));
  return {
    needsSumSquares: true,
    needsHessian: false,
    scores,
    async prune(context, w, statistics) {
      await zeroLowest(context.device, w, context.pattern, "row", await scores(context, w, statistics));
    },
  };
}
