/**
 * Loss curves of several runs over each other, each at its own steps: a plot, a legend that tells the values at the cursor, and the same in words. It knows
 * curves and names, no run.
 * The rule to keep: lines are told apart by dashes too, not by colour alone; smoothing is for the eye and is said.
 */
import "../panel/charts.css";
import type { Curve } from "../../src/protocol/compareProtocol.ts";
import { createCheckbox, createDropdown } from "../controls.ts";
import { element, svgElement } from "../element.ts";
import { formatTick, formatValue } from "../panel/byteUnits.ts";
import { LinePlot } from "../panel/linePlot.ts";
import { StepView, stepButtons } from "../panel/stepView.ts";
import { t } from "../strings.ts";
import { readTheme, type Theme } from "../theme.ts";
import { curveData, smoothed, stepsOf, valueNear } from "./store.ts";

export interface NamedCurves {
  name: string;
  training: Curve;
  heldOut: Curve;
}

const dashes: number[][] = [[], [8, 4], [2, 3], [8, 3, 2, 3], [14, 4], [4, 4], [1, 4], [10, 3, 2, 3, 2, 3]];
const plotHeight = 300;
const smoothWeight = 0.9;

export class CurveChart {
  readonly element = element("section", { class: "curves" });
  readonly #view = new StepView(() => this.#draw());
  readonly #legend = element("div", { class: "chart-legend" });
  readonly #place = element("div", { class: "chart-plot", role: "img" });
  readonly #empty = element("p", { class: "empty" });
  #readings: HTMLElement[] = [];
  #plot: LinePlot | null = null;
  #made = "";
  #runs: readonly NamedCurves[] = [];
  #theme: Theme = readTheme();
  #which: "training" | "heldOut" = "training";
  #smooth = true;
  #logScale = false;
  #cursor: number | null = null;

  constructor() {
    const choices = [
      { value: "training", text: t("Training loss") },
      { value: "heldOut", text: t("Held-out loss") },
    ];
    const which = createDropdown(t("Curves to show"), choices, (value) => {
      this.#which = value === "heldOut" ? "heldOut" : "training";
      this.#draw();
    });
    const smooth = createCheckbox(t("Smoothed"), (checked) => {
      this.#smooth = checked;
      this.#draw();
    });
    smooth.checked = true;
    const logScale = createCheckbox(t("Logarithmic"), (checked) => {
      this.#logScale = checked;
      this.#draw();
    });
    const toolbar = element("div", { class: "chart-toolbar" }, which, smooth, logScale, stepButtons(this.#view));
    this.element.append(element("h2", {}, t("Loss curves")), toolbar, this.#legend, this.#empty, this.#place);
    new ResizeObserver(() => this.#draw()).observe(this.#place);
  }

  show(runs: readonly NamedCurves[], theme: Theme): void {
    this.#runs = runs;
    this.#theme = theme;
    this.#draw();
  }

  get #curves(): Curve[] {
    const weight = this.#smooth && this.#which === "training" ? smoothWeight : 0;
    return this.#runs.map((run) => smoothed(run[this.#which], weight));
  }

  #draw(): void {
    const curves = this.#curves;
    const { first, last } = stepsOf(curves);
    const any = curves.some(({ steps }) => steps.length > 0);
    this.#empty.hidden = any;
    this.#place.hidden = this.#legend.hidden = !any;
    this.#empty.textContent =
      this.#which === "heldOut" ? t("None of these runs has evaluated held-out rows.") : t("None of these runs has ended a step.");
    const width = this.#place.clientWidth;
    if (!any || width < 50) return;
    this.#view.setSteps(first, last);
    this.#make(width);
    const plot = this.#plot as LinePlot;
    plot.resize(width);
    plot.draw(curveData(curves, this.#view.shown, plot.pixels, this.#logScale), this.#view.shown);
    this.#read();
  }

  /** Anew when the theme, the scale or the lines are others. */
  #make(width: number): void {
    const wanted = JSON.stringify([this.#theme, this.#logScale, this.#which, this.#runs.map(({ name }) => name)]);
    if (this.#plot && wanted === this.#made) return;
    this.#made = wanted;
    this.#plot?.destroy();
    const lines = this.#runs.map((_, i) => ({
      color: this.#colorOf(i),
      width: this.#which === "heldOut" ? 2 : 1.5,
      dash: dashes[i % dashes.length],
    }));
    this.#plot = new LinePlot(this.#place, width, {
      theme: this.#theme,
      lines,
      height: plotHeight,
      logScale: this.#logScale,
      group: "compare",
      formatTick,
      onRange: (range) => this.#view.show(range),
      onPan: (share) => this.#view.pan(share),
      onZoom: (factor, center) => this.#view.zoom(factor, center),
      onReset: () => this.#view.reset(),
      onCursor: (step) => {
        this.#cursor = step;
        this.#read();
      },
    });
    this.#writeLegend();
  }

  #colorOf(index: number): string {
    return this.#theme.series[index % this.#theme.series.length];
  }

  #writeLegend(): void {
    this.#readings = this.#runs.map(() => element("span", { class: "chart-reading" }));
    const entries = this.#runs.map(({ name }, i) => {
      const line = {
        x1: 0,
        y1: 2,
        x2: 28,
        y2: 2,
        stroke: this.#colorOf(i),
        "stroke-width": 2,
        "stroke-dasharray": dashes[i % dashes.length].join(" "),
      };
      const sign = svgElement("svg", { class: "chart-sign", viewBox: "0 0 28 4", "aria-hidden": "true" }, svgElement("line", line));
      return element("span", { class: "chart-legend-entry" }, sign, name, this.#readings[i]);
    });
    this.#legend.replaceChildren(...entries);
  }

  /** Values at the cursor, else each one's last. */
  #read(): void {
    const told = this.#curves.map((curve) => {
      const value = this.#cursor === null ? (curve.values.at(-1) ?? null) : valueNear(curve, this.#cursor);
      return value === null || !Number.isFinite(value) ? "" : formatValue(value);
    });
    for (const [i, reading] of this.#readings.entries()) reading.textContent = told[i] ?? "";
    const words = this.#runs.map(({ name }, i) => `${name} ${told[i]}`.trim()).join(", ");
    this.#place.setAttribute("aria-label", `${this.#which === "heldOut" ? t("Held-out loss") : t("Training loss")}: ${words}`);
  }
}
