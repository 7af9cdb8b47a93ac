/**
 * A chart of one number of every matrix: a row of bars a projection, a bar a layer, all on one scale. It draws values and lets a person walk over them;
 * what they mean its title says.
 * The rules to keep: one tab stop, walked with arrow keys; a bar that is not there yet, or was not measured, is drawn as that and never as zero.
 */
import type { PrunedMatrix } from "../../src/protocol/pruning.ts";
import { element, setText } from "../element.ts";
import { projectionText } from "../panel/shares.ts";
import { t } from "../strings.ts";
import { type MatrixGrid, walked } from "./store.ts";

export interface BarChart {
  /** `data-chart`, and part of the ids. */
  name: string;
  title: string;
  /** Said to who hears it. */
  label: string;
  /** The top of the scale; the bars' values are below. */
  most: number;
  mostText: string;
  /** Null: not measured. */
  value(matrix: PrunedMatrix): number | null;
  sentence(matrix: PrunedMatrix): string;
}

export class BarGrid {
  readonly root: HTMLElement;
  readonly #title = element("h2");
  readonly #scale = element("p", { class: "muted chart-scale" });
  readonly #grid = element("div", { class: "bar-grid", role: "grid", tabindex: 0 });
  readonly #tell: (sentence: string) => void;
  #bars: HTMLElement[][] = [];
  #shape = "";
  #active = { row: 0, column: 0 };

  /** `tell` gets the sentence of the bar that is walked to or pointed at. */
  constructor(tell: (sentence: string) => void) {
    this.#tell = tell;
    this.root = element("section", { class: "chart" }, this.#title, this.#scale, this.#grid);
    this.#grid.addEventListener("keydown", (event) => {
      const to = walked(this.#active, event.key, this.#bars.length, this.#bars[0]?.length ?? 0);
      if (!to || this.#bars.length === 0) return;
      event.preventDefault();
      this.#activate(to.row, to.column);
    });
    this.#grid.addEventListener("focus", () => this.#activate(this.#active.row, this.#active.column));
    this.#grid.addEventListener("pointerover", ({ target }) => {
      const bar = target instanceof HTMLElement ? target.closest<HTMLElement>("[role=gridcell]") : null;
      if (bar) this.#activate(Number(bar.dataset.row), Number(bar.dataset.column));
    });
  }

  update(chart: BarChart, grid: MatrixGrid): void {
    this.root.dataset.chart = chart.name;
    setText(this.#title, chart.title);
    setText(this.#scale, chart.mostText);
    this.#grid.setAttribute("aria-label", chart.label);
    const shape = JSON.stringify([chart.name, grid.projections, grid.layers]);
    if (shape !== this.#shape) this.#build(chart.name, grid);
    this.#shape = shape;
    for (const [row, cells] of grid.cells.entries())
      for (const [column, cell] of cells.entries()) this.#fill(chart, grid.projections[row], row, column, cell);
  }

  #fill({ value: valueIn, most, sentence }: BarChart, projection: string, row: number, column: number, cell: PrunedMatrix | null): void {
    const bar = this.#bars[row][column];
    const value = cell && valueIn(cell);
    const height = `${value === null || most <= 0 ? 0 : (100 * value) / most}%`;
    const state = cell === null ? "waiting" : value === null ? "missing" : "measured";
    // The scale grows with a new largest value.
    if (bar.dataset.state === state && bar.dataset.height === height) return;
    Object.assign(bar.dataset, { state, height, value: String(value) });
    (bar.firstElementChild as HTMLElement).style.height = height;
    bar.setAttribute("aria-label", cell ? sentence(cell) : t("Layer {0}, {1}: not done yet", column, projectionText(projection)));
  }

  #build(name: string, { projections, layers }: MatrixGrid): void {
    this.#bars = projections.map((_, row) =>
      Array.from({ length: layers }, (__, column) =>
        element(
          "div",
          { role: "gridcell", class: "bar", id: `${name}-${row}-${column}`, "data-row": row, "data-column": column },
          element("span", { class: "bar-fill" }),
        ),
      ),
    );
    const head = element("div", { class: "bar-row bar-layers", "aria-hidden": "true" }, element("span"), layerNumbers(layers));
    const rows = projections.map((projection, row) =>
      element(
        "div",
        { role: "row", class: "bar-row", "data-projection": projection },
        element("span", { role: "rowheader" }, projectionText(projection)),
        element("div", { class: "bars", role: "presentation" }, ...this.#bars[row]),
      ),
    );
    this.#grid.replaceChildren(...rows, head);
    this.#grid.setAttribute("aria-rowcount", String(projections.length));
    this.#grid.setAttribute("aria-colcount", String(layers));
    this.#active = { row: 0, column: 0 };
  }

  #activate(row: number, column: number): void {
    const bar = this.#bars[row]?.[column];
    if (!bar) return;
    this.#bars[this.#active.row]?.[this.#active.column]?.classList.remove("active");
    this.#active = { row, column };
    bar.classList.add("active");
    this.#grid.setAttribute("aria-activedescendant", bar.id);
    this.#tell(bar.getAttribute("aria-label") ?? "");
  }
}

/** Every so many a number, so that they never touch. */
function layerNumbers(layers: number): HTMLElement {
  const every = layers <= 16 ? 1 : layers <= 40 ? 4 : 10;
  const numbers = Array.from({ length: layers }, (_, layer) => element("span", {}, layer % every === 0 ? String(layer) : ""));
  return element("div", { class: "bars" }, ...numbers);
}
