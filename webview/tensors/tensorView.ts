/**
 * A tensor as a table: which windows of it are asked for, what was loaded, and values as text. A tensor with one row is wrapped, so that a bias does not
 * become one endless line. Plain data; it asks nobody.
 * The rules to keep: only what is in view, with a margin, is asked for; a value that is not loaded is unknown, never 0.
 */
import type { BlockWindow } from "../../src/protocol/coreProtocol.ts";
import { entriesOf } from "./tensorTable.ts";

/** Columns of a wrapped tensor. */
const wrapColumns = 8;
/** What is asked for at most; far below the host's bound. */
const mostValues = 1 << 16;

/** Part of the table, counted in its rows and columns. */
export interface TableWindow {
  row: number;
  column: number;
  rows: number;
  columns: number;
}

export class TensorView {
  readonly name: string;
  readonly shape: readonly number[];
  readonly rows: number;
  readonly columns: number;
  /** Its only row is broken into several. */
  readonly wrapped: boolean;
  readonly #total: number;
  #loaded: { window: BlockWindow; values: Float32Array } | null = null;

  constructor(name: string, shape: readonly number[]) {
    this.name = name;
    this.shape = shape;
    this.#total = entriesOf(shape);
    const columns = shape.at(-1) ?? 1;
    const rows = columns === 0 ? 0 : this.#total / columns;
    this.wrapped = rows === 1 && columns > wrapColumns;
    this.rows = this.wrapped ? Math.ceil(columns / wrapColumns) : rows;
    this.columns = this.wrapped ? wrapColumns : columns;
  }

  /** No entry at all. */
  get empty(): boolean {
    return this.#total === 0;
  }

  /** What heads a row, and a column: their index, or the index of a wrapped row's first entry. */
  rowName(row: number): number {
    return this.wrapped ? row * wrapColumns : row;
  }

  /** Whether the table has an entry there: the last row of a wrapped tensor may be short. */
  has(row: number, column: number): boolean {
    return row < this.rows && column < this.columns && (!this.wrapped || row * wrapColumns + column < this.#total);
  }

  /** The value at a place of the table; undefined while it is not loaded. */
  value(row: number, column: number): number | undefined {
    if (!this.#loaded || !this.has(row, column)) return undefined;
    const { window, values } = this.#loaded;
    const [r, c] = this.wrapped ? [0, row * wrapColumns + column] : [row, column];
    const [dr, dc] = [r - window.row, c - window.column];
    return dr < 0 || dc < 0 || dr >= window.rows || dc >= window.columns ? undefined : values[dr * window.columns + dc];
  }

  /** The window of the tensor to ask for so that a part of the table can be shown; null when it is loaded. */
  missing(seen: TableWindow): BlockWindow | null {
    const needed = this.#source(clipped(seen, this.rows, this.columns));
    if (this.#loaded && covers(this.#loaded.window, needed)) return null;
    // A margin of half a screen on each side, less where that would be much.
    const roomy = this.#source(clipped(grown(seen), this.rows, this.columns));
    return roomy.rows * roomy.columns <= mostValues ? roomy : needed;
  }

  /** Takes what was asked for; what it replaces is forgotten. */
  load(window: BlockWindow, rows: number, columns: number, values: Float32Array): void {
    this.#loaded = { window: { ...window, rows, columns }, values };
  }

  #source({ row, column, rows, columns }: TableWindow): BlockWindow {
    if (!this.wrapped) return { row, column, rows, columns };
    const first = row * wrapColumns;
    return { row: 0, column: first, rows: 1, columns: Math.min((row + rows) * wrapColumns, this.#total) - first };
  }
}

function grown({ row, column, rows, columns }: TableWindow): TableWindow {
  const [above, left] = [Math.min(row, Math.ceil(rows / 2)), Math.min(column, Math.ceil(columns / 2))];
  return { row: row - above, column: column - left, rows: rows * 2, columns: columns * 2 };
}

function clipped({ row, column, rows, columns }: TableWindow, lastRows: number, lastColumns: number): TableWindow {
  return { row, column, rows: Math.min(rows, lastRows - row), columns: Math.min(columns, lastColumns - column) };
}

function covers(outer: BlockWindow, inner: BlockWindow): boolean {
  const inside = (from: number, length: number, outerFrom: number, outerLength: number) =>
    from >= outerFrom && from + length <= outerFrom + outerLength;
  return inside(inner.row, inner.rows, outer.row, outer.rows) && inside(inner.column, inner.columns, outer.column, outer.columns);
}

/** A value in a narrow cell: six digits. */
export function shortValue(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return Object.is(value, -0) ? "-0" : String(value);
  const size = Math.abs(value);
  return size >= 1e-4 && size < 1e7 ? String(Number(value.toPrecision(6))) : value.toExponential(4);
}

/** The shortest text that reads back as the same f32. */
export function exactValue(value: number): string {
  if (!Number.isFinite(value) || Object.is(value, -0)) return shortValue(value);
  for (let digits = 1; digits <= 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === Math.fround(value)) return String(text);
  }
  return String(value);
}

/** A place that a person wrote: `row`, or `row, column`, counted from 0; null for anything else or outside the table. */
export function parsePlace(text: string, view: TensorView): { row: number; column: number } | null {
  const found = /^\s*(\d{1,15})(?:\s*[,;: ]\s*(\d{1,15}))?\s*$/.exec(text);
  if (!found) return null;
  const [first, second] = [Number(found[1]), Number(found[2] ?? 0)];
  const place = view.wrapped ? { row: Math.floor(first / wrapColumns), column: first % wrapColumns } : { row: first, column: second };
  return view.has(place.row, place.column) ? place : null;
}
