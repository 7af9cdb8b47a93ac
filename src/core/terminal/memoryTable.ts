/** Device memory by class, side by side: what a run used, what was planned, what full fine-tuning would take. Pure text; it measures nothing. */
import { type BytesByClass, memoryClasses } from "../../protocol/memory.ts";
import { formatBytes } from "./format.ts";
import { paint, type TerminalStyle } from "./style.ts";

export interface MemoryColumn {
  /** Where the figures come from, written once above all columns that share it in a row: `measured`, `planned`. */
  origin: string;
  heading: string;
  /** The most bytes held at once. */
  peakBytes: number;
  /** What they served at that moment. */
  bytesByClass: BytesByClass;
}

/** The origins, the headings, a line per class that any column holds bytes of, and the peaks. Each column's classes sum to its peak. */
export function memoryTable(columns: readonly MemoryColumn[], style: TerminalStyle): string[] {
  const classes = memoryClasses.filter((memoryClass) => columns.some(({ bytesByClass }) => bytesByClass[memoryClass] > 0));
  const rows = [
    columns.map(({ origin }, i) => (columns[i - 1]?.origin === origin ? "" : origin)),
    columns.map(({ heading }) => heading),
    ...classes.map((memoryClass) => columns.map(({ bytesByClass }) => formatBytes(bytesByClass[memoryClass]))),
    columns.map(({ peakBytes }) => formatBytes(peakBytes)),
  ];
  const labels = ["memory", "", ...classes, "peak"];
  const labelWidth = Math.max(...labels.map(({ length }) => length));
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row, line) => {
    const label = labels[line].padEnd(labelWidth);
    const cells = row.map((cell, column) => `  ${line === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])}`).join("");
    if (line === 0) return (paint(label, style, 75) + paint(cells.trimEnd(), style, 244)).trimEnd();
    return line === 1 || line === rows.length - 1 ? label + paint(cells, style, line === 1 ? 244 : 255) : label + cells;
  });
}
