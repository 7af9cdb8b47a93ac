/**
 * The matrices of a model as the heatmap orders them: by layer, within a layer q, k, v, o, gate, up, down, then what else there is; matrices outside the
 * layers (lm_head) last. Names only; no values, no DOM. The rule to keep: a name that does not look like a Llama's is still shown.
 */

/** A matrix cut into blocks. */
export interface Grid {
  /** Hugging Face name without `.weight`. */
  name: string;
  /** In blocks. */
  rows: number;
  columns: number;
}

export interface MatrixGrid extends Grid {
  /** −1 outside the layers. */
  layer: number;
  /** What the matrix is within its layer: `q`, `k`, `v`, `o`, `gate`, `up`, `down`, or the last part of its name. */
  kind: string;
  /** Index of its first cell, counted over all matrices. */
  offset: number;
}

/** In the order of a layer's computation. */
export const knownKinds: readonly string[] = ["q", "k", "v", "o", "gate", "up", "down"];

/** A cell by its matrix's index and its place in blocks. */
export interface CellPlace {
  matrix: number;
  row: number;
  column: number;
}

/** Where a matrix stands in a model, by its name. */
export function placeOfName(name: string): { layer: number; kind: string } {
  const inLayer = /(?:^|\.)layers\.(\d{1,6})\.(.+)$/.exec(name);
  const last = (inLayer ? inLayer[2] : name).split(".").at(-1) ?? name;
  return inLayer ? { layer: Number(inLayer[1]), kind: last.replace(/_proj$/, "") } : { layer: -1, kind: last };
}

/** Every matrix once, in drawing order, with cells numbered through. */
export function orderedGrids(grids: readonly Grid[]): MatrixGrid[] {
  const unique = [...new Map(grids.map((grid) => [grid.name, grid])).values()];
  const placed = unique.map(({ name, rows, columns }) => ({ name, rows, columns, ...placeOfName(name), offset: 0 }));
  tellApart(placed);
  const order = new Map(kindsOf(placed.map(({ kind }) => kind)).map((kind, index) => [kind, index]));
  const layerKey = (layer: number) => (layer < 0 ? Number.POSITIVE_INFINITY : layer);
  placed.sort((a, b) => {
    const [left, right] = [layerKey(a.layer), layerKey(b.layer)];
    return left === right ? (order.get(a.kind) ?? 0) - (order.get(b.kind) ?? 0) : left - right;
  });
  let offset = 0;
  for (const matrix of placed) {
    matrix.offset = offset;
    offset += matrix.rows * matrix.columns;
  }
  return placed;
}

/** Gives matrices that would stand in one place (experts of a layer) their longer names as kinds. */
function tellApart(matrices: MatrixGrid[]): void {
  const key = ({ layer, kind }: MatrixGrid) => `${layer} ${kind}`;
  const counts = new Map<string, number>();
  for (const matrix of matrices) counts.set(key(matrix), (counts.get(key(matrix)) ?? 0) + 1);
  for (const matrix of matrices.filter((one) => (counts.get(key(one)) ?? 0) > 1)) matrix.kind = matrix.name.replace(/^.*?\blayers\.\d+\./, "");
}

/** The kinds that occur, each once: known ones in their order, then the others as they come. */
export function kindsOf(kinds: readonly string[]): string[] {
  const present = new Set(kinds);
  return [...knownKinds.filter((kind) => present.has(kind)), ...[...present].filter((kind) => !knownKinds.includes(kind))];
}

/** The place of a cell that is numbered over all matrices. */
export function placeOfCell(matrices: readonly MatrixGrid[], cell: number): CellPlace {
  let [low, high] = [0, matrices.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (matrices[middle].offset <= cell) low = middle;
    else high = middle - 1;
  }
  const { columns, offset } = matrices[low];
  const inside = cell - offset;
  return { matrix: low, row: Math.floor(inside / columns), column: inside % columns };
}

/** The number of a cell over all matrices. */
export function cellOf(matrices: readonly MatrixGrid[], { matrix, row, column }: CellPlace): number {
  return matrices[matrix].offset + row * matrices[matrix].columns + column;
}
