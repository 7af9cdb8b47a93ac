/** Statistics of a block as rows of a list and as plots; what was not found of it says so. */
import { type Analysis, maxBlockValues, maxSpectrumSide } from "../../src/protocol/coreProtocol.ts";
import { element } from "../element.ts";
import { t } from "../strings.ts";
import { histogramPlot, shown, spectrumPlot } from "./plots.ts";
import type { Size } from "./viewport.ts";

/** Names and values; without statistics the step and the size alone. */
export function factsOf(step: number, { rows, columns }: Size, analysis: Analysis | null): [name: string, value: string][] {
  const facts: [string, string][] = [
    [t("Step"), String(step)],
    [t("Size"), `${rows} × ${columns}`],
  ];
  if (!analysis) return facts;
  facts.push(
    [t("Mean"), shown(analysis.mean)],
    [t("Standard deviation"), shown(analysis.standardDeviation)],
    [t("Smallest"), shown(analysis.minimum)],
    [t("Largest"), shown(analysis.maximum)],
    [t("Frobenius norm"), shown(analysis.norm)],
    [t("Zeros"), String(analysis.zeros)],
  );
  if (analysis.nonFinite > 0) facts.push([t("NaN or infinite"), String(analysis.nonFinite)]);
  return facts;
}

/** Histogram and spectrum. */
export function plotsOf(analysis: Analysis | null): HTMLElement[] {
  if (!analysis)
    return [element("p", {}, t("No statistics: they are made of blocks of up to {0} values. Colours are scaled by what is seen.", maxBlockValues))];
  const histogram = histogramPlot(analysis.histogram, analysis.minimum, analysis.maximum);
  if (analysis.singularValues.length > 0) return [histogram, spectrumPlot(analysis.singularValues, analysis.effectiveRank)];
  return [histogram, element("p", {}, t("No singular values: they are found for blocks of up to {0} × {0} finite values.", maxSpectrumSide))];
}

/** What full colour stands for: the largest |value| of the whole block, or, where that is not known, of what is seen. */
export function scaleOf(analysis: Analysis | null, values: Float32Array): number {
  if (analysis) return Math.max(Math.abs(analysis.minimum), Math.abs(analysis.maximum));
  let largest = 0;
  for (const value of values) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
  return largest;
}
