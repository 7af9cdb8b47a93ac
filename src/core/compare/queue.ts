/**
 * What of a comparison is done next, and how long the rest will take. Pure: decided from the lines of results alone, so that a comparison that was killed
 * goes on where it was.
 * The rule to keep: points in the plan's order, each first over the learning rates and then over the other seeds; what can be scored is scored at once.
 */
import {
  allRuns,
  type ComparedRun,
  type ComparisonSummary,
  isFinal,
  isHopeless,
  isScored,
  isToScore,
  type PointSummary,
  untrained,
} from "../../protocol/compareSummary.ts";

/** A run to do, or to score on the task; the untrained model is scored where `run` is null. */
export type Work = { kind: "train"; run: ComparedRun } | { kind: "score"; run: ComparedRun | null };

/** What comes next; null when nothing is left. `tried` are those that failed in this session, by {@link workName}. */
export function nextWork(summary: ComparisonSummary, tried: ReadonlySet<string>): Work | null {
  const wanted = (work: Work) => !tried.has(workName(work));
  const base: Work = { kind: "score", run: null };
  if (summary.task && !summary.task.before && wanted(base)) return base;
  for (const point of summary.points)
    for (const run of allRuns(point)) {
      const [train, score]: Work[] = [
        { kind: "train", run },
        { kind: "score", run },
      ];
      if (!isFinal(run.result)) {
        if (wanted(train)) return train;
      } else if (isToScore(run, summary, point.learningRate) && !isScored(run.score) && wanted(score)) return score;
    }
  return null;
}

export function workName({ kind, run }: Work): string {
  return `${kind} ${run?.run ?? untrained}`;
}

/**
 * Milliseconds to the end: what is left of each point at the mean time of the same method's runs, of all runs where that has none yet. `current` is the
 * part of a run that is being done. Null before a run has ended or come far enough.
 */
export function remainingMs(summary: ComparisonSummary, current: { run: ComparedRun; doneShare: number; elapsedMs: number } | null): number | null {
  const times = new Map<string, number[]>();
  const add = (label: string, ms: number) => times.set(label, [...(times.get(label) ?? []), ms]);
  for (const point of summary.points)
    for (const { result } of allRuns(point)) if (result?.status === "done") add(point.point.label, result.seconds * 1000);
  if (current && current.doneShare > 0.1) add(current.run.point.label, current.elapsedMs / current.doneShare);
  const all = [...times.values()].flat();
  if (all.length === 0) return null;
  const perRun = (label: string) => mean(times.get(label) ?? all);
  const seeds = summary.plan.seeds.length;
  const scored = summary.points.flatMap((point) => allRuns(point).flatMap(({ score }) => (score && isScored(score) ? [score.seconds * 1000] : [])));
  if (summary.task?.before) scored.push(summary.task.before.seconds * 1000);
  const perScore = scored.length > 0 ? mean(scored) : 0;
  let left = 0;
  for (const point of summary.points) {
    const runs = allRuns(point);
    const missing = runs.filter(({ result }) => !isFinal(result)).length + (point.learningRate === null ? hopedFor(point.search, seeds) : 0);
    left += missing * perRun(point.point.label) + scoresLeft(point, summary) * perScore;
  }
  if (current) left -= Math.min(current.elapsedMs, perRun(current.run.point.label));
  return Math.max(0, Math.round(left));
}

/** Other seeds of a point whose learning rate is not chosen yet. */
function hopedFor(search: readonly ComparedRun[], seeds: number): number {
  return isHopeless(search) ? 0 : seeds - 1;
}

/** Runs of a point that are still to be scored on the task, those of other seeds among them. */
function scoresLeft(point: PointSummary, { plan }: ComparisonSummary): number {
  if (!plan.task || (point.search.length > 0 && isHopeless(point.search))) return 0;
  const wanted = plan.criterion === "accuracy" ? Math.max(1, point.search.length) + plan.seeds.length - 1 : plan.seeds.length;
  return Math.max(0, wanted - allRuns(point).filter(({ score }) => isScored(score)).length);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
