/**
 * The figures of device memory as a table: measured, planned, and what full fine-tuning is planned at, by class; below, what is known of the process and
 * the machine. Cells tell the exact bytes in `title` and `data-bytes`.
 * The rule to keep: a column holds either measurements or plans, and its heading says which.
 */
import { type BytesByClass, memoryClasses } from "../../src/protocol/memory.ts";
import { element } from "../element.ts";
import { t } from "../strings.ts";
import type { Theme } from "../theme.ts";
import { exactCount, formatBytes } from "./byteUnits.ts";
import { memoryClassColor, memoryClassName } from "./memoryWords.ts";

/** Where a column's figures come from; `data-origin` of its cells. */
export type MemoryOrigin = "measured" | "plan" | "fullFineTuning";

export interface MemoryColumn {
  origin: MemoryOrigin;
  heading: string;
  /** Null where there is none yet. */
  bytesByClass: BytesByClass | null;
  peakBytes: number | null;
}

/** A figure that belongs to no class. */
export interface MemoryFigure {
  /** `data-figure` of its cell. */
  name: string;
  label: string;
  /** Null where they are not known. */
  bytes: number | null;
  /** In place of bytes, a figure of another kind; null where it is not known. */
  text?: string | null;
}

/** The table, made anew; classes that no column holds bytes of are left out. */
export function memoryTable(caption: string, columns: readonly MemoryColumn[], figures: readonly MemoryFigure[], theme: Theme): HTMLTableElement {
  const table = element("table", { class: "memory-table" }, element("caption", {}, caption));
  table
    .createTHead()
    .insertRow()
    .append(element("td"), ...columns.map(({ heading }) => element("th", { scope: "col" }, heading)));
  const body = table.createTBody();
  for (const memoryClass of memoryClasses) {
    if (!columns.some(({ bytesByClass }) => (bytesByClass?.[memoryClass] ?? 0) > 0)) continue;
    const row = body.insertRow();
    const sign = element("span", { class: "memory-sign" });
    sign.style.backgroundColor = memoryClassColor(memoryClass, theme);
    row.append(element("th", { scope: "row" }, sign, memoryClassName(memoryClass)));
    for (const { origin, bytesByClass } of columns) bytesCell(row, bytesByClass?.[memoryClass] ?? null, { origin, memory: memoryClass });
  }
  const peaks = body.insertRow();
  peaks.className = "memory-peak";
  peaks.append(element("th", { scope: "row" }, t("peak")));
  for (const { origin, peakBytes } of columns) bytesCell(peaks, peakBytes, { origin, memory: "peak" });
  for (const { name, label, bytes, text } of figures) {
    const row = body.insertRow();
    row.append(element("th", { scope: "row" }, label));
    const cell = bytesCell(row, bytes, { figure: name });
    cell.colSpan = columns.length;
    if (text) cell.textContent = text;
  }
  return table;
}

/** A cell of bytes: rounded to be read, exact to be told. */
function bytesCell(row: HTMLTableRowElement, bytes: number | null, data: Record<string, string>): HTMLTableCellElement {
  const cell = row.insertCell();
  Object.assign(cell.dataset, data);
  if (bytes === null) {
    cell.textContent = "–";
    return cell;
  }
  cell.dataset.bytes = String(bytes);
  cell.textContent = formatBytes(bytes);
  cell.title = t("{0} bytes", exactCount(bytes));
  return cell;
}
