/** What a pruning left, layer by layer: share of zeros, and each matrix's reconstruction error. Pure text; it measures nothing. */
import type { PrunedMatrix, PruningReport } from "../../protocol/pruning.ts";
import { formatPercent } from "./format.ts";

/** A heading, a line a layer, and a line of totals. Errors are ‖X(W−Ŵ)ᵀ‖/‖XWᵀ‖; `-` where none was measured. */
export function pruningTable({ matrices, zeros, entries }: PruningReport): string {
  const projections = [...new Set(matrices.map(({ projection }) => projection))];
  const layers = [...new Set(matrices.map(({ layer }) => layer))];
  const rows = layers.map((layer) => {
    const own = matrices.filter((matrix) => matrix.layer === layer);
    const errors = projections.map((projection) => errorText(own.find((matrix) => matrix.projection === projection)));
    return [String(layer), zerosText(own), ...errors];
  });
  const means = projections.map((projection) => meanText(matrices.filter((matrix) => matrix.projection === projection)));
  const measured = matrices.some(({ error }) => error !== null);
  const table = [["layer", "zeros", ...projections], ...rows, ["all", formatPercent(zeros / entries), ...means]];
  const shown = measured ? table : table.map((row) => row.slice(0, 2));
  const widths = shown[0].map((_, column) => Math.max(...shown.map((row) => row[column].length)));
  const lines = shown.map((row) => row.map((cell, column) => cell.padStart(widths[column])).join("  "));
  const caption = measured ? ["Reconstruction error of each matrix's output, on the calibration text:"] : [];
  return [`${zeros} of ${entries} weights are zero.`, ...caption, ...lines].join("\n");
}

function zerosText(matrices: readonly PrunedMatrix[]): string {
  const sum = (of: (matrix: PrunedMatrix) => number) => matrices.reduce((total, matrix) => total + of(matrix), 0);
  return formatPercent(sum(({ zeros }) => zeros) / sum(({ entries }) => entries));
}

function errorText(matrix: PrunedMatrix | undefined): string {
  return matrix === undefined || matrix.error === null ? "-" : matrix.error.toFixed(4);
}

function meanText(matrices: readonly PrunedMatrix[]): string {
  const errors = matrices.flatMap(({ error }) => (error === null ? [] : [error]));
  return errors.length === 0 ? "-" : (errors.reduce((sum, error) => sum + error, 0) / errors.length).toFixed(4);
}
