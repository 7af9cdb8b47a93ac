/**
 * Read-only documents that show what a command found: a memory plan, the doctor's findings, what a model said. They live as long as the window.
 * The rule to keep: a document's text is exactly what was found; it is shown as text, so that nothing in it can act.
 */
import * as vscode from "vscode";
import { resultLanguage } from "../contributions.ts";

const scheme = "sparse-tuner";

export class ResultDocuments implements vscode.TextDocumentContentProvider {
  readonly #texts = new Map<string, string>();
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.#changed.event;
  readonly #registration: vscode.Disposable;

  constructor() {
    this.#registration = vscode.workspace.registerTextDocumentContentProvider(scheme, this);
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.#texts.get(uri.toString()) ?? vscode.l10n.t("This result was shown before the window was reloaded. Give the command again.");
  }

  /** The document of a name, with its text; `name` is the tab's title and says by its extension how it is read. */
  set(name: string, text: string): vscode.Uri {
    const uri = vscode.Uri.from({ scheme, path: `/${name.replaceAll("/", "-")}` });
    this.#texts.set(uri.toString(), text);
    this.#changed.fire(uri);
    return uri;
  }

  /** Shows a document; one that is open already is brought to the front. */
  async show(uri: vscode.Uri, viewColumn: vscode.ViewColumn = vscode.ViewColumn.Active, preserveFocus = false): Promise<void> {
    const document = await vscode.workspace.openTextDocument(uri);
    // Long lines of running text are wrapped in a language of our own; see package.json's configurationDefaults.
    if (uri.path.endsWith(".txt")) await vscode.languages.setTextDocumentLanguage(document, resultLanguage);
    await vscode.window.showTextDocument(document, { viewColumn, preview: false, preserveFocus });
  }

  dispose(): void {
    this.#registration.dispose();
    this.#changed.dispose();
  }
}
