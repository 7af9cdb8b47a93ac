/**
 * The part of the steps that the charts show: all of them, following the live end, until somebody zooms or pans. Pure arithmetic, shared by all charts so
 * that they always show the same steps.
 */

/** Steps from the left edge to the right edge. */
export interface StepRange {
  from: number;
  to: number;
}

/** Nothing narrower is shown. */
const narrowestSteps = 2;

/** What is shown when nobody zoomed: all steps, at least a few so that a run's first step has room. */
export function wholeRange(firstStep: number, lastStep: number): StepRange {
  return { from: firstStep, to: Math.max(lastStep, firstStep + narrowestSteps) };
}

/** Zooms by `factor` (< 1 shows less) around `center`; null when that shows everything again. */
export function zoomed(shown: StepRange, whole: StepRange, factor: number, center: number): StepRange | null {
  const width = Math.max(narrowestSteps, (shown.to - shown.from) * factor);
  const share = shown.to > shown.from ? (center - shown.from) / (shown.to - shown.from) : 0.5;
  const from = center - share * width;
  return within({ from, to: from + width }, whole);
}

/** Moves by a share of what is shown; stops at the ends. */
export function panned(shown: StepRange, whole: StepRange, share: number): StepRange | null {
  const by = (shown.to - shown.from) * share;
  return within({ from: shown.from + by, to: shown.to + by }, whole);
}

/** A range that was asked for, moved to where there are steps; null when it is everything. */
export function within(asked: StepRange, whole: StepRange): StepRange | null {
  const width = Math.max(narrowestSteps, asked.to - asked.from);
  if (width >= whole.to - whole.from) return null;
  const from = Math.min(Math.max(asked.from, whole.from), whole.to - width);
  return { from, to: from + width };
}
