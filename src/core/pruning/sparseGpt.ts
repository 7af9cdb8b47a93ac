/**
 * SparseGPT (Frantar and Alistarh, arXiv 2301.00774): goes through the columns from left to right, zeroes the entries that cost least and lets the columns
 * to the right make up for each error, by the inverse Hessian of the layer's inputs. The arithmetic is the device's; this file is the order of it.
 * The Hessian's scale is left out: damping is relative to its diagonal. The rule to keep: between beginStage and endStage the Hessian's upper triangle is U.
 */
import { UserError } from "../../protocol/userError.ts";
import type { Device, SparsityPattern, Tensor } from "../devices/device.ts";
import { columnsOf, rowsOf } from "../devices/shapes.ts";
import type { PruneContext, Pruner } from "./pruner.ts";

export const dampingShare = 0.01;
/** Columns whose entries are chosen together. */
export const blockColumns = 128;
/** Blocks that are corrected in one call: larger products, and still a chance to stop. */
const blocksPerCall = 4;

/** The pattern's groups must not stand across blocks. */
export function blockSizeFor(pattern: SparsityPattern, blockSize = blockColumns): number {
  return pattern.kind === "groups" ? Math.max(1, Math.floor(blockSize / pattern.of)) * pattern.of : blockSize;
}

/**
 * Factors in place as {@link Device.inverseCholesky}: in f32, else in f64, else with ten times the damping. Returns the damping. Throws UserError
 * `prune/hessian` when nothing helps: the statistics are not finite.
 */
export async function factorHessian(
  { device, onNote }: Pick<PruneContext, "device" | "onNote">,
  hessian: Tensor,
  diagonal: Tensor,
  damping = dampingShare,
): Promise<number> {
  for (let share = damping, tries = 0; tries < 4; share = share === 0 ? dampingShare : share * 10, tries++) {
    if (share !== damping) onNote?.(`the inputs' statistics could not be inverted with a damping of ${damping}; it was raised to ${share}.`);
    if (await device.inverseCholesky(hessian, diagonal, share, null)) return share;
    const C = columnsOf(hessian);
    const wide = device.allocate([C, 2 * C], "f32", "workspace");
    try {
      if (await device.inverseCholesky(hessian, diagonal, share, wide)) {
        onNote?.("the inputs' statistics lost too many digits in f32 and were factored in float64, which takes longer.");
        return share;
      }
    } finally {
      device.free(wide);
    }
  }
  throw new UserError(
    "prune/hessian",
    "The statistics of a layer's inputs cannot be inverted: they hold NaN or infinity.",
    "Check the model and the calibration text, or prune with another method.",
    { badInput: false },
  );
}

export interface SweepSettings {
  pattern: SparsityPattern;
  blockSize?: number;
}

/** Prunes w (out, in) f32 in place with a factored Hessian. Returns Σ err² of each row: the squared error of its output, damping included. */
export async function sweep(
  { device, signal, onProgress }: Omit<PruneContext, "pattern">,
  w: Tensor,
  factored: Tensor,
  diagonal: Tensor,
  { pattern, blockSize = blockSizeFor(pattern) }: SweepSettings,
): Promise<Float32Array> {
  const [rows, columns] = [rowsOf(w), columnsOf(w)];
  const perCall = Math.min(columns, blockSize * blocksPerCall);
  const losses = device.allocate([rows], "f32", "workspace");
  const errors = device.allocate([rows * perCall], "f32", "workspace");
  try {
    device.fill(losses, 0);
    for (let first = 0; first < columns; first += perCall) {
      const count = Math.min(perCall, columns - first);
      const part = count === perCall ? errors : device.rows(errors, 0, rows * count);
      device.sparseGptSweep(w, losses, part, factored, diagonal, { pattern, blockSize, first, count });
      await device.turn();
      signal.throwIfAborted();
      onProgress((first + count) / columns);
    }
    return (await device.read(losses)) as Float32Array;
  } finally {
    device.free(errors);
    device.free(losses);
  }
}

export function sparseGpt({ damping = dampingShare } = {}): Pruner {
  let diagonal: Tensor | null = null;
  return {
    needsSumSquares: false,
    needsHessian: true,
    scores: null,
    async beginStage(context, { hessian }) {
      diagonal = context.device.allocate([columnsOf(hessian as Tensor)], "f32", "workspace");
      await factorHessian(context, hessian as Tensor, diagonal, damping);
    },
    async prune(context, w, { hessian }) {
      await sweep(context, w, hessian as Tensor, diagonal as Tensor, context);
    },
    async endStage({ device }, { hessian }) {
      device.mirrorLower(hessian as Tensor, diagonal as Tensor);
      device.free(diagonal as Tensor);
      diagonal = null;
    },
  };
}
