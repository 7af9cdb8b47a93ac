/**
 * Tells of runs that nobody looks at: finished, failed (a stop by NaN is one), out of disk. Nothing else is worth an interruption; progress is in the status
 * bar and the views.
 * The rule to keep: a change is told once, as it happens; what was so when the window opened, or is on the screen, is not told at all.
 */
import * as vscode from "vscode";
import type { PanelAction, RunState } from "../protocol/panelProtocol.ts";
import type { ShellParts } from "./commands/shellParts.ts";
import type { NotificationLevel } from "./contributions.ts";
import { actionTitle } from "./failures.ts";
import type { RunSession } from "./runs/runSession.ts";
import { isLive } from "./views/runAbilities.ts";
import { shortName } from "./views/runText.ts";

/** What a change of state tells; null when it tells nothing. */
export function noticeOf(before: RunState | undefined, now: RunState, level: NotificationLevel): "finished" | "failed" | "waiting" | null {
  const was = before !== undefined && before !== now && isLive({ state: before });
  if (!was || level === "none") return null;
  if (now === "failed" || now === "waiting") return now;
  return now === "finished" && level === "all" ? now : null;
}

export class Notifications {
  readonly #parts: ShellParts;
  readonly #states = new Map<string, RunState>();
  readonly #changed: { dispose(): void };

  constructor(parts: ShellParts) {
    this.#parts = parts;
    this.#look();
    this.#changed = parts.runs.onDidChange(() => this.#look());
  }

  #look(): void {
    for (const session of this.#parts.runs.all()) {
      const { state } = session.view;
      const before = this.#states.get(session.runFolder);
      if (before === state) continue;
      this.#states.set(session.runFolder, state);
      const notice = noticeOf(before, state, notificationLevel());
      if (notice && !this.#parts.panels.isVisible(session.runFolder)) void this.#tell(session, notice);
    }
  }

  async #tell(session: RunSession, notice: "finished" | "failed" | "waiting"): Promise<void> {
    const { view, runFolder } = session;
    const target = { runFolder, runFile: null };
    if (notice === "failed" && view.failure) {
      const message = vscode.l10n.t("{0} failed: {1}", shortName(view), view.failure.message);
      return this.#parts.fail({ ...view.failure, message }, target);
    }
    if (notice === "failed") return this.#ask(vscode.l10n.t("{0} failed.", shortName(view)), "error", ["showLog", "copyReport"], session);
    if (notice === "waiting")
      return this.#ask(
        vscode.l10n.t("{0} waits: its disk is full. Free space, and it goes on by itself.", shortName(view)),
        "warning",
        ["stop", "showLog"],
        session,
      );
    const loss = view.loss === null ? "" : ` ${vscode.l10n.t("Last loss {0}.", view.loss.toFixed(4))}`;
    return this.#ask(
      `${vscode.l10n.t("{0} is finished after {1} steps.", shortName(view), view.step)}${loss}`,
      "information",
      ["tryModel", "export"],
      session,
    );
  }

  async #ask(message: string, kind: "error" | "warning" | "information", actions: PanelAction[], { runFolder }: RunSession): Promise<void> {
    const open = vscode.l10n.t("Open Training Panel");
    const titles = [open, ...actions.map(actionTitle)];
    const show = {
      error: vscode.window.showErrorMessage,
      warning: vscode.window.showWarningMessage,
      information: vscode.window.showInformationMessage,
    };
    const chosen = await show[kind](message, ...titles);
    if (chosen === open) this.#parts.panels.openRun(this.#parts.runs.get(runFolder));
    const action = actions.find((candidate) => actionTitle(candidate) === chosen);
    if (action) await this.#parts.perform(action, { runFolder, runFile: null });
  }

  dispose(): void {
    this.#changed.dispose();
  }
}

/** What the setting asks to be told. */
export function notificationLevel(): NotificationLevel {
  return vscode.workspace.getConfiguration("sparseTuner").get<NotificationLevel>("notifications", "all");
}
