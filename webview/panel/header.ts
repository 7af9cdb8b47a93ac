/**
 * The head of the panel: which run, how it is, how far, and what can be done next; a failure with its reason, and the end of the log of a process that
 * crashed. What is said in which state is known elsewhere.
 * The rule to keep: buttons stay where they are and keep the focus while numbers change.
 */
import type { PanelAction } from "../../src/protocol/panelProtocol.ts";
import { element, oncePerFrame, setText } from "../element.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { formatCount } from "./byteUnits.ts";
import { choosesBlocks } from "./methodTexts.ts";
import { noticeText } from "./noticeTexts.ts";
import { actionText, durationText, progressOf, progressText, runStatus } from "./runStatus.ts";
import type { PanelState, Store } from "./store.ts";
import "../runSigns.css";
import "./header.css";

export function mountHeader(container: HTMLElement, store: Store): void {
  const name = element("h1", { class: "run-name" });
  const badge = element("span", { class: "badge", role: "status" });
  const sentence = element("p", { class: "run-sentence" });
  const buttons = element("div", { class: "button-row run-actions", role: "group", "aria-label": t("What you can do") });
  const bar = element("progress", { class: "run-progress", max: 1, "aria-label": t("Progress") });
  const facts = mountFacts();
  const failure = mountFailure();
  container.append(
    element("div", { class: "run-title" }, name, badge, buttons),
    sentence,
    element("div", { class: "run-numbers" }, bar, facts.list),
    failure.box,
  );

  const draw = oncePerFrame(() => {
    const { run, pauseReason } = store.state;
    if (!run) return;
    const status = runStatus(run, pauseReason, choosesBlocks(store.state));
    setText(name, run.name);
    name.title = run.name;
    setText(badge, status.label);
    badge.dataset.tone = status.tone;
    container.dataset.state = run.state;
    setText(sentence, status.sentence);
    showButtons(buttons, status.actions);
    const progress = status.progress ? progressOf(run) : null;
    bar.hidden = progress === null;
    bar.value = progress ?? 0;
    facts.update(store.state, status.progress);
    failure.update(store.state);
  });
  draw();
  store.subscribe((_, changed) => {
    if (changed === "run" || changed === "hydrate" || changed === "events" || changed === "form") draw();
  });
}

/** Makes buttons anew only when others are offered. */
function showButtons(container: HTMLElement, actions: readonly PanelAction[]): void {
  const key = actions.join(" ");
  if (container.dataset.actions === key) return;
  const focused = document.activeElement instanceof HTMLElement && container.contains(document.activeElement);
  container.dataset.actions = key;
  container.replaceChildren(...actions.map((action, index) => actionButton(action, index === 0)));
  // Who pressed Pause finds Resume under the same finger.
  if (focused) (container.firstElementChild as HTMLElement | null)?.focus();
}

function actionButton(action: PanelAction, first: boolean): HTMLButtonElement {
  const button = element("button", { type: "button", class: first ? "button" : "button secondary", "data-action": action }, actionText(action));
  button.addEventListener("click", () => send({ kind: "action", action }));
  return button;
}

/** Step, what remains, loss, speed, device. */
function mountFacts() {
  const list = element("dl", { class: "facts" });
  const fact = (key: string, term: string) => {
    const value = element("dd", { "data-fact": key });
    const pair = element("div", {}, element("dt", {}, term), value);
    list.append(pair);
    return (text: string, title = "") => {
      pair.hidden = text === "";
      setText(value, text);
      if (value.title !== title) value.title = title;
    };
  };
  const [step, remaining, loss, speed, device] = [
    fact("progress", t("Progress")),
    fact("remaining", t("Remaining")),
    fact("loss", t("Loss")),
    fact("tokensPerSecond", t("Tokens/s")),
    fact("device", t("Device")),
  ];
  const update = ({ run, steps, warmups, started, notices }: PanelState, progress: boolean) => {
    if (!run) return;
    const speeds = run.warmup ? warmups : steps;
    const tokensPerSecond = speeds.at("tokensPerSecond", -1) ?? steps.at("tokensPerSecond", -1);
    const moving = run.state === "running" || run.state === "pausing";
    step(progress ? progressText(run) : "");
    remaining(moving && run.remainingMs !== null ? t("about {0}", durationText(run.remainingMs)) : "");
    loss(progress && run.loss !== null ? run.loss.toPrecision(5) : "");
    speed(progress && tokensPerSecond !== undefined ? formatCount(tokensPerSecond) : "");
    device(started?.device ?? "", choiceText(notices));
  };
  return { list, update };
}

/** Why the device is this one, where another was tried: the notices about it. */
function choiceText(notices: PanelState["notices"]): string {
  const messages = notices.filter(({ code }) => code.startsWith("device/")).map(({ code, message }) => noticeText(code, message));
  return [...new Set(messages)].join("\n");
}

/** Code, sentence and action of a failure; the log's end when the process crashed. */
function mountFailure() {
  const message = element("p", { class: "failure-message" });
  const action = element("p", {});
  const code = element("p", { class: "muted failure-code" });
  const place = element("p", { class: "muted" });
  const tail = element("pre", { class: "log-tail", tabindex: 0, "aria-label": t("End of the log") });
  const log = element("details", {}, element("summary", {}, t("Last lines of the log")), tail);
  const box = element("div", { class: "failure", role: "alert", hidden: true }, message, action, place, code, log);
  const update = ({ run }: PanelState) => {
    const failure = run?.failure ?? null;
    box.hidden = !failure;
    log.hidden = !run || run.logTail.length === 0;
    if (run) setText(tail, run.logTail.join("\n"));
    if (!failure) return;
    setText(message, failure.message);
    setText(action, failure.action);
    setText(code, failure.code);
    place.hidden = !failure.place;
    setText(place, failure.place ? `${failure.place.file}:${failure.place.line}` : "");
  };
  return { box, update };
}
