/**
 * The webview of one pruning: passes on what happens and does what its buttons say. It draws nothing and keeps no data.
 * The rules to keep: every message of the webview is checked by its schema, what does not fit is logged and ignored; a hidden view is told nothing, and gets
 * everything anew when it is shown; closing it ends no pruning.
 */
import path from "node:path";
import { Value } from "typebox/value";
import * as vscode from "vscode";
import { type FromPrune, fromPruneSchemas, type PruneAction, type ToPrune } from "../../protocol/prunePanelProtocol.ts";
import { saveAs } from "../panel/saveAs.ts";
import { webviewHtml, webviewOptions, webviewStrings } from "../panel/webviewHtml.ts";
import type { PruneSubject } from "./pruningJob.ts";

export interface PrunePanelParts {
  context: vscode.ExtensionContext;
  log: vscode.LogOutputChannel;
  /** Does what a button says, but for Cancel. */
  perform(action: Exclude<PruneAction, "cancel">, subject: PruneSubject): Promise<void>;
  /** Shows what went wrong and what to do next. */
  fail(error: unknown): void;
}

export class PrunePanel {
  readonly subject: PruneSubject;
  readonly #parts: PrunePanelParts;
  readonly #panel: vscode.WebviewPanel;
  /** What the visible webview is told by; null while it is hidden or has not said `ready`. */
  #watching: { dispose(): void } | null = null;
  /** VS Code lets nobody ask anything of a closed view. */
  #closed = false;

  constructor(subject: PruneSubject, parts: PrunePanelParts) {
    this.subject = subject;
    this.#parts = parts;
    const { extensionUri } = parts.context;
    const title = vscode.l10n.t("Pruning of {0}", path.basename(subject.view.folder));
    const column = vscode.ViewColumn.Active;
    this.#panel = vscode.window.createWebviewPanel("sparseTuner.pruning", title, column, webviewOptions(extensionUri));
    const icon = (theme: string) => vscode.Uri.joinPath(extensionUri, "media", "icons", `sparse-tuner-${theme}.svg`);
    this.#panel.iconPath = { light: icon("light"), dark: icon("dark") };
    this.#panel.webview.onDidReceiveMessage((message: unknown) => this.#onMessage(message));
    this.#panel.onDidChangeViewState(() => {
      if (!this.#panel.visible) this.#rest();
    });
    this.#panel.onDidDispose(() => {
      this.#closed = true;
      this.#rest();
    });
    this.#panel.webview.html = webviewHtml(this.#panel.webview, extensionUri, "prune", "Sparse Tuner Pruning");
  }

  get visible(): boolean {
    return this.#panel.visible;
  }

  onDidDispose(listener: () => void): void {
    this.#panel.onDidDispose(listener);
  }

  reveal(): void {
    this.#panel.reveal();
  }

  close(): void {
    this.#panel.dispose();
  }

  /** The webview will say `ready` again when it is shown again: VS Code makes it anew. */
  #rest(): void {
    this.#watching?.dispose();
    this.#watching = null;
  }

  #send(message: ToPrune): void {
    void this.#panel.webview.postMessage(message);
  }

  #onMessage(message: unknown): void {
    const kind = typeof message === "object" && message !== null ? (message as { kind?: unknown }).kind : undefined;
    const schema = typeof kind === "string" && Object.hasOwn(fromPruneSchemas, kind) ? fromPruneSchemas[kind as FromPrune["kind"]] : null;
    if (!schema || !Value.Check(schema, message)) {
      this.#parts.log.warn(`The pruning view sent what nobody understands: ${String(kind).slice(0, 40)}`);
      return;
    }
    this.#handle(message as FromPrune).catch((error: unknown) => this.#parts.fail(error));
  }

  async #handle(message: FromPrune): Promise<void> {
    switch (message.kind) {
      case "ready":
        return this.#hydrate();
      case "action":
        if (message.action === "cancel") return this.subject.cancel();
        return this.#parts.perform(message.action, this.subject);
      case "save":
        return saveAs(message, path.dirname(this.subject.view.folder));
      case "problem":
        this.#parts.log.error(`The pruning view: ${message.message}`);
    }
  }

  async #hydrate(): Promise<void> {
    const strings = await webviewStrings();
    // It may have been hidden or closed meanwhile, or have said that it is ready once more.
    this.#rest();
    if (this.#closed || !this.#panel.visible) return;
    this.#watching = this.subject.listen({
      onProgress: (progress) => this.#send({ kind: "progress", progress }),
      onNotes: (notes) => this.#send({ kind: "notes", notes }),
      onEnded: (view) => this.#send({ kind: "ended", view }),
    });
    this.#send({ kind: "hydrate", strings, view: this.subject.view });
  }
}
