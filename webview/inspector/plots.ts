/** Small plots of numbers as SVG: bars and lines with their extremes in text. No data, no plot: an empty one says so. */
import { t } from "../strings.ts";

const svgNamespace = "http://www.w3.org/2000/svg";
const width = 320;
const height = 96;

function svg<Name extends keyof SVGElementTagNameMap>(name: Name, attributes: Record<string, string | number>): SVGElementTagNameMap[Name] {
  const element = document.createElementNS(svgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** Numbers as people read them. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(5))) : value.toExponential(3);
}

function frame(title: string, description: string): { figure: HTMLElement; drawing: SVGSVGElement } {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "plot" });
  const label = svg("title", {});
  label.textContent = `${title}: ${description}`;
  drawing.append(label);
  figure.append(caption, drawing);
  return { figure, drawing };
}

function footnote(figure: HTMLElement, left: string, right: string): HTMLElement {
  const note = document.createElement("div");
  note.className = "plot-note";
  for (const text of [left, right]) {
    const part = document.createElement("span");
    part.textContent = text;
    note.append(part);
  }
  figure.append(note);
  return figure;
}

/** Counts of equally wide bins. */
export function histogramPlot(counts: readonly number[], low: number, high: number): HTMLElement {
  const most = Math.max(1, ...counts);
  const { figure, drawing } = frame(t("Histogram"), t("from {0} to {1}, largest bin {2}", shown(low), shown(high), String(most)));
  const step = width / Math.max(1, counts.length);
  counts.forEach((count, i) => {
    const bar = (count / most) * height;
    drawing.append(svg("rect", { x: i * step, y: height - bar, width: Math.max(0.5, step - 0.5), height: bar, class: "bar" }));
  });
  return footnote(figure, shown(low), shown(high));
}

/** Values on a logarithmic scale, left to right. */
export function spectrumPlot(values: readonly number[], effectiveRank: number): HTMLElement {
  const title = t("Singular values");
  const { figure, drawing } = frame(title, t("effective rank {0} of {1}", shown(effectiveRank), String(values.length)));
  const largest = values[0] ?? 0;
  // Below the rounding of f32 a singular value says nothing.
  const floor = largest * 1e-7;
  const depth = Math.log(largest / floor);
  const points = values.map((value, i) => {
    const x = values.length > 1 ? (i / (values.length - 1)) * width : 0;
    const y = largest > 0 ? (Math.log(largest / Math.max(value, floor)) / depth) * (height - 2) + 1 : height;
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  drawing.append(svg("polyline", { points: points.join(" "), class: "line" }));
  return footnote(figure, shown(largest), t("effective rank {0} of {1}", shown(effectiveRank), String(values.length)));
}

/** A series over steps; missing values break the line. */
export function seriesPlot(title: string, steps: readonly number[], values: readonly (number | null)[]): HTMLElement {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const { figure, drawing } = frame(title, known.length === 0 ? t("nothing was kept") : t("from {0} to {1}", shown(low), shown(high)));
  if (known.length === 0) return footnote(figure, t("nothing was kept"), "");
  const [first, last] = [steps[0], steps.at(-1) as number];
  const x = (step: number) => (last > first ? ((step - first) / (last - first)) * (width - 6) + 3 : width / 2);
  const y = (value: number) => (high > low ? ((high - value) / (high - low)) * (height - 6) + 3 : height / 2);
  const at = (i: number) => `${x(steps[i]).toFixed(1)},${y(values[i] as number).toFixed(1)}`;
  let run: string[] = [];
  const flush = () => {
    if (run.length > 1) drawing.append(svg("polyline", { points: run.join(" "), class: "line" }));
    run = [];
  };
  values.forEach((value, i) => {
    if (value === null || !Number.isFinite(value)) {
      flush();
      return;
    }
    run.push(at(i));
    drawing.append(svg("circle", { cx: x(steps[i]).toFixed(1), cy: y(value).toFixed(1), r: 2, class: "point" }));
  });
  flush();
  return footnote(figure, t("step {0}: {1}", String(first), shown(known[0])), t("step {0}: {1}", String(last), shown(known.at(-1) as number)));
}
