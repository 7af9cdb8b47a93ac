/**
 * `window.sparseTunerHeatmap`: lets a program read the heatmap as a person does, from its pixels. It is part of the product's accessibility and testing
 * surface, together with these attributes of the canvas: `data-mode` (one of the modes), `data-scale`, `data-layer-count`, `data-step` (of the frame that
 * is drawn; empty where nothing is known), `data-cell-pixels` (CSS pixels a block, may be below 1), `data-aggregated` (squares stand for several blocks).
 *
 *   cells()                          every matrix with its grid: {name, rows, columns}
 *   cellRect(name, row, column)      where that block is drawn, in CSS pixels of the canvas: its square, or the square that stands for it among
 *                                    others; null where there is no such block or it is out of view
 *   valueOfColor(red, green, blue)   the values that the colour stands for in the mode that is drawn: {low, high}; null for what is no value
 *                                    (unknown, or between matrices). Chosen is {1, 1}, not chosen {0, 0}.
 *   show(name)                       zooms to a matrix, or with null to the whole model
 */

import type { HeatmapControl } from "./control.ts";
import type { Rect } from "./layout.ts";
import { pixelOf, rampIndex } from "./ramp.ts";
import { valuesOfIndex } from "./scale.ts";
import { intersects } from "./view.ts";

export interface HeatmapSurface {
  cells(): { name: string; rows: number; columns: number }[];
  cellRect(name: string, row: number, column: number): Rect | null;
  valueOfColor(red: number, green: number, blue: number): { low: number; high: number } | null;
  show(name: string | null): void;
}

export function surfaceOf(control: HeatmapControl): HeatmapSurface {
  return {
    cells: () => control.model.matrices.map(({ name, rows, columns }) => ({ name, rows, columns })),
    cellRect(name, row, column) {
      const matrix = control.model.matrices.findIndex((grid) => grid.name === name);
      const grid = control.model.matrices[matrix];
      if (!grid || row < 0 || column < 0 || row >= grid.rows || column >= grid.columns) return null;
      const rect = control.rectOf({ matrix, row, column });
      return rect && intersects(rect, control.area) ? rect : null;
    },
    valueOfColor(red, green, blue) {
      const { mode, scale, flat } = control.paint;
      const pixel = pixelOf([red, green, blue]);
      if (mode === "selected")
        return pixel === pixelOf(flat.chosen) ? { low: 1, high: 1 } : pixel === pixelOf(flat.notChosen) ? { low: 0, high: 0 } : null;
      const index = rampIndex([red, green, blue]);
      return scale && index >= 0 ? valuesOfIndex(scale, index) : null;
    },
    show(name) {
      const matrix = control.model.matrices.findIndex((grid) => grid.name === name);
      if (matrix >= 0) control.showMatrix(matrix);
      else control.showWhole();
    },
  };
}
