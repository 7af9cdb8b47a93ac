/**
 * Device memory over the steps: the ledger's peak by class as stacked areas, the plan's peak and full fine-tuning's as lines, and a table with the figures.
 * On the processor the process's memory and the machine's stand beside it under their own names, on a graphics card that card's: what a system or a driver
 * counts is not what the ledger counts.
 * The rule to keep: a byte shown here is the event's or the plan's own; nothing is estimated here.
 */
import { computesOnCard } from "../../src/protocol/memory.ts";
import { createButton, createCheckbox } from "../controls.ts";
import { element, oncePerFrame } from "../element.ts";
import { t } from "../strings.ts";
import { onThemeChange, readTheme, type Theme } from "../theme.ts";
import { byteTicks } from "./axisTicks.ts";
import { formatBytes } from "./byteUnits.ts";
import { cardFigures, cardSentence, nearTo, sourceName, withCardLines } from "./cardFigures.ts";
import { exportPng } from "./chartExport.ts";
import { ChartFigure, type NamedLine } from "./chartFigure.ts";
import { bytesAt, scaleTopBytes, stackMemory, stackOrder, unstacked } from "./memoryStack.ts";
import { type MemoryColumn, type MemoryFigure, memoryTable } from "./memoryTable.ts";
import { cardColor, fullFineTuningColor, memoryClassColor, memoryClassName } from "./memoryWords.ts";
import { StepView, stepButtons } from "./stepView.ts";
import type { PanelState, Store } from "./store.ts";
import "./memoryChart.css";

/** Builds the chart and its table and keeps them current. */
export function mountMemoryChart(container: HTMLElement, store: Store): void {
  const chart = new MemoryChart(store);
  container.append(chart.element);
  chart.start();
}

class MemoryChart {
  readonly element = element("section", { class: "charts memory" });
  readonly #store: Store;
  readonly #schedule = oncePerFrame(() => this.#draw());
  readonly #view = new StepView(this.#schedule);
  readonly #figure: ChartFigure;
  readonly #empty = element("p", { class: "empty" });
  readonly #toolbar: HTMLElement;
  readonly #card = element("p", { class: "memory-card" });
  readonly #cardScale: HTMLElement;
  readonly #table = element("div", { class: "memory-figures" });
  #theme: Theme = readTheme();
  #withFull = false;
  #withCard = false;
  /** Whose figures the card's lines are named after. */
  #source = "";
  #topBytes = 1;
  #written = "";

  constructor(store: Store) {
    this.#store = store;
    this.#figure = new ChartFigure(
      {
        title: t("Peak by class"),
        height: 240,
        format: formatBytes,
        lines: (theme) => memoryLines(theme, this.#source),
        holds: true,
        readings: (values) => [...unstacked(values.slice(0, stackOrder.length)), ...values.slice(stackOrder.length)],
        top: () => this.#topBytes,
        ticks: (top) => byteTicks(top, 6),
      },
      { name: "memory", view: this.#view },
    );
    this.#figure.element.dataset.chart = "memory";
    this.#cardScale = createCheckbox(t("Scale up to the graphics card"), (checked) => {
      this.#withCard = checked;
      this.#schedule();
    });
    this.#toolbar = this.#makeToolbar();
    const body = element("div", { class: "memory-body" }, this.#figure.element, this.#table);
    this.element.append(element("h2", {}, t("Device memory")), this.#toolbar, this.#empty, this.#card, body);
  }

  start(): void {
    this.#store.subscribe((_, changed) => {
      if (changed !== "frame" && changed !== "cell" && changed !== "form") this.#schedule();
    });
    onThemeChange((theme) => {
      this.#theme = theme;
      this.#schedule();
    });
    new ResizeObserver(() => this.#schedule()).observe(this.element);
    this.#schedule();
  }

  #makeToolbar(): HTMLElement {
    const full = createCheckbox(t("Scale up to full fine-tuning"), (checked) => {
      this.#withFull = checked;
      this.#schedule();
    });
    const png = createButton(t("PNG"), "secondary", () => this.#exportPng(), t("Save the picture as PNG"));
    return element("div", { class: "chart-toolbar" }, full, this.#cardScale, stepButtons(this.#view), png);
  }

  #draw(): void {
    const { state } = this.#store;
    const { memory } = state;
    const plan = state.plan.kind === "plan" ? state.plan.plan : null;
    this.#empty.textContent = plan ? t("No memory was measured yet; the table shows what is planned.") : t("No memory was measured yet.");
    this.#empty.hidden = memory.length > 0;
    this.#figure.element.hidden = memory.length === 0;
    this.#toolbar.hidden = memory.length === 0;
    this.#writeTable(state, memory.length > 0 || plan !== null || (state.card?.reading ?? null) !== null);
    this.#writeCard(state);
    if (memory.length === 0) return;

    const own = stackMemory(memory, Math.max(state.run?.step ?? 0, state.steps.at("step", -1) ?? 0));
    const { stack, lines: card } = withCardLines(own, state.cards, state.card?.reading ?? null);
    this.#view.setSteps(stack.steps[0], stack.steps[stack.length - 1]);
    const process = inMachine(state) ? stack.process : null;
    const full = plan?.fullFineTuning.peakBytes ?? null;
    const wanted = [plan?.peakBytes ?? 0, this.#withFull ? (full ?? 0) : 0];
    const ofCard = this.#withCard ? [card.used, card.total] : [nearTo(card.used, Math.max(stack.peak[stack.length - 1], ...wanted))];
    this.#topBytes = scaleTopBytes(stack.peak, process ?? [], wanted, card.own, ...ofCard);
    const level = (bytes: number | null | undefined) => new Float64Array(stack.length).fill(bytes ?? Number.NaN);
    const lines = [
      ...stack.edges.toReversed(),
      stack.peak,
      level(plan?.peakBytes),
      level(full),
      process ?? level(null),
      card.used,
      card.own,
      card.total,
    ];
    this.#figure.draw({ steps: stack.steps, length: stack.length, lines }, this.#theme, false);
  }

  #writeCard(state: PanelState): void {
    const sentence = cardSentence(state);
    if (this.#card.textContent !== sentence) this.#card.textContent = sentence;
    this.#card.hidden = sentence === "";
    const source = (state.card?.reading ?? state.cards.at(-1))?.source;
    this.#cardScale.hidden = source === undefined;
    const name = source ? sourceName(source) : "";
    if (name === this.#source) return;
    this.#source = name;
    // Its lines are named anew.
    this.#figure.clear();
  }

  /** Only what changed is written anew, so that a selection of text in it lives. */
  #writeTable(state: PanelState, any: boolean): void {
    const columns = tableColumns(state);
    const figures = [...systemFigures(state), ...cardFigures(state)];
    const written = JSON.stringify([any, columns, figures, this.#theme.series]);
    if (written === this.#written) return;
    this.#written = written;
    const caption = t("Bytes held when the ledger was at its peak");
    this.#table.replaceChildren(...(any ? [memoryTable(caption, columns, figures, this.#theme)] : []));
  }

  #exportPng(): void {
    exportPng(this.#store.state.run?.name ?? "", "memory", this.#figure.exported(this.#theme), this.#theme);
  }
}

/** From the top of the stack down: each area covers all below its edge, the next one what is not its own. */
function memoryLines(theme: Theme, source: string): NamedLine[] {
  const { foreground } = theme;
  // What the driver told is known only where somebody looked.
  const ofCard = { color: cardColor(theme), stepped: true, momentary: true };
  const areas = stackOrder.toReversed().map((memoryClass): NamedLine => {
    const color = memoryClassColor(memoryClass, theme);
    return { name: memoryClassName(memoryClass), color, width: 1, fill: color, stepped: true };
  });
  return [
    ...areas,
    { name: t("measured peak"), color: foreground, width: 2, stepped: true },
    { name: t("planned peak"), color: foreground, width: 2, dash: [6, 4] },
    { name: t("full fine-tuning, planned peak"), color: fullFineTuningColor(theme), width: 2, dash: [2, 3] },
    { name: t("process memory (RSS)"), color: foreground, width: 1, dash: [1, 3], stepped: true },
    { name: t("card, all processes ({0})", source), width: 2, dash: [8, 3, 2, 3], ...ofCard },
    { name: t("card, this run ({0})", source), width: 2, dash: [3, 3], ...ofCard },
    { name: t("card, total ({0})", source), width: 1, ...ofCard },
  ];
}

function tableColumns(state: PanelState): MemoryColumn[] {
  const { memory } = state;
  const plan = state.plan.kind === "plan" ? state.plan.plan : null;
  const step = memory.at("step", -1);
  return [
    {
      origin: "measured",
      heading: step === undefined ? t("measured") : t("measured until step {0}", step),
      bytesByClass: bytesAt(memory, -1),
      peakBytes: memory.at("peakBytes", -1) ?? null,
    },
    { origin: "plan", heading: planHeading(state), bytesByClass: plan?.bytesByClass ?? null, peakBytes: plan?.peakBytes ?? null },
    {
      origin: "fullFineTuning",
      heading: t("full fine-tuning, planned"),
      bytesByClass: plan?.fullFineTuning.bytesByClass ?? null,
      peakBytes: plan?.fullFineTuning.peakBytes ?? null,
    },
  ];
}

function planHeading({ plan }: PanelState): string {
  return plan.kind === "plan" && !plan.plan.exact ? t("planned, worst case") : t("planned");
}

/** On the processor, device memory is a part of the process's, and the process's a part of the machine's. */
function systemFigures(state: PanelState): MemoryFigure[] {
  if (!inMachine(state)) return [];
  const processBytes = state.memory.at("processBytes", -1);
  const machineBytes = state.run?.machineBytes ?? 0;
  return [
    ...(processBytes === undefined ? [] : [{ name: "process", label: t("process memory (RSS)"), bytes: processBytes }]),
    ...(machineBytes > 0 ? [{ name: "machine", label: t("machine RAM"), bytes: machineBytes }] : []),
  ];
}

function inMachine({ started, plan }: PanelState): boolean {
  const device = started?.device ?? (plan.kind === "plan" ? plan.plan.device : "");
  return device !== "" && !computesOnCard(device);
}
