/**
 * Walking over blocks with the keyboard: from one block to the next, across matrices and layers in the order of the model, not of the screen.
 * Arithmetic only. The rule to keep: from every block every other one can be reached, and no key leads outside the model.
 */
import type { CellPlace, MatrixGrid } from "./grids.ts";

export type WalkKey = "ArrowLeft" | "ArrowRight" | "ArrowUp" | "ArrowDown" | "Home" | "End" | "PageUp" | "PageDown";
const walkKeys: readonly string[] = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

export function isWalkKey(key: string): key is WalkKey {
  return walkKeys.includes(key);
}

/**
 * The block that a key leads to. Arrows go to the neighbour, at a matrix's edge to the next matrix of the layer (left, right) or to the same matrix of the
 * next layer (up, down). Home and End go to the ends of a row of blocks, PageUp and PageDown to the same matrix of the layer before and after; with
 * `far` (Ctrl) Home and End go to the first and the last block of the model.
 */
export function walked(matrices: readonly MatrixGrid[], place: CellPlace, key: WalkKey, far: boolean): CellPlace {
  const grid = matrices[place.matrix];
  switch (key) {
    case "ArrowLeft":
      return place.column > 0 ? { ...place, column: place.column - 1 } : intoRow(matrices, place, place.matrix - 1, "last");
    case "ArrowRight":
      return place.column < grid.columns - 1 ? { ...place, column: place.column + 1 } : intoRow(matrices, place, place.matrix + 1, "first");
    case "ArrowUp":
      return place.row > 0 ? { ...place, row: place.row - 1 } : intoColumn(matrices, place, sameKind(matrices, place.matrix, -1), "last");
    case "ArrowDown":
      return place.row < grid.rows - 1 ? { ...place, row: place.row + 1 } : intoColumn(matrices, place, sameKind(matrices, place.matrix, 1), "first");
    case "Home":
      return far ? { matrix: 0, row: 0, column: 0 } : { ...place, column: 0 };
    case "End":
      return far ? lastOf(matrices, matrices.length - 1) : { ...place, column: grid.columns - 1 };
    case "PageUp":
      return fitted(matrices, { ...place, matrix: sameKind(matrices, place.matrix, -1) ?? place.matrix });
    case "PageDown":
      return fitted(matrices, { ...place, matrix: sameKind(matrices, place.matrix, 1) ?? place.matrix });
  }
}

function lastOf(matrices: readonly MatrixGrid[], matrix: number): CellPlace {
  return { matrix, row: matrices[matrix].rows - 1, column: matrices[matrix].columns - 1 };
}

/** Into the next matrix at about the same height. */
function intoRow(matrices: readonly MatrixGrid[], from: CellPlace, matrix: number, end: "first" | "last"): CellPlace {
  if (matrix < 0 || matrix >= matrices.length) return from;
  return fitted(matrices, { matrix, row: from.row, column: end === "first" ? 0 : matrices[matrix].columns - 1 });
}

function intoColumn(matrices: readonly MatrixGrid[], from: CellPlace, matrix: number | null, end: "first" | "last"): CellPlace {
  if (matrix === null) return from;
  return fitted(matrices, { matrix, row: end === "first" ? 0 : matrices[matrix].rows - 1, column: from.column });
}

function fitted(matrices: readonly MatrixGrid[], { matrix, row, column }: CellPlace): CellPlace {
  const { rows, columns } = matrices[matrix];
  return { matrix, row: Math.min(row, rows - 1), column: Math.min(column, columns - 1) };
}

/** The next matrix of the same kind in walking direction; what has none goes to the next matrix at all, so that nothing is a dead end. */
function sameKind(matrices: readonly MatrixGrid[], from: number, direction: 1 | -1): number | null {
  const { kind, layer } = matrices[from];
  for (let index = from + direction; index >= 0 && index < matrices.length; index += direction)
    if (matrices[index].kind === kind && matrices[index].layer !== layer) return index;
  const beyond = matrices.findIndex((matrix) => matrix.layer < 0);
  if (direction > 0) return layer >= 0 && beyond >= 0 ? beyond : null;
  return layer < 0 && beyond > 0 ? beyond - 1 : null;
}
