/**
 * Which values of a long series are worth drawing: per pixel column the first, the last, and of every line its smallest and largest, so that the picture is the
 * one that all values would give. For drawing only; the data is never thinned, and what is drawn are values that exist, at their own steps.
 */
import type { StepRange } from "./stepRange.ts";

/** Index of the first step that is not below `step`. `steps` ascend. */
export function lowerBound(steps: ArrayLike<number>, length: number, step: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Indices to draw within `range`, ascending, with the nearest value outside on either side so that lines leave the picture in the right direction.
 * At most 2 + 2·lines per pixel, and all of them where that is no more.
 */
export function drawnIndices(
  steps: ArrayLike<number>,
  length: number,
  lines: readonly ArrayLike<number>[],
  range: StepRange,
  pixels: number,
): number[] {
  const first = Math.max(0, lowerBound(steps, length, range.from) - 1);
  const end = Math.min(length, lowerBound(steps, length, range.to) + 1);
  const columns = Math.max(1, Math.floor(pixels));
  const perColumn = 2 + 2 * lines.length;
  if (end - first <= columns * perColumn) return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);

  const drawn: number[] = [];
  const columnWidth = (range.to - range.from) / columns;
  for (let start = first; start < end; ) {
    // Where the column ends is looked up, not counted: this runs for each of hundreds of thousands of steps otherwise.
    const column = Math.floor((steps[start] - range.from) / columnWidth);
    const stop = Math.min(end, Math.max(start + 1, lowerBound(steps, end, range.from + (column + 1) * columnWidth)));
    pushExtremes(drawn, lines, start, stop);
    start = stop;
  }
  return drawn;
}

/** First, last, and each line's smallest and largest of [start, stop), in order and once each. A value that is not finite is a gap and is kept as one. */
function pushExtremes(drawn: number[], lines: readonly ArrayLike<number>[], start: number, stop: number): void {
  const kept = [start, stop - 1];
  for (const values of lines) {
    let smallest = -1;
    let largest = -1;
    let low = Infinity;
    let high = -Infinity;
    for (let i = start; i < stop; i++) {
      const value = values[i];
      if (value < low && value !== -Infinity) {
        smallest = i;
        low = value;
      }
      if (value > high && value !== Infinity) {
        largest = i;
        high = value;
      }
    }
    if (smallest >= 0) kept.push(smallest, largest);
  }
  kept.sort((a, b) => a - b);
  for (const [i, index] of kept.entries()) if (i === 0 || index !== kept[i - 1]) drawn.push(index);
}
