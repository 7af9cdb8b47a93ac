/** The status bar item: shown while a run is live, gone otherwise. One run by name, progress and loss; several by their number. */
import * as vscode from "vscode";
import type { RunView } from "../../protocol/panelProtocol.ts";
import { commandId } from "../contributions.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import { isLive } from "./runAbilities.ts";
import { progressText, runDescription, shortName, stateIconName, stateText } from "./runText.ts";

const redrawMs = 250;

export class StatusBar {
  readonly #runs: RunSessions;
  readonly #item: vscode.StatusBarItem;
  readonly #changed: { dispose(): void };
  #timer: NodeJS.Timeout | null = null;
  #shown = "";

  constructor(runs: RunSessions) {
    this.#runs = runs;
    this.#item = vscode.window.createStatusBarItem("sparseTuner.live", vscode.StatusBarAlignment.Left, 10);
    this.#item.name = "Sparse Tuner";
    this.#changed = runs.onDidChange(() => {
      this.#timer ??= setTimeout(() => this.#draw(), redrawMs);
    });
  }

  #draw(): void {
    this.#timer = null;
    const live = this.#runs.all().filter(({ view }) => isLive(view));
    const text = live.length === 0 ? "" : live.length === 1 ? oneText(live[0].view) : `$(loading~spin) ${vscode.l10n.t("{0} runs", live.length)}`;
    if (text === this.#shown) return;
    this.#shown = text;
    if (live.length === 0) {
      this.#item.hide();
      return;
    }
    this.#item.text = text;
    this.#item.tooltip = live.map(({ view }) => `${shortName(view)}: ${runDescription(view, null)}`).join("\n");
    const target = live.length === 1 ? [{ runFolder: live[0].runFolder }] : [];
    this.#item.command = { command: commandId("openTrainingPanel"), title: vscode.l10n.t("Open Training Panel"), arguments: target };
    this.#item.accessibilityInformation = {
      label: live.map(({ view }) => `${shortName(view)}, ${stateText(view.state)}, ${progressText(view)}`).join("; "),
    };
    this.#item.show();
  }

  dispose(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#changed.dispose();
    this.#item.dispose();
  }
}

/** A name may hold `$(…)`, which would be drawn as an icon. */
function oneText(view: RunView): string {
  const loss = view.loss === null ? [] : [view.loss.toFixed(4)];
  const progress = progressText(view) || stateText(view.state);
  return `$(${stateIconName(view.state)}) ${[shortName(view).replaceAll("$(", "$ ("), progress, ...loss].join(" · ")}`;
}
