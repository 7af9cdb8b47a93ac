/**
 * The heatmap as a table: every block a row, the chosen ones first or sorted by any column. Only the rows in view exist as elements.
 * One tab stop for the rows, walked with arrow keys; the column heads are buttons. The rule to keep: 400,000 rows cost what thirty do.
 */
import { element, oncePerFrame, setText } from "../../element.ts";
import { t } from "../../strings.ts";
import type { HeatmapControl } from "./control.ts";
import { type CellPlace, placeOfCell } from "./grids.ts";
import { numberText } from "./numberText.ts";
import { orderedCells, type SortKey } from "./ranking.ts";
import { modeText, rankText } from "./texts.ts";
import { type ValueMode, valueAt } from "./values.ts";
import "./table.css";

const rowPixels = 24;
/** While values stream in, the order is made anew this seldom, so that rows can be read. */
const resortMs = 1000;
const spareRows = 6;

interface Column {
  key: SortKey;
  title: string;
  /** Columns without it cannot be sorted by. */
  sortable: boolean;
  text: (place: CellPlace, cell: number) => string;
}

export interface BlockTable {
  /** Brings it up to date; costs nothing while it is hidden. */
  update(): void;
  setVisible(visible: boolean): void;
}

export function mountTable(container: HTMLElement, control: HeatmapControl, inspect: (place: CellPlace) => void): BlockTable {
  const columns = columnsOf(control);
  let sort: { key: SortKey; descending: boolean } = { key: "rank", descending: false };
  let order: Uint32Array = new Uint32Array();
  let ordered: { model: unknown; atMs: number } = { model: null, atMs: Number.NEGATIVE_INFINITY };
  let active = 0;
  let visible = false;
  let resort: ReturnType<typeof setTimeout> | undefined;

  const heads = columns.map((column) => headOf(column, () => sortBy(column.key)));
  const rows: HTMLElement[] = [];
  const body = element("div", { role: "rowgroup", class: "table-body" });
  const grid = element(
    "div",
    { role: "grid", class: "block-table", tabindex: 0, "aria-label": t("Blocks as a table"), "aria-colcount": columns.length },
    element("div", { role: "rowgroup", class: "table-head" }, element("div", { role: "row", "aria-rowindex": 1 }, ...heads)),
    body,
  );
  container.append(grid);

  const draw = () => {
    const first = Math.max(0, Math.floor(grid.scrollTop / rowPixels) - spareRows);
    const last = Math.min(order.length, Math.ceil((grid.scrollTop + grid.clientHeight) / rowPixels) + spareRows);
    while (rows.length < last - first) rows.push(body.appendChild(rowOf(columns.length)));
    body.style.height = `${order.length * rowPixels}px`;
    grid.setAttribute("aria-rowcount", String(order.length + 1));
    for (const [index, row] of rows.entries()) {
      row.hidden = first + index >= last;
      if (!row.hidden) fill(row, first + index);
    }
    // Rows are reused, so the one that is active has another element after scrolling; out of view it has none.
    const inView = active >= first && active < last;
    if (inView) grid.setAttribute("aria-activedescendant", `block-row-${active - first}`);
    else grid.removeAttribute("aria-activedescendant");
  };
  const drawSoon = oncePerFrame(draw);

  const fill = (row: HTMLElement, index: number) => {
    const cell = order[index];
    const place = placeOfCell(control.model.matrices, cell);
    row.style.transform = `translateY(${index * rowPixels}px)`;
    row.id = `block-row-${rows.indexOf(row)}`;
    row.dataset.index = String(index);
    row.setAttribute("aria-rowindex", String(index + 2));
    row.setAttribute("aria-selected", String(index === active));
    for (const [column, { text }] of columns.entries()) setText(row.children[column], text(place, cell));
  };

  const sortNow = () => {
    clearTimeout(resort);
    resort = undefined;
    order = orderedCells(control.model, sort.key, sort.descending);
    ordered = { model: control.model, atMs: performance.now() };
    active = Math.min(active, Math.max(0, order.length - 1));
    for (const [index, { key, sortable }] of columns.entries())
      if (sortable) heads[index].setAttribute("aria-sort", key !== sort.key ? "none" : sort.descending ? "descending" : "ascending");
    draw();
  };

  const sortBy = (key: SortKey) => {
    const numbers = key !== "rank" && key !== "place";
    sort = { key, descending: sort.key === key && key !== "rank" ? !sort.descending : numbers };
    grid.scrollTop = 0;
    active = 0;
    sortNow();
  };

  const walk = (to: number) => {
    active = Math.max(0, Math.min(order.length - 1, to));
    const top = active * rowPixels;
    const space = grid.clientHeight - rowPixels;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + rowPixels > grid.scrollTop + space) grid.scrollTop = top + rowPixels - space;
    draw();
  };

  const inspectRow = (index: number) => {
    if (index < order.length) inspect(placeOfCell(control.model.matrices, order[index]));
  };

  grid.addEventListener("scroll", drawSoon, { passive: true });
  grid.addEventListener("keydown", (event) => {
    if (event.target !== grid) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / rowPixels) - 2);
    const moves: Record<string, number> = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: order.length - 1,
    };
    if (event.key === "Enter") inspectRow(active);
    else if (event.key in moves) walk(moves[event.key]);
    else return;
    event.preventDefault();
  });
  body.addEventListener("click", ({ target }) => {
    const row = target instanceof Element ? target.closest<HTMLElement>("[data-index]") : null;
    if (!row) return;
    active = Number(row.dataset.index);
    draw();
    inspectRow(active);
  });
  new ResizeObserver(drawSoon).observe(grid);

  const update = () => {
    if (!visible || control.model === ordered.model) return;
    const wait = ordered.atMs + resortMs - performance.now();
    if (wait <= 0) sortNow();
    else resort ??= setTimeout(sortNow, wait);
  };
  return {
    update,
    setVisible(shown) {
      visible = shown;
      if (shown && control.model !== ordered.model) sortNow();
      else if (shown) draw();
      else clearTimeout(resort);
      if (!shown) resort = undefined;
    },
  };
}

function columnsOf(control: HeatmapControl): Column[] {
  const nothing = "–";
  const value = (mode: ValueMode): Column => ({
    key: mode,
    title: modeText(mode),
    sortable: true,
    text: ({ matrix }, cell) => {
      const shown = valueAt(control.model, mode, matrix, cell);
      return shown ? numberText(shown.value) : nothing;
    },
  });
  return [
    { key: "rank", title: t("Rank"), sortable: true, text: (_, cell) => rankText(control.model, cell) },
    { key: "place", title: t("Matrix"), sortable: true, text: ({ matrix }) => control.model.matrices[matrix].name },
    { key: "place", title: t("Row"), sortable: false, text: ({ row }) => String(row) },
    { key: "place", title: t("Column"), sortable: false, text: ({ column }) => String(column) },
    value("score"),
    value("gradient"),
    value("delta"),
    value("secondMoment"),
  ];
}

function headOf({ title, sortable }: Column, sort: () => void): HTMLElement {
  if (!sortable) return element("div", { role: "columnheader" }, title);
  const button = element("button", { type: "button", class: "head-button" }, title);
  button.addEventListener("click", sort);
  return element("div", { role: "columnheader", "aria-sort": "none" }, button);
}

function rowOf(columns: number): HTMLElement {
  return element("div", { role: "row", class: "table-row" }, ...Array.from({ length: columns }, () => element("div", { role: "gridcell" })));
}
