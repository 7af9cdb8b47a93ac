/**
 * The charts of what a run measures at each step: loss (raw, smoothed, held-out) and, under it, learning rate, gradient norm and tokens per second.
 * They show the same steps, follow the live end until somebody zooms, and share the cursor. It draws what was measured; the smoothed line says that it is one.
 * The rule to keep: thinning and smoothing are for the eye; exports hold every value as it was measured.
 */
import "./charts.css";
import { createButton, createCheckbox, createDropdown, createSlider } from "../controls.ts";
import { element, oncePerFrame } from "../element.ts";
import { t } from "../strings.ts";
import { onThemeChange, readTheme, type Theme } from "../theme.ts";
import { formatCount, formatTick, formatValue } from "./byteUnits.ts";
import { exportCsv, exportPng } from "./chartExport.ts";
import { ChartFigure, type ChartGroup } from "./chartFigure.ts";
import type { PlotPoints } from "./plotData.ts";
import { scalarCsv } from "./scalarCsv.ts";
import { MovingAverage } from "./smoothing.ts";
import { StepView, stepButtons } from "./stepView.ts";
import type { PanelState, Store } from "./store.ts";

/** Weights of the past; 0 is no smoothing. */
const smoothingSteps = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];
const firstSmoothing = 3;

const small = ["learningRate", "gradNorm", "tokensPerSecond"] as const;
type ChartName = "loss" | (typeof small)[number];

/** Builds the charts and keeps them current. */
export function mountLossChart(container: HTMLElement, store: Store): void {
  const charts = new LossCharts(store);
  container.append(charts.element);
  charts.start();
}

class LossCharts {
  readonly element = element("section", { class: "charts" });
  readonly #store: Store;
  readonly #schedule = oncePerFrame(() => this.#draw());
  readonly #view = new StepView(this.#schedule);
  readonly #figures: Record<ChartName, ChartFigure>;
  readonly #average = new MovingAverage(smoothingSteps[firstSmoothing]);
  readonly #empty = element("p", { class: "empty" });
  readonly #toolbar: HTMLElement;
  readonly #plots = element("div", { class: "chart-grid" });
  readonly #status = element("p", { class: "chart-status", role: "status" });
  #theme: Theme = readTheme();
  #shown: ChartName | "all" = "all";
  #logScale = false;

  constructor(store: Store) {
    this.#store = store;
    this.#figures = figures({ name: "steps", view: this.#view });
    for (const [name, figure] of Object.entries(this.#figures)) {
      figure.element.dataset.chart = name;
      this.#plots.append(figure.element);
    }
    this.#toolbar = this.#makeToolbar();
    this.element.append(element("h2", {}, t("Loss and speed")), this.#toolbar, this.#status, this.#empty, this.#plots);
  }

  start(): void {
    this.#store.subscribe((_, changed) => {
      if (changed === "events" || changed === "hydrate" || changed === "run") this.#schedule();
    });
    onThemeChange((theme) => {
      this.#theme = theme;
      this.#schedule();
    });
    new ResizeObserver(() => this.#schedule()).observe(this.element);
    this.#schedule();
  }

  #makeToolbar(): HTMLElement {
    const titles = Object.entries(this.#figures).map(([value, { chart }]) => ({ value, text: chart.title }));
    const which = createDropdown(t("Charts to show"), [{ value: "all", text: t("All charts") }, ...titles], (value) => {
      this.#shown = value as ChartName | "all";
      this.#schedule();
    });
    const logScale = createCheckbox(t("Logarithmic"), (checked) => {
      this.#logScale = checked;
      this.#schedule();
    });
    logScale.title = t("Loss and gradient norm on a logarithmic scale");
    const csv = createButton(t("CSV"), "secondary", () => this.#exportCsv(), t("Save all values as CSV"));
    const png = createButton(t("PNG"), "secondary", () => this.#exportPng(), t("Save the picture as PNG"));
    return element("div", { class: "chart-toolbar" }, which, logScale, this.#smoothing(), stepButtons(this.#view), csv, png);
  }

  #smoothing(): HTMLElement {
    const value = element("output");
    const slider = createSlider(t("Smoothing"), smoothingSteps.length - 1);
    slider.value = String(firstSmoothing);
    const show = () => {
      const weight = smoothingSteps[Number(slider.value)];
      value.textContent = weight === 0 ? t("off") : String(weight);
      slider.setAttribute("aria-valuetext", value.textContent);
      return weight;
    };
    slider.addEventListener("input", () => {
      this.#average.setWeight(show());
      this.#schedule();
    });
    show();
    return element("label", { class: "chart-smoothing" }, t("Smoothing"), slider, value);
  }

  #draw(): void {
    const { state } = this.#store;
    const held = evaluations(state);
    const count = state.steps.length;
    this.#empty.textContent = emptyText(state);
    this.#empty.hidden = count + held.length > 0;
    this.#plots.hidden = this.#toolbar.hidden = count + held.length === 0;
    if (this.#plots.hidden) return;
    const steps = state.steps.column("step");
    this.#view.setSteps(Math.min(steps[0] ?? Infinity, held.steps[0] ?? Infinity), Math.max(steps[count - 1] ?? 0, held.steps[held.length - 1] ?? 0));
    this.element.dataset.following = String(this.#view.following);
    for (const name of ["loss", ...small] as const) {
      const figure = this.#figures[name];
      figure.element.hidden = this.#shown !== "all" && this.#shown !== name;
      if (figure.element.hidden) continue;
      const values = state.steps.column(name);
      const logScale = this.#logScale && (name === "loss" || name === "gradNorm");
      if (name !== "loss") figure.draw({ steps, length: count, lines: [values] }, this.#theme, logScale);
      else {
        const smoothed = this.#average.weight === 0 ? noValues : this.#average.follow(steps, values, count);
        figure.draw({ steps, length: count, lines: [values, smoothed], points: held }, this.#theme, logScale);
      }
    }
  }

  #exportCsv(): void {
    const { state } = this.#store;
    const saved = exportCsv(state.run?.name ?? "", "scalars", scalarCsv(state.steps, evaluations(state)));
    this.#status.textContent = saved ? "" : t("The table is too long to be saved from here. The run folder's events.jsonl holds every value.");
  }

  #exportPng(): void {
    const plots = Object.values(this.#figures).flatMap((figure) => figure.exported(this.#theme));
    exportPng(this.#store.state.run?.name ?? "", "charts", plots, this.#theme);
  }
}

/** A line without a value anywhere. */
const noValues: ArrayLike<number> = [];

function evaluations({ evaluations: held }: PanelState): PlotPoints {
  return { steps: held.column("step"), values: held.column("loss"), length: held.length };
}

function emptyText({ run }: PanelState): string {
  if (run?.warmup) return t("The warm-up is scoring the blocks. The first loss of training comes after it.");
  if (run?.state === "draft" || !run) return t("The charts fill when the run is started.");
  return t("No training step has ended yet.");
}

function figures(group: ChartGroup): Record<ChartName, ChartFigure> {
  const height = 120;
  const single = (title: string, format: (value: number) => string, tick: (value: number) => string) =>
    new ChartFigure({ title, height, format, formatTick: tick, lines: ({ series }) => [{ name: "", color: series[0] }] }, group);
  const loss = new ChartFigure(
    {
      title: t("Loss"),
      height: 240,
      format: formatValue,
      formatTick,
      lines: ({ series }) => [
        { name: t("each step"), color: series[0], width: 1 },
        { name: t("smoothed"), color: series[1], width: 2.5 },
        { name: t("held-out"), color: series[2], points: true },
      ],
    },
    group,
  );
  return {
    loss,
    learningRate: single(t("Learning rate"), formatValue, formatTick),
    gradNorm: single(t("Gradient norm"), formatValue, formatTick),
    tokensPerSecond: single(t("Tokens per second"), formatCount, formatCount),
  };
}
