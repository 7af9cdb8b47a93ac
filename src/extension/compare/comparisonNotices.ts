/**
 * Tells of comparisons that nobody looks at: finished, failed, out of disk. The rules and the setting are those of runs (notifications.ts).
 * The rule to keep: a change is told once, as it happens; what was so when the window opened, or is on the screen, is not told at all.
 */
import * as vscode from "vscode";
import type { RunState } from "../../protocol/panelProtocol.ts";
import type { ShellParts } from "../commands/shellParts.ts";
import { commandId } from "../contributions.ts";
import { noticeOf, notificationLevel } from "../notifications.ts";
import type { ComparisonView } from "./comparisons.ts";

export type ComparisonNoticeParts = Pick<ShellParts, "comparisons" | "compare">;

export class ComparisonNotices {
  readonly #parts: ComparisonNoticeParts;
  readonly #states = new Map<string, RunState>();
  readonly #changed: { dispose(): void };

  constructor(parts: ComparisonNoticeParts) {
    this.#parts = parts;
    this.#changed = parts.comparisons.onDidChange(() => this.#look());
  }

  #look(): void {
    for (const view of this.#parts.comparisons.all()) {
      const before = this.#states.get(view.folder);
      this.#states.set(view.folder, view.state);
      const notice = noticeOf(before, view.state, notificationLevel());
      if (notice && !this.#parts.compare.isVisible(view.folder)) void this.#tell(view, notice);
    }
  }

  async #tell({ folder, name, progress, failure }: ComparisonView, notice: "finished" | "failed" | "waiting"): Promise<void> {
    const open = vscode.l10n.t("Open Comparison");
    const [resume, stop] = [vscode.l10n.t("Resume"), vscode.l10n.t("Stop")];
    const shown = {
      finished: () =>
        vscode.window.showInformationMessage(vscode.l10n.t("The comparison {0} is finished: {1} runs.", name, progress?.runsDone ?? 0), open),
      failed: () => vscode.window.showErrorMessage(vscode.l10n.t("The comparison {0} failed: {1}", name, failure), open, resume),
      waiting: () =>
        vscode.window.showWarningMessage(vscode.l10n.t("{0} waits: its disk is full. Free space, and it goes on by itself.", name), open, stop),
    };
    const chosen = await shown[notice]();
    const item = vscode.Uri.file(folder);
    if (chosen === open) this.#parts.compare.open({ comparison: folder });
    if (chosen === resume) await vscode.commands.executeCommand(commandId("resumeComparison"), item);
    if (chosen === stop) await vscode.commands.executeCommand(commandId("stopComparison"), item);
  }

  dispose(): void {
    this.#changed.dispose();
  }
}
