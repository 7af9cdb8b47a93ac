/**
 * results.svg of a comparison: the picture of comparePicture.ts as the text of a file that stands alone. Pure text.
 * The rule to keep: names go in as text, escaped; the file refers to nothing outside itself.
 */
import { type MarkerName, markerOutline } from "../../protocol/chartShapes.ts";
import { comparisonPicture, type PictureWords, type Shape } from "../../protocol/comparePicture.ts";
import type { ComparisonSummary } from "../../protocol/compareSummary.ts";
import { formatBytes, formatCount, formatDuration, formatLoss } from "../terminal/format.ts";

/** Eight colours that stay apart for every kind of colour blindness, on white. */
const colors = ["#0056b1", "#d87600", "#108c45", "#b0539a", "#598bff", "#704300", "#919191", "#1f1f1f"];
const ink = "#1f1f1f";
const gridInk = "#dddddd";

const words: PictureWords = {
  loss: "Held-out loss",
  parameters: "trained parameters",
  memory: "Peak memory",
  seconds: "Time per step",
  accuracy: (task) => `${task} accuracy`,
  floor: "most frequent answer",
  before: "untrained model",
  formatLoss: (value) => value.toFixed(3),
  formatShare: (value) => `${(100 * value).toFixed(1)} %`,
  formatCount,
  formatBytes,
  formatSeconds: (value) => formatDuration(value * 1000),
  tip: (label, parameters, value, spread, seeds) =>
    `${label} with ${parameters} parameters: ${value}${spread === null ? "" : ` ± ${spread}`} over ${seeds === 1 ? "1 seed" : `${seeds} seeds`}`,
};

/** The figure as SVG. */
export function comparisonSvg(summary: ComparisonSummary): string {
  const { width, height, shapes, description } = comparisonPicture(summary, { ...words, formatLoss }, 860);
  const parts = shapes.map(drawn);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="system-ui, sans-serif">`,
    `<title>${escaped(words.loss)}</title>`,
    `<desc>${escaped(description)}</desc>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

function drawn(shape: Shape): string {
  switch (shape.kind) {
    case "line": {
      const stroke = shape.series === null ? (shape.role === "grid" ? gridInk : ink) : colorOf(shape.series);
      const dash = shape.dashed ? ' stroke-dasharray="6 4"' : "";
      return `<line x1="${n(shape.x1)}" y1="${n(shape.y1)}" x2="${n(shape.x2)}" y2="${n(shape.y2)}" stroke="${stroke}" stroke-width="${shape.role === "series" ? 1.5 : 1}"${dash}/>`;
    }
    case "path":
      return `<polyline points="${pointsText(shape.points)}" fill="none" stroke="${colorOf(shape.series)}" stroke-width="2"/>`;
    case "band":
      return `<rect x="${n(shape.x)}" y="${n(shape.y)}" width="${n(shape.width)}" height="${n(shape.height)}" fill="${colorOf(shape.series)}" fill-opacity="0.15"/>`;
    case "marker":
      return markerText(shape.marker, shape.x, shape.y, colorOf(shape.series), shape.tip);
    case "text": {
      const size = shape.role === "title" ? 14 : 12;
      const weight = shape.role === "title" ? ' font-weight="600"' : "";
      return `<text x="${n(shape.x)}" y="${n(shape.y)}" font-size="${size}"${weight} text-anchor="${shape.anchor}" fill="${ink}">${escaped(shape.text)}</text>`;
    }
  }
}

function markerText(marker: MarkerName, x: number, y: number, color: string, tip: string): string {
  const { lines, closed } = markerOutline(marker, x, y);
  const title = tip === "" ? "" : `<title>${escaped(tip)}</title>`;
  const looks = closed ? `fill="${color}" stroke="#ffffff" stroke-width="1"` : `fill="none" stroke="${color}" stroke-width="2"`;
  const shapes = lines.map((points) =>
    closed ? `<polygon points="${pointsText(points)}" ${looks}/>` : `<polyline points="${pointsText(points)}" ${looks}/>`,
  );
  return `<g>${title}${shapes.join("")}</g>`;
}

function pointsText(points: readonly [number, number][]): string {
  return points.map(([x, y]) => `${n(x)},${n(y)}`).join(" ");
}

function colorOf(series: number): string {
  return colors[series % colors.length];
}

function n(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** Characters that XML does not allow at all are left out. */
function escaped(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  const allowed = text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "");
  return allowed.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
