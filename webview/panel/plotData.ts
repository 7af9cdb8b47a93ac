/**
 * What a plot draws of the run's series: aligned columns of the shown steps, thinned to the pixels there are. The columns are uPlot's: null is a gap in a
 * line (no value, or none on a logarithmic scale), undefined a step at which another line has a value.
 * The rule to keep: every number in the result is a value of the series at its own step.
 */
import { drawnIndices, lowerBound } from "./downSample.ts";
import type { StepRange } from "./stepRange.ts";

export type PlotColumn = (number | null | undefined)[];
/** Steps, then a column for each line, then, where there are any, one for the points. */
export type PlotData = [number[], ...PlotColumn[]];

/** Values at steps of their own, few enough to be drawn all. */
export interface PlotPoints {
  steps: ArrayLike<number>;
  values: ArrayLike<number>;
  length: number;
}

export interface PlotSource {
  steps: ArrayLike<number>;
  length: number;
  /** Lines over `steps`. */
  lines: readonly ArrayLike<number>[];
  points?: PlotPoints;
}

/** The columns to draw of `range` in a plot `pixels` wide. */
export function plotData(source: PlotSource, range: StepRange, pixels: number, logScale: boolean): PlotData {
  const { steps, lines, points } = source;
  const indices = drawnIndices(steps, source.length, lines, range, pixels);
  const drawable = (value: number) => (Number.isFinite(value) && (!logScale || value > 0) ? value : null);
  const data: PlotData = [indices.map((index) => steps[index]), ...lines.map((values) => indices.map((index) => drawable(values[index])))];
  return points ? withPoints(data, points, range, drawable) : data;
}

/**
 * The values at the step nearest to `step`, or with `holds` at the last one not after it: of all values, not only of the drawn ones. The point counts when
 * it is within `reach` steps. Null where there is no step.
 */
export function valuesAt(source: PlotSource, step: number, holds: boolean, reach: number): { step: number; values: (number | null)[] } | null {
  const row = rowAt(source.steps, source.length, step, holds);
  if (row === null) return null;
  const finite = (value: number) => (Number.isFinite(value) ? value : null);
  const values = source.lines.map((line) => finite(line[row]));
  if (source.points) {
    const { steps, length, values: held } = source.points;
    const point = rowAt(steps, length, step, false);
    values.push(point !== null && Math.abs(steps[point] - step) <= reach ? finite(held[point]) : null);
  }
  return { step: source.steps[row], values };
}

function rowAt(steps: ArrayLike<number>, length: number, step: number, holds: boolean): number | null {
  const after = lowerBound(steps, length, step);
  if (length === 0) return null;
  if (after === length) return length - 1;
  if (after === 0 || steps[after] === step) return after;
  return holds || step - steps[after - 1] < steps[after] - step ? after - 1 : after;
}

/** Adds a column of points, and rows for those at steps that the lines have no value at. */
function withPoints(data: PlotData, points: PlotPoints, range: StepRange, drawable: (value: number) => number | null): PlotData {
  const [lineSteps, ...columns] = data;
  const merged: PlotData = [[], ...columns.map((): PlotColumn => []), []];
  const end = Math.min(points.length, lowerBound(points.steps, points.length, range.to) + 1);
  let point = Math.max(0, lowerBound(points.steps, points.length, range.from) - 1);
  let row = 0;
  while (row < lineSteps.length || point < end) {
    const step = Math.min(row < lineSteps.length ? lineSteps[row] : Infinity, point < end ? points.steps[point] : Infinity);
    const hasLines = lineSteps[row] === step;
    merged[0].push(step);
    for (const [i, column] of columns.entries()) (merged[i + 1] as PlotColumn).push(hasLines ? column[row] : undefined);
    // Of several at one step the last counts: a resumed run evaluates the step that it went back to once more.
    let value: number | null | undefined;
    for (; point < end && points.steps[point] === step; point++) value = drawable(points.values[point]);
    (merged[columns.length + 1] as PlotColumn).push(value);
    if (hasLines) row++;
  }
  return merged;
}
