/**
 * What the Compare Runs view shows, made from what the host sends: rows of tables, lines to draw over each other. Pure; no DOM.
 * The rules to keep: a figure that was not measured is shown as none; curves are drawn at their own steps, and nothing is put in between.
 */
import type { CompareView, Curve, RunCard } from "../../src/protocol/compareProtocol.ts";
import { allRuns, type ComparedRun, type ComparisonSummary, summarise } from "../../src/protocol/compareSummary.ts";
import { drawnIndices } from "../panel/downSample.ts";
import type { PlotData } from "../panel/plotData.ts";
import { MovingAverage } from "../panel/smoothing.ts";
import type { StepRange } from "../panel/stepRange.ts";

export type ComparisonView = Extract<CompareView, { kind: "comparison" }>;

/** A comparison in view, with what its lines say together; null before there is a plan. */
export interface ShownComparison {
  view: ComparisonView;
  summary: ComparisonSummary | null;
  state: ComparisonState;
}

/** waiting: begun and no run has ended yet. diskFull: it goes on when there is room. interrupted: no process, and not done. */
export type ComparisonState = "waiting" | "diskFull" | "running" | "done" | "stopped" | "failed" | "interrupted" | "notStarted";

export function shownComparison(view: ComparisonView): ShownComparison {
  const summary = summarise(view.lines);
  return { view, summary, state: stateOf(view, summary) };
}

function stateOf({ live, failure, progress }: ComparisonView, summary: ComparisonSummary | null): ComparisonState {
  if (live && progress?.state === "waiting") return "diskFull";
  if (live) return summary && summary.runsDone > 0 ? "running" : "waiting";
  if (!summary) return failure === "" ? "notStarted" : "failed";
  return summary.outcome ?? (failure === "" ? "interrupted" : "failed");
}

/** Whether the comparison can be gone on with. */
export function canResume({ state, view }: ShownComparison): boolean {
  return view.trusted && !view.live && state !== "done";
}

/** Every run of a comparison that was begun or is done, in the plan's order. */
export function runRows({ summary, view }: ShownComparison): ComparedRun[] {
  const current = view.live ? view.progress?.run : undefined;
  return (summary?.points ?? []).flatMap((point) => allRuns(point).filter(({ result, run }) => result !== null || run === current));
}

/** The difference of two losses; null where one is missing. */
export function gain({ lossBefore, lossAfter }: Pick<RunCard, "lossBefore" | "lossAfter">): number | null {
  return lossBefore === null || lossAfter === null ? null : lossAfter - lossBefore;
}

/** Index of the run with the lowest held-out loss in the end; −1 where fewer than two have one. */
export function bestRun(runs: readonly RunCard[]): number {
  const known = runs.flatMap(({ lossAfter }, index) => (lossAfter === null ? [] : [{ lossAfter, index }]));
  if (known.length < 2) return -1;
  return known.reduce((best, one) => (one.lossAfter < best.lossAfter ? one : best)).index;
}

/** Steps that some curves have, from the first to the last. */
export function stepsOf(curves: readonly Curve[]): { first: number; last: number } {
  const firsts = curves.flatMap(({ steps }) => steps.slice(0, 1));
  const lasts = curves.flatMap(({ steps }) => steps.slice(-1));
  return { first: firsts.length > 0 ? Math.min(...firsts) : 0, last: lasts.length > 0 ? Math.max(...lasts) : 0 };
}

/** A curve's moving average; the curve itself where `weight` is 0. */
export function smoothed({ steps, values }: Curve, weight: number): Curve {
  if (weight === 0) return { steps, values };
  return { steps, values: Array.from(new MovingAverage(weight).follow(steps, values, values.length)) };
}

/** The curves as columns over the union of their steps, thinned to the pixels there are: null is a gap in a line, undefined no value at that step. */
export function curveData(curves: readonly Curve[], range: StepRange, pixels: number, logScale: boolean): PlotData {
  const drawn = curves.map(({ steps, values }) =>
    drawnIndices(steps, steps.length, [values], range, pixels).map((i) => [steps[i], values[i]] as const),
  );
  const union = [...new Set(drawn.flatMap((points) => points.map(([step]) => step)))].sort((a, b) => a - b);
  const row = new Map(union.map((step, index) => [step, index]));
  const columns = drawn.map((points) => {
    const column: (number | null | undefined)[] = new Array(union.length).fill(undefined);
    for (const [step, value] of points) column[row.get(step) as number] = Number.isFinite(value) && (!logScale || value > 0) ? value : null;
    return column;
  });
  return [union, ...columns];
}

/** A curve's value at the step nearest to one; null outside of it. */
export function valueNear({ steps, values }: Curve, step: number): number | null {
  if (steps.length === 0 || step < steps[0] || step > steps[steps.length - 1]) return null;
  let nearest = 0;
  for (let low = 0, high = steps.length - 1; low <= high; ) {
    const middle = (low + high) >> 1;
    if (Math.abs(steps[middle] - step) < Math.abs(steps[nearest] - step)) nearest = middle;
    if (steps[middle] < step) low = middle + 1;
    else high = middle - 1;
  }
  return Number.isFinite(values[nearest]) ? values[nearest] : null;
}
