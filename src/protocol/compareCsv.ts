/** results.csv of a comparison: one row a run, every value unrounded. Pure text. */
import { allRuns, type ComparisonSummary, isScored } from "./compareSummary.ts";
import { csvLine } from "./csv.ts";

const columns = [
  "run",
  "label",
  "method",
  "budget",
  "setting",
  "trainableParameters",
  "learningRate",
  "seed",
  "search",
  "chosen",
  "status",
  "lossBefore",
  "lossAfter",
  "steps",
  "peakBytes",
  "secondsPerStep",
  "seconds",
  "lostZeros",
  "task",
  "accuracy",
  "correct",
  "total",
  "majorityFloor",
] as const;

/** All runs that have a result, in the plan's order. */
export function comparisonCsv({ points, plan }: ComparisonSummary): string {
  const rows = points.flatMap((point) => {
    const chosen = new Set(point.runs.map(({ run }) => run));
    return allRuns(point).flatMap(({ run, learningRate, seed, search, result, score }) => {
      if (!result) return [];
      const { label, method, budget, setting } = point.point;
      const row: Record<(typeof columns)[number], string | number | boolean | null> = {
        run,
        label,
        method,
        budget,
        setting,
        trainableParameters: result.trainableParameters,
        learningRate,
        seed,
        search,
        chosen: chosen.has(run),
        status: result.status,
        lossBefore: result.lossBefore,
        lossAfter: result.lossAfter,
        steps: result.steps,
        peakBytes: result.peakBytes,
        secondsPerStep: result.secondsPerStep,
        seconds: result.seconds,
        lostZeros: result.lostZeros,
        task: score && isScored(score) ? (plan.task?.name ?? null) : null,
        accuracy: score?.accuracy ?? null,
        correct: score && isScored(score) ? score.correct : null,
        total: score && isScored(score) ? score.total : null,
        majorityFloor: score?.majorityFloor ?? null,
      };
      return [csvLine(columns.map((column) => row[column]))];
    });
  });
  return `${[columns.join(","), ...rows].join("\n")}\n`;
}
