/**
 * Sends what the charts show to the host, which asks where to save it: the scalars as CSV, the drawn plots as PNG.
 * The rule to keep: a CSV holds every value unrounded; a PNG is what is on the screen, with its titles, on the theme's ground.
 */
import { send } from "../host.ts";
import type { Theme } from "../theme.ts";
import { exportName, longestContent } from "./exportName.ts";

/** A plot and the words over it. */
export interface ExportedPlot {
  title: string;
  legend: readonly { name: string; color: string }[];
  canvas: HTMLCanvasElement;
}

/** Saves a text as `<run>-<what>.csv`; false when it is longer than a message may be. */
export function exportCsv(runName: string, what: string, content: string): boolean {
  if (content.length > longestContent) return false;
  send({ kind: "save", name: exportName(runName, what, "csv"), content, encoding: "text" });
  return true;
}

/** Saves the plots as `<run>-<what>.png`, one under the other, narrow ones side by side. Nothing is saved where nothing is drawn. */
export function exportPng(runName: string, what: string, plots: readonly ExportedPlot[], theme: Theme): void {
  if (plots.length === 0) return;
  const picture = drawn(plots, theme);
  const content = picture.toDataURL("image/png").replace(/^data:image\/png;base64,/, "");
  send({ kind: "save", name: exportName(runName, what, "png"), content, encoding: "base64" });
}

function drawn(plots: readonly ExportedPlot[], theme: Theme): HTMLCanvasElement {
  const scale = devicePixelRatio;
  const titleHeight = Math.round(theme.fontSizePx * 2 * scale);
  const width = Math.max(...plots.map(({ canvas }) => canvas.width));
  const rows = inRows(plots, width);
  const heightOf = (row: readonly ExportedPlot[]) => titleHeight + Math.max(...row.map(({ canvas }) => canvas.height));
  const picture = document.createElement("canvas");
  picture.width = width;
  picture.height = rows.reduce((sum, row) => sum + heightOf(row), 0);
  const context = picture.getContext("2d");
  if (!context) return picture;
  context.fillStyle = theme.background;
  context.fillRect(0, 0, picture.width, picture.height);
  context.font = `${Math.round(theme.fontSizePx * scale)}px ${theme.fontFamily}`;
  context.textBaseline = "middle";
  let top = 0;
  for (const row of rows) {
    let left = 0;
    for (const plot of row) {
      writeTitle(context, plot, theme.foreground, left + 8 * scale, top + titleHeight / 2, scale);
      context.drawImage(plot.canvas, left, top + titleHeight);
      left += plot.canvas.width;
    }
    top += heightOf(row);
  }
  return picture;
}

/** As many in a row as have room. */
function inRows(plots: readonly ExportedPlot[], width: number): ExportedPlot[][] {
  const rows: ExportedPlot[][] = [];
  let left = Infinity;
  for (const plot of plots) {
    if (left + plot.canvas.width > width) {
      rows.push([]);
      left = 0;
    }
    rows[rows.length - 1].push(plot);
    left += plot.canvas.width;
  }
  return rows;
}

function writeTitle(context: CanvasRenderingContext2D, plot: ExportedPlot, foreground: string, left: number, middle: number, scale: number): void {
  let x = left;
  const write = (text: string) => {
    context.fillStyle = foreground;
    context.fillText(text, x, middle);
    x += context.measureText(text).width;
  };
  write(plot.title);
  for (const { name, color } of plot.legend) {
    context.fillStyle = color;
    context.fillRect(x + 12 * scale, middle - scale, 12 * scale, 2 * scale);
    x += 28 * scale;
    write(name);
  }
}
