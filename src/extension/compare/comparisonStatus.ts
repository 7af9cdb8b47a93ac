/** The status bar item of comparisons: shown while one is live, gone otherwise. One by name, runs done of all and time left; several by their number. */
import * as vscode from "vscode";
import { commandId } from "../contributions.ts";
import { isLive } from "../views/runAbilities.ts";
import { stateIconName, stateText } from "../views/runText.ts";
import type { Comparisons, ComparisonView } from "./comparisons.ts";
import { comparisonDescription, comparisonProgressText, leftText } from "./comparisonText.ts";

export class ComparisonStatus {
  readonly #comparisons: Comparisons;
  readonly #item: vscode.StatusBarItem;
  readonly #changed: { dispose(): void };

  constructor(comparisons: Comparisons) {
    this.#comparisons = comparisons;
    this.#item = vscode.window.createStatusBarItem("sparseTuner.comparison", vscode.StatusBarAlignment.Left, 9);
    this.#item.name = vscode.l10n.t("Sparse Tuner Comparison");
    this.#changed = comparisons.onDidChange(() => this.#draw());
  }

  #draw(): void {
    const live = this.#comparisons.all().filter(isLive);
    if (live.length === 0) {
      this.#item.hide();
      return;
    }
    this.#item.text = live.length === 1 ? oneText(live[0]) : `$(loading~spin) ${vscode.l10n.t("{0} comparisons", live.length)}`;
    this.#item.tooltip = live.map((view) => `${view.name}: ${comparisonDescription(view)}`).join("\n");
    const given = live.length === 1 ? [vscode.Uri.file(live[0].folder)] : [];
    this.#item.command = { command: commandId("compareRuns"), title: vscode.l10n.t("Open Comparison"), arguments: given };
    this.#item.accessibilityInformation = { label: live.map((view) => `${view.name}, ${comparisonDescription(view)}`).join("; ") };
    this.#item.show();
  }

  dispose(): void {
    this.#changed.dispose();
    this.#item.dispose();
  }
}

/** A name may hold `$(…)`, which would be drawn as an icon. */
function oneText(view: ComparisonView): string {
  const parts = [view.name.replaceAll("$(", "$ ("), comparisonProgressText(view) || stateText(view.state), leftText(view)];
  return `$(${stateIconName(view.state)}) ${parts.filter((part) => part !== "").join(" · ")}`;
}
