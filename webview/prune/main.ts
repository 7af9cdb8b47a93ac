/**
 * The pruning view's program: how far a pruning is and what it has done to each matrix, as charts and as a table, live and afterwards. It keeps nothing that
 * the host cannot send again.
 * The rule to keep: numbers are those that were measured on the pruned matrices; what is not done yet is shown as that.
 */
import type { PruneAction, PruneView, ToPrune } from "../../src/protocol/prunePanelProtocol.ts";
import { createButton } from "../controls.ts";
import { element, oncePerFrame, setText } from "../element.ts";
import { onMessage, send } from "../host.ts";
import { exportName } from "../panel/exportName.ts";
import { durationText } from "../panel/runStatus.ts";
import { shareText } from "../panel/zeros.ts";
import { setStrings, t } from "../strings.ts";
import { BarGrid } from "./barGrid.ts";
import { matrixTable } from "./matrixTable.ts";
import { csvOf, gridOf, meanError, reduce, sparsityOf } from "./store.ts";
import { actionText, errorText, matrixSentence, stageText, stateText, subjectText } from "./texts.ts";
import "../buttons.css";
import "../page.css";
import "../runSigns.css";
import "./prune.css";

const root = document.getElementById("root") as HTMLElement;
let view: PruneView | null = null;
let draw: (() => void) | null = null;

/** Builds the page; returns what brings it up to date. */
function mount(): () => void {
  const name = element("h1");
  const badge = element("span", { class: "badge", role: "status" });
  const buttons = element("div", { class: "button-row", role: "group", "aria-label": t("What you can do") });
  const subject = element("p", { class: "muted" });
  const sentence = element("p");
  const bar = element("progress", { max: 1, "aria-label": t("Progress") });
  const facts = mountFacts();
  const notes = element("ul", { class: "notes", "aria-label": t("Notes"), hidden: true });
  const failure = element("div", { class: "failure", role: "alert", hidden: true });
  const figures = mountFigures();
  const header = element("header", {}, element("div", { class: "title" }, name, badge, buttons), subject, sentence, bar, facts.list, notes, failure);
  root.replaceChildren(header, figures.element);
  root.removeAttribute("aria-busy");

  return () => {
    if (!view) return;
    const { label, sentence: said, tone, actions } = stateText(view.state);
    setText(name, view.folder.split(/[\\/]/).at(-1) ?? view.folder);
    name.title = view.folder;
    setText(badge, label);
    badge.dataset.tone = tone;
    Object.assign(root.dataset, { state: view.state, matrices: view.matrices.length });
    setText(subject, subjectText(view));
    setText(sentence, said);
    showButtons(buttons, actions);
    bar.hidden = view.state !== "running";
    bar.value = view.progress?.done ?? 0;
    facts.update(view);
    showNotes(notes, view);
    showFailure(failure, view);
    figures.update(view);
  };
}

/** Makes buttons anew only when others are offered. */
function showButtons(container: HTMLElement, actions: readonly PruneAction[]): void {
  const key = actions.join(" ");
  if (container.dataset.actions === key) return;
  const focused = document.activeElement instanceof HTMLElement && container.contains(document.activeElement);
  container.dataset.actions = key;
  container.replaceChildren(
    ...actions.map((action, index) => {
      const press = () => send({ kind: "action", action });
      const button = element(
        "button",
        { type: "button", class: index === 0 ? "button" : "button secondary", "data-action": action },
        actionText(action),
      );
      button.addEventListener("click", press);
      return button;
    }),
  );
  if (focused) (container.firstElementChild as HTMLElement | null)?.focus();
}

function mountFacts() {
  const list = element("dl", { class: "facts" });
  const fact = (key: string, term: string) => {
    const value = element("dd", { "data-fact": key });
    const pair = element("div", {}, element("dt", {}, term), value);
    list.append(pair);
    return (text: string) => {
      pair.hidden = text === "";
      setText(value, text);
    };
  };
  const [stage, remaining, sparsity, error] = [
    fact("stage", t("Now")),
    fact("remaining", t("Remaining")),
    fact("sparsity", t("Zeros")),
    fact("error", t("Mean reconstruction error")),
  ];
  const update = ({ state, progress, matrices, total }: PruneView) => {
    const running = state === "running";
    stage(running ? stageText({ progress }) : "");
    const remainingMs = progress?.remainingMs ?? null;
    remaining(running && remainingMs !== null ? t("about {0}", durationText(remainingMs)) : "");
    const share = sparsityOf(total ? [total] : matrices);
    sparsity(share === null ? "" : shareText(share));
    error(matrices.length === 0 ? "" : errorText(meanError(matrices)));
  };
  return { list, update };
}

function showNotes(list: HTMLElement, { notes }: PruneView): void {
  list.hidden = notes.length === 0;
  if (list.childElementCount !== notes.length) list.replaceChildren(...notes.map((note) => element("li", {}, note)));
}

function showFailure(box: HTMLElement, { failure }: PruneView): void {
  box.hidden = !failure;
  if (!failure || box.dataset.code === failure.code) return;
  box.dataset.code = failure.code;
  box.replaceChildren(
    element("p", { class: "failure-message" }, failure.message),
    element("p", {}, failure.action),
    element("p", { class: "failure-code" }, failure.code),
  );
}

/** The two charts, or the table of the same numbers. */
function mountFigures() {
  const empty = element("p", { class: "muted" });
  const readout = element("p", { class: "readout", "aria-live": "off" });
  const tell = (sentence: string) => setText(readout, sentence);
  const [sparsity, errors] = [new BarGrid(tell), new BarGrid(tell)];
  const charts = element("div", { class: "charts" }, sparsity.root, errors.root);
  const table = matrixTable();
  let asTable = false;
  const toggle = createButton(t("Show as table"), "secondary", () => {
    asTable = !asTable;
    toggle.textContent = asTable ? t("Show as charts") : t("Show as table");
    toggle.setAttribute("aria-label", toggle.textContent);
    draw?.();
  });
  toggle.dataset.tool = "table";
  const csv = createButton("CSV", "secondary", () => view && saveCsv(view), t("Save all numbers as CSV"));
  const tools = element("div", { class: "button-row tools" }, toggle, csv);
  const full = element("div", {}, tools, charts, readout, table.element);

  const update = ({ state, matrices, progress }: PruneView) => {
    empty.hidden = matrices.length > 0;
    full.hidden = matrices.length === 0;
    setText(empty, state === "running" ? t("Figures come with the first layer that is done.") : t("No matrix was pruned."));
    if (matrices.length === 0) return;
    charts.hidden = readout.hidden = asTable;
    table.element.hidden = !asTable;
    if (asTable) return table.update(matrices);
    if (readout.textContent === "") tell(t("Point at a bar, or walk over them with the arrow keys, to see its numbers."));
    const grid = gridOf(matrices, progress?.layers ?? 0);
    sparsity.update(
      {
        name: "sparsity",
        title: t("Zeros of each matrix"),
        label: t("Zeros of each matrix, a row a kind and a bar a layer"),
        most: 1,
        mostText: t("A full bar is {0}.", "100 %"),
        value: ({ zeros, entries }) => (entries > 0 ? zeros / entries : 0),
        sentence: matrixSentence,
      },
      grid,
    );
    const measured = matrices.flatMap(({ error }) => (error === null ? [] : [error]));
    const most = Math.max(0, ...measured);
    errors.update(
      {
        name: "error",
        title: t("Reconstruction error of each matrix"),
        label: t("Reconstruction error of each matrix, a row a kind and a bar a layer"),
        most,
        mostText: measured.length > 0 ? t("‖X(W − Ŵ)ᵀ‖ / ‖XWᵀ‖. A full bar is {0}.", errorText(most)) : t("Not measured: nothing was calibrated on."),
        value: ({ error }) => error,
        sentence: matrixSentence,
      },
      grid,
    );
  };
  return { element: element("div", {}, empty, full), update };
}

function saveCsv({ folder, matrices }: PruneView): void {
  const name = exportName(folder.split(/[\\/]/).at(-1) ?? "", "pruning", "csv");
  send({ kind: "save", name, content: csvOf(matrices), encoding: "text" });
}

onMessage<ToPrune>((message) => {
  if (message.kind === "hydrate") setStrings(message.strings);
  view = reduce(view, message);
  if (!view) return;
  draw ??= oncePerFrame(mount());
  draw();
});
addEventListener("error", ({ message }) => send({ kind: "problem", message: message.slice(0, 10_000) }));
addEventListener("unhandledrejection", ({ reason }) => send({ kind: "problem", message: String(reason).slice(0, 10_000) }));
root.setAttribute("aria-busy", "true");
