/**
 * The state of the pruning view: what the host said last, made by a pure function. No DOM.
 * The rule to keep: the state after `hydrate` and reports equals the state after one later `hydrate`.
 */
import { csvLine } from "../../src/protocol/csv.ts";
import type { PruneView, ToPrune } from "../../src/protocol/prunePanelProtocol.ts";
import type { PrunedMatrix } from "../../src/protocol/pruning.ts";

/** The view after a message; null before the first. */
export function reduce(view: PruneView | null, message: ToPrune): PruneView | null {
  if (message.kind === "hydrate" || message.kind === "ended") return message.view;
  if (view?.state !== "running") return view;
  if (message.kind === "notes") return { ...view, notes: message.notes };
  const { finished, ...progress } = message.progress;
  return { ...view, progress, matrices: finished.length > 0 ? [...view.matrices, ...finished] : view.matrices };
}

/** Zeros of all entries of some matrices; null without any. */
export function sparsityOf(matrices: readonly Pick<PrunedMatrix, "zeros" | "entries">[]): number | null {
  const entries = matrices.reduce((sum, matrix) => sum + matrix.entries, 0);
  return entries > 0 ? matrices.reduce((sum, matrix) => sum + matrix.zeros, 0) / entries : null;
}

/** The mean of the errors that were measured; null where none was. */
export function meanError(matrices: readonly Pick<PrunedMatrix, "error">[]): number | null {
  const errors = matrices.map(({ error }) => error).filter((error) => error !== null);
  return errors.length > 0 ? errors.reduce((sum, error) => sum + error, 0) / errors.length : null;
}

const usualOrder = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/** Matrices as a grid: a row a projection, in the order of a layer's computation, a column a layer. What is not done yet is null. */
export interface MatrixGrid {
  projections: string[];
  layers: number;
  cells: (PrunedMatrix | null)[][];
}

/** `layers` is how many there will be. */
export function gridOf(matrices: readonly PrunedMatrix[], layers: number): MatrixGrid {
  const found = [...new Set(matrices.map(({ projection }) => projection))];
  const place = (name: string) => (usualOrder.includes(name) ? usualOrder.indexOf(name) : usualOrder.length);
  const projections = found.sort((a, b) => place(a) - place(b));
  const width = matrices.reduce((most, { layer }) => Math.max(most, layer + 1), layers);
  const cells = projections.map(() => new Array<PrunedMatrix | null>(width).fill(null));
  for (const matrix of matrices) cells[projections.indexOf(matrix.projection)][matrix.layer] = matrix;
  return { projections, layers: width, cells };
}

/** The place that a key leads to in a grid of so many rows and columns; null for a key that leads nowhere. */
export function walked(at: { row: number; column: number }, key: string, rows: number, columns: number): { row: number; column: number } | null {
  const to = (row: number, column: number) => ({
    row: Math.min(Math.max(row, 0), rows - 1),
    column: Math.min(Math.max(column, 0), columns - 1),
  });
  switch (key) {
    case "ArrowLeft":
      return to(at.row, at.column - 1);
    case "ArrowRight":
      return to(at.row, at.column + 1);
    case "ArrowUp":
      return to(at.row - 1, at.column);
    case "ArrowDown":
      return to(at.row + 1, at.column);
    case "Home":
      return to(at.row, 0);
    case "End":
      return to(at.row, columns - 1);
    default:
      return null;
  }
}

/** The matrices as CSV, unrounded. */
export function csvOf(matrices: readonly PrunedMatrix[]): string {
  const rows = matrices.map(({ name, layer, projection, zeros, entries, error }) => csvLine([name, layer, projection, zeros, entries, error]));
  return `${[csvLine(["name", "layer", "projection", "zeros", "entries", "error"]), ...rows].join("\n")}\n`;
}
