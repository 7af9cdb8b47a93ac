/**
 * Which part of the layout is on the screen: zoom and shift, what changes them, and what lies where. Arithmetic only, in CSS pixels.
 * The rule to keep: a matrix's edges fall on whole device pixels, so that drawing and looking up agree on every block.
 */
import type { CellPlace, MatrixGrid } from "./grids.ts";
import type { Layout, Rect } from "./layout.ts";
import { firstBlock, type Squares, squareOf, squaresOf } from "./squares.ts";

/** Screen = layout · zoom + (x, y). */
export interface View {
  zoom: number;
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

export const wholeModel: View = { zoom: 1, x: 0, y: 0 };
/** Blocks of a large matrix are not drawn larger than this. */
const largestCellPixels = 64;
/** Around a matrix or layer that was zoomed to; above it stands its name. */
const margin = { side: 10, top: 24 };

export function cellPixels(layout: Layout, view: View): number {
  return layout.cellPixels * view.zoom;
}

/** As far as blocks are of a sensible size, and always as far as it takes to fill the area with any matrix. */
export function largestZoom(layout: Layout, area: Size): number {
  return Math.max(1, largestCellPixels / layout.cellPixels, ...layout.matrices.map((rect) => fittingZoom(rect, area)));
}

/** The zoom at which a rectangle fills the area. */
function fittingZoom(rect: Rect, area: Size): number {
  return Math.min((area.width - 2 * margin.side) / rect.width, (area.height - margin.top - margin.side) / rect.height);
}

/** Zooms so that what is under the point stays there. */
export function zoomedAt(view: View, factor: number, point: Point, layout: Layout, area: Size): View {
  const zoom = Math.min(largestZoom(layout, area), Math.max(1, view.zoom * factor));
  const by = zoom / view.zoom;
  return clamped({ zoom, x: point.x - (point.x - view.x) * by, y: point.y - (point.y - view.y) * by }, layout, area);
}

export function panned(view: View, dx: number, dy: number, layout: Layout, area: Size): View {
  return clamped({ ...view, x: view.x + dx, y: view.y + dy }, layout, area);
}

/** The view that shows a rectangle of the layout as large as it gets. */
export function viewOf(rect: Rect, layout: Layout, area: Size): View {
  const zoom = Math.max(1, Math.min(largestZoom(layout, area), fittingZoom(rect, area)));
  if (zoom === 1) return wholeModel;
  const x = (area.width - rect.width * zoom) / 2 - rect.x * zoom;
  const y = (area.height + margin.top - margin.side - rect.height * zoom) / 2 - rect.y * zoom;
  return { zoom, x, y };
}

/** Keeps the model on the screen: at least half of the area shows it. */
function clamped(view: View, layout: Layout, area: Size): View {
  if (view.zoom <= 1) return wholeModel;
  const within = (shift: number, size: number, space: number) => Math.min(space / 2, Math.max(space / 2 - size * view.zoom, shift));
  return { zoom: view.zoom, x: within(view.x, layout.width, area.width), y: within(view.y, layout.height, area.height) };
}

/** A rectangle of the layout on the screen. */
export function onScreen(rect: Rect, view: View): Rect {
  return { x: rect.x * view.zoom + view.x, y: rect.y * view.zoom + view.y, width: rect.width * view.zoom, height: rect.height * view.zoom };
}

/** The same with its edges on whole device pixels, at least one of them wide. */
export function snapped(rect: Rect, pixelRatio: number): Rect {
  const edge = (value: number) => Math.round(value * pixelRatio) / pixelRatio;
  const [x, y] = [edge(rect.x), edge(rect.y)];
  const least = 1 / pixelRatio;
  return { x, y, width: Math.max(least, edge(rect.x + rect.width) - x), height: Math.max(least, edge(rect.y + rect.height) - y) };
}

export function intersects(rect: Rect, area: Size): boolean {
  return rect.x < area.width && rect.y < area.height && rect.x + rect.width > 0 && rect.y + rect.height > 0;
}

/** What is in the middle of the view and large enough to be what a person looks at: a matrix, a layer, or (both null) the model. */
export function focusOf(view: View, layout: Layout, area: Size): { row: number | null; matrix: number | null } {
  const nothing = { row: null, matrix: null };
  if (view.zoom <= 1) return nothing;
  const fills = (rect: Rect) => {
    const screen = onScreen(rect, view);
    const middle = { x: area.width / 2, y: area.height / 2 };
    const around = screen.x <= middle.x && screen.y <= middle.y && screen.x + screen.width >= middle.x && screen.y + screen.height >= middle.y;
    return around && (screen.width >= area.width / 2 || screen.height >= area.height / 2);
  };
  const row = layout.rows.findIndex(fills);
  const matrix = layout.matrices.findIndex(fills);
  return { row: row < 0 ? rowOfMatrix(layout, matrix) : row, matrix: matrix < 0 ? null : matrix };
}

/** The layout's row that a matrix stands in; null without one. */
export function rowOfMatrix(layout: Layout, matrix: number): number | null {
  if (matrix < 0) return null;
  const { x, y } = layout.matrices[matrix];
  const row = layout.rows.findIndex((rect) => rect.y === y && x >= rect.x && x <= rect.x + rect.width);
  return row < 0 ? null : row;
}

/** Where a block's square is drawn. */
export function squareRect(grid: MatrixGrid, matrixOnScreen: Rect, squares: Squares, place: { row: number; column: number }): Rect {
  const [row, column] = [squareOf(place.row, squares.rows, grid.rows), squareOf(place.column, squares.columns, grid.columns)];
  const [width, height] = [matrixOnScreen.width / squares.columns, matrixOnScreen.height / squares.rows];
  return { x: matrixOnScreen.x + column * width, y: matrixOnScreen.y + row * height, width, height };
}

/** The matrix and square under a point; null between matrices. */
export function squareAt(
  point: Point,
  matrices: readonly MatrixGrid[],
  layout: Layout,
  view: View,
  pixelRatio: number,
): (CellPlace & { squares: Squares; squareRow: number; squareColumn: number }) | null {
  for (const [matrix, rect] of layout.matrices.entries()) {
    const screen = snapped(onScreen(rect, view), pixelRatio);
    const [across, down] = [(point.x - screen.x) / screen.width, (point.y - screen.y) / screen.height];
    if (across < 0 || across >= 1 || down < 0 || down >= 1) continue;
    const grid = matrices[matrix];
    const squares = squaresOf(grid, cellPixels(layout, view));
    const [squareRow, squareColumn] = [Math.floor(down * squares.rows), Math.floor(across * squares.columns)];
    const [row, column] = [firstBlock(squareRow, squares.rows, grid.rows), firstBlock(squareColumn, squares.columns, grid.columns)];
    return { matrix, row, column, squares, squareRow, squareColumn };
  }
  return null;
}

/** Shifts the view no further than needed to bring a rectangle of the screen into it. */
export function revealed(view: View, screen: Rect, layout: Layout, area: Size): View {
  const inset = 8;
  const shift = (from: number, size: number, space: number) =>
    from < inset ? inset - from : from + size > space - inset ? space - inset - from - size : 0;
  const [dx, dy] = [shift(screen.x, screen.width, area.width), shift(screen.y, screen.height, area.height)];
  return dx === 0 && dy === 0 ? view : panned(view, dx, dy, layout, area);
}
