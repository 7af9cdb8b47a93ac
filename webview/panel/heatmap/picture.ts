/**
 * The heatmap on two canvases: values below, and above them what must not change their colours (names, outlines, where pointer and keyboard are).
 * It decides nothing: what stands where and has which colour comes from the control.
 * The rules to keep: what did not change is not drawn again; values are never smoothed, so that a colour on the screen is a colour of the scale.
 */
import type { Theme } from "../../theme.ts";
import type { HeatmapControl } from "./control.ts";
import { type CellPlace, type MatrixGrid, placeOfCell } from "./grids.ts";
import type { Rect } from "./layout.ts";
import { cssOf } from "./ramp.ts";
import { layerText } from "./texts.ts";
import { Tiles } from "./tiles.ts";
import { intersects, onScreen } from "./view.ts";

/** From this size on, chosen blocks are outlined. */
const outlinedCellPixels = 7;
const hatchPixels = 6;
const nameHeight = 16;

export class Picture {
  readonly #control: HeatmapControl;
  readonly #values: CanvasRenderingContext2D;
  readonly #marks: CanvasRenderingContext2D;
  readonly #tiles = new Tiles();
  #theme: Theme;
  #hatch: CanvasPattern | string = "";

  constructor(control: HeatmapControl, values: HTMLCanvasElement, marks: HTMLCanvasElement, theme: Theme) {
    this.#control = control;
    this.#values = values.getContext("2d", { alpha: true }) as CanvasRenderingContext2D;
    this.#marks = marks.getContext("2d") as CanvasRenderingContext2D;
    this.#theme = theme;
    this.setTheme(theme);
  }

  setTheme(theme: Theme): void {
    this.#theme = theme;
    this.#hatch = hatched(this.#control) ?? cssOf(this.#control.paint.flat.ground);
  }

  /** Gives the canvases as many pixels as the screen has there. */
  resize(): void {
    const { area, pixelRatio } = this.#control;
    for (const { canvas } of [this.#values, this.#marks]) {
      canvas.width = Math.max(1, Math.round(area.width * pixelRatio));
      canvas.height = Math.max(1, Math.round(area.height * pixelRatio));
    }
    this.#hatch = hatched(this.#control) ?? this.#hatch;
  }

  /** Draws the values: all of them when places changed, else only matrices that look different. */
  drawValues(placesChanged: boolean): void {
    const { model, paint, cellPixels, area, pixelRatio } = this.#control;
    const context = this.#values;
    const changed = this.#tiles.update(model, paint, cellPixels);
    context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
    context.imageSmoothingEnabled = false;
    if (placesChanged || !changed) context.clearRect(0, 0, area.width, area.height);
    const matrices = placesChanged || !changed ? model.matrices.keys() : changed;
    for (const matrix of matrices) {
      const rect = this.#control.matrixRect(matrix);
      if (intersects(rect, area)) this.#drawMatrix(matrix, rect);
    }
  }

  #drawMatrix(matrix: number, { x, y, width, height }: Rect): void {
    const tile = this.#tiles.tile(matrix);
    if (tile.gaps) {
      this.#values.fillStyle = this.#hatch;
      this.#values.fillRect(x, y, width, height);
    }
    this.#values.drawImage(this.#tiles.canvas, tile.x, tile.y, tile.columns, tile.rows, x, y, width, height);
  }

  /** Draws names, outlines and cursors. */
  drawMarks(keyboardShown: boolean): void {
    const { area, pixelRatio, hovered, active } = this.#control;
    const context = this.#marks;
    context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
    context.clearRect(0, 0, area.width, area.height);
    this.#drawNames();
    this.#drawOutlines();
    if (hovered) this.#drawCursor(hovered, this.#theme.foreground);
    if (active && keyboardShown) this.#drawCursor(active, this.#theme.focus);
  }

  #drawNames(): void {
    const { layout, view, area, model } = this.#control;
    const context = this.#marks;
    context.fillStyle = this.#theme.mutedForeground;
    context.font = `11px ${this.#theme.fontFamily}`;
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (const { kind, ...rect } of layout.heads) {
      const { x, y, width, height } = onScreen(rect, view);
      // A letter alone where the name does not fit, as q, k, v and o are.
      const fitting = [kind, kind[0]].find((text) => context.measureText(text).width <= width + 3);
      if (fitting) context.fillText(fitting, x + width / 2, y + height - 8);
    }
    context.textAlign = "right";
    let last = { x: Number.NaN, middle: 0 };
    for (const { layer, ...rect } of layout.rows) {
      const { x, y, height } = onScreen(rect, view);
      const middle = y + height / 2;
      // Where layers are lower than a number is, some go without.
      if (layer < 0 || (x === last.x && middle - last.middle < 11)) continue;
      context.fillText(String(layer), x - 6, middle);
      last = { x, middle };
    }
    context.textAlign = "left";
    for (const [matrix, rect] of layout.matrices.entries()) {
      const screen = onScreen(rect, view);
      const above = { ...screen, y: screen.y - nameHeight, height: nameHeight };
      if (layout.rowGap * view.zoom > nameHeight) {
        if (intersects(above, area)) this.#drawName(model.matrices[matrix], above);
      } else if (model.matrices[matrix].layer < 0 && intersects(screen, area)) {
        // The last row has room to the right of its matrices.
        const next = layout.matrices[matrix + 1];
        if (next?.y !== rect.y) context.fillText(model.matrices[matrix].name, screen.x + screen.width + 6, screen.y + screen.height / 2);
      }
    }
  }

  /** The longest name that fits above the matrix. */
  #drawName({ name, layer, kind }: MatrixGrid, { x, y, width }: Rect): void {
    const left = Math.max(4, x);
    const fitting = [name, `${layerText(layer)} · ${kind}`, kind].find((text) => this.#marks.measureText(text).width <= x + width - left);
    if (fitting) this.#marks.fillText(fitting, left, y + nameHeight / 2);
  }

  /** Two lines, so that one of them stands out from every colour. */
  #drawOutlines(): void {
    const { model, cellPixels, area, mode } = this.#control;
    if (!model.chosen || cellPixels < outlinedCellPixels || mode === "selected") return;
    const context = this.#marks;
    const visible = model.matrices.map((_, matrix) => intersects(this.#control.matrixRect(matrix), area));
    const rects: Rect[] = [];
    for (const cell of model.chosen.cells) {
      const place = placeOfCell(model.matrices, cell);
      const rect = visible[place.matrix] ? this.#control.rectOf(place) : null;
      if (rect && intersects(rect, area)) rects.push(rect);
    }
    for (const [color, inset] of [
      ["#000000", 0.5],
      ["#ffffff", 1.5],
    ] as const) {
      context.beginPath();
      for (const { x, y, width, height } of rects) context.rect(x + inset, y + inset, width - 2 * inset, height - 2 * inset);
      context.lineWidth = 1;
      context.strokeStyle = color;
      context.stroke();
    }
  }

  #drawCursor(place: CellPlace, color: string): void {
    const rect = this.#control.rectOf(place);
    if (!rect) return;
    const grow = Math.max(1.5, (6 - Math.min(rect.width, rect.height)) / 2);
    const context = this.#marks;
    for (const [stroke, width] of [
      [this.#theme.background, 4],
      [color, 2],
    ] as const) {
      context.strokeStyle = stroke;
      context.lineWidth = width;
      context.strokeRect(rect.x - grow, rect.y - grow, rect.width + 2 * grow, rect.height + 2 * grow);
    }
  }
}

/** Slanting lines on a ground: no value of any scale. */
function hatched({ paint: { flat }, pixelRatio }: HeatmapControl): CanvasPattern | null {
  const size = Math.round(hatchPixels * pixelRatio);
  const canvas = document.createElement("canvas");
  canvas.width = size;
  canvas.height = size;
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.fillStyle = cssOf(flat.ground);
  context.fillRect(0, 0, size, size);
  context.strokeStyle = cssOf(flat.hatch);
  context.lineWidth = Math.max(1, pixelRatio);
  context.beginPath();
  for (const shift of [-size, 0, size]) {
    context.moveTo(shift - 1, size + 1);
    context.lineTo(shift + size + 1, -1);
  }
  context.stroke();
  const pattern = context.createPattern(canvas, "repeat");
  pattern?.setTransform(new DOMMatrix().scale(1 / pixelRatio));
  return pattern;
}
