/**
 * The values of one tensor as a table of which only the part in view exists and is asked for. Where a tensor has more rows or columns than a browser can
 * scroll, the bar moves in another scale and wheel and keys move by single rows.
 * The rules to keep: one tab stop, walked with arrow keys; one request at a time, for what is seen when it is sent.
 */
import type { BlockWindow } from "../../src/protocol/coreProtocol.ts";
import { element, oncePerFrame, setText } from "../element.ts";
import { t } from "../strings.ts";
import { Axis, type GridPlace, moved } from "./axis.ts";
import { exactValue, parsePlace, shortValue, type TableWindow, type TensorView } from "./tensorView.ts";

const rowPixels = 22;
const columnPixels = 96;
/** Of the rows' names. */
const headPixels = 84;

/** Asks for values; resolves with them, or with the reason why there are none. */
export type ReadValues = (name: string, window: BlockWindow) => Promise<{ rows: number; columns: number; values: Float32Array } | { reason: string }>;

export class ValueTable {
  readonly root: HTMLElement;
  readonly #view: TensorView;
  readonly #read: ReadValues;
  readonly #status: HTMLElement;
  readonly #grid: HTMLElement;
  readonly #spacer: HTMLElement;
  readonly #layer: HTMLElement;
  readonly #rowAxis: Axis;
  readonly #columnAxis: Axis;
  readonly #rows: HTMLElement[] = [];
  readonly #draw = oncePerFrame(() => this.#redraw());
  #first: GridPlace = { row: 0, column: 0 };
  #active: GridPlace = { row: 0, column: 0 };
  #asking = false;
  #failed: string | null = null;

  constructor(view: TensorView, read: ReadValues) {
    this.#view = view;
    this.#read = read;
    this.#rowAxis = new Axis(view.rows, rowPixels);
    this.#columnAxis = new Axis(view.columns, columnPixels);
    this.#status = element("p", { class: "status", role: "status" });
    this.#layer = element("div", { class: "layer", role: "rowgroup" });
    this.#spacer = element("div", { class: "spacer", role: "presentation" }, this.#layer);
    this.#grid = element(
      "div",
      {
        class: "grid values",
        role: "grid",
        tabindex: 0,
        "aria-label": t("Values of {0}", view.name),
        "aria-rowcount": view.rows + 1,
        "aria-colcount": view.columns + 1,
      },
      this.#spacer,
    );
    this.#grid.addEventListener("scroll", () => this.#onScroll());
    this.#grid.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.#grid.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(this.#draw).observe(this.#grid);
    this.root = element("div", { class: "table" }, this.#createGoTo(), this.#grid, this.#status);
    this.#draw();
  }

  #createGoTo(): HTMLElement {
    const label = this.#view.wrapped ? t("Go to index") : t("Go to row, column");
    const input = element("input", { type: "text", placeholder: label, "aria-label": label, spellcheck: "false", class: "goto" });
    input.addEventListener("keydown", ({ key }) => {
      if (key !== "Enter") return;
      const place = parsePlace(input.value, this.#view);
      input.setAttribute("aria-invalid", String(place === null));
      if (place) this.#goTo(place);
      else setText(this.#status, t("The tensor has no such place."));
    });
    return input;
  }

  get #viewHeight(): number {
    return Math.max(rowPixels, this.#grid.clientHeight - rowPixels);
  }

  get #viewWidth(): number {
    return Math.max(columnPixels, this.#grid.clientWidth - headPixels);
  }

  #onScroll(): void {
    const { scrollTop, scrollLeft } = this.#grid;
    // Where the bar stands for what is shown already, the person has not moved it: a scaled bar cannot say single rows.
    const rowsMoved = Math.abs(scrollTop - this.#rowAxis.scrollOf(this.#first.row, this.#viewHeight)) > 1;
    const columnsMoved = Math.abs(scrollLeft - this.#columnAxis.scrollOf(this.#first.column, this.#viewWidth)) > 1;
    const row = rowsMoved ? this.#rowAxis.firstAt(scrollTop, this.#viewHeight) : this.#first.row;
    const column = columnsMoved ? this.#columnAxis.firstAt(scrollLeft, this.#viewWidth) : this.#first.column;
    if (row === this.#first.row && column === this.#first.column) return;
    this.#first = { row, column };
    this.#failed = null;
    this.#draw();
  }

  #onWheel(event: WheelEvent): void {
    if (!this.#rowAxis.scaled || event.ctrlKey || event.shiftKey || event.deltaY === 0) return;
    event.preventDefault();
    const rows = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / rowPixels : event.deltaY;
    this.#show({ ...this.#first, row: this.#first.row + (Math.trunc(rows) || Math.sign(rows)) });
  }

  #onKey(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.#viewHeight / rowPixels));
    const to = moved(this.#active, event.key, event.ctrlKey || event.metaKey, { rows: this.#view.rows, columns: this.#view.columns, page });
    if (!to) return;
    event.preventDefault();
    if (this.#view.has(to.row, to.column)) this.#goTo(to);
    else if (to.row !== this.#active.row) this.#goTo({ row: to.row, column: this.#lastColumn(to.row) });
  }

  #lastColumn(row: number): number {
    let column = this.#view.columns - 1;
    while (column > 0 && !this.#view.has(row, column)) column--;
    return column;
  }

  /** Makes a cell the active one and brings it into view. */
  #goTo(place: GridPlace): void {
    this.#active = place;
    this.#show({
      row: this.#rowAxis.revealing(place.row, this.#first.row, this.#viewHeight),
      column: this.#columnAxis.revealing(place.column, this.#first.column, this.#viewWidth),
    });
  }

  #show({ row, column }: GridPlace): void {
    const clamp = (value: number, last: number) => Math.max(0, Math.min(value, last));
    this.#first = { row: clamp(row, this.#rowAxis.lastFirst(this.#viewHeight)), column: clamp(column, this.#columnAxis.lastFirst(this.#viewWidth)) };
    this.#grid.scrollTop = this.#rowAxis.scrollOf(this.#first.row, this.#viewHeight);
    this.#grid.scrollLeft = this.#columnAxis.scrollOf(this.#first.column, this.#viewWidth);
    this.#failed = null;
    this.#draw();
  }

  #seen(): TableWindow {
    const { row, column } = this.#first;
    const rows = Math.min(this.#rowAxis.shown(this.#viewHeight) + 1, this.#view.rows - row);
    const columns = Math.min(this.#columnAxis.shown(this.#viewWidth) + 1, this.#view.columns - column);
    return { row, column, rows, columns };
  }

  #redraw(): void {
    if (!this.#grid.isConnected) return;
    this.#spacer.style.height = `${this.#rowAxis.pixels(this.#viewHeight) + rowPixels}px`;
    this.#spacer.style.width = `${this.#columnAxis.pixels(this.#viewWidth) + headPixels}px`;
    const seen = this.#seen();
    this.#layer.style.gridTemplateColumns = `${headPixels}px repeat(${seen.columns}, ${columnPixels}px)`;
    while (this.#rows.length < seen.rows + 1) this.#rows.push(this.#layer.appendChild(element("div", { class: "row", role: "row" })));
    for (const [i, row] of this.#rows.entries()) {
      row.hidden = i > seen.rows;
      if (i <= seen.rows) this.#fill(row, i - 1, seen);
    }
    this.#markActive(seen);
    this.#ask(seen);
  }

  /** Row −1 is the header. */
  #fill(row: HTMLElement, index: number, seen: TableWindow): void {
    while (row.children.length < seen.columns + 1) row.append(createCell(row.children.length === 0, index < 0));
    row.setAttribute("aria-rowindex", String(index < 0 ? 1 : seen.row + index + 2));
    const cells = row.children as HTMLCollectionOf<HTMLElement>;
    setText(cells[0], index < 0 ? (this.#view.wrapped ? t("Index") : t("Row")) : String(this.#view.rowName(seen.row + index)));
    for (let i = 1; i < cells.length; i++) {
      const cell = cells[i];
      cell.hidden = i > seen.columns;
      if (cell.hidden) continue;
      const column = seen.column + i - 1;
      cell.setAttribute("aria-colindex", String(column + 2));
      if (index < 0) setText(cell, this.#view.wrapped ? `+${column}` : String(column));
      else this.#fillValue(cell, seen.row + index, column);
    }
  }

  #fillValue(cell: HTMLElement, row: number, column: number): void {
    const value = this.#view.value(row, column);
    if (value === undefined) {
      setText(cell, this.#view.has(row, column) ? "…" : "");
      cell.removeAttribute("title");
    } else {
      setText(cell, shortValue(value));
      cell.title = exactValue(value);
    }
  }

  #markActive(seen: TableWindow): void {
    for (const cell of this.#layer.querySelectorAll(".active")) {
      cell.classList.remove("active");
      cell.removeAttribute("id");
    }
    const cell = this.#rows[this.#active.row - seen.row + 1]?.children[this.#active.column - seen.column + 1];
    const inView = this.#active.row >= seen.row && this.#active.column >= seen.column && cell instanceof HTMLElement && !cell.hidden;
    if (inView) {
      cell.classList.add("active");
      cell.id = "active-value";
      this.#grid.setAttribute("aria-activedescendant", cell.id);
    } else this.#grid.removeAttribute("aria-activedescendant");
    const value = this.#view.value(this.#active.row, this.#active.column);
    const place = this.#view.wrapped
      ? String(this.#view.rowName(this.#active.row) + this.#active.column)
      : `${this.#active.row}, ${this.#active.column}`;
    setText(this.#status, this.#failed ?? (value === undefined ? t("Reading values …") : t("[{0}] = {1}", place, exactValue(value))));
  }

  #ask(seen: TableWindow): void {
    const window = this.#asking || this.#failed !== null ? null : this.#view.missing(seen);
    if (!window) return;
    this.#asking = true;
    void this.#read(this.#view.name, window).then((answer) => {
      this.#asking = false;
      if ("reason" in answer) this.#failed = answer.reason;
      else this.#view.load(window, answer.rows, answer.columns, answer.values);
      this.#draw();
    });
  }
}

function createCell(head: boolean, header: boolean): HTMLElement {
  return element("div", { class: head ? "cell head" : "cell", role: head && !header ? "rowheader" : header ? "columnheader" : "gridcell" });
}
