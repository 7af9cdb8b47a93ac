/**
 * The heatmap's own state: what is shown and how, which part of it, and where pointer and keyboard are. Changed by methods, told to listeners; it draws nothing.
 * The rule to keep: everything derived (layout, scale, squares) is made here, once a change, so that picture, texts and tests agree.
 */
import type { ThemeKind } from "../../themeColors.ts";
import { type CellPlace, placeOfCell } from "./grids.ts";
import { type Layout, layoutModel, type Rect } from "./layout.ts";
import { emptyHeatmap, type HeatmapModel } from "./model.ts";
import type { Paint } from "./paint.ts";
import { flatColors } from "./ramp.ts";
import { colorScale, type ScaleKind } from "./scale.ts";
import { smallestCellPixels, spokesman, squaresOf } from "./squares.ts";
import { type HeatmapMode, rangeOf } from "./values.ts";
import * as views from "./view.ts";

/** values: colours change. view: places change too. cursor: only what is pointed at. */
export type HeatmapChange = "values" | "view" | "cursor";

export class HeatmapControl {
  model: HeatmapModel = emptyHeatmap;
  mode: HeatmapMode = "score";
  scaleKind: ScaleKind = "logarithmic";
  themeKind: ThemeKind = "dark";
  area: views.Size = { width: 0, height: 0 };
  pixelRatio = 1;
  view: views.View = views.wholeModel;
  layout: Layout = layoutModel([], { width: 0, height: 0 });
  paint: Paint = { mode: "score", scale: null, flat: flatColors.dark };
  /** Where the keyboard is. */
  active: CellPlace | null = null;
  /** The block under the pointer, or the one that its square speaks of. */
  hovered: CellPlace | null = null;
  readonly #listeners = new Set<(change: HeatmapChange) => void>();

  onChange(listener: (change: HeatmapChange) => void): void {
    this.#listeners.add(listener);
  }

  get cellPixels(): number {
    return views.cellPixels(this.layout, this.view);
  }

  /** Squares stand for more than one block. */
  get aggregated(): boolean {
    return this.model.matrices.length > 0 && this.cellPixels < smallestCellPixels;
  }

  /** The block that readout and Enter mean: the pointer's, else the keyboard's. */
  get cursor(): CellPlace | null {
    return this.hovered ?? this.active;
  }

  setModel(model: HeatmapModel): void {
    if (model === this.model) return;
    const sameGrids = model.matrices === this.model.matrices;
    this.model = model;
    this.#repaint();
    if (sameGrids) this.#tell("values");
    else {
      this.active = null;
      this.hovered = null;
      this.#layOut();
    }
  }

  setMode(mode: HeatmapMode): void {
    this.mode = mode;
    this.#repaint();
    this.#tell("values");
  }

  setScaleKind(kind: ScaleKind): void {
    this.scaleKind = kind;
    this.#repaint();
    this.#tell("values");
  }

  setThemeKind(kind: ThemeKind): void {
    this.themeKind = kind;
    this.#repaint();
    this.#tell("view");
  }

  setArea(area: views.Size, pixelRatio: number): void {
    if (area.width === this.area.width && area.height === this.area.height && pixelRatio === this.pixelRatio) return;
    this.area = area;
    this.pixelRatio = pixelRatio;
    this.#layOut();
  }

  setView(view: views.View): void {
    if (view.zoom === this.view.zoom && view.x === this.view.x && view.y === this.view.y) return;
    this.view = view;
    this.#tell("view");
  }

  /** About the middle, when no point is given. */
  zoomBy(factor: number, point: views.Point = { x: this.area.width / 2, y: this.area.height / 2 }): void {
    this.setView(views.zoomedAt(this.view, factor, point, this.layout, this.area));
  }

  panBy(dx: number, dy: number): void {
    this.setView(views.panned(this.view, dx, dy, this.layout, this.area));
  }

  showWhole(): void {
    this.setView(views.wholeModel);
  }

  showMatrix(matrix: number): void {
    this.setView(views.viewOf(this.layout.matrices[matrix], this.layout, this.area));
  }

  showRow(row: number): void {
    this.setView(views.viewOf(this.layout.rows[row], this.layout, this.area));
  }

  get focus(): { row: number | null; matrix: number | null } {
    return views.focusOf(this.view, this.layout, this.area);
  }

  setHovered(place: CellPlace | null): void {
    if (samePlace(place, this.hovered)) return;
    this.hovered = place;
    this.#tell("cursor");
  }

  /** Puts the keyboard on a block and brings it into view. */
  setActive(place: CellPlace): void {
    this.active = place;
    this.hovered = null;
    const screen = this.rectOf(place);
    const view = screen ? views.revealed(this.view, screen, this.layout, this.area) : this.view;
    if (view === this.view) this.#tell("cursor");
    else this.setView(view);
  }

  /** The block a point lies on; in a square of many, the one its colour speaks of. */
  placeAt(point: views.Point): CellPlace | null {
    const hit = views.squareAt(point, this.model.matrices, this.layout, this.view, this.pixelRatio);
    return hit && (this.aggregated ? spokesman(this.model, this.mode, hit.matrix, hit.squares, hit.squareRow, hit.squareColumn) : hit);
  }

  /** A matrix on the screen, on whole device pixels. */
  matrixRect(matrix: number): Rect {
    return views.snapped(views.onScreen(this.layout.matrices[matrix], this.view), this.pixelRatio);
  }

  /** Where a block is drawn: its own square, or the one that stands for it among others. */
  rectOf(place: CellPlace): Rect | null {
    const grid = this.model.matrices[place.matrix];
    if (!grid) return null;
    return views.squareRect(grid, this.matrixRect(place.matrix), squaresOf(grid, this.cellPixels), place);
  }

  /** The highest number of blocks, down and across, that one square stands for. */
  get blocksPerSquare(): { down: number; across: number } {
    let [down, across] = [1, 1];
    for (const grid of this.model.matrices) {
      const squares = squaresOf(grid, this.cellPixels);
      down = Math.max(down, Math.ceil(grid.rows / squares.rows));
      across = Math.max(across, Math.ceil(grid.columns / squares.columns));
    }
    return { down, across };
  }

  /** Where the keyboard begins: the best chosen block of what is looked at, else its first block. */
  get firstPlace(): CellPlace | null {
    const { chosen, matrices } = this.model;
    if (matrices.length === 0) return null;
    const { matrix } = this.focus;
    if (!chosen) return { matrix: matrix ?? 0, row: 0, column: 0 };
    const best = matrix === null ? chosen.ranks.indexOf(0) : chosen.counts[matrix] > 0 ? chosen.first[matrix] : -1;
    return best < 0 ? { matrix: matrix ?? 0, row: 0, column: 0 } : placeOfCell(matrices, chosen.cells[best]);
  }

  #repaint(): void {
    const range = this.mode === "selected" ? null : rangeOf(this.model, this.mode);
    this.paint = { mode: this.mode, scale: range && colorScale(this.scaleKind, range), flat: flatColors[this.themeKind] };
  }

  /** A new layout keeps what was looked at, as far as it is a matrix or a layer. */
  #layOut(): void {
    const { row, matrix } = this.focus;
    this.layout = layoutModel(this.model.matrices, this.area);
    const target = matrix !== null ? this.layout.matrices[matrix] : row !== null ? this.layout.rows[row] : undefined;
    this.view = target ? views.viewOf(target, this.layout, this.area) : views.wholeModel;
    this.#tell("view");
  }

  #tell(change: HeatmapChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

function samePlace(a: CellPlace | null, b: CellPlace | null): boolean {
  return a === b || (a !== null && b !== null && a.matrix === b.matrix && a.row === b.row && a.column === b.column);
}
