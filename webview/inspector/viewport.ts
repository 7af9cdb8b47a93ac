/**
 * Which part of a block is seen: a corner and a size of a cell, in values. Pure arithmetic; it draws nothing.
 * The rules to keep: the window asked for always covers what is seen and never reaches outside the block; a value is never smaller than a pixel, which
 * could not show it, so of a large block a part is seen.
 */

export interface Viewport {
  /** Values at the upper left corner; fractions while panning. */
  row: number;
  column: number;
  /** CSS pixels a value. */
  cell: number;
}

export interface Size {
  rows: number;
  columns: number;
}

/** Values seen, as whole rows and columns. */
export interface Window extends Size {
  row: number;
  column: number;
}

const largestCell = 64;
const smallestCell = 1;

/** The whole block in a canvas of so many CSS pixels, or as much of it from its corner on as there is room for. */
export function fitted(block: Size, width: number, height: number): Viewport {
  return { row: 0, column: 0, cell: Math.max(smallestCell, Math.min(width / block.columns, height / block.rows)) };
}

/** Zooms about a place of the canvas, which keeps its value under it. */
export function zoomed(view: Viewport, factor: number, x: number, y: number, block: Size, width: number, height: number): Viewport {
  const smallest = fitted(block, width, height).cell;
  const cell = Math.min(Math.max(view.cell * factor, smallest), Math.max(largestCell, smallest));
  const moved = { row: view.row + y / view.cell - y / cell, column: view.column + x / view.cell - x / cell, cell };
  return held(moved, block, width, height);
}

/** Moved by so many values. */
export function panned(view: Viewport, rows: number, columns: number, block: Size, width: number, height: number): Viewport {
  return held({ ...view, row: view.row + rows, column: view.column + columns }, block, width, height);
}

/** Kept over the block. */
function held(view: Viewport, block: Size, width: number, height: number): Viewport {
  const last = (all: number, pixels: number) => Math.max(0, all - pixels / view.cell);
  const clamp = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  return { cell: view.cell, row: clamp(view.row, last(block.rows, height)), column: clamp(view.column, last(block.columns, width)) };
}

/** The values that are seen, at least one. */
export function windowOf(view: Viewport, block: Size, width: number, height: number): Window {
  const row = Math.min(Math.floor(view.row), block.rows - 1);
  const column = Math.min(Math.floor(view.column), block.columns - 1);
  const rows = Math.min(block.rows, Math.ceil(view.row + height / view.cell)) - row;
  const columns = Math.min(block.columns, Math.ceil(view.column + width / view.cell)) - column;
  return { row, column, rows: Math.max(1, rows), columns: Math.max(1, columns) };
}

/** Whether one window holds another. */
export function covers(outer: Window, inner: Window): boolean {
  return (
    outer.row <= inner.row &&
    outer.column <= inner.column &&
    outer.row + outer.rows >= inner.row + inner.rows &&
    outer.column + outer.columns >= inner.column + inner.columns
  );
}
