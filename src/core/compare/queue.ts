/**
 * What of a comparison is done next, and how long the rest will take. Pure: decided from the lines of results alone, so that a comparison that was killed
 * goes on where it was.
 * The rule to keep: points in the plan's order, each first over the learning rates and then over the other seeds.
 */
import { allRuns, type ComparedRun, type ComparisonSummary, isFinal } from "../../protocol/compareSummary.ts";

/** The next run that has no result yet; null when none is left. `tried` are those that failed in this session. */
export function nextRun(summary: ComparisonSummary, tried: ReadonlySet<string>): ComparedRun | null {
  for (const point of summary.points) for (const run of allRuns(point)) if (!isFinal(run.result) && !tried.has(run.run)) return run;
  return null;
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
  let left = 0;
  for (const point of summary.points) {
    const runs = allRuns(point);
    const missing = runs.filter(({ result }) => !isFinal(result)).length + (point.learningRate === null ? hopedFor(point.search, seeds) : 0);
    left += missing * perRun(point.point.label);
  }
  if (current) left -= Math.min(current.elapsedMs, perRun(current.run.point.label));
  return Math.max(0, Math.round(left));
}

/** Other seeds of a point whose learning rate is not chosen yet. */
function hopedFor(search: readonly ComparedRun[], seeds: number): number {
  return search.every(({ result }) => isFinal(result)) ? 0 : seeds - 1;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
