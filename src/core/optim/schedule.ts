/** The learning rate of each update. Updates are numbered t = 1 … steps; the warm-up of SMT's scores is not an update. */

export interface Schedule {
  steps: number;
  learningRate: number;
  minLearningRate: number;
  schedule: "constant" | "linear" | "cosine";
  learningRateWarmupSteps: number;
}

/**
 * lr(t): 1) t/W of the peak for t ≤ W; 2) the schedule's way from the peak at W to the minimum at the last update; 3) the minimum beyond.
 * `lastSelection` restarts 1) after blocks were chosen anew at that update.
 */
export function learningRateAt(t: number, config: Schedule, lastSelection = 0): number {
  const { steps, learningRate: peak, minLearningRate: least, learningRateWarmupSteps: warmup } = config;
  const ramp = warmup > 0 ? Math.min(1, (t - lastSelection) / warmup) : 1;
  const progress = Math.min(1, Math.max(0, (t - warmup) / Math.max(1, steps - warmup)));
  switch (config.schedule) {
    case "constant":
      return ramp * peak;
    case "linear":
      return ramp * (least + (peak - least) * (1 - progress));
    case "cosine":
      return ramp * (least + (peak - least) * 0.5 * (1 + Math.cos(Math.PI * progress)));
  }
}
