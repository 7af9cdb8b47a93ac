/**
 * Where the chosen blocks lie, drawn in the terminal: a small picture of every matrix, layers downwards, projections side by side; and how the chosen
 * entries are shared between Q, K, V, O and the MLP. Pure: plain data in, lines out. Grids larger than their picture are drawn coarser, never cut.
 */
import { formatPercent } from "./format.ts";
import { paint, type TerminalStyle } from "./style.ts";

/** A matrix that blocks may be chosen from; `name` ends in layer and projection as Hugging Face names do. */
export interface MapMatrix {
  name: string;
  /** Size in blocks. */
  rows: number;
  columns: number;
}

export interface MapBlock {
  name: string;
  row: number;
  column: number;
  /** 0 is the best. */
  rank: number;
}

const headings: Record<string, string> = { q_proj: "Q", k_proj: "K", v_proj: "V", o_proj: "O", gate_proj: "gate", up_proj: "up", down_proj: "down" };
const labelWidth = 9;
const widestPicture = 16;
const narrowestPicture = 3;
/** From few chosen blocks of a cell to all of them. */
const shades = ["·", "░", "▒", "▓", "█"] as const;
/** Colours of the worst to the best quarter of the ranking, and of what is not trained. */
const heat = [24, 31, 78, 226] as const;
const cold = 236;

/** The map: a head line, then the lines of each layer. In colour a pixel is half a character and its colour the best rank in it; else a shade is how many blocks are chosen. */
export function blockMap(matrices: readonly MapMatrix[], blocks: readonly MapBlock[], style: TerminalStyle): string[] {
  const layers = layersOf(matrices);
  const projections = Object.keys(headings).filter((projection) => [...layers.values()].some((layer) => layer.has(projection)));
  if (projections.length === 0) return [];
  const columns = Math.floor((style.width - labelWidth) / projections.length) - 1;
  const widest = Math.max(...matrices.map((matrix) => matrix.columns));
  const width = Math.max(Math.min(columns, widest, widestPicture), narrowestPicture);
  const height = linesPerLayer(layers.size, Math.max(...matrices.map((matrix) => matrix.rows)));
  const chosen = new Map<string, MapBlock[]>(matrices.map(({ name }) => [name, []]));
  for (const block of blocks) chosen.get(block.name)?.push(block);

  const lines = [
    " ".repeat(labelWidth) +
      projections
        .map((projection) => headings[projection].slice(0, width).padEnd(width))
        .join(" ")
        .trimEnd(),
  ];
  for (const [layer, byProjection] of layers) {
    // Pictures that touch would look like one; where a layer has one line only, the screen has no room for gaps.
    if (height > 1 && lines.length > 1) lines.push("");
    const pictures = projections.map((projection) => {
      const matrix = byProjection.get(projection);
      return matrix
        ? picture(matrix, chosen.get(matrix.name) ?? [], blocks.length, width, height, style)
        : Array.from({ length: height }, () => " ".repeat(width));
    });
    for (let line = 0; line < height; line++) {
      const label = line === 0 ? `layer ${layer}`.padEnd(labelWidth) : " ".repeat(labelWidth);
      lines.push((label + pictures.map((rows) => rows[line]).join(" ")).trimEnd());
    }
  }
  return lines;
}

/** One line that says how to read the map. */
export function blockMapLegend(style: TerminalStyle): string {
  if (!style.color) return `${shades[0]} frozen   ${shades.slice(1).join("")} from few to all blocks of a cell trained`;
  return `${paint("▀", style, cold, cold)} frozen   ${heat.map((colour) => paint("▀", style, colour, colour)).join("")} trained, the brighter the higher its score`;
}

/** A bar for each of Q, K, V, O and MLP with its share of the chosen entries. Shares are per projection and sum to 1. */
export function shareBars(shares: Readonly<Record<string, number>>, style: TerminalStyle): string[] {
  const mlp = (shares.gate_proj ?? 0) + (shares.up_proj ?? 0) + (shares.down_proj ?? 0);
  const rows: [string, number][] = [
    ["Q", shares.q_proj ?? 0],
    ["K", shares.k_proj ?? 0],
    ["V", shares.v_proj ?? 0],
    ["O", shares.o_proj ?? 0],
    ["MLP", mlp],
  ];
  const cells = Math.max(Math.min(style.width - 14, 40), 5);
  return rows.map(([name, share]) => {
    const filled = Math.round(Math.min(Math.max(share, 0), 1) * cells);
    return `${name.padEnd(4)}${paint("█".repeat(filled), style, 78)}${paint("░".repeat(cells - filled), style, 240)} ${formatPercent(share).padStart(7)}`;
  });
}

/** Layer → projection → matrix, layers in order. */
function layersOf(matrices: readonly MapMatrix[]): Map<number, Map<string, MapMatrix>> {
  const layers = new Map<number, Map<string, MapMatrix>>();
  for (const matrix of matrices) {
    const parts = /layers\.(\d+)\..*?(\w+)$/.exec(matrix.name);
    if (!parts || !(parts[2] in headings)) continue;
    const layer = Number(parts[1]);
    layers.set(layer, (layers.get(layer) ?? new Map()).set(parts[2], matrix));
  }
  return new Map([...layers].sort(([a], [b]) => a - b));
}

/** Text lines a layer gets: many layers must still fit on a screen. A line is two pixels high. */
function linesPerLayer(layers: number, rows: number): number {
  const room = layers <= 6 ? 4 : layers <= 16 ? 2 : 1;
  return Math.max(Math.min(room, Math.ceil(rows / 2)), 1);
}

/** One matrix as `height` lines of `width` characters. */
function picture(matrix: MapMatrix, blocks: readonly MapBlock[], total: number, width: number, height: number, style: TerminalStyle): string[] {
  const pixelRows = style.color ? 2 * height : height;
  const chosen = Array.from({ length: pixelRows * width }, () => 0);
  const best = Array.from({ length: pixelRows * width }, () => Number.POSITIVE_INFINITY);
  const rowOf = (row: number) => Math.floor((row * pixelRows) / Math.max(matrix.rows, pixelRows));
  const columnOf = (column: number) => Math.floor((column * width) / Math.max(matrix.columns, width));
  for (const { row, column, rank } of blocks) {
    const pixel = rowOf(row) * width + columnOf(column);
    chosen[pixel]++;
    best[pixel] = Math.min(best[pixel], rank);
  }
  const area = countBy(matrix.rows, pixelRows, rowOf).flatMap((rows) => countBy(matrix.columns, width, columnOf).map((columns) => rows * columns));
  return Array.from({ length: height }, (_, line) => {
    const cells = Array.from({ length: width }, (_, column) => {
      if (!style.color) return area[line * width + column] === 0 ? " " : shade(chosen[line * width + column] / area[line * width + column]);
      const [top, bottom] = [2 * line * width + column, (2 * line + 1) * width + column].map((pixel) =>
        area[pixel] === 0 ? null : heatOf(best[pixel], total),
      );
      if (top === null && bottom === null) return " ";
      return bottom === null ? paint("▀", style, top as number) : paint("▀", style, top as number, bottom);
    });
    return cells.join("");
  });
}

/** How many of n blocks fall on each pixel. */
function countBy(n: number, pixels: number, pixelOf: (index: number) => number): number[] {
  const counts = Array.from({ length: pixels }, () => 0);
  for (let i = 0; i < n; i++) counts[pixelOf(i)]++;
  return counts;
}

function shade(share: number): string {
  return shades[share === 0 ? 0 : share === 1 ? shades.length - 1 : 1 + Math.floor(share * (shades.length - 2))];
}

function heatOf(rank: number, total: number): number {
  if (rank === Number.POSITIVE_INFINITY) return cold;
  return heat[heat.length - 1 - Math.min(Math.floor((rank / total) * heat.length), heat.length - 1)];
}
