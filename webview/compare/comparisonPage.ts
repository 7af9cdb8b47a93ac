/**
 * A comparison on the page: what it is doing, the plateau figure, the table of points and every run. It draws what was measured and asks the host for the rest.
 */
import { comparisonPicture, type Picture } from "../../src/protocol/comparePicture.ts";
import type { ComparisonProgress } from "../../src/protocol/compareResults.ts";
import { untrained } from "../../src/protocol/compareSummary.ts";
import { createButton } from "../controls.ts";
import { element, oncePerFrame, setText } from "../element.ts";
import { keepState, keptState, send } from "../host.ts";
import { exportName, longestContent } from "../panel/exportName.ts";
import { t } from "../strings.ts";
import type { Theme } from "../theme.ts";
import { csvOf } from "./csv.ts";
import { canvasOf, svgOf, svgText } from "./picture.ts";
import { canResume, runRows, type ShownComparison, shownComparison } from "./store.ts";
import { pointTable, runTable, taskNotes } from "./tables.ts";
import { durationText, pictureWords, stateText } from "./texts.ts";

const openers = {
  openRun: (id: string) => send({ kind: "openRun", id }),
  openRunFile: (id: string) => send({ kind: "openRunFile", id }),
};
/** The figure is no wider, however wide the view is. */
const widestPicture = 1100;

export class ComparisonPage {
  readonly element = element("div", { class: "comparison" });
  readonly #heading = element("h1");
  /** Only the state is said aloud: how far it is changes many times a minute. */
  readonly #state = element("span", { role: "status" });
  readonly #progress = element("span");
  readonly #status = element("p", { class: "status" }, this.#state, this.#progress);
  readonly #bar = element("progress", { class: "bar", "aria-label": t("Runs done") });
  readonly #problem = element("p", { class: "problem", role: "alert" });
  readonly #buttons = element("div", { class: "buttons" });
  readonly #figure = element("figure", { class: "figure" });
  readonly #empty = element("p", { class: "empty" });
  readonly #tables = element("div", { class: "tables" });
  readonly #resized = oncePerFrame(() => this.#drawFigure());
  #shown: ShownComparison | null = null;
  #theme: Theme;
  #drawn = "";
  #written = "";

  constructor(theme: Theme) {
    this.#theme = theme;
    const place = element("section", { "aria-label": t("Held-out loss against trained parameters") }, this.#empty, this.#figure);
    this.element.append(this.#heading, this.#status, this.#bar, this.#problem, this.#buttons, place, this.#tables);
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  show(view: Parameters<typeof shownComparison>[0]): void {
    this.#shown = shownComparison(view);
    this.#writeHead(this.#shown);
    this.#drawFigure();
    this.#writeTables(this.#shown);
  }

  setTheme(theme: Theme): void {
    this.#theme = theme;
    this.#drawFigure();
  }

  #writeHead(shown: ShownComparison): void {
    const { view, summary, state } = shown;
    setText(this.#heading, view.name);
    const { progress } = view;
    const done = summary?.runsDone ?? 0;
    const all = summary?.runsInAll ?? progress?.runsInAll ?? 0;
    const parts = ["", ...(all > 0 ? [t("{0} of {1} runs", done, all)] : [])];
    if (view.live && progress && progress.run !== "") {
      parts.push(whatText(progress));
      if (progress.etaMs !== null) parts.push(t("about {0} left", durationText(progress.etaMs / 1000)));
    }
    if (!view.trusted && !view.live && state !== "done") parts.push(t("the workspace is not trusted: it can be read, not started"));
    setText(this.#state, stateText(state));
    setText(this.#progress, parts.join(" · "));
    this.#bar.hidden = !view.live || all === 0;
    this.#bar.max = Math.max(1, all);
    const part = progress && progress.of > 0 && !progress.scoring ? progress.step / progress.of : 0;
    this.#bar.value = Math.min(all, done + (view.live ? part : 0));
    setText(this.#problem, state === "failed" ? view.failure || (summary?.message ?? "") : "");
    this.#writeButtons(shown);
  }

  #writeButtons(shown: ShownComparison): void {
    const { view, summary } = shown;
    const drawn = summary?.points.some(({ mean }) => mean !== null) ?? false;
    const wanted = JSON.stringify([view.live, view.trusted, canResume(shown), summary === null, drawn]);
    if (this.#buttons.dataset.shown === wanted) return;
    this.#buttons.dataset.shown = wanted;
    const act = (action: "resume" | "stop" | "openTable" | "reveal" | "chooseRuns") => () => send({ kind: "action", action });
    const buttons = [
      ...(view.live && view.trusted ? [createButton(t("Stop"), "primary", act("stop"), t("Stop after this step; it can be resumed"))] : []),
      ...(canResume(shown) ? [createButton(summary ? t("Resume") : t("Start"), "primary", act("resume"))] : []),
      ...(summary ? [createButton("CSV", "secondary", () => this.#save("csv"), t("Save every run as CSV"))] : []),
      ...(drawn
        ? [
            createButton("SVG", "secondary", () => this.#save("svg"), t("Save the figure as SVG")),
            createButton("PNG", "secondary", () => this.#save("png"), t("Save the figure as PNG")),
          ]
        : []),
      ...(summary ? [createButton(t("Open table"), "secondary", act("openTable"), t("Open table as Markdown"))] : []),
      createButton(t("Reveal folder"), "secondary", act("reveal")),
    ];
    this.#buttons.replaceChildren(...buttons);
  }

  get #picture() {
    const summary = this.#shown?.summary;
    const width = Math.floor(Math.min(widestPicture, this.element.clientWidth));
    return summary && width > 200 ? comparisonPicture(summary, pictureWords(), width) : null;
  }

  #drawFigure(): void {
    const picture = this.#picture;
    this.#empty.textContent = this.#emptyText(picture?.empty ?? true);
    this.#empty.hidden = this.#empty.textContent === "";
    this.#figure.hidden = !picture || picture.empty;
    if (!picture || picture.empty) return;
    const wanted = JSON.stringify([picture, this.#theme]);
    if (wanted === this.#drawn) return;
    this.#drawn = wanted;
    this.#figure.replaceChildren(svgOf(picture, this.#theme));
  }

  #emptyText(empty: boolean): string {
    if (!empty || !this.#shown) return "";
    const { state, view } = this.#shown;
    if (state === "failed") return t("There is nothing to draw: no run has ended.");
    if (view.live) return t("The figure appears when the learning rate of a first method is chosen.");
    return state === "notStarted" ? t("The comparison has not begun.") : t("No method has a result yet. Resume the comparison to go on.");
  }

  #writeTables(shown: ShownComparison): void {
    const { summary } = shown;
    if (!summary) {
      this.#written = "";
      this.#tables.replaceChildren();
      return;
    }
    const rows = runRows(shown);
    // A step changes nothing here, and whoever reads or has scrolled a table keeps his place.
    const wanted = JSON.stringify([summary.plan, summary.task, rows.map(({ run, result, score }) => [run, result, score])]);
    if (wanted === this.#written) return;
    this.#written = wanted;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.getAttribute("aria-label") : null;
    const details = element(
      "details",
      { open: keptOpen() },
      element("summary", {}, t("Every run ({0})", rows.length)),
      runTable(rows, summary.task?.title ?? null, openers),
    );
    details.addEventListener("toggle", () => keepState({ ...(keptState() as object | undefined), open: details.open }));
    const notes = taskNotes(summary).map((note) => element("li", {}, note));
    this.#tables.replaceChildren(pointTable(summary), ...(notes.length > 0 ? [element("ul", { class: "notes" }, ...notes)] : []), details);
    if (focused)
      for (const one of this.#tables.querySelectorAll<HTMLElement>("[aria-label]")) if (one.getAttribute("aria-label") === focused) one.focus();
  }

  #save(format: "csv" | "svg" | "png"): void {
    const { summary, view } = this.#shown ?? {};
    const picture = this.#picture;
    if (!summary || !view) return;
    if (format === "csv") saveText(view.name, "csv", csvOf(summary));
    if (format === "csv" || !picture) return;
    if (format === "svg") saveText(view.name, "svg", svgText(picture, this.#theme));
    else savePng(view.name, picture, this.#theme);
  }
}

/** What is being done: a run's step, or the questions of a task. */
function whatText({ run, step, of, scoring }: ComparisonProgress): string {
  const name = run === untrained ? t("untrained model") : run;
  if (scoring) return of > 0 ? t("{0}: {1}, question {2} of {3}", name, scoring, step, of) : t("{0}: {1}", name, scoring);
  return of > 0 ? t("{0}: step {1} of {2}", name, step, of) : name;
}

function savePng(name: string, picture: Picture, theme: Theme): void {
  const content = canvasOf(picture, theme)
    .toDataURL("image/png")
    .replace(/^data:image\/png;base64,/, "");
  send({ kind: "save", name: exportName(name, "comparison", "png"), content, encoding: "base64" });
}

/** Whether somebody had opened the list of runs before the page was made anew. */
function keptOpen(): boolean {
  return (keptState() as { open?: unknown } | undefined)?.open === true;
}

function saveText(name: string, extension: "csv" | "svg", content: string): void {
  if (content.length > longestContent) return;
  send({ kind: "save", name: exportName(name, "comparison", extension), content, encoding: "text" });
}
