/**
 * The Q/K/V share: how the chosen blocks, or the parameters of adapters, spread over the kinds of matrices, as a pie in total and as bars per layer, and as a
 * table of the same numbers. It shows the newest choice that holds. Attributes `data-layer` (`all` for the total), `data-projection` and `data-share` carry the numbers unrounded.
 * The rule to keep: drawn only from the event of a choice or of adapters; before it, it says that there is none.
 */
import { element, oncePerFrame, setText, svgElement } from "../element.ts";
import { t } from "../strings.ts";
import { onThemeChange, readTheme, type Theme } from "../theme.ts";
import { readableOn } from "../themeColors.ts";
import { chosenTargets, valueAt } from "./formEdits.ts";
import { isAdapter, methodOf } from "./methodTexts.ts";
import {
  holdsLabel,
  percentText,
  pieSlices,
  projectionColor,
  projectionText,
  type ShareFigure,
  shareFigure,
  shownProjections,
  slicePath,
} from "./shares.ts";
import type { PanelState, Store } from "./store.ts";
import "./layerRows.css";
import "./qkvShare.css";

const radius = 90;
const labelDistance = 0.66 * radius;
/** Of a letter in a label. */
const letterWidth = 6;
/** More layers than this are drawn as thin bars, every tenth with its numbers; all numbers stand in the table. */
const numberedLayers = 40;

export function mountQkvShare(container: HTMLElement, store: Store): void {
  const empty = element("p", { class: "empty" });
  const summary = element("p", { class: "muted" });
  const pieBox = element("div", { class: "share-pie" });
  const bars = element("div", { class: "share-bars" });
  const table = element("table", { class: "numbers" });
  const numbers = element("details", {}, element("summary", {}, t("Shares as numbers")), element("div", { class: "scroll", tabindex: 0 }, table));
  const full = element("div", { class: "share" }, summary, element("div", { class: "share-figures" }, pieBox, bars), numbers);
  container.append(element("section", { class: "qkv-share" }, element("h2", {}, t("Q/K/V share")), empty, full));

  let drawn: { event: PanelState["selection"] | PanelState["adapters"]; theme: Theme } | null = null;
  let theme = readTheme();
  const draw = oncePerFrame(() => {
    const { state } = store;
    const event = state.selection ?? state.adapters;
    const figure = shareFigure(state);
    setText(empty, emptyText(state));
    empty.hidden = figure !== null;
    full.hidden = figure === null;
    if (!figure || (drawn?.event === event && drawn.theme === theme)) return;
    drawn = { event, theme };
    setText(summary, figure.summary);
    pieBox.replaceChildren(pieOf(figure, theme), legendOf(figure, theme));
    bars.classList.toggle("dense", figure.sharesByLayer.length > numberedLayers);
    bars.replaceChildren(...barsOf(figure, theme));
    table.replaceChildren(...tableOf(figure));
  });
  draw();
  store.subscribe((_, changed) => {
    if (changed === "hydrate" || changed === "events" || changed === "form") draw();
  });
  onThemeChange((next) => {
    theme = next;
    draw();
  });
}

/** Why there is no share. */
function emptyText(state: PanelState): string {
  const method = methodOf(state);
  if (method === "full") return t("Full fine-tuning trains every block; there is no share to show.");
  if (method === null || !isAdapter(method)) return t("No blocks chosen yet.");
  const targets = chosenTargets(valueAt(state.form?.values, "method.targets"));
  const names = [...targets.projections, ...targets.others].map(projectionText).join(", ");
  return t("Blocks are not chosen: each of these matrices has an adapter in every layer: {0}.", names);
}

function colorOf(projection: string, theme: Theme): string {
  return theme.series[projectionColor(projection) % theme.series.length];
}

function pieOf({ shares, ofPie }: ShareFigure, theme: Theme): SVGElement {
  const slices = pieSlices(shares);
  const description = slices.map(({ projection, share }) => `${projectionText(projection)} ${percentText(share)}`).join(", ");
  const svg = svgElement("svg", { viewBox: "-100 -100 200 200", role: "img", "aria-label": ofPie(description) });
  for (const { projection, share, from, to } of slices) {
    if (share <= 0) continue;
    svg.append(
      svgElement("path", {
        d: slicePath({ from, to }, radius),
        fill: colorOf(projection, theme),
        stroke: theme.background,
        "stroke-width": 1.5,
        "data-layer": "all",
        "data-projection": projection,
        "data-share": share,
      }),
    );
    const lines = [projectionText(projection), percentText(share)];
    // The others have their percentage in the legend only.
    if (!holdsLabel(share, letterWidth * Math.max(...lines.map(({ length }) => length)), labelDistance)) continue;
    const turn = 2 * Math.PI * ((from + to) / 2);
    const at = share > 0.999 ? 0 : labelDistance;
    const label = svgElement("text", {
      x: at * Math.sin(turn),
      y: -at * Math.cos(turn),
      class: "slice-label",
      fill: readableOn(colorOf(projection, theme)),
    });
    label.append(...lines.map((line, index) => svgElement("tspan", { x: at * Math.sin(turn), dy: index === 0 ? "-0.2em" : "1.15em" }, line)));
    svg.append(label);
  }
  return svg;
}

function legendOf({ shares }: ShareFigure, theme: Theme): HTMLElement {
  return element(
    "ul",
    { class: "share-legend" },
    ...shownProjections(shares).map((projection) => {
      const swatch = element("span", { class: "legend-swatch" });
      swatch.style.background = colorOf(projection, theme);
      const number = element("span", { class: "share-number" }, percentText(shares[projection] ?? 0));
      return element("li", {}, swatch, `${projectionText(projection)} `, number);
    }),
  );
}

/** A bar a layer; all are drawn to one scale, that of the layer with most of the blocks. */
function barsOf({ shares, sharesByLayer }: ShareFigure, theme: Theme): HTMLElement[] {
  const projections = shownProjections(shares);
  const totals = sharesByLayer.map((layer) => projections.reduce((sum, projection) => sum + (layer[projection] ?? 0), 0));
  const most = Math.max(...totals, Number.MIN_VALUE);
  const every = sharesByLayer.length > numberedLayers ? 10 : 1;
  return sharesByLayer.map((layer, index) => {
    const numbered = index % every === 0;
    const parts = projections.filter((projection) => (layer[projection] ?? 0) > 0);
    const track = element("span", { class: "share-track" });
    for (const projection of parts) {
      const share = layer[projection];
      const part = element("span", {
        class: "share-part",
        title: `${t("Layer")} ${index}: ${projectionText(projection)} ${percentText(share)}`,
        "data-layer": index,
        "data-projection": projection,
        "data-share": share,
      });
      part.style.width = `${(100 * share) / most}%`;
      part.style.background = colorOf(projection, theme);
      track.append(part);
    }
    return element(
      "div",
      { class: "share-row" },
      element("span", { class: "share-layer" }, numbered ? String(index) : ""),
      track,
      element("span", { class: "share-number" }, numbered ? percentText(totals[index]) : ""),
    );
  });
}

/** Shares of blocks; of adapters the parameters themselves, with their sums. */
function tableOf({ shares, sharesByLayer, parameters, caption }: ShareFigure): HTMLElement[] {
  const projections = shownProjections(shares);
  const head = [t("Layer"), ...projections.map(projectionText), ...(parameters ? [t("All")] : [])];
  const row = (name: string, cells: readonly string[]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell)));
  const counts = (own: Record<string, number>) => {
    const all = projections.map((projection) => own[projection] ?? 0);
    return [...all, all.reduce((sum, count) => sum + count, 0)].map((count) => count.toLocaleString("en-US"));
  };
  const percents = (own: Record<string, number>) => projections.map((projection) => percentText(own[projection] ?? 0));
  const lines = parameters
    ? [row(t("All"), counts(parameters.all)), ...parameters.byLayer.map((layer, index) => row(String(index), counts(layer)))]
    : [row(t("All"), percents(shares)), ...sharesByLayer.map((layer, index) => row(String(index), percents(layer)))];
  return [
    element("caption", { class: "visually-hidden" }, caption),
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...lines),
  ];
}
