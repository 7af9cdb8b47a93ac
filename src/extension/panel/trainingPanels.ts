/**
 * All training panels of a window: opens, finds and restores them, and says which one is active. One panel a run file or run at most.
 */
import * as vscode from "vscode";
import type { RunSession } from "../runs/runSession.ts";
import type { PanelParts, PanelTarget } from "./panelParts.ts";
import { DraftSubject, type PanelSubject, RunSubject } from "./panelSubject.ts";
import { TrainingPanel, trainingPanelType } from "./trainingPanel.ts";

export class TrainingPanels {
  readonly #parts: PanelParts;
  readonly #createdMs = performance.now();
  readonly #panels = new Set<TrainingPanel>();
  readonly #activeChanged = new vscode.EventEmitter<void>();
  readonly #serializer: vscode.Disposable;
  readonly onDidChangeActive: vscode.Event<void> = this.#activeChanged.event;

  constructor(parts: PanelParts) {
    this.#parts = parts;
    this.#serializer = vscode.window.registerWebviewPanelSerializer(trainingPanelType, {
      deserializeWebviewPanel: async (panel, state: unknown) => {
        parts.log.info(`A training panel is restored ${(performance.now() - this.#createdMs).toFixed(0)} ms after the extension was activated`);
        const subject = this.#restored(state) ?? (await this.#liveSubject());
        if (subject) this.#adopt(panel, subject);
        else panel.dispose();
      },
    });
  }

  /** What the panel in front shows; null when none is. */
  get active(): PanelTarget | null {
    return [...this.#panels].find(({ active }) => active)?.subject.target ?? null;
  }

  isVisible(runFolder: string): boolean {
    return [...this.#panels].some((panel) => panel.visible && panel.subject.target.runFolder === runFolder);
  }

  /** Shows a run. `from` is the run file it was started from: its panel becomes the run's. */
  openRun(session: RunSession, from: vscode.Uri | null = null): void {
    const subject = new RunSubject(session);
    const own = this.#panelOf(subject.target);
    const draft = from && this.#panelOf({ runFolder: null, runFile: from });
    if (!own && draft) draft.show(subject);
    (own ?? draft ?? this.#create(subject)).reveal();
    this.#activeChanged.fire();
  }

  openRunFile(uri: vscode.Uri): void {
    const subject = new DraftSubject(uri);
    (this.#panelOf(subject.target) ?? this.#create(subject)).reveal();
  }

  dispose(): void {
    this.#serializer.dispose();
    this.#activeChanged.dispose();
  }

  #panelOf(target: PanelTarget): TrainingPanel | undefined {
    return [...this.#panels].find(({ subject }) => keyOf(subject.target) === keyOf(target));
  }

  #create(subject: PanelSubject): TrainingPanel {
    const column = vscode.window.activeTextEditor ? vscode.ViewColumn.Beside : vscode.ViewColumn.Active;
    return this.#adopt(vscode.window.createWebviewPanel(trainingPanelType, subject.name, column), subject);
  }

  #adopt(webviewPanel: vscode.WebviewPanel, subject: PanelSubject): TrainingPanel {
    const panel = new TrainingPanel(webviewPanel, subject, this.#parts);
    this.#panels.add(panel);
    webviewPanel.onDidChangeViewState(() => this.#activeChanged.fire());
    webviewPanel.onDidDispose(() => {
      this.#panels.delete(panel);
      this.#activeChanged.fire();
    });
    this.#activeChanged.fire();
    return panel;
  }

  /** A window that was reloaded before it had saved what the panel showed: the run that is alive is what it was opened for. */
  async #liveSubject(): Promise<PanelSubject | null> {
    await this.#parts.attach();
    const live = this.#parts.runs.all().find((session) => session.live);
    return live ? new RunSubject(live) : null;
  }

  /** What a webview kept over a reload: where its subject lies, and nothing else of it is believed. */
  #restored(state: unknown): PanelSubject | null {
    if (typeof state !== "object" || state === null) return null;
    const { runFolder, runFile } = state as { runFolder?: unknown; runFile?: unknown };
    if (typeof runFolder === "string") return new RunSubject(this.#parts.runs.get(runFolder));
    return typeof runFile === "string" ? new DraftSubject(vscode.Uri.file(runFile)) : null;
  }
}

function keyOf({ runFolder, runFile }: PanelTarget): string {
  return runFolder ?? runFile?.toString() ?? "";
}
