/** Runs side by side on the page: the table and their curves over each other. */
import type { RunCard } from "../../src/protocol/compareProtocol.ts";
import { createButton } from "../controls.ts";
import { element } from "../element.ts";
import { send } from "../host.ts";
import { exportName } from "../panel/exportName.ts";
import { t } from "../strings.ts";
import type { Theme } from "../theme.ts";
import { cardsCsv } from "./csv.ts";
import { CurveChart } from "./curveChart.ts";
import { cardTable } from "./tables.ts";

const openers = {
  openRun: (id: string) => send({ kind: "openRun", id }),
  openRunFile: (id: string) => send({ kind: "openRunFile", id }),
};

export class RunsPage {
  readonly element = element("div", { class: "runs" });
  readonly #heading = element("h1");
  readonly #table = element("div", { class: "tables" });
  readonly #chart = new CurveChart();
  #runs: readonly RunCard[] = [];
  #theme: Theme;

  constructor(theme: Theme) {
    this.#theme = theme;
    const buttons = element(
      "div",
      { class: "buttons" },
      createButton(t("Choose runs"), "secondary", () => send({ kind: "action", action: "chooseRuns" }), t("Choose runs to compare")),
      createButton(
        t("New comparison"),
        "secondary",
        () => send({ kind: "action", action: "newComparison" }),
        t("New comparison of methods at the same budgets"),
      ),
      createButton("CSV", "secondary", () => this.#save(), t("Save the table as CSV")),
    );
    this.element.append(this.#heading, buttons, this.#table, this.#chart.element);
  }

  show(runs: readonly RunCard[]): void {
    this.#runs = runs;
    this.#heading.textContent = runs.length === 1 ? t("One run") : t("{0} runs side by side", runs.length);
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.getAttribute("aria-label") : null;
    this.#table.replaceChildren(cardTable(runs, openers));
    if (focused)
      for (const one of this.#table.querySelectorAll<HTMLElement>("[aria-label]")) if (one.getAttribute("aria-label") === focused) one.focus();
    this.#chart.show(runs, this.#theme);
  }

  setTheme(theme: Theme): void {
    this.#theme = theme;
    this.#chart.show(this.#runs, theme);
  }

  #save(): void {
    send({ kind: "save", name: exportName("runs", "comparison", "csv"), content: cardsCsv(this.#runs), encoding: "text" });
  }
}
