/**
 * The errors of open run files or comparisons, all at once, kept up to date while they are written. It shows what a language finds and finds nothing itself.
 * The rules to keep: a file is looked at again only after a pause in the typing; a closed file has no errors shown.
 */
import * as vscode from "vscode";
import type { RunFileProblem } from "../../protocol/runConfig.ts";
import type { FileLanguage } from "./fileLanguage.ts";
import { problemMessage } from "./problemTexts.ts";

/** A pause in the typing; long enough to end a word, short enough not to be waited for. */
const settleMs = 200;

export class Diagnostics implements vscode.Disposable {
  readonly #language: FileLanguage;
  readonly #shown: vscode.DiagnosticCollection;
  readonly #waiting = new Map<string, NodeJS.Timeout>();
  readonly #subscriptions: vscode.Disposable[];

  constructor(language: FileLanguage) {
    this.#language = language;
    this.#shown = vscode.languages.createDiagnosticCollection(language.name);
    this.#subscriptions = [
      vscode.workspace.onDidOpenTextDocument((document) => this.#look(document)),
      vscode.workspace.onDidChangeTextDocument(({ document }) => this.#lookSoon(document)),
      vscode.workspace.onDidCloseTextDocument((document) => this.#forget(document)),
    ];
    for (const document of vscode.workspace.textDocuments) this.#look(document);
  }

  dispose(): void {
    for (const timer of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
    for (const subscription of this.#subscriptions) subscription.dispose();
    this.#shown.dispose();
  }

  #lookSoon(document: vscode.TextDocument): void {
    if (vscode.languages.match(this.#language.selector, document) === 0) return;
    const key = document.uri.toString();
    clearTimeout(this.#waiting.get(key));
    this.#waiting.set(
      key,
      setTimeout(() => this.#look(document), settleMs),
    );
  }

  #look(document: vscode.TextDocument): void {
    if (vscode.languages.match(this.#language.selector, document) === 0) return;
    this.#stopWaiting(document);
    if (document.isClosed) return;
    const problems = this.#language.problemsOf(document.getText());
    this.#shown.set(
      document.uri,
      problems.map((problem) => this.#diagnosticOf(document, problem)),
    );
  }

  #diagnosticOf(document: vscode.TextDocument, problem: RunFileProblem): vscode.Diagnostic {
    const range = problem.end > problem.start ? rangeOf(document, problem) : document.lineAt(Math.min(problem.line, document.lineCount) - 1).range;
    const said = problemMessage(problem);
    const message = problem.path ? `${problem.path} ${said}` : this.#language.ofWholeFile(said);
    const diagnostic = new vscode.Diagnostic(range, message, vscode.DiagnosticSeverity.Error);
    diagnostic.source = "Sparse Tuner";
    return diagnostic;
  }

  #forget(document: vscode.TextDocument): void {
    this.#stopWaiting(document);
    this.#shown.delete(document.uri);
  }

  #stopWaiting(document: vscode.TextDocument): void {
    const key = document.uri.toString();
    clearTimeout(this.#waiting.get(key));
    this.#waiting.delete(key);
  }
}

/** A stretch of a document's text as its editor counts. */
export function rangeOf(document: vscode.TextDocument, { start, end }: { start: number; end: number }): vscode.Range {
  return new vscode.Range(document.positionAt(start), document.positionAt(end));
}
