/**
 * One chart of a comparison's figure as plain shapes: axes, a line and markers a method, bars for the spread, levels across. Pure arithmetic; which charts there
 * are and what stands in them is comparePicture.ts' business.
 * The rule to keep: what is drawn are measured values, and a point without one is left out.
 */
import { logTicks, type MarkerName, markerNames, roundTicks } from "./chartShapes.ts";
import type { PictureWords } from "./comparePicture.ts";
import type { PointSummary } from "./compareSummary.ts";

/** A thing to draw. `series`: index of the method's colour; null for what belongs to none. */
export type Shape =
  | { kind: "line"; x1: number; y1: number; x2: number; y2: number; role: "axis" | "grid" | "series"; series: number | null; dashed: boolean }
  | { kind: "path"; points: [number, number][]; series: number }
  | { kind: "band"; x: number; y: number; width: number; height: number; series: number }
  | { kind: "marker"; x: number; y: number; marker: MarkerName; series: number; tip: string }
  | { kind: "text"; x: number; y: number; text: string; anchor: "start" | "middle" | "end"; role: "title" | "label" | "tick" };

/** A method: one line and one shape of marker. */
export interface Series {
  label: string;
  index: number;
  /** Full fine-tuning stands at one size and is drawn as a level. */
  level: boolean;
  points: PointSummary[];
}

/** A place in the picture, in pixels. */
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** A line across, and what stands at which end of it. */
export interface NamedLevel {
  value: number;
  text: string;
  end: "left" | "right";
}

/** What is drawn over the trained parameters. */
export interface Chart {
  title: string;
  /** None where it is left out. */
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

const axisLeft = 74;
const axisBottom = 44;
const titleHeight = 30;

/** Draws a chart into its box. */
export function drawChart(shapes: Shape[], series: readonly Series[], chart: Chart, box: Box, words: PictureWords): void {
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
