/** All Compare Runs views of a window: opens, finds and restores them. One a comparison, and one a set of runs. */
import * as vscode from "vscode";
import type { CompareTarget } from "../../protocol/compareProtocol.ts";
import { ComparePanel, type ComparePanelParts, comparePanelType } from "./comparePanel.ts";

export class ComparePanels {
  readonly #parts: ComparePanelParts;
  readonly #panels = new Set<ComparePanel>();
  readonly #serializer: vscode.Disposable;

  constructor(parts: ComparePanelParts) {
    this.#parts = parts;
    this.#serializer = vscode.window.registerWebviewPanelSerializer(comparePanelType, {
      deserializeWebviewPanel: async (panel, state: unknown) => {
        const target = restored(state);
        if (target) this.#adopt(panel, target);
        else panel.dispose();
      },
    });
  }

  open(target: CompareTarget): void {
    const known = [...this.#panels].find((panel) => keyOf(panel.target) === keyOf(target));
    if (known) {
      known.reveal();
      return;
    }
    const title = vscode.l10n.t("Compare Runs");
    const column = vscode.window.activeTextEditor ? vscode.ViewColumn.Beside : vscode.ViewColumn.Active;
    this.#adopt(vscode.window.createWebviewPanel(comparePanelType, title, column), target);
  }

  /** Whether a comparison's view is on the screen. */
  isVisible(folder: string): boolean {
    return [...this.#panels].some(({ target, visible }) => visible && "comparison" in target && target.comparison === folder);
  }

  dispose(): void {
    this.#serializer.dispose();
  }

  #adopt(webviewPanel: vscode.WebviewPanel, target: CompareTarget): void {
    const panel = new ComparePanel(webviewPanel, target, this.#parts);
    this.#panels.add(panel);
    webviewPanel.onDidDispose(() => this.#panels.delete(panel));
  }
}

function keyOf(target: CompareTarget): string {
  return "comparison" in target ? target.comparison : [...target.runFolders].sort().join("\n");
}

/** What a webview kept over a reload: where its subject lies, and nothing else of it is believed. */
function restored(state: unknown): CompareTarget | null {
  if (typeof state !== "object" || state === null) return null;
  const { comparison, runFolders } = state as { comparison?: unknown; runFolders?: unknown };
  if (typeof comparison === "string") return { comparison };
  const named = Array.isArray(runFolders) && runFolders.length > 0 && runFolders.length <= 100;
  return named && runFolders.every((folder) => typeof folder === "string") ? { runFolders } : null;
}
