/**
 * One plot on the page: its title, a legend that also tells the values at the cursor, the plot, and the same in words for who does not see it.
 * It knows no run: what is drawn is told by a `Chart`.
 */
import { element } from "../element.ts";
import { t } from "../strings.ts";
import type { Theme } from "../theme.ts";
import type { ExportedPlot } from "./chartExport.ts";
import { lowerBound } from "./downSample.ts";
import { LinePlot, type PlotLine, type PlotOptions } from "./linePlot.ts";
import { type PlotData, type PlotSource, plotData, valuesAt } from "./plotData.ts";
import type { StepView } from "./stepView.ts";

/** A point is told when the cursor is so near. */
const pointReachPixels = 6;

/** A line and what it is called. */
export interface NamedLine extends PlotLine {
  name: string;
  /** What it was earlier says nothing of now: its newest value is told only if it is of the newest step. */
  momentary?: boolean;
}

/** What a figure draws. */
export interface Chart {
  title: string;
  height: number;
  lines: (theme: Theme) => NamedLine[];
  format: (value: number) => string;
  /** Figures of the y axis, where they are shorter. */
  formatTick?: (value: number) => string;
  /** Values hold until the next one. */
  holds?: boolean;
  /** What the legend tells of a row of the lines' values, where that is something else. */
  readings?: (values: readonly (number | null)[]) => (number | null)[];
  top?: () => number;
  ticks?: (top: number) => number[];
}

/** Charts that drag, zoom and point together. */
export interface ChartGroup {
  name: string;
  view: StepView;
}

export class ChartFigure {
  readonly element = element("figure", { class: "chart" });
  readonly chart: Chart;
  readonly #group: ChartGroup;
  readonly #legend = element("div", { class: "chart-legend" });
  readonly #place = element("div", { class: "chart-plot", role: "img" });
  readonly #step = element("span", { class: "chart-step" });
  #names: string[] = [];
  #momentary: boolean[] = [];
  #readings: HTMLElement[] = [];
  #plot: LinePlot | null = null;
  #made = "";
  #data: PlotData = [[]];
  #source: PlotSource | null = null;
  /** Step under the cursor; null shows the newest. */
  #cursor: number | null = null;

  constructor(chart: Chart, group: ChartGroup) {
    this.chart = chart;
    this.#group = group;
    const title = element("span", { class: "chart-title" }, chart.title);
    this.element.append(element("figcaption", {}, title, this.#legend), this.#place);
  }

  /** What is on the screen, to be saved; nothing while nothing is. */
  exported(theme: Theme): ExportedPlot[] {
    const canvas = this.#plot?.canvas;
    if (!canvas || this.element.hidden) return [];
    const newest = this.#newest();
    const legend = this.chart.lines(theme).filter(({ name }, i) => name !== "" && newest[i] !== null);
    return [{ title: this.chart.title, legend, canvas }];
  }

  /** Draws the source; makes the plot anew when theme or scale are others. Nothing where there is no room, as in a hidden panel. */
  draw(source: PlotSource, theme: Theme, logScale: boolean): void {
    const width = this.#place.clientWidth;
    if (width < 50) return;
    const wanted = JSON.stringify([theme, logScale]);
    if (!this.#plot || wanted !== this.#made) this.#make(theme, logScale, width);
    this.#made = wanted;
    const plot = this.#plot as LinePlot;
    plot.resize(width);
    this.#source = source;
    this.#data = plotData(source, this.#group.view.shown, plot.pixels, logScale);
    plot.draw(this.#data, this.#group.view.shown);
    this.#read();
    this.#describe();
  }

  /** Ends the plot; the figure can be drawn again. */
  clear(): void {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #make(theme: Theme, logScale: boolean, width: number): void {
    this.clear();
    const lines = this.chart.lines(theme);
    this.#writeLegend(lines);
    const { view, name } = this.#group;
    const options: PlotOptions = {
      theme,
      lines,
      height: this.chart.height,
      logScale,
      group: name,
      formatTick: this.chart.formatTick ?? this.chart.format,
      top: this.chart.top,
      ticks: this.chart.ticks,
      onRange: (range) => view.show(range),
      onPan: (share) => view.pan(share),
      onZoom: (factor, center) => view.zoom(factor, center),
      onReset: () => view.reset(),
      onCursor: (step) => {
        this.#cursor = step;
        this.#read();
      },
    };
    this.#plot = new LinePlot(this.#place, width, options);
  }

  #writeLegend(lines: readonly NamedLine[]): void {
    this.#names = lines.map(({ name }) => name);
    this.#momentary = lines.map(({ momentary = false }) => momentary);
    this.#readings = lines.map(() => element("span", { class: "chart-reading" }));
    const entries = lines.map((line, i) => {
      const sign = element("span", { class: line.points ? "chart-sign chart-sign-points" : line.fill ? "chart-sign chart-sign-area" : "chart-sign" });
      sign.style.borderColor = line.color;
      if (line.dash) sign.style.borderStyle = "dashed";
      if (line.fill) sign.style.backgroundColor = line.fill;
      return element("span", { class: "chart-legend-entry" }, sign, line.name, this.#readings[i]);
    });
    this.#legend.replaceChildren(this.#step, ...entries);
  }

  /** Values at the cursor, else the newest of each line that is shown. */
  #read(): void {
    const pointed = this.#pointedAt();
    const step = pointed ? pointed.step : this.#shownSteps().at(-1);
    this.#step.textContent = step === undefined ? "" : t("step {0}", step);
    const values = this.#told(pointed ? pointed.values : this.#current());
    const newest = this.#newest();
    for (const [i, reading] of this.#readings.entries()) {
      const value = values[i] ?? null;
      reading.textContent = value === null ? "" : this.chart.format(value);
      if (reading.parentElement) reading.parentElement.hidden = newest[i] === null;
    }
  }

  #pointedAt(): { step: number; values: (number | null)[] } | null {
    if (this.#cursor === null || !this.#source || !this.#plot) return null;
    const { from, to } = this.#group.view.shown;
    return valuesAt(this.#source, this.#cursor, this.chart.holds ?? false, ((to - from) / this.#plot.pixels) * pointReachPixels);
  }

  /** Without the neighbours beyond the edges, which lines are drawn to. */
  #shownSteps(): number[] {
    const { to } = this.#group.view.shown;
    const steps = this.#data[0];
    return steps.length > 0 && steps[steps.length - 1] > to ? steps.slice(0, lowerBound(steps, steps.length, to)) : steps;
  }

  #newest(): (number | null)[] {
    const end = this.#shownSteps().length;
    return this.#names.map((_, i) => {
      const values = this.#data[i + 1];
      for (let row = end - 1; values && row >= 0; row--) {
        const value = values[row];
        if (typeof value === "number") return value;
      }
      return null;
    });
  }

  /** What holds at the newest step that is shown. */
  #current(): (number | null)[] {
    const last = this.#shownSteps().length - 1;
    return this.#newest().map((value, i) => (this.#momentary[i] && typeof this.#data[i + 1]?.[last] !== "number" ? null : value));
  }

  #told(values: (number | null)[]): (number | null)[] {
    return this.chart.readings?.(values) ?? values;
  }

  #describe(): void {
    const { from, to } = this.#group.view.shown;
    const newest = this.#told(this.#current());
    const values = this.#names.flatMap((name, i) => (newest[i] === null ? [] : [`${name} ${this.chart.format(newest[i] ?? 0)}`.trim()]));
    const steps = t("steps {0} to {1}", Math.round(from), Math.round(to));
    this.#place.setAttribute("aria-label", `${this.chart.title}, ${steps}: ${values.join(", ")}`);
  }
}
