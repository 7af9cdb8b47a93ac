/** The tables of the Compare Runs view as CSV, every value unrounded. Pure text. */

import { comparisonCsv } from "../../src/protocol/compareCsv.ts";
import type { RunCard } from "../../src/protocol/compareProtocol.ts";
import { csvLine } from "../../src/protocol/csv.ts";

export { comparisonCsv as csvOf };

/** Runs side by side. */
export function cardsCsv(runs: readonly RunCard[]): string {
  const columns = ["name", "method", "trainableParameters", "lossBefore", "lossAfter", "peakBytes", "secondsPerStep", "steps"] as const;
  return `${[columns.join(","), ...runs.map((run) => csvLine(columns.map((column) => run[column])))].join("\n")}\n`;
}
