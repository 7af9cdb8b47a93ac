/** Magnitude: the smallest |W| of the whole matrix, or of each group, become zero. Needs no data. */

import { type RowScores, zeroLowest } from "./patterns.ts";
import type { Pruner } from "./pruner.ts";

export const magnitudeScores: RowScores = (scores, weights) => {
  for (let i = 0; i < weights.length; i++) scores[i] = Math.abs(weights[i]);
};

export function magnitude(): Pruner {
  return {
    needsSumSquares: false,
    needsHessian: false,
    scores: async () => magnitudeScores,
    prune: ({ device, pattern }, w) => zeroLowest(device, w, pattern, "matrix", magnitudeScores),
  };
}
