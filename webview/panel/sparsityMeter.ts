/**
 * The sparsity meter of a run on a pruned base: the share of zeros now, a line of all measurements that has to stay flat, a bar a layer with a mark where
 * the base stood, and an alarm with its number when a zero was lost. Shown only where zeros were measured.
 * Attributes `data-zeros`, `data-entries`, `data-lost`, `data-step`, and `data-layer` with `data-share` carry the numbers unrounded.
 * The rule to keep: drawn from `sparsity` events alone; the alarm is told by words and a sign, not by colour only.
 */
import { element, oncePerFrame, setText, svgElement } from "../element.ts";
import { t } from "../strings.ts";
import { exactCount } from "./byteUnits.ts";
import { isAdapter, methodName, methodOf } from "./methodTexts.ts";
import type { PanelState, Store } from "./store.ts";
import { shareText, type Zeros, zerosOf, zerosSentence } from "./zeros.ts";
import "./layerRows.css";
import "./sparsityMeter.css";

const lineWidth = 240;
const lineHeight = 48;

/** Builds the meter and keeps it current; its container is hidden where there is nothing to measure. */
export function mountSparsityMeter(container: HTMLElement, store: Store): void {
  const share = element("span", { class: "sparsity-share" });
  const counts = element("span", { class: "muted" });
  const sentence = element("p", { class: "sparsity-sentence" });
  // Only the sentence of the alarm is told at once; numbers that stay are not.
  const alarm = element("p", { class: "sparsity-alarm", role: "alert" });
  const line = element("div", { class: "sparsity-line" });
  const bars = element("div", { class: "sparsity-bars" });
  const table = element("table", { class: "numbers" });
  const scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("Zeros at every measurement") }, table);
  const section = element(
    "section",
    { class: "sparsity" },
    element("h2", {}, t("Sparsity")),
    element("p", {}, share, " ", counts),
    sentence,
    alarm,
    element("div", { class: "sparsity-figures" }, line, bars),
    element("details", {}, element("summary", {}, t("Zeros as numbers")), scroll),
  );
  container.append(section);

  let drawn: PanelState["sparsities"] | null = null;
  const draw = oncePerFrame(() => {
    const { sparsities } = store.state;
    const zeros = zerosOf(sparsities);
    container.hidden = zeros === null;
    if (!zeros || drawn === sparsities) return;
    drawn = sparsities;
    Object.assign(section.dataset, { zeros: zeros.zeros, entries: zeros.entries, lost: zeros.lost, step: zeros.step });
    setText(share, t("{0} zeros", shareText(zeros.share)));
    setText(counts, t("{0} of {1} weights of the linear maps", exactCount(zeros.zeros), exactCount(zeros.entries)));
    sentence.hidden = zeros.lost > 0;
    setText(sentence, zerosSentence(zeros));
    alarm.hidden = zeros.lost === 0;
    setText(alarm, zeros.lost > 0 ? `${zerosSentence(zeros)} ${adviceOf(store.state)}` : "");
    line.replaceChildren(lineOf(zeros));
    bars.replaceChildren(...barsOf(zeros));
    table.replaceChildren(...tableOf(zeros));
  });
  container.hidden = zerosOf(store.state.sparsities) === null;
  draw();
  store.subscribe((_, changed) => {
    if (changed === "hydrate" || changed === "events") draw();
  });
}

function adviceOf(state: PanelState): string {
  const method = methodOf(state);
  const kept = method !== null && isAdapter(method) && method !== "lora" && method !== "dora";
  return kept
    ? t("{0} should have kept them: please report this.", methodName(method))
    : t("Methods that keep them: LoRS, SPP, SQFT, and full fine-tuning with sparse: keep.");
}

/** All measurements from 0 to 100 %, so that only a real change looks like one. */
function lineOf({ measured, share }: Zeros): SVGElement {
  const last = Math.max(measured.at(-1)?.step ?? 0, 1);
  const point = (step: number, at: number) => `${((step / last) * lineWidth).toFixed(2)},${((1 - at) * lineHeight).toFixed(2)}`;
  const flat = point(0, measured[0].share).split(",")[1];
  const words = t(
    "Share of zeros from step {0} to step {1}: {2} at first, {3} now",
    measured[0].step,
    last,
    shareText(measured[0].share),
    shareText(share),
  );
  const svg = svgElement("svg", { viewBox: `-4 -4 ${lineWidth + 8} ${lineHeight + 8}`, role: "img", "aria-label": words });
  svg.append(
    svgElement("path", { class: "sparsity-axis", d: `M 0 0 V ${lineHeight} H ${lineWidth}` }),
    svgElement("path", { class: "sparsity-base", d: `M 0 ${flat} H ${lineWidth}` }),
    svgElement("polyline", { class: "sparsity-measured", points: measured.map(({ step, share: at }) => point(step, at)).join(" ") }),
  );
  for (const { step, share: at, lost } of measured) {
    const [cx, cy] = point(step, at).split(",");
    const dot = svgElement("circle", { cx, cy, r: 2.5, class: lost > 0 ? "sparsity-dot lost" : "sparsity-dot" });
    dot.append(svgElement("title", {}, t("Step {0}: {1} zeros, {2} lost", step, shareText(at), exactCount(lost))));
    svg.append(dot);
  }
  return svg;
}

function barsOf({ layers }: Zeros): HTMLElement[] {
  return layers.map(({ share, baseShare }, layer) => {
    const fill = element("span", { class: "sparsity-fill", "data-layer": layer, "data-share": share });
    fill.style.width = `${100 * share}%`;
    const track = element("span", { class: "sparsity-track" }, fill);
    if (baseShare !== null) {
      const mark = element("span", { class: "sparsity-mark", title: t("The base: {0}", shareText(baseShare)) });
      mark.style.left = `${100 * baseShare}%`;
      track.append(mark);
    }
    const number = element("span", { class: "share-number" }, shareText(share));
    return element(
      "div",
      { class: "share-row" },
      element("span", { class: "share-layer", title: t("Layer {0}", layer) }, String(layer)),
      track,
      number,
    );
  });
}

function tableOf({ measured }: Zeros): HTMLElement[] {
  const head = [t("Step"), t("Zeros"), t("Lost")].map((text) => element("th", { scope: "col" }, text));
  const rows = measured.map(({ step, share, lost }) =>
    element("tr", {}, element("th", { scope: "row" }, String(step)), element("td", {}, shareText(share)), element("td", {}, exactCount(lost))),
  );
  return [
    element("caption", { class: "visually-hidden" }, t("Zeros at every measurement")),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  ];
}
