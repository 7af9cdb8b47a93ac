/**
 * Where everything stands when the whole model is in view: a row a layer, a column a kind of matrix, each matrix as its grid of blocks. Rows flow into
 * several columns of layers where that makes the blocks larger; matrices outside the layers stand in a last row of their own. Arithmetic only, in CSS
 * pixels at zoom 1. The rule to keep: all blocks of a model have one size, so that areas can be compared.
 */
import { kindsOf, type MatrixGrid } from "./grids.ts";

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface LayoutRow extends Rect {
  /** −1 for the row of what is outside the layers. */
  layer: number;
}

/** The name of a kind above a column of matrices. */
export interface LayoutHead extends Rect {
  kind: string;
}

export interface Layout extends Rect {
  /** Size of a block. */
  cellPixels: number;
  /** Between rows. */
  rowGap: number;
  /** In the order of the model's matrices. */
  matrices: Rect[];
  rows: LayoutRow[];
  heads: LayoutHead[];
}

/** Between matrices; between rows it is less where there are many. */
const gap = 3;
const rowGapShare = 0.12;
/** Left of each column of layers, for their numbers. */
const gutter = 30;
/** Above each column of layers, for the kinds. */
const head = 17;
const largestCell = 40;
/** More columns of layers than this are confusing. */
const mostGroups = 12;

interface Row {
  layer: number;
  /** Indexes of matrices. */
  matrices: number[];
  /** In blocks. */
  height: number;
}

/** Lays a model out in an area of this size. */
export function layoutModel(matrices: readonly MatrixGrid[], area: { width: number; height: number }): Layout {
  const rows = rowsOf(matrices);
  const kinds = kindsOf(matrices.filter(({ layer }) => layer >= 0).map(({ kind }) => kind));
  const widths = kinds.map((kind) =>
    Math.max(...matrices.filter((matrix) => matrix.layer >= 0 && matrix.kind === kind).map(({ columns }) => columns)),
  );
  const blocks = { width: rowWidth(matrices, rows, widths), gaps: widestGaps(rows, widths) };
  let best = { cellPixels: 0, groups: [rows] };
  for (let count = 1; count <= Math.min(mostGroups, Math.max(1, rows.length)); count++) {
    const groups = split(rows, count);
    const cellPixels = largestThatFits(groups, blocks, area);
    // Another column of layers has to be worth it.
    if (cellPixels > best.cellPixels * 1.05) best = { cellPixels, groups };
  }
  return place(matrices, best.groups, kinds, widths, Math.max(0.01, best.cellPixels), area);
}

function rowsOf(matrices: readonly MatrixGrid[]): Row[] {
  const rows: Row[] = [];
  for (const [index, { layer, rows: height }] of matrices.entries()) {
    let row = rows.at(-1);
    if (row?.layer !== layer) {
      row = { layer, matrices: [], height: 0 };
      rows.push(row);
    }
    row.matrices.push(index);
    row.height = Math.max(row.height, height);
  }
  return rows;
}

function rowWidth(matrices: readonly MatrixGrid[], rows: readonly Row[], widths: readonly number[]): number {
  const layers = widths.reduce((sum, width) => sum + width, 0);
  const outside = rows.filter(({ layer }) => layer < 0).map((row) => row.matrices.reduce((sum, index) => sum + matrices[index].columns, 0));
  return Math.max(layers, ...outside);
}

function widestGaps(rows: readonly Row[], widths: readonly number[]): number {
  return Math.max(widths.length, ...rows.filter(({ layer }) => layer < 0).map((row) => row.matrices.length)) * gap;
}

/** Cuts the rows into at most so many runs whose heights are as equal as can be. */
function split(rows: readonly Row[], count: number): Row[][] {
  const runs = (limit: number) => {
    const groups: Row[][] = [[]];
    let height = 0;
    for (const row of rows) {
      if (height > 0 && height + row.height > limit) {
        groups.push([]);
        height = 0;
      }
      (groups.at(-1) as Row[]).push(row);
      height += row.height;
    }
    return groups;
  };
  let low = Math.max(0, ...rows.map(({ height }) => height));
  let high = rows.reduce((sum, { height }) => sum + height, 0);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (runs(middle).length <= count) high = middle;
    else low = middle + 1;
  }
  return runs(low);
}

function largestThatFits(groups: readonly Row[][], blocks: { width: number; gaps: number }, area: { width: number; height: number }): number {
  const byWidth = (area.width / groups.length - gutter - blocks.gaps) / Math.max(1, blocks.width);
  const byHeight = groups.map((rows) => {
    const height = rows.reduce((sum, row) => sum + row.height, 0);
    return (area.height - head - (rows.length + 1) * rowGapOf(groups, area)) / Math.max(1, height);
  });
  return Math.min(largestCell, byWidth, ...byHeight);
}

function rowGapOf(groups: readonly Row[][], area: { height: number }): number {
  const most = Math.max(...groups.map((rows) => rows.length));
  return Math.min(gap, (rowGapShare * area.height) / Math.max(1, most));
}

function place(
  matrices: readonly MatrixGrid[],
  groups: readonly Row[][],
  kinds: readonly string[],
  widths: readonly number[],
  cellPixels: number,
  area: { width: number; height: number },
): Layout {
  const offsets = widths.map((_, index) => widths.slice(0, index).reduce((sum, width) => sum + width * cellPixels + gap, 0));
  const rowGap = rowGapOf(groups, area);
  const rects: Rect[] = [];
  const rows: LayoutRow[] = [];
  const heads: LayoutHead[] = [];
  let [left, bottom] = [0, 0];
  for (const group of groups) {
    const x = left + gutter;
    let [y, right] = [head + rowGap, x];
    if (group.some(({ layer }) => layer >= 0))
      for (const [index, kind] of kinds.entries())
        heads.push({ kind, x: x + offsets[index], y: 0, width: Math.max(1, widths[index] * cellPixels), height: head });
    for (const row of group) {
      const height = Math.max(1, row.height * cellPixels);
      let end = x;
      for (const index of row.matrices) {
        const { layer, kind, rows: blockRows, columns } = matrices[index];
        // Matrices of no layer stand side by side; a name that comes twice in a layer is put behind the others.
        const known = layer >= 0 ? x + offsets[kinds.indexOf(kind)] : end;
        rects[index] = { x: known, y, width: Math.max(1, columns * cellPixels), height: Math.max(1, blockRows * cellPixels) };
        end = Math.max(end, known + rects[index].width + gap);
      }
      rows.push({ layer: row.layer, x, y, width: end - gap - x, height });
      right = Math.max(right, end);
      y += height + rowGap;
    }
    bottom = Math.max(bottom, y);
    left = right;
  }
  const [x, y] = [Math.max(0, (area.width - left) / 2), 0];
  return centred({ x: 0, y: 0, width: left, height: bottom, cellPixels, rowGap, matrices: rects, rows, heads }, x, y);
}

function centred(layout: Layout, x: number, y: number): Layout {
  for (const rect of [...layout.matrices, ...layout.rows, ...layout.heads]) {
    rect.x += x;
    rect.y += y;
  }
  return { ...layout, width: layout.width + 2 * x };
}
