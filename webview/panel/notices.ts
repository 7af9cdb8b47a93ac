/**
 * What a person should know of the run: what was done otherwise than asked, rows that were left out, updates that NaN made impossible. Newest first.
 * New ones are told to screen readers politely, one sentence for however many came at once.
 * The rule to keep: words of a run are text, never markup; the list is as long as can be read, its counts are of everything.
 */
import { element } from "../element.ts";
import { t } from "../strings.ts";
import { type NoticeGroup, noticeGroups } from "./noticeGroups.ts";
import { noticeText } from "./noticeTexts.ts";
import type { Notice, PanelState, Store } from "./store.ts";
import "./notices.css";

const listed = 100;

/** Builds the list and keeps it current. */
export function mountNotices(container: HTMLElement, store: Store): void {
  const heading = element("h2");
  const empty = element("p", { class: "empty" });
  const list = element("ul");
  const more = element("p", { class: "muted" });
  const spoken = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const section = element("section", { class: "notices" }, heading, spoken, empty, list, more);
  container.append(section);

  let shown: readonly Notice[] | null = null;
  const show = ({ notices, started }: PanelState) => {
    empty.textContent = started ? t("Nothing to note: the run does what was asked.") : t("Nothing to note yet.");
    if (notices === shown) return;
    shown = notices;
    const groups = noticeGroups(notices);
    const skipped = notices.filter(({ kind }) => kind === "skipped").length;
    heading.textContent = notices.length === 0 ? t("Notices") : t("Notices ({0})", notices.length);
    section.dataset.notices = String(notices.length);
    section.dataset.skippedSteps = String(skipped);
    empty.hidden = notices.length > 0;
    list.replaceChildren(...groups.slice(0, listed).map(item));
    // It scrolls when it is long; nothing in it takes the focus for the keyboard.
    list.tabIndex = notices.length > 0 ? 0 : -1;
    const older = groups.length > listed ? t("Older ones, in the run folder's events.jsonl: {0}.", groups.length - listed) : "";
    const left = skipped > 0 ? t("Updates left out because a number was not finite: {0}.", skipped) : "";
    more.textContent = [left, older].filter(Boolean).join(" ");
  };
  store.subscribe((state, changed) => {
    const before = shown?.length ?? 0;
    show(state);
    const added = state.notices.length - before;
    if (changed === "events" && added > 0) spoken.textContent = announcement(state.notices, added);
  });
  show(store.state);
}

function announcement(notices: readonly Notice[], added: number): string {
  const newest = words(notices[notices.length - 1]);
  return added === 1 ? newest : t("{0} new notices. The newest: {1}", added, newest);
}

function words({ kind, code, message }: Pick<Notice, "kind" | "code" | "message">): string {
  return kind === "skipped" ? t("The update was left out: {0}.", message) : noticeText(code, message);
}

function item(group: NoticeGroup): HTMLElement {
  const { kind, code, count, steps, timeMs } = group;
  const when = new Date(timeMs);
  const details = [where(steps), count > 1 ? t("{0} times", count) : "", when.toLocaleTimeString(), code].filter(Boolean).join(" · ");
  return element(
    "li",
    { class: kind === "skipped" ? "notice notice-skipped" : "notice", "data-code": code, "data-count": count },
    element("span", { class: "notice-text" }, words(group)),
    element("span", { class: "muted notice-detail", title: when.toISOString() }, details),
  );
}

function where(steps: NoticeGroup["steps"]): string {
  if (steps === null) return "";
  return steps.first === steps.last ? t("step {0}", steps.last) : t("steps {0} to {1}", steps.first, steps.last);
}
