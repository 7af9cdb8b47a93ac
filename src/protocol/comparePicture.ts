/**
 * The plateau figure of a comparison as a picture of plain shapes: held-out loss against trained parameters on a logarithmic axis, one line and one shape of
 * marker a method, bars for the spread over seeds, full fine-tuning as a level; of a test set the accuracy alike, above its floor; beneath them peak memory and
 * seconds per step. Pure arithmetic: whoever draws it
 * (a file, a webview, a canvas) gives words, formats and colours.
 * The rules to keep: methods are told apart by shape and name and not by colour alone; what is drawn are measured values, and a point without one is left out.
 */
import { logTicks, type MarkerName, markerNames, roundTicks, tickTexts } from "./chartShapes.ts";
import type { ComparisonSummary, PointSummary, TaskSummary } from "./compareSummary.ts";

/** A thing to draw. `series`: index of the method's colour; null for what belongs to none. */
export type Shape =
  | { kind: "line"; x1: number; y1: number; x2: number; y2: number; role: "axis" | "grid" | "series"; series: number | null; dashed: boolean }
  | { kind: "path"; points: [number, number][]; series: number }
  | { kind: "band"; x: number; y: number; width: number; height: number; series: number }
  | { kind: "marker"; x: number; y: number; marker: MarkerName; series: number; tip: string }
  | { kind: "text"; x: number; y: number; text: string; anchor: "start" | "middle" | "end"; role: "title" | "label" | "tick" };

export interface Picture {
  width: number;
  height: number;
  shapes: Shape[];
  /** The same in words, a sentence a method. */
  description: string;
  /** Nothing has been measured yet. */
  empty: boolean;
}

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

interface Series {
  label: string;
  index: number;
  /** Full fine-tuning stands at one size and is drawn as a level. */
  level: boolean;
  points: PointSummary[];
}

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** A line across, and what stands at which end of it. */
interface NamedLevel {
  value: number;
  text: string;
  end: "left" | "right";
}

interface Chart {
  title: string;
  levels?: readonly NamedLevel[];
  /** Runs behind a value. */
  count(point: PointSummary): number;
  value(point: PointSummary): number | null;
  spread(point: PointSummary): number | null;
  format(value: number): string;
  /** The figures at the axis. */
  ticks(ticks: readonly number[]): string[];
  /** The axis begins at 0. */
  fromZero: boolean;
  /** Figures are round in powers of it. */
  base: 10 | 1024;
}

const legendHeight = 22;
const axisLeft = 74;
const axisBottom = 44;
const titleHeight = 30;

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

function drawChart(shapes: Shape[], series: readonly Series[], chart: Chart, box: Box, words: PictureWords): void {
  const area = {
    left: box.left + axisLeft,
    top: box.top + titleHeight,
    width: box.width - axisLeft - 18,
    height: box.height - titleHeight - axisBottom,
  };
  shapes.push({ kind: "text", x: box.left + 12, y: box.top + 16, text: chart.title, anchor: "start", role: "title" });
  const xs = xRange(series);
  const [low, high] = yRange(series, chart);
  const xOf = (value: number) => area.left + (area.width * (Math.log(value) - Math.log(xs[0]))) / (Math.log(xs[1]) - Math.log(xs[0]));
  const yOf = (value: number) => area.top + area.height * (1 - (value - low) / (high - low));
  drawAxes(shapes, area, { xs, xOf, yTicks: roundTicks(low, high, area.height, chart.base), yOf }, chart, words);
  for (const level of chart.levels ?? []) drawNamedLevel(shapes, level, yOf(level.value), area);
  for (const one of series) drawSeries(shapes, one, chart, area, xOf, yOf, words);
}

function drawAxes(
  shapes: Shape[],
  area: Box,
  scales: { xs: [number, number]; xOf: (value: number) => number; yTicks: number[]; yOf: (value: number) => number },
  chart: Chart,
  words: PictureWords,
): void {
  const bottom = area.top + area.height;
  const right = area.left + area.width;
  const axis = { role: "axis", series: null, dashed: false } as const;
  const texts = chart.ticks(scales.yTicks);
  for (const [index, tick] of scales.yTicks.entries()) {
    const y = scales.yOf(tick);
    shapes.push({ kind: "line", x1: area.left, y1: y, x2: right, y2: y, role: "grid", series: null, dashed: false });
    shapes.push({ kind: "text", x: area.left - 8, y: y + 4, text: texts[index], anchor: "end", role: "tick" });
  }
  for (const tick of logTicks(scales.xs[0], scales.xs[1], area.width)) {
    const x = scales.xOf(tick);
    shapes.push({ kind: "line", x1: x, y1: bottom, x2: x, y2: bottom + 5, ...axis });
    shapes.push({ kind: "text", x, y: bottom + 19, text: words.formatCount(tick), anchor: "middle", role: "tick" });
  }
  shapes.push({ kind: "line", x1: area.left, y1: area.top, x2: area.left, y2: bottom, ...axis });
  shapes.push({ kind: "line", x1: area.left, y1: bottom, x2: right, y2: bottom, ...axis });
  const middle = area.left + area.width / 2;
  shapes.push({ kind: "text", x: middle, y: bottom + 37, text: words.parameters, anchor: "middle", role: "label" });
}

function drawSeries(
  shapes: Shape[],
  { label, index, level, points }: Series,
  chart: Chart,
  area: Box,
  xOf: (value: number) => number,
  yOf: (value: number) => number,
  words: PictureWords,
): void {
  const drawn = points.flatMap((point) => {
    const value = chart.value(point);
    return value === null ? [] : [{ point, value, spread: chart.spread(point), x: xOf(point.trainableParameters), y: yOf(value) }];
  });
  if (level) for (const { value, spread } of drawn.slice(0, 1)) drawLevel(shapes, index, value, spread, area, yOf);
  else if (drawn.length > 1) shapes.push({ kind: "path", points: drawn.map(({ x, y }) => [x, y]), series: index });
  for (const { point, value, spread, x, y } of drawn) {
    // A level is marked at the right edge: its own size may lie far beyond the budgets.
    const at = level ? area.left + area.width : x;
    if (spread !== null && !level) drawBar(shapes, index, at, yOf(value - spread), yOf(value + spread));
    const tip = words.tip(
      label,
      words.formatCount(point.trainableParameters),
      chart.format(value),
      spread === null ? null : chart.format(spread),
      chart.count(point),
    );
    shapes.push({ kind: "marker", x: at, y, marker: markerNames[index % markerNames.length], series: index, tip });
  }
}

/** A line across that belongs to no method, named at one of its ends: two that are near each other do not hide each other's names. */
function drawNamedLevel(shapes: Shape[], { text, end }: NamedLevel, y: number, { left, width }: Box): void {
  shapes.push({ kind: "line", x1: left, y1: y, x2: left + width, y2: y, role: "axis", series: null, dashed: true });
  shapes.push({
    kind: "text",
    x: end === "left" ? left + 6 : left + width - 8,
    y: y - 5,
    text,
    anchor: end === "left" ? "start" : "end",
    role: "tick",
  });
}

function drawLevel(shapes: Shape[], series: number, value: number, spread: number | null, area: Box, yOf: (value: number) => number): void {
  const y = yOf(value);
  if (spread !== null) {
    const top = yOf(value + spread);
    shapes.push({ kind: "band", x: area.left, y: top, width: area.width, height: yOf(value - spread) - top, series });
  }
  shapes.push({ kind: "line", x1: area.left, y1: y, x2: area.left + area.width, y2: y, role: "series", series, dashed: true });
}

/** A bar with caps, from one standard deviation below to one above. */
function drawBar(shapes: Shape[], series: number, x: number, bottom: number, top: number): void {
  const line = { kind: "line", role: "series", series, dashed: false } as const;
  shapes.push({ ...line, x1: x, y1: bottom, x2: x, y2: top });
  for (const y of [bottom, top]) shapes.push({ ...line, x1: x - 5, y1: y, x2: x + 5, y2: y });
}

/** Sizes of what is no level, with room on both sides; of the levels where there is nothing else. */
function xRange(series: readonly Series[]): [number, number] {
  const sizes = (level: boolean) =>
    series.filter((one) => one.level === level).flatMap(({ points }) => points.map(({ trainableParameters }) => trainableParameters));
  const known = (sizes(false).length > 0 ? sizes(false) : sizes(true)).filter((size) => size > 0);
  if (known.length === 0) return [1, 10];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const room = low === high ? 2 : (high / low) ** 0.08;
  return [low / room, high * room];
}

function yRange(series: readonly Series[], chart: Chart): [number, number] {
  const values = series.flatMap(({ points }) =>
    points.flatMap((point) => {
      const value = chart.value(point);
      const spread = chart.spread(point) ?? 0;
      return value === null ? [] : [value - spread, value + spread];
    }),
  );
  if (values.length === 0) return [0, 1];
  values.push(...(chart.levels ?? []).map(({ value }) => value));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (chart.fromZero) return [0, high > 0 ? high * 1.1 : 1];
  const room = (high - low || Math.abs(high) || 1) * 0.1;
  return [low - room, high + room];
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
