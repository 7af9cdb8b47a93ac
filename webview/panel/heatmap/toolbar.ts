/** What can be chosen above the heatmap: mode, scale, zoom, table. Native controls, so that keyboard and screen reader work by themselves. */
import { element } from "../../element.ts";
import { t } from "../../strings.ts";
import type { HeatmapControl } from "./control.ts";
import { scaleKinds } from "./scale.ts";
import { modeText, scaleText } from "./texts.ts";
import { heatmapModes } from "./values.ts";

const zoomStep = 1.5;

/** Builds the toolbar; the returned function brings it up to date. */
export function mountToolbar(container: HTMLElement, control: HeatmapControl, showTable: (asTable: boolean) => void): () => void {
  const modes = heatmapModes.map((mode) => {
    const input = element("input", { type: "radio", name: "heatmap-mode", value: mode });
    input.addEventListener("change", () => control.setMode(mode));
    return { mode, input, label: element("label", { class: "segment" }, input, element("span", {}, modeText(mode))) };
  });
  const scale = element("select", { class: "select" }, ...scaleKinds.map((kind) => element("option", { value: kind }, scaleText(kind))));
  scale.addEventListener("change", () => control.setScaleKind(scaleKinds[scale.selectedIndex]));
  const scaleLabel = element("label", { class: "labelled" }, t("Scale"), scale);
  const out = iconButton("−", t("Zoom out"), () => control.zoomBy(1 / zoomStep));
  const whole = textButton(t("Whole model"), () => control.showWhole());
  const zoom = element(
    "div",
    { class: "button-row", role: "group", "aria-label": t("Zoom") },
    out,
    iconButton("+", t("Zoom in"), () => control.zoomBy(zoomStep)),
    whole,
  );
  const asTable = element("button", { type: "button", class: "button secondary", "aria-pressed": "false" }, t("Show as table"));
  asTable.addEventListener("click", () => {
    const shown = asTable.getAttribute("aria-pressed") !== "true";
    asTable.setAttribute("aria-pressed", String(shown));
    zoom.hidden = shown;
    showTable(shown);
  });
  container.append(
    element(
      "fieldset",
      { class: "segments" },
      element("legend", { class: "visually-hidden" }, t("What the heatmap shows")),
      ...modes.map(({ label }) => label),
    ),
    scaleLabel,
    zoom,
    asTable,
  );
  return () => {
    for (const { mode, input } of modes) input.checked = mode === control.mode;
    scale.selectedIndex = scaleKinds.indexOf(control.scaleKind);
    scaleLabel.hidden = control.mode === "selected";
    for (const button of [out, whole]) button.disabled = control.view.zoom <= 1;
  };
}

function textButton(text: string, act: () => void): HTMLButtonElement {
  const button = element("button", { type: "button", class: "button secondary" }, text);
  button.addEventListener("click", act);
  return button;
}

function iconButton(sign: string, name: string, act: () => void): HTMLButtonElement {
  const button = element("button", { type: "button", class: "button secondary icon", title: name, "aria-label": name }, sign);
  button.addEventListener("click", act);
  return button;
}
