/** Lines of a comparison for tests: points and results with the figures that a test is about. */
import type { ComparisonLine, ComparisonPoint, PlanLine, ResultLine, ScoreLine } from "../../../src/protocol/compareResults.ts";
import { runName } from "../../../src/protocol/compareSummary.ts";

export function point(label: string, budget: number | null, trainableParameters: number, method = "smt"): ComparisonPoint {
  const id = `${label.toLowerCase()}${budget === null ? "" : `-${budget}`}`;
  return { id, label, method, budget, trainableParameters, setting: "rank 2", note: "" };
}

export function plan(points: ComparisonPoint[], learningRates: number[], seeds: number[]): PlanLine {
  return { kind: "plan", timeMs: 1, model: "/m", base: "b", data: "d", steps: 100, points, learningRates, seeds };
}

/** With a test set beside the held-out loss. */
export function planWithTask(points: ComparisonPoint[], learningRates: number[], seeds: number[], criterion: "loss" | "accuracy" = "loss"): PlanLine {
  const task = { id: "t", name: "boolq", title: "BoolQ", file: "/boolq.json", scoring: "logLikelihood" };
  return { ...plan(points, learningRates, seeds), task, criterion };
}

export function score(run: string, accuracy: number | null): ScoreLine {
  const counted = { correct: Math.round((accuracy ?? 0) * 100), total: 100, majorityFloor: 0.6 };
  return { kind: "score", timeMs: 3, run, task: "t", accuracy, ...counted, seconds: 5, notes: [], message: accuracy === null ? "no memory" : "" };
}

export function result(
  of: ComparisonPoint,
  learningRate: number,
  seed: number,
  lossAfter: number | null,
  extra: Partial<ResultLine> = {},
): ResultLine {
  return {
    kind: "result",
    timeMs: 2,
    run: runName(of.id, learningRate, seed),
    point: of.id,
    learningRate,
    seed,
    status: lossAfter === null ? "diverged" : "done",
    steps: 100,
    lossBefore: 3,
    lossAfter,
    trainableParameters: of.trainableParameters,
    peakBytes: 1 << 20,
    secondsPerStep: 0.5,
    seconds: 60,
    lostZeros: null,
    message: "",
    ...extra,
  };
}

/** Two methods at two budgets and full fine-tuning, all done: losses fall with the budget, and the second method's are higher. */
export function finishedLines(): ComparisonLine[] {
  const points = [
    point("SMT", 1000, 1024),
    point("SMT", 4000, 4096),
    point("LoRA", 1000, 960, "lora"),
    point("LoRA", 4000, 3840, "lora"),
    point("Full", null, 650_000, "full"),
  ];
  const losses = [2.5, 2.2, 2.6, 2.3, 2.1];
  const results = points.flatMap((one, i) => [
    result(one, 1e-3, 1, losses[i] + 0.2),
    result(one, 1e-2, 1, losses[i]),
    result(one, 1e-2, 2, losses[i] + 0.02),
    result(one, 1e-2, 3, losses[i] - 0.02),
  ]);
  return [plan(points, [1e-3, 1e-2], [1, 2, 3]), ...results, { kind: "ended", timeMs: 3, outcome: "done", message: "" }];
}
