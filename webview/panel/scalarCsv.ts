/**
 * The run's scalars as a CSV file: every step and every evaluation, nothing thinned, smoothed or rounded; each number is written so that reading it back gives
 * the same number. Pure text.
 */
import type { PlotPoints } from "./plotData.ts";

/** Columns of the file, in order. */
export const scalarColumns = ["step", "loss", "learningRate", "gradNorm", "tokensPerSecond", "evalLoss"] as const;

/** A table of what training steps reported, one row a step. */
export interface ScalarSteps {
  readonly length: number;
  column(name: Exclude<(typeof scalarColumns)[number], "evalLoss">): ArrayLike<number>;
}

/** The file's text. A step without an evaluation has an empty last field; an evaluation before the first step a row of its own. */
export function scalarCsv(steps: ScalarSteps, evaluations: PlotPoints): string {
  const [stepOf, ...scalars] = (["step", "loss", "learningRate", "gradNorm", "tokensPerSecond"] as const).map((name) => steps.column(name));
  const rows: string[] = [scalarColumns.join(",")];
  let row = 0;
  let evaluation = 0;
  while (row < steps.length || evaluation < evaluations.length) {
    const step = Math.min(row < steps.length ? stepOf[row] : Infinity, evaluation < evaluations.length ? evaluations.steps[evaluation] : Infinity);
    const trained = row < steps.length && stepOf[row] === step;
    const fields = scalars.map((values) => (trained ? String(values[row]) : ""));
    if (trained) row++;
    let held = "";
    for (; evaluation < evaluations.length && evaluations.steps[evaluation] === step; evaluation++) held = String(evaluations.values[evaluation]);
    rows.push([step, ...fields, held].join(","));
  }
  return `${rows.join("\n")}\n`;
}
