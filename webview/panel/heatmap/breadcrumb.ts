/** Where in the model the view is: model, layer, matrix; each but the last leads back to it. */
import { element } from "../../element.ts";
import { t } from "../../strings.ts";
import type { HeatmapControl } from "./control.ts";
import { layerText } from "./texts.ts";

/** Builds the breadcrumb; the returned function brings it up to date. `after` is called when one was followed, since its button goes then. */
export function mountBreadcrumb(container: HTMLElement, control: HeatmapControl, after: () => void): () => void {
  const list = element("ol", {});
  container.append(list);
  let shown = "";
  return () => {
    const { layout, model } = control;
    const { row, matrix } = control.focus;
    const layer = row === null ? null : layout.rows[row].layer;
    const crumbs: [text: string, open: () => void][] = [[t("Whole model"), () => control.showWhole()]];
    if (row !== null && layer !== null) crumbs.push([layerText(layer), () => control.showRow(row)]);
    if (matrix !== null) crumbs.push([model.matrices[matrix].name, () => control.showMatrix(matrix)]);
    const key = crumbs.map(([text]) => text).join("\n");
    if (key === shown) return;
    shown = key;
    const follow = (open: () => void) => () => {
      open();
      after();
    };
    list.replaceChildren(...crumbs.map(([text, open], index) => element("li", {}, crumbOf(text, follow(open), index === crumbs.length - 1))));
  };
}

function crumbOf(text: string, open: () => void, last: boolean): HTMLElement {
  if (last) return element("span", { "aria-current": "location" }, text);
  const button = element("button", { type: "button", class: "link-button" }, text);
  button.addEventListener("click", open);
  return button;
}
