/**
 * The memory plan of the run file as it stands, beside full fine-tuning's: bars by class on one scale, what is trained, whether it fits and what would help.
 * It computes no memory: all bytes come from the plan, which the core makes by running the run's own steps on a device that only counts.
 * The rule to keep: a plan that is a worst case says so.
 */
import { type MemoryClass, memoryClasses } from "../../src/protocol/memory.ts";
import type { Failure, PlanView } from "../../src/protocol/panelProtocol.ts";
import { createButton } from "../controls.ts";
import { element } from "../element.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { onThemeChange, readTheme, type Theme } from "../theme.ts";
import { exactCount, formatBytes, formatCount, formatPercent } from "./byteUnits.ts";
import { memoryClassColor, memoryClassName } from "./memoryWords.ts";
import { methodName, methodOf } from "./methodTexts.ts";
import { actionText } from "./runStatus.ts";
import type { PanelState, Store } from "./store.ts";
import "./planView.css";

type Plan = Extract<PlanView, { kind: "plan" }>["plan"];
type Peak = Pick<Plan, "peakBytes" | "bytesByClass">;

/** Builds the plan's view and keeps it current. */
export function mountPlan(container: HTMLElement, store: Store): void {
  const body = element("div");
  const section = element("section", { class: "plan" }, element("h2", {}, t("Memory plan")), body);
  container.append(section);
  let written = "";
  let theme = readTheme();
  const show = (state: PanelState) => {
    const now = JSON.stringify([state.plan, theme.series, state.run?.state === "restricted", methodOf(state)]);
    if (now === written) return;
    written = now;
    section.dataset.plan = state.plan.kind;
    section.setAttribute("aria-busy", String(state.plan.kind === "planning"));
    body.replaceChildren(...content(state, theme));
  };
  store.subscribe((state, changed) => {
    if (changed === "plan" || changed === "hydrate" || changed === "run" || changed === "form") show(state);
  });
  onThemeChange((changed) => {
    theme = changed;
    show(store.state);
  });
  show(store.state);
}

function content(state: PanelState, theme: Theme): HTMLElement[] {
  const { plan, run } = state;
  switch (plan.kind) {
    case "plan":
      return planned(plan.plan, methodOf(state), theme);
    case "problem":
      return problem(plan.failure);
    case "planning":
      return [paragraph("empty", t("Planning: the run's own steps are counted without computing them."))];
    case "none":
      return [
        paragraph(
          "empty",
          run?.state === "restricted"
            ? t("Memory is not planned while the workspace is not trusted.")
            : t("There is no plan. It is made from the run file as soon as one is open here."),
        ),
      ];
  }
}

function problem(failure: Failure): HTMLElement[] {
  const { code, message, action, place } = failure;
  const where = place ? ` ${t("({0}, line {1})", place.file, place.line)}` : "";
  const open = createButton(actionText("openRunFile"), "secondary", () => send({ kind: "action", action: "openRunFile" }));
  // Apart from each other, so that a name written from right to left turns nothing but itself around.
  const sentence = element("p", { class: "plan-problem-message" }, element("bdi", {}, message), element("bdi", {}, where));
  return [element("div", { "data-code": code }, sentence, element("p", { class: "muted" }, action), open)];
}

function planned(plan: Plan, method: string | null, theme: Theme): HTMLElement[] {
  const most = Math.max(plan.peakBytes, plan.fullFineTuning.peakBytes, plan.fits === false ? (plan.availableBytes ?? 0) : 0, 1);
  const verdict = paragraph(`plan-verdict ${plan.fits === null ? "unknown" : plan.fits ? "fits" : "too-large"}`, verdictText(plan));
  verdict.dataset.fits = String(plan.fits);
  if (plan.availableBytes !== null) verdict.title = t("{0} bytes are available", exactCount(plan.availableBytes));
  const parts: HTMLElement[] = [verdict, ...plan.warnings.map((warning) => warningOf(warning, method))];
  if (plan.cheapestChange) parts.push(paragraph("plan-change", t("Cheapest change: {0}", plan.cheapestChange)));
  if (!plan.exact) parts.push(paragraph("muted plan-worst-case", t("Worst case until the blocks are chosen.")));
  const shown = memoryClasses.filter((name) => plan.bytesByClass[name] + plan.fullFineTuning.bytesByClass[name] > 0);
  parts.push(
    bar("plan", t("This run"), plan, most, theme),
    bar("fullFineTuning", t("Full fine-tuning"), plan.fullFineTuning, most, theme),
    legend(shown, theme),
    facts(plan),
  );
  return parts;
}

/** What would come of the run otherwise than one may expect; the core's own sentence behind the method's name. */
function warningOf(warning: string, method: string | null): HTMLElement {
  const name = method === null ? t("Warning") : t("Warning for {0}", methodName(method));
  return element("p", { class: "plan-warning", role: "note" }, element("strong", {}, name), " ", element("bdi", {}, warning));
}

function verdictText({ fits, peakBytes, availableBytes, memoryProblem, device }: Plan): string {
  if (availableBytes === null)
    return t("{0} are needed on {1}. Whether they fit is not known. {2}", formatBytes(peakBytes), device, memoryProblem ?? "");
  const [peak, available] = [formatBytes(peakBytes), formatBytes(availableBytes)];
  if (fits) return t("Fits: {0} of {1} available on {2}, {3} stay free.", peak, available, device, formatBytes(availableBytes - peakBytes));
  return t("Does not fit: {0} of {1} available on {2}, {3} are missing.", peak, available, device, formatBytes(peakBytes - availableBytes));
}

/** One stacked bar. The words beside it and the titles of its parts say all that it shows. */
function bar(origin: string, name: string, peak: Peak, mostBytes: number, theme: Theme): HTMLElement {
  const track = element("div", { class: "plan-bar", role: "img" });
  const words: string[] = [];
  for (const memoryClass of memoryClasses) {
    const bytes = peak.bytesByClass[memoryClass];
    if (bytes === 0) continue;
    const title = t("{0}: {1} ({2} bytes)", memoryClassName(memoryClass), formatBytes(bytes), exactCount(bytes));
    const part = element("span", { class: "plan-part", "data-memory": memoryClass, "data-bytes": bytes, title });
    part.style.width = `${(100 * bytes) / mostBytes}%`;
    part.style.backgroundColor = memoryClassColor(memoryClass, theme);
    words.push(`${memoryClassName(memoryClass)} ${formatBytes(bytes)}`);
    track.append(part);
  }
  track.setAttribute("aria-label", `${name}: ${words.join(", ")}`);
  const { peakBytes } = peak;
  const exact = t("{0} bytes", exactCount(peakBytes));
  const figure = element("span", { class: "plan-figure", "data-origin": origin, "data-bytes": peakBytes, title: exact }, formatBytes(peakBytes));
  return element("div", { class: "plan-row" }, element("span", {}, name), track, figure);
}

function legend(classes: readonly MemoryClass[], theme: Theme): HTMLElement {
  const entries = classes.map((memoryClass) => {
    const sign = element("span", { class: "memory-sign" });
    sign.style.backgroundColor = memoryClassColor(memoryClass, theme);
    return element("span", {}, sign, memoryClassName(memoryClass));
  });
  return element("div", { class: "plan-legend" }, ...entries);
}

function facts(plan: Plan): HTMLElement {
  const list = element("dl", { class: "plan-facts" });
  const share = plan.totalParameters > 0 ? plan.trainableParameters / plan.totalParameters : 0;
  const trained = t("{0} of {1} ({2})", formatCount(plan.trainableParameters), formatCount(plan.totalParameters), formatPercent(share));
  const perParameter = t("{0} (full fine-tuning: {1})", plan.bytesPerParameter.toFixed(2), plan.fullFineTuning.bytesPerParameter.toFixed(2));
  const ratio = plan.fullFineTuning.peakBytes > 0 ? plan.peakBytes / plan.fullFineTuning.peakBytes : 0;
  fact(
    list,
    "trainableParameters",
    t("Trained parameters"),
    trained,
    `${exactCount(plan.trainableParameters)} / ${exactCount(plan.totalParameters)}`,
  );
  fact(list, "bytesPerParameter", t("Bytes a parameter"), perParameter, "");
  fact(list, "share", t("Of full fine-tuning's peak"), formatPercent(ratio), "");
  fact(list, "device", t("Planned for"), plan.device, "");
  return list;
}

function fact(list: HTMLElement, name: string, label: string, text: string, title: string): void {
  list.append(element("dt", {}, label), element("dd", { "data-fact": name, title: title || null }, text));
}

function paragraph(className: string, text: string): HTMLElement {
  return element("p", { class: className }, text);
}
