/**
 * What the lines of a comparison say together: the chosen learning rate of each point, mean and spread over its seeds, and how much is left to do. Pure; the
 * core decides by it what to run next, and terminal, files and webview show it. It carries no schema library.
 * The rule to keep: a point has no mean before its learning rate was chosen; a mean is always given with the number of runs behind it.
 */
import type { ComparisonLine, ComparisonPoint, PlanLine, ResultLine, ScoreLine } from "./compareResults.ts";

/** Which run of a comparison one is: the name of its folder under runs/. */
export function runName(pointId: string, learningRate: number, seed: number): string {
  return `${pointId}-lr${String(learningRate).replace("+", "")}-seed${seed}`;
}

/** A run of a comparison: done, or still to do. */
export interface ComparedRun {
  run: string;
  point: ComparisonPoint;
  learningRate: number;
  seed: number;
  /** One of those that choose the learning rate. */
  search: boolean;
  result: ResultLine | null;
  /** On the plan's task; null where it has not been scored yet. */
  score: ScoreLine | null;
}

export interface PointSummary {
  point: ComparisonPoint;
  /** Of the first seed over the learning rates, in their order. One without a choice to make has none. */
  search: ComparedRun[];
  /** Null until all of the search are done, and where all diverged. */
  learningRate: number | null;
  /** The chosen one is the lowest or highest of several: a better one may lie beyond. */
  atEdge: "lowest" | "highest" | null;
  /** At the chosen learning rate, by seed. */
  runs: ComparedRun[];
  /** Over the runs that ended with a loss. */
  seedsDone: number;
  mean: number | null;
  /** Standard deviation of the sample; null below two runs. */
  spread: number | null;
  lossBefore: number | null;
  /** On the task, over the runs that were scored: mean share of right answers, standard deviation of the sample, number of runs. */
  accuracy: number | null;
  accuracySpread: number | null;
  scored: number;
  /** As trained; as planned before the first run has ended. */
  trainableParameters: number;
  /** The most of any of its runs. */
  peakBytes: number | null;
  /** Median over its runs: a machine that was busy during one does not count. */
  secondsPerStep: number | null;
  lostZeros: number | null;
  /** Runs of it that diverged or failed. */
  ended: { diverged: number; failed: number };
}

/** The test set of a comparison, as far as it was scored. */
export interface TaskSummary {
  title: string;
  /** Of the untrained model. */
  before: ScoreLine | null;
  majorityFloor: number | null;
  /** What the scores say to know of them, each once. */
  notes: string[];
}

export interface ComparisonSummary {
  plan: PlanLine;
  /** Null where held-out loss is all. */
  task: TaskSummary | null;
  points: PointSummary[];
  runsDone: number;
  runsInAll: number;
  outcome: "done" | "stopped" | "failed" | null;
  message: string;
}

/** {@link ScoreLine.run} of the base model; here, because compareResults.ts brings the schema library along. */
export const untrained = "untrained";

/** The summary of all lines; null before there is a plan. */
export function summarise(lines: readonly ComparisonLine[]): ComparisonSummary | null {
  const plan = lines.findLast((line) => line.kind === "plan");
  if (!plan) return null;
  const results = new Map<string, ResultLine>();
  const scores = new Map<string, ScoreLine>();
  for (const line of lines) {
    if (line.kind === "result") results.set(line.run, line);
    if (line.kind === "score" && line.task === plan.task?.id) scores.set(line.run, line);
  }
  const last = lines.at(-1);
  const ended = last?.kind === "ended" ? last : null;
  const points = plan.points.map((point) => summaryOf(point, plan, results, scores));
  return {
    plan,
    task: plan.task ? taskSummary(plan.task.title, scores) : null,
    points,
    runsDone: points.reduce((sum, summary) => sum + allRuns(summary).filter(({ result }) => isFinal(result)).length, 0),
    runsInAll: points.reduce((sum, summary) => sum + runsOf(summary, plan), 0),
    outcome: ended?.outcome ?? null,
    message: ended?.message ?? "",
  };
}

/** Runs that are needed: the search, and the other seeds unless no learning rate works. */
function runsOf({ search, learningRate }: PointSummary, { seeds }: PlanLine): number {
  if (search.length === 0) return seeds.length;
  return search.length + (learningRate === null && isHopeless(search) ? 0 : seeds.length - 1);
}

/** All were tried, and none ended with a loss. */
export function isHopeless(search: readonly ComparedRun[]): boolean {
  return search.every(({ result }) => isFinal(result) && result?.lossAfter == null);
}

function taskSummary(title: string, scores: ReadonlyMap<string, ScoreLine>): TaskSummary {
  const all = [...scores.values()].filter(isScored);
  const notes = [...new Set(all.flatMap((score) => score.notes))];
  return { title, before: all.find(({ run }) => run === untrained) ?? null, majorityFloor: all[0]?.majorityFloor ?? null, notes };
}

/** Ids of the points with the lowest mean of their budget, where several have one. Who is noted to be far from the budget is no rival. */
export function bestOfBudgets({ points }: ComparisonSummary): Set<string> {
  const rivals = new Map<number | null, PointSummary[]>();
  for (const point of points)
    if (point.mean !== null && point.point.note === "") rivals.set(point.point.budget, [...(rivals.get(point.point.budget) ?? []), point]);
  const contested = [...rivals.values()].filter((group) => group.length > 1);
  return new Set(contested.map((group) => group.reduce((a, b) => ((b.mean ?? 0) < (a.mean ?? 0) ? b : a)).point.id));
}

/** Every run of a point once: the search, then the other seeds. */
export function allRuns({ search, runs }: PointSummary): ComparedRun[] {
  return [...search, ...runs.filter(({ run }) => !search.some((searched) => searched.run === run))];
}

/** A run that failed is tried again; one that diverged would do so again. */
export function isFinal(result: ResultLine | null): boolean {
  return result !== null && result.status !== "failed";
}

/** A score that failed is tried again. */
export function isScored(score: ScoreLine | null): boolean {
  return score !== null && score.accuracy !== null;
}

/** Whether a run is to be scored on the task: at the chosen learning rate, or at each where accuracy chooses. */
export function isToScore({ result, search, learningRate }: ComparedRun, { plan }: Pick<ComparisonSummary, "plan">, chosen: number | null): boolean {
  if (!plan.task || result?.status !== "done") return false;
  return learningRate === chosen || (plan.criterion === "accuracy" && search);
}

function summaryOf(
  point: ComparisonPoint,
  { learningRates, seeds, criterion }: PlanLine,
  results: ReadonlyMap<string, ResultLine>,
  scores: ReadonlyMap<string, ScoreLine>,
): PointSummary {
  const runAt = (learningRate: number, seed: number, search: boolean): ComparedRun => {
    const run = runName(point.id, learningRate, seed);
    return { run, point, learningRate, seed, search, result: results.get(run) ?? null, score: scores.get(run) ?? null };
  };
  const searched = learningRates.length > 1 ? learningRates.map((rate) => runAt(rate, seeds[0], true)) : [];
  const learningRate = learningRates.length === 1 ? learningRates[0] : criterion === "accuracy" ? mostAccurate(searched) : bestOf(searched);
  const runs = learningRate === null ? [] : seeds.map((seed, index) => runAt(learningRate, seed, index === 0 && searched.length > 0));
  const ended = allRuns({ search: searched, runs } as PointSummary).flatMap(({ result }) => result ?? []);
  const good = runs.flatMap(({ result }) => (result?.status === "done" && result.lossAfter !== null ? [result] : []));
  const measured = good.length > 0 ? good : ended.filter(({ status }) => status === "done");
  const mean = meanOf(good.map(({ lossAfter }) => lossAfter as number));
  const accuracies = runs.flatMap(({ score }) => score?.accuracy ?? []);
  const numbers = (key: "peakBytes" | "secondsPerStep" | "lostZeros" | "lossBefore") => measured.flatMap((result) => result[key] ?? []);
  return {
    point,
    search: searched,
    learningRate,
    atEdge: edgeOf(learningRate, learningRates),
    runs,
    seedsDone: good.length,
    mean,
    spread: spreadOf(good.map(({ lossAfter }) => lossAfter as number)),
    lossBefore: numbers("lossBefore")[0] ?? null,
    accuracy: meanOf(accuracies),
    accuracySpread: spreadOf(accuracies),
    scored: accuracies.length,
    trainableParameters: measured[0]?.trainableParameters ?? point.trainableParameters,
    peakBytes: numbers("peakBytes").reduce<number | null>((most, bytes) => Math.max(most ?? 0, bytes), null),
    secondsPerStep: medianOf(numbers("secondsPerStep")),
    lostZeros: numbers("lostZeros").reduce<number | null>((most, zeros) => Math.max(most ?? 0, zeros), null),
    ended: {
      diverged: ended.filter(({ status }) => status === "diverged").length,
      failed: ended.filter(({ status }) => status === "failed").length,
    },
  };
}

/** The learning rate with the lowest held-out loss, once all were tried; of equals the lower one. */
function bestOf(search: readonly ComparedRun[]): number | null {
  if (!search.every(({ result }) => isFinal(result))) return null;
  let best: ResultLine | null = null;
  for (const { result } of [...search].sort((a, b) => a.learningRate - b.learningRate))
    if (result?.status === "done" && result.lossAfter !== null && (best?.lossAfter == null || result.lossAfter < best.lossAfter)) best = result;
  return best?.learningRate ?? null;
}

/** The learning rate with the highest accuracy, once all that ended well were scored; of equals the one with the lower held-out loss. */
function mostAccurate(search: readonly ComparedRun[]): number | null {
  const ended = search.filter(({ result }) => result?.status === "done" && result.lossAfter !== null);
  if (!search.every(({ result }) => isFinal(result)) || !ended.every(({ score }) => isScored(score))) return null;
  const better = ({ score, result }: ComparedRun, best: ComparedRun) =>
    (score?.accuracy ?? 0) - (best.score?.accuracy ?? 0) || (best.result?.lossAfter ?? 0) - (result?.lossAfter ?? 0);
  return ended.reduce<ComparedRun | null>((best, run) => (best === null || better(run, best) > 0 ? run : best), null)?.learningRate ?? null;
}

function edgeOf(rate: number | null, rates: readonly number[]): "lowest" | "highest" | null {
  if (rate === null || rates.length < 2) return null;
  return rate === Math.min(...rates) ? "lowest" : rate === Math.max(...rates) ? "highest" : null;
}

function meanOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function medianOf(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function spreadOf(values: readonly number[]): number | null {
  const mean = meanOf(values);
  if (mean === null || values.length < 2) return null;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}
