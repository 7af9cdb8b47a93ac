/**
 * The Compare Runs view: takes what the host sends, and shows a comparison or runs side by side, or that it is loading or why it cannot. It keeps nothing that
 * the host cannot send again.
 */
import "./compare.css";
import type { CompareView, ToCompare } from "../../src/protocol/compareProtocol.ts";
import { createButton } from "../controls.ts";
import { element } from "../element.ts";
import { keepState, keptState, onMessage, send } from "../host.ts";
import { setStrings, t } from "../strings.ts";
import { onThemeChange, readTheme, type Theme } from "../theme.ts";
import { ComparisonPage } from "./comparisonPage.ts";
import { RunsPage } from "./runsPage.ts";

const problemCharacters = 10_000;
const root = document.querySelector("main") ?? document.body.appendChild(element("main"));

let theme: Theme = readTheme();
let page: ComparisonPage | RunsPage | null = null;

function reportProblem(what: unknown): void {
  const text = what instanceof Error ? (what.stack ?? what.message) : String(what);
  send({ kind: "problem", message: text.slice(0, problemCharacters) });
}

function show(view: CompareView): void {
  root.setAttribute("aria-busy", String(view.kind === "loading"));
  switch (view.kind) {
    case "loading":
      page = null;
      root.replaceChildren(element("p", { class: "loading", role: "status" }, t("Reading the runs…")));
      return;
    case "failed":
      page = null;
      root.replaceChildren(
        element("div", { class: "refusal", role: "alert" }, element("p", {}, view.message), element("p", { class: "action" }, view.action)),
        createButton(t("Choose another comparison"), "primary", () => send({ kind: "action", action: "chooseRuns" })),
      );
      return;
    case "comparison":
      (page instanceof ComparisonPage ? page : put(new ComparisonPage(theme))).show(view);
      return;
    case "runs":
      (page instanceof RunsPage ? page : put(new RunsPage(theme))).show(view.runs);
  }
}

function put<Page extends ComparisonPage | RunsPage>(next: Page): Page {
  page = next;
  root.replaceChildren(next.element);
  return next;
}

onMessage<ToCompare>((message) => {
  if (message.kind === "hydrate") {
    setStrings(message.strings);
    page = null;
    // What the host needs to show the same again after a reload of the window.
    keepState({ ...(keptState() as object | undefined), ...message.target });
  }
  try {
    show(message.view);
  } catch (error) {
    reportProblem(error);
  }
});
onThemeChange((next) => {
  theme = next;
  page?.setTheme(next);
});
addEventListener("error", ({ error, message }) => reportProblem(error ?? message));
addEventListener("unhandledrejection", ({ reason }) => reportProblem(reason));
root.setAttribute("aria-busy", "true");
