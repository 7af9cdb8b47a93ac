/** What a pruning method is to the loop over blocks: which statistics of the inputs it needs, and how it zeroes one weight. One file a method beside this. */
import type { Device, SparsityPattern, Tensor } from "../devices/device.ts";
import type { RowScores } from "./patterns.ts";

/** What calibration leaves of one stage's inputs x (N, C); the linear maps of a stage share them. */
export interface StageStatistics {
  /** Σ x² of each column, (C) f32; null where the method needs none. */
  sumSquares: Tensor | null;
  /** xᵀ·x (C, C) f32 over all tokens (`hessian: "all"`), or over some of them, for measuring errors; null without calibration. */
  hessian: Tensor | null;
}

export interface PruneContext {
  device: Device;
  pattern: SparsityPattern;
  signal: AbortSignal;
  /** Called between pieces of long work, with the share of this weight that is done. */
  onProgress(done: number): void;
  /** Told, as a sentence, what was done otherwise than usual. */
  onNote?(note: string): void;
}

export interface Pruner {
  needsSumSquares: boolean;
  /** Whether the Hessian has to be of all calibration tokens: then it is what prunes. */
  needsHessian: boolean;
  /** How it scores the entries of w, the lowest of which go; null for a method that changes weights as it goes. */
  scores: ((context: Pick<PruneContext, "device">, w: Tensor, statistics: StageStatistics) => Promise<RowScores>) | null;
  /** Told before the weights of a stage are pruned; may use `hessian` as its own memory until `endStage`. */
  beginStage?(context: PruneContext, statistics: StageStatistics): Promise<void>;
  /** Zeroes entries of w (out, in) f32, a copy, in place. */
  prune(context: PruneContext, w: Tensor, statistics: StageStatistics): Promise<void>;
  /** `hessian` is again what it was. */
  endStage?(context: PruneContext, statistics: StageStatistics): Promise<void>;
}
