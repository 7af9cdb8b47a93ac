/**
 * A block's values as a zoomable picture with numbers where there is room, walked by mouse and keyboard. It says which window is seen and draws what came;
 * what has not come is left empty, and what came stays until something newer does.
 * The rules to keep: a drawn pixel stands for one value that was read, nothing is interpolated; values and what they are scaled by are of one reading.
 */
import { setText } from "../element.ts";
import { t } from "../strings.ts";
import { shown } from "./plots.ts";
import { covers, fitted, panned, type Size, type Viewport, type Window, windowOf, zoomed } from "./viewport.ts";

/** Values of a window of a block, row-major. */
export interface Picture extends Window {
  values: Float32Array;
  block: Size;
  /** What full colour stands for, |value|. */
  scale: number;
}

const side = 360;
/** From this size of a cell on its number is written into it. */
const numberedCell = 44;

export class MatrixView {
  readonly element: HTMLElement;
  readonly #canvas = document.createElement("canvas");
  /** What is held, a pixel a value. */
  readonly #pixels = document.createElement("canvas");
  readonly #readout = document.createElement("output");
  readonly #extent = document.createElement("p");
  readonly #onMoved: () => void;
  #block: Size = { rows: 1, columns: 1 };
  #view: Viewport = { row: 0, column: 0, cell: 1 };
  #held: Picture | null = null;
  #cursor = { row: 0, column: 0 };

  /** `onMoved` is called when values are to be seen that are not there. */
  constructor(onMoved: () => void) {
    this.#onMoved = onMoved;
    this.element = document.createElement("div");
    this.element.className = "matrix";
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "application");
    this.#canvas.setAttribute("aria-label", t("Values of the block: arrow keys walk, plus and minus zoom"));
    this.#readout.setAttribute("aria-live", "polite");
    this.element.append(this.#canvas, this.#extent, this.#readout);
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = this.#canvas.height = side * ratio;
    this.#canvas.style.width = this.#canvas.style.height = `${side}px`;
    this.#listen();
  }

  /** The values that are seen; while there are none, so many from the block's corner on as there may be room for. */
  get window(): Window {
    return this.#held ? windowOf(this.#view, this.#block, side, side) : { row: 0, column: 0, rows: side, columns: side };
  }

  /** Draws a reading in place of the one before. */
  show(picture: Picture): void {
    const { block } = picture;
    if (block.rows !== this.#block.rows || block.columns !== this.#block.columns) this.#view = fitted(block, side, side);
    this.#block = block;
    this.#held = picture;
    this.#paint(picture);
    this.#see();
    if (this.#readout.textContent !== "") this.#say();
  }

  /** What comes next is of something else. */
  clear(): void {
    this.#held = null;
    this.#draw();
    this.#extent.textContent = this.#readout.textContent = "";
  }

  #listen(): void {
    this.#canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.#move(zoomed(this.#view, event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY, this.#block, side, side));
      },
      { passive: false },
    );
    this.#canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) {
        const { cell } = this.#view;
        this.#move(panned(this.#view, -event.movementY / cell, -event.movementX / cell, this.#block, side, side));
      } else this.#point(this.#view.row + event.offsetY / this.#view.cell, this.#view.column + event.offsetX / this.#view.cell);
    });
    this.#canvas.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #onKey(event: KeyboardEvent): void {
    const { row, column } = this.#cursor;
    const steps: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in steps) {
      const [down, right] = steps[event.key];
      this.#point(row + down, column + right);
      this.#reveal();
    } else if (event.key === "Home") {
      this.#point(0, 0);
      this.#reveal();
    } else if (event.key === "End") {
      this.#point(this.#block.rows - 1, this.#block.columns - 1);
      this.#reveal();
    } else if (event.key === "+" || event.key === "=") this.#zoomAtCursor(1.25);
    else if (event.key === "-") this.#zoomAtCursor(0.8);
    else return;
    event.preventDefault();
  }

  #zoomAtCursor(factor: number): void {
    const { row, column, cell } = this.#view;
    const [x, y] = [(this.#cursor.column - column) * cell, (this.#cursor.row - row) * cell];
    this.#move(zoomed(this.#view, factor, x, y, this.#block, side, side));
  }

  /** Brings the walked-to value into sight. */
  #reveal(): void {
    const { row, column, rows, columns } = windowOf(this.#view, this.#block, side, side);
    const beyond = (at: number, first: number, count: number) => (at < first ? at - first : at >= first + count - 1 ? at - (first + count - 2) : 0);
    const [down, right] = [beyond(this.#cursor.row, row, rows), beyond(this.#cursor.column, column, columns)];
    if (down !== 0 || right !== 0) this.#move(panned(this.#view, down, right, this.#block, side, side));
    else this.#draw();
  }

  #point(row: number, column: number): void {
    const clamp = (value: number, count: number) => Math.min(Math.max(Math.floor(value), 0), count - 1);
    this.#cursor = { row: clamp(row, this.#block.rows), column: clamp(column, this.#block.columns) };
    this.#say();
    this.#draw();
  }

  /** The value under the cursor. */
  #say(): void {
    const { row, column } = this.#cursor;
    const value = this.#valueAt(row, column);
    setText(this.#readout, t("row {0}, column {1}: {2}", row, column, value === null ? "…" : shown(value)));
  }

  #move(view: Viewport): void {
    this.#view = view;
    this.#see();
  }

  /** Draws what there is, and asks for what is seen and not there. */
  #see(): void {
    this.#draw();
    if (!this.#held) return;
    const { window } = this;
    const { rows, columns } = this.#block;
    const [lastRow, lastColumn] = [window.row + window.rows - 1, window.column + window.columns - 1];
    const whole = window.rows === rows && window.columns === columns;
    const text = whole ? "" : t("Rows {0} to {1} of {2}, columns {3} to {4} of {5}", window.row, lastRow, rows, window.column, lastColumn, columns);
    setText(this.#extent, text);
    if (!covers(this.#held, window)) this.#onMoved();
  }

  #valueAt(row: number, column: number): number | null {
    const held = this.#held;
    if (!held || !covers(held, { row, column, rows: 1, columns: 1 })) return null;
    return held.values[(row - held.row) * held.columns + column - held.column];
  }

  #draw(): void {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    const ratio = this.#canvas.width / side;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, side, side);
    const { row, column, cell } = this.#view;
    if (this.#held) {
      const { row: top, column: left, rows, columns } = this.#held;
      context.imageSmoothingEnabled = false;
      context.drawImage(this.#pixels, (left - column) * cell, (top - row) * cell, columns * cell, rows * cell);
      if (cell >= numberedCell) this.#number(context, this.#held.scale);
    }
    context.strokeStyle = getComputedStyle(document.body).getPropertyValue("--vscode-focusBorder") || "#0078d4";
    context.lineWidth = 2;
    context.strokeRect((this.#cursor.column - column) * cell - 1, (this.#cursor.row - row) * cell - 1, cell + 2, cell + 2);
  }

  /** A number into every cell that is seen. */
  #number(context: CanvasRenderingContext2D, scale: number): void {
    const { row, column, cell } = this.#view;
    const seen = this.window;
    context.font = `${Math.min(11, cell / 5)}px monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let r = seen.row; r < seen.row + seen.rows; r++)
      for (let c = seen.column; c < seen.column + seen.columns; c++) {
        const value = this.#valueAt(r, c);
        if (value === null) continue;
        context.fillStyle = Math.abs(value) > 0.6 * scale ? "#ffffff" : "#000000";
        context.fillText(shown(value), (c - column + 0.5) * cell, (r - row + 0.5) * cell, cell - 2);
      }
  }

  #paint({ values, rows, columns, scale }: Picture): void {
    this.#pixels.width = columns;
    this.#pixels.height = rows;
    const image = new ImageData(columns, rows);
    for (let i = 0; i < values.length; i++) image.data.set([...divergingColor(values[i], scale), 255], 4 * i);
    this.#pixels.getContext("2d")?.putImageData(image, 0, 0);
  }
}

/** Blue below zero, white at it, orange above: told apart with every kind of colour blindness, and by lightness alone in size. NaN and infinity are magenta. */
function divergingColor(value: number, scale: number): number[] {
  if (!Number.isFinite(value)) return [255, 0, 255];
  const share = scale > 0 ? Math.min(1, Math.abs(value) / scale) : 0;
  const end = value < 0 ? [5, 80, 170] : [190, 75, 0];
  return end.map((channel) => Math.round(255 + (channel - 255) * share));
}
