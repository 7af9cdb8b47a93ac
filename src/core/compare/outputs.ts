/** The files of a comparison that people read: table, CSV and figure, made anew from all results after each run. */
import path from "node:path";
import { comparisonCsv } from "../../protocol/compareCsv.ts";
import { comparisonFiles } from "../../protocol/compareResults.ts";
import type { ComparisonSummary } from "../../protocol/compareSummary.ts";
import { replaceFile } from "../files/durableFile.ts";
import { comparisonSvg } from "./chart.ts";
import { comparisonTable } from "./table.ts";

/** Writes them all; each is the old one or the new one at any moment. */
export async function writeOutputs(folder: string, summary: ComparisonSummary): Promise<void> {
  const texts = [
    [comparisonFiles.table, comparisonTable(summary)],
    [comparisonFiles.csv, comparisonCsv(summary)],
    [comparisonFiles.chart, comparisonSvg(summary)],
  ];
  for (const [name, text] of texts) await replaceFile(path.join(folder, name), [Buffer.from(text)]);
}
