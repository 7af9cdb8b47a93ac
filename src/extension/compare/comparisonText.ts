/** What the Runs view, the status bar and quick picks say of a comparison in a few words. */
import * as vscode from "vscode";
import { startedText, stateText } from "../views/runText.ts";
import type { ComparisonView } from "./comparisons.ts";

/** `12 / 33 runs`; empty before it is known how many there are. */
export function comparisonProgressText({ progress }: Pick<ComparisonView, "progress">): string {
  return progress && progress.runsInAll > 0 ? vscode.l10n.t("{0} / {1} runs", progress.runsDone, progress.runsInAll) : "";
}

/** State, runs done of all, time left and when it was started, as far as they are known. */
export function comparisonDescription(view: ComparisonView): string {
  const parts = [stateText(view.state), comparisonProgressText(view), leftText(view), startedText({ name: view.folder.replace(/^.*[/\\]/s, "") })];
  return parts.filter((part) => part !== "").join(" · ");
}

/** How long a live one may still take; empty where that is not known. */
export function leftText({ progress, state }: Pick<ComparisonView, "progress" | "state">): string {
  if (state !== "running" || progress?.etaMs == null) return "";
  const minutes = Math.ceil(progress.etaMs / 60_000);
  if (minutes < 60) return vscode.l10n.t("about {0} min left", minutes);
  return vscode.l10n.t("about {0} h {1} min left", Math.floor(minutes / 60), minutes % 60);
}

/** One sentence on a comparison's state and what can be done next. */
export function comparisonHelp({ state }: Pick<ComparisonView, "state">): string {
  switch (state) {
    case "running":
      return vscode.l10n.t("Its runs are done one after another. It goes on when this window is closed.");
    case "waiting":
      return vscode.l10n.t("The disk is full. Free space on it, and the comparison goes on by itself.");
    case "finished":
      return vscode.l10n.t("It is done: figure and tables are in its view.");
    case "draft":
      return vscode.l10n.t("It was made and has not begun. Resume begins it.");
    default:
      return vscode.l10n.t("Resume goes on where it was; no run that is done is done again.");
  }
}
