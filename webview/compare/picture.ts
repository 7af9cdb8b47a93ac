/**
 * Draws a picture of shapes: as SVG on the page and in a file, on a canvas for a PNG. What is drawn where was decided by the picture.
 * The rule to keep: the file and the PNG are what is on the page, on the theme's ground.
 */
import { markerOutline } from "../../src/protocol/chartShapes.ts";
import type { Picture, Shape } from "../../src/protocol/comparePicture.ts";
import { svgElement } from "../element.ts";
import type { Theme } from "../theme.ts";

/** The picture as an SVG element, with tips on its markers. */
export function svgOf(picture: Picture, theme: Theme): SVGSVGElement {
  const { width, height, shapes, description } = picture;
  const attributes = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description, "font-family": theme.fontFamily };
  const svg = svgElement("svg", attributes, svgElement("rect", { width, height, fill: theme.background }));
  for (const shape of shapes) svg.append(...nodesOf(shape, theme));
  return svg;
}

/** The text of an SVG file. */
export function svgText(picture: Picture, theme: Theme): string {
  const svg = svgOf(picture, theme);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}\n`;
}

function colorOf(series: number | null, theme: Theme, role: string): string {
  if (series !== null) return theme.series[series % theme.series.length];
  return role === "grid" ? theme.grid : theme.foreground;
}

const round = (value: number) => Math.round(value * 100) / 100;
const pointsOf = (points: readonly [number, number][]) => points.map(([x, y]) => `${round(x)},${round(y)}`).join(" ");

function nodesOf(shape: Shape, theme: Theme): SVGElement[] {
  switch (shape.kind) {
    case "line": {
      const stroke = { stroke: colorOf(shape.series, theme, shape.role), "stroke-width": shape.role === "series" ? 1.5 : 1 };
      const dash = { "stroke-dasharray": shape.dashed ? "6 4" : gridDash(shape.role, theme) };
      return [svgElement("line", { x1: round(shape.x1), y1: round(shape.y1), x2: round(shape.x2), y2: round(shape.y2), ...stroke, ...dash })];
    }
    case "path":
      return [
        svgElement("polyline", { points: pointsOf(shape.points), fill: "none", stroke: colorOf(shape.series, theme, "series"), "stroke-width": 2 }),
      ];
    case "band": {
      const { x, y, width, height } = shape;
      return [
        svgElement("rect", {
          x: round(x),
          y: round(y),
          width: round(width),
          height: round(height),
          fill: colorOf(shape.series, theme, ""),
          "fill-opacity": 0.15,
        }),
      ];
    }
    case "marker":
      return [markerNode(shape, theme)];
    case "text": {
      const look = { "font-size": shape.role === "title" ? 14 : 12, "font-weight": shape.role === "title" ? 600 : null };
      const place = { x: round(shape.x), y: round(shape.y), "text-anchor": shape.anchor, fill: theme.foreground };
      return [svgElement("text", { ...place, ...look }, shape.text)];
    }
  }
}

/** In high contrast a full grid would be as loud as the lines. */
function gridDash(role: string, theme: Theme): string | null {
  return role === "grid" && theme.kind.startsWith("highContrast") ? "1 5" : null;
}

function markerNode(shape: Extract<Shape, { kind: "marker" }>, theme: Theme): SVGElement {
  const color = colorOf(shape.series, theme, "series");
  const { lines, closed } = markerOutline(shape.marker, shape.x, shape.y);
  const look = closed ? { fill: color, stroke: theme.background, "stroke-width": 1 } : { fill: "none", stroke: color, "stroke-width": 2 };
  const drawn = lines.map((points) => svgElement(closed ? "polygon" : "polyline", { points: pointsOf(points), ...look }));
  const group = svgElement("g", {}, ...drawn);
  if (shape.tip !== "") group.prepend(svgElement("title", {}, shape.tip));
  return group;
}

/** The picture on a canvas, as sharp as the screen. */
export function canvasOf(picture: Picture, theme: Theme, scale = Math.max(2, devicePixelRatio)): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.scale(scale, scale);
  context.fillStyle = theme.background;
  context.fillRect(0, 0, picture.width, picture.height);
  for (const shape of picture.shapes) paint(context, shape, theme);
  return canvas;
}

function paint(context: CanvasRenderingContext2D, shape: Shape, theme: Theme): void {
  context.setLineDash([]);
  context.lineWidth = 1;
  switch (shape.kind) {
    case "line":
      context.strokeStyle = colorOf(shape.series, theme, shape.role);
      context.lineWidth = shape.role === "series" ? 1.5 : 1;
      if (shape.dashed) context.setLineDash([6, 4]);
      else if (gridDash(shape.role, theme)) context.setLineDash([1, 5]);
      trace(context, [
        [shape.x1, shape.y1],
        [shape.x2, shape.y2],
      ]);
      return;
    case "path":
      context.strokeStyle = colorOf(shape.series, theme, "series");
      context.lineWidth = 2;
      trace(context, shape.points);
      return;
    case "band":
      context.globalAlpha = 0.15;
      context.fillStyle = colorOf(shape.series, theme, "");
      context.fillRect(shape.x, shape.y, shape.width, shape.height);
      context.globalAlpha = 1;
      return;
    case "marker":
      paintMarker(context, shape, theme);
      return;
    case "text":
      context.font = `${shape.role === "title" ? "600 14px" : "12px"} ${theme.fontFamily}`;
      context.textAlign = shape.anchor === "middle" ? "center" : shape.anchor;
      context.fillStyle = theme.foreground;
      context.fillText(shape.text, shape.x, shape.y);
  }
}

function paintMarker(context: CanvasRenderingContext2D, shape: Extract<Shape, { kind: "marker" }>, theme: Theme): void {
  const color = colorOf(shape.series, theme, "series");
  const { lines, closed } = markerOutline(shape.marker, shape.x, shape.y);
  for (const points of lines) {
    context.lineWidth = closed ? 1 : 2;
    context.strokeStyle = closed ? theme.background : color;
    context.fillStyle = color;
    context.beginPath();
    for (const [index, [x, y]] of points.entries())
      if (index === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
    if (closed) {
      context.closePath();
      context.fill();
    }
    context.stroke();
  }
}

function trace(context: CanvasRenderingContext2D, points: readonly (readonly [number, number])[]): void {
  context.beginPath();
  for (const [index, [x, y]] of points.entries())
    if (index === 0) context.moveTo(x, y);
    else context.lineTo(x, y);
  context.stroke();
}
