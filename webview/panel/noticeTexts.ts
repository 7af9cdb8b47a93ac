/**
 * What each notice of a run is about, in the display language. The core speaks English, with the names and numbers of the case; its own sentence stays behind.
 * The rule to keep: an English window shows the core's sentence alone, and a code without a text is shown as it is.
 */
import { isEnglish, t } from "../strings.ts";

/** A notice's sentence with what it is about in front, in a window that is not English. */
export function noticeText(code: string, message: string): string {
  const known = isEnglish() ? {} : noticeTexts();
  return Object.hasOwn(known, code) ? `${known[code]} ${message}` : message;
}

/** By the code of the notice. */
export function noticeTexts(): Record<string, string> {
  return {
    "data/bad-rows": t("Rows that cannot be used were left out."),
    "data/overlap": t("Held-out rows stand among the training rows too; the held-out loss is too low."),
    "data/rows-without-targets": t("Rows without a response were left out."),
    "data/split": t("Long texts were split into windows."),
    "data/truncated": t("Documents that are too long were cut off."),
    "device/auto": t("Another device than the first choice was taken."),
    "device/fallback": t("The device uses something slower than it could."),
    "device/lost": t("The graphics card was lost; the run goes on from its newest checkpoint."),
    "method/budget-unused": t("The blocks come from a selection file; the budget is not used."),
    "method/loses-zeros": t("This method fills the zeros of a pruned model."),
    "method/not-the-diagonals": t("The budget is not that of the whole diagonals."),
    "model/unused-tensor": t("The model folder holds a tensor that is not used."),
    "run/changed-base": t("The model has changed since the run began."),
    "run/changed-config": t("The run's configuration has changed since the run began."),
    "run/changed-data": t("The data has changed since the run began."),
    "run/damaged-checkpoint": t("A damaged checkpoint was set aside; an older one is used."),
    "run/early-stop": t("The held-out loss improves no more: the run ends early."),
    "run/evaluation-not-finite": t("The held-out loss is infinite or undefined."),
    "run/nothing-to-save": t("There is nothing to save yet."),
    "run/other-device": t("The run goes on on another device: losses may differ in the last bits."),
    "tokenizer/note": t("Something about the tokenizer:"),
  };
}
