/**
 * The plateau figure of a comparison as a picture of plain shapes: held-out loss against trained parameters on a logarithmic axis, one line and one shape of
 * marker a method, bars for the spread over seeds, full fine-tuning as a level; of a test set the accuracy alike, above its floor; beneath them peak memory and
 * seconds per step. Pure arithmetic: whoever draws it (a file, a webview, a canvas) gives words, formats and colours.
 * The rules to keep: methods are told apart by shape and name and not by colour alone; what is drawn are measured values, and a point without one is left out.
 */
import { markerNames, tickTexts } from "./chartShapes.ts";
import { type Box, type Chart, drawChart, type Series, type Shape } from "./comparePlot.ts";
import type { ComparisonSummary, PointSummary, TaskSummary } from "./compareSummary.ts";

export interface Picture {
  width: number;
  height: number;
  shapes: Shape[];
  /** The same in words, a sentence a method. */
  description: string;
  /** Nothing has been measured yet. */
  empty: boolean;
}

export type { Shape } from "./comparePlot.ts";

/** Words and formats, in the language and manner of who shows it. */
export interface PictureWords {
  loss: string;
  parameters: string;
  memory: string;
  seconds: string;
  /** Title of the chart of a test set's accuracy. */
  accuracy(task: string): string;
  /** What stands at the line of the most frequent answer's share, and of the untrained model's accuracy. */
  floor: string;
  before: string;
  formatLoss(value: number): string;
  formatShare(value: number): string;
  formatCount(value: number): string;
  formatBytes(value: number): string;
  formatSeconds(value: number): string;
  /** `SMT with 4.10 K parameters: 2.1000 ± 0.0100 over 3 seeds`. */
  tip(label: string, parameters: string, value: string, spread: string | null, seeds: number): string;
}

const legendHeight = 22;

/** The figure, `width` pixels wide. */
export function comparisonPicture(summary: ComparisonSummary, words: PictureWords, width = 860): Picture {
  const series = seriesOf(summary);
  const shapes: Shape[] = [];
  const legendRows = drawLegend(shapes, series, width);
  const top = legendRows * legendHeight + 8;
  const narrow = width < 560;
  const smallWidth = narrow ? width : width / 2;
  const main = Math.round(Math.min(380, Math.max(240, width * 0.5)));
  const qualities = [lossChart(words), ...(summary.task ? [accuracyChart(summary.task, words)] : [])];
  const costs = top + qualities.length * main;
  const charts: [Chart, Box][] = [
    ...qualities.map((chart, i): [Chart, Box] => [chart, { left: 0, top: top + i * main, width, height: main }]),
    [costChart(words, "memory"), { left: 0, top: costs, width: smallWidth, height: 220 }],
    [costChart(words, "seconds"), { left: narrow ? 0 : smallWidth, top: costs + (narrow ? 220 : 0), width: smallWidth, height: 220 }],
  ];
  for (const [chart, box] of charts) drawChart(shapes, series, chart, box, words);
  const height = costs + (narrow ? 440 : 220);
  const empty = !series.some(({ points }) => points.some(({ mean }) => mean !== null));
  return {
    width,
    height,
    shapes,
    description: qualities
      .map((chart) => describe(series, chart, words))
      .filter((text) => text !== "")
      .join(". "),
    empty,
  };
}

/** Methods in the plan's order, each with its points by size. */
export function seriesOf({ points }: ComparisonSummary): Series[] {
  const labels = [...new Set(points.map(({ point }) => point.label))];
  return labels.map((label, index) => {
    const own = points.filter(({ point }) => point.label === label).sort((a, b) => a.trainableParameters - b.trainableParameters);
    return { label, index, level: own.every(({ point }) => point.method === "full"), points: own };
  });
}

function lossChart(words: PictureWords): Chart {
  const loss = { value: ({ mean }: PointSummary) => mean, spread: ({ spread }: PointSummary) => spread, format: words.formatLoss, ticks: tickTexts };
  return { title: words.loss, ...loss, count: ({ seedsDone }) => seedsDone, fromZero: false, base: 10 };
}

function accuracyChart({ title, majorityFloor, before }: TaskSummary, words: PictureWords): Chart {
  return {
    title: words.accuracy(title),
    value: ({ accuracy }) => accuracy,
    spread: ({ accuracySpread }) => accuracySpread,
    count: ({ scored }) => scored,
    levels: [
      ...(majorityFloor === null ? [] : [{ value: majorityFloor, text: words.floor, end: "left" as const }]),
      ...(before?.accuracy == null ? [] : [{ value: before.accuracy, text: words.before, end: "right" as const }]),
    ],
    format: words.formatShare,
    ticks: (ticks) => ticks.map(words.formatShare),
    fromZero: false,
    base: 10,
  };
}

function costChart(words: PictureWords, which: "memory" | "seconds"): Chart {
  const memory = which === "memory";
  const format = memory ? words.formatBytes : words.formatSeconds;
  return {
    title: memory ? words.memory : words.seconds,
    value: memory ? ({ peakBytes }) => peakBytes : ({ secondsPerStep }) => secondsPerStep,
    spread: () => null,
    count: ({ seedsDone }) => seedsDone,
    format,
    ticks: (ticks) => ticks.map(format),
    fromZero: true,
    base: memory ? 1024 : 10,
  };
}

/** As many names in a row as have room, by a guess of their width; returns the rows. */
function drawLegend(shapes: Shape[], series: readonly Series[], width: number): number {
  let x = 12;
  let row = 0;
  for (const { label, index, level } of series) {
    const room = 44 + label.length * 7.5;
    if (x + room > width && x > 12) {
      x = 12;
      row++;
    }
    const y = row * legendHeight + 14;
    shapes.push({ kind: "line", x1: x, y1: y, x2: x + 24, y2: y, role: "series", series: index, dashed: level });
    shapes.push({ kind: "marker", x: x + 12, y, marker: markerNames[index % markerNames.length], series: index, tip: "" });
    shapes.push({ kind: "text", x: x + 30, y: y + 4, text: label, anchor: "start", role: "label" });
    x += room;
  }
  return row + 1;
}

/** A sentence a point of a chart. */
function describe(series: readonly Series[], chart: Chart, words: PictureWords): string {
  const sentences = series.flatMap(({ label, points }) =>
    points.flatMap((point) => {
      const [value, spread] = [chart.value(point), chart.spread(point)];
      if (value === null) return [];
      const size = words.formatCount(point.trainableParameters);
      return [words.tip(label, size, chart.format(value), spread === null ? null : chart.format(spread), chart.count(point))];
    }),
  );
  return sentences.join("; ");
}
