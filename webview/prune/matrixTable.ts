/** The pruned matrices as a table: every number that the charts show, and the counts behind them. */
import type { PrunedMatrix } from "../../src/protocol/pruning.ts";
import { element } from "../element.ts";
import { exactCount } from "../panel/byteUnits.ts";
import { projectionText } from "../panel/shares.ts";
import { shareText } from "../panel/zeros.ts";
import { t } from "../strings.ts";
import { errorText } from "./texts.ts";

export function matrixTable(): { element: HTMLElement; update(matrices: readonly PrunedMatrix[]): void } {
  const heads = [t("Layer"), t("Matrix"), t("Zeros"), t("Share"), t("Reconstruction error")];
  const body = element("tbody");
  const table = element(
    "table",
    { class: "numbers" },
    element("caption", { class: "visually-hidden" }, t("Pruned matrices")),
    element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)))),
    body,
  );
  let shown: readonly PrunedMatrix[] = [];
  return {
    element: element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("Pruned matrices") }, table),
    update(matrices) {
      if (matrices === shown) return;
      shown = matrices;
      body.replaceChildren(...matrices.map(rowOf));
    },
  };
}

function rowOf({ name, layer, projection, zeros, entries, error }: PrunedMatrix): HTMLElement {
  return element(
    "tr",
    { "data-name": name, "data-zeros": zeros, "data-entries": entries, "data-error": error },
    element("td", {}, String(layer)),
    element("th", { scope: "row", title: name }, projectionText(projection)),
    element("td", {}, t("{0} of {1}", exactCount(zeros), exactCount(entries))),
    element("td", {}, shareText(entries > 0 ? zeros / entries : 0)),
    element("td", {}, errorText(error)),
  );
}
