/**
 * The legend: the ramp with numbers along it, and what the other colours mean. It reads the control's scale, so that it can say nothing else than the
 * picture does.
 */
import { element, setText } from "../../element.ts";
import { t } from "../../strings.ts";
import type { HeatmapControl } from "./control.ts";
import { numberText } from "./numberText.ts";
import { cssOf, ramp } from "./ramp.ts";
import { legendValues } from "./scale.ts";
import { scaleText } from "./texts.ts";

const shares = [0, 0.25, 0.5, 0.75, 1];

/** Builds the legend; the returned function brings it up to date. */
export function mountLegend(container: HTMLElement, control: HeatmapControl): () => void {
  const bar = element("canvas", { class: "legend-bar", width: ramp.length, height: 1, "aria-hidden": "true" });
  drawRamp(bar);
  const numbers = shares.map(() => element("span", { class: "legend-number" }));
  const kind = element("span", { class: "legend-kind" });
  const values = element("div", { class: "legend-values" }, bar, element("div", { class: "legend-numbers" }, ...numbers), kind);
  const chosen = element("span", { class: "legend-swatch" });
  const notChosen = element("span", { class: "legend-swatch" });
  const flags = element("div", { class: "legend-flags" }, swatchOf(chosen, t("chosen")), swatchOf(notChosen, t("not chosen")));
  const unknown = element("span", { class: "legend-swatch legend-unknown" });
  container.append(values, flags, swatchOf(unknown, t("unknown or not kept")));

  return () => {
    const { scale, flat, mode } = control.paint;
    values.hidden = !scale;
    flags.hidden = mode !== "selected";
    chosen.style.background = cssOf(flat.chosen);
    notChosen.style.background = cssOf(flat.notChosen);
    unknown.style.background = `repeating-linear-gradient(135deg, ${cssOf(flat.ground)} 0 3px, ${cssOf(flat.hatch)} 3px 4px)`;
    if (!scale) return;
    const texts = legendValues(scale, shares).map(numberText);
    for (const [index, number] of numbers.entries()) setText(number, texts[index]);
    setText(kind, scale.flat ? t("all values are equal") : t("{0} scale", scaleText(scale.kind)));
  };
}

function swatchOf(swatch: HTMLElement, text: string): HTMLElement {
  return element("span", { class: "legend-entry" }, swatch, text);
}

function drawRamp(canvas: HTMLCanvasElement): void {
  const context = canvas.getContext("2d");
  for (const [index, color] of ramp.entries()) {
    if (!context) return;
    context.fillStyle = cssOf(color);
    context.fillRect(index, 0, 1, 1);
  }
}
