/**
 * One plot over the steps: a uPlot with our colours, our zoom and our reading at the cursor. It keeps no data and decides nothing about what is shown;
 * its owner gives it columns and a range of steps.
 * The rules to keep: uPlot never changes the range by itself, so that all plots of a chart show the same steps; colours come from the theme at each making.
 */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Theme } from "../theme.ts";
import { logTicks } from "./axisTicks.ts";
import type { PlotData } from "./plotData.ts";
import type { StepRange } from "./stepRange.ts";

/** How a column of the data is drawn. */
export interface PlotLine {
  color: string;
  width?: number;
  dash?: number[];
  /** Colour of the area down to 0; a later line's area lies over it. */
  fill?: string;
  /** Markers instead of a line. */
  points?: boolean;
  /** A value holds until the next one, instead of a straight line between them. */
  stepped?: boolean;
}

export interface PlotOptions {
  theme: Theme;
  lines: readonly PlotLine[];
  height: number;
  logScale: boolean;
  /** Plots of one group share the cursor. */
  group: string;
  formatTick: (value: number) => string;
  /** The y range, where it is not that of what is drawn. */
  top?: () => number;
  /** Places of the y axis's figures below `top`. */
  ticks?: (top: number) => number[];
  onRange: (range: StepRange) => void;
  onPan: (share: number) => void;
  onZoom: (factor: number, center: number) => void;
  onReset: () => void;
  /** The step under the cursor, between steps too; null when it is elsewhere. */
  onCursor: (step: number | null) => void;
}

export class LinePlot {
  readonly #plot: uPlot;
  readonly #options: PlotOptions;
  readonly #removePointerListeners: () => void;

  constructor(container: HTMLElement, width: number, options: PlotOptions) {
    this.#options = options;
    const columns: PlotData = [[], ...options.lines.map(() => [])];
    this.#plot = new uPlot(plotOptions(options, width), columns, container);
    this.#removePointerListeners = listenToPointer(this.#plot, options);
    // A picture for who sees it; its owner writes the words.
    this.#plot.root.setAttribute("aria-hidden", "true");
  }

  /** Pixels that the lines have from left to right. */
  get pixels(): number {
    return Math.max(1, Math.round((this.#plot.bbox.width / uPlot.pxRatio) * Math.min(2, uPlot.pxRatio)));
  }

  get canvas(): HTMLCanvasElement {
    return this.#plot.ctx.canvas;
  }

  draw(data: PlotData, range: StepRange): void {
    this.#plot.batch(() => {
      this.#plot.setData(data as uPlot.AlignedData, false);
      this.#plot.setScale("x", { min: range.from, max: range.to });
    });
  }

  resize(width: number): void {
    if (width !== this.#plot.width) this.#plot.setSize({ width, height: this.#options.height });
  }

  destroy(): void {
    this.#removePointerListeners();
    this.#plot.destroy();
  }
}

function plotOptions(options: PlotOptions, width: number): uPlot.Options {
  const { theme, lines, logScale } = options;
  const font = `${Math.round(theme.fontSizePx * 0.85)}px ${theme.fontFamily}`;
  // In high contrast a full grid would be as loud as the lines.
  const dash = theme.kind.startsWith("highContrast") ? [1, 5] : [];
  const axis = { stroke: theme.foreground, font, grid: { stroke: theme.grid, width: 1, dash }, ticks: { stroke: theme.grid, width: 1, size: 4 } };
  return {
    width,
    height: options.height,
    legend: { show: false },
    padding: [8, 24, 0, 0],
    scales: {
      x: { time: false, range: (_, from, to) => [from ?? 0, to ?? 1] },
      y: { distr: logScale ? 3 : 1, range: (_, low, high) => yRange(options, low, high) },
    },
    axes: [
      { ...axis, size: 28, space: 60, values: (_, steps) => steps.map((step) => (Number.isInteger(step) ? String(step) : "")) },
      {
        ...axis,
        size: 64,
        space: 28,
        values: (_, values) => values.map((value) => (value === null ? "" : options.formatTick(value))),
        ...ownTicks(options),
      },
    ],
    series: [{}, ...lines.map((line) => seriesOf(line, theme))],
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: (_plot, column) => (lines[column - 1]?.points ? 0 : 7) },
      sync: { key: options.group, scales: ["x", null], filters: { pub: isMove, sub: isMove } },
      bind: { dblclick: () => resetInstead(options), mousedown: dragUnlessPanning },
    },
    hooks: {
      setSelect: [(plot) => selected(plot, options)],
      setCursor: [({ cursor: { left = -1 }, posToVal }) => options.onCursor(left < 0 ? null : posToVal(left, "x"))],
    },
  };
}

/** uPlot's own ticks suit decimal numbers on a linear scale. */
function ownTicks({ ticks, logScale }: PlotOptions): Partial<uPlot.Axis> {
  if (logScale) return { splits: (_self, _axis, low, high) => logTicks(low, high), filter: (_self, splits) => splits };
  return ticks ? { splits: (_self, _axis, _low, high) => ticks(high) } : {};
}

function seriesOf(line: PlotLine, theme: Theme): uPlot.Series {
  const { color, dash, fill } = line;
  if (line.points) return { stroke: color, paths: () => null, points: { show: true, size: 7, width: 1.5, stroke: color, fill: theme.background } };
  const paths = line.stepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined;
  return { stroke: color, width: line.width ?? 1.5, dash, fill, points: { show: false }, ...(paths ? { paths } : {}) };
}

/** The cursor is shared; selections are not: their owner moves all plots. */
function isMove(type: string): boolean {
  return type === "mousemove" || type === "mouseenter" || type === "mouseleave";
}

/** uPlot's own double click would show the drawn columns, not all steps. */
function resetInstead(options: PlotOptions): uPlot.Cursor.MouseListener {
  return () => {
    options.onReset();
    return null;
  };
}

/** With Shift or the middle button a drag pans, which `listenToPointer` does. */
function dragUnlessPanning(_plot: uPlot, _target: HTMLElement, handler: uPlot.Cursor.MouseListener): uPlot.Cursor.MouseListener {
  return (event) => (isPan(event) ? null : handler(event));
}

function isPan(event: MouseEvent): boolean {
  return event.button === 1 || (event.button === 0 && event.shiftKey);
}

function selected(plot: uPlot, options: PlotOptions): void {
  const { left, width } = plot.select;
  if (width < 4) return;
  const range = { from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") };
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  options.onRange(range);
}

/** With Ctrl or ⌘ the wheel zooms, with Shift it pans; alone it scrolls the page. */
function listenToPointer(plot: uPlot, options: PlotOptions): () => void {
  const onWheel = (event: WheelEvent) => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
    event.preventDefault();
    const amount = Math.max(-1, Math.min(1, (event.deltaY || event.deltaX) / 100));
    if (event.shiftKey) return options.onPan(amount * 0.1);
    options.onZoom(1.25 ** amount, plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
  };
  let panningFrom: number | null = null;
  const onDown = (event: PointerEvent) => {
    if (!isPan(event)) return;
    event.preventDefault();
    panningFrom = event.clientX;
    plot.over.setPointerCapture(event.pointerId);
  };
  const onMove = (event: PointerEvent) => {
    if (panningFrom === null) return;
    options.onPan((panningFrom - event.clientX) / Math.max(1, plot.over.clientWidth));
    panningFrom = event.clientX;
  };
  const onUp = () => {
    panningFrom = null;
  };
  const listeners = { wheel: onWheel, pointerdown: onDown, pointermove: onMove, pointerup: onUp, pointercancel: onUp };
  for (const [type, listener] of Object.entries(listeners)) plot.over.addEventListener(type, listener as EventListener, { passive: false });
  return () => {
    for (const [type, listener] of Object.entries(listeners)) plot.over.removeEventListener(type, listener as EventListener);
  };
}

function yRange(options: PlotOptions, low: number | null, high: number | null): uPlot.Range.MinMax {
  if (options.top) return [0, options.top()];
  if (low === null || high === null) return options.logScale ? [0.1, 10] : [0, 1];
  if (options.logScale) return low < high ? [low / 1.05, high * 1.05] : [low / 2, high * 2];
  return uPlot.rangeNum(low, high, 0.1, true);
}
