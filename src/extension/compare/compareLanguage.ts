/**
 * The files of comparisons in the editor: their errors, and the line of commands above the first line. What such a file may hold is the schema's.
 * The rule to keep: an editor that does not show one costs nothing.
 */
import * as vscode from "vscode";
import { checkCompareFile } from "../../protocol/compareConfig.ts";
import { commandId } from "../contributions.ts";

const selector: vscode.DocumentFilter = { pattern: "**/*.sparse-tuner-compare.{yaml,yml}" };
const settleMs = 200;

/** Registers errors and commands; what it returns ends them. */
export function registerCompareLanguage(): vscode.Disposable {
  const shown = vscode.languages.createDiagnosticCollection("sparse-tuner-compare");
  const waiting = new Map<string, NodeJS.Timeout>();
  const look = (document: vscode.TextDocument) => {
    if (vscode.languages.match(selector, document) > 0 && !document.isClosed) shown.set(document.uri, problemsOf(document));
  };
  const lookSoon = (document: vscode.TextDocument) => {
    if (vscode.languages.match(selector, document) === 0) return;
    const key = document.uri.toString();
    clearTimeout(waiting.get(key));
    waiting.set(
      key,
      setTimeout(() => look(document), settleMs),
    );
  };
  for (const document of vscode.workspace.textDocuments) look(document);
  return vscode.Disposable.from(
    shown,
    vscode.workspace.onDidOpenTextDocument(look),
    vscode.workspace.onDidChangeTextDocument(({ document }) => lookSoon(document)),
    vscode.workspace.onDidCloseTextDocument((document) => shown.delete(document.uri)),
    vscode.languages.registerCodeLensProvider(selector, { provideCodeLenses }),
    new vscode.Disposable(() => {
      for (const timer of waiting.values()) clearTimeout(timer);
    }),
  );
}

function problemsOf(document: vscode.TextDocument): vscode.Diagnostic[] {
  return checkCompareFile(document.getText(), document.uri.fsPath).problems.map((problem) => {
    const { start, end, line, path, message } = problem;
    const range =
      end > start
        ? new vscode.Range(document.positionAt(start), document.positionAt(end))
        : document.lineAt(Math.min(line, document.lineCount) - 1).range;
    const text = path ? `${path} ${message}` : vscode.l10n.t("The comparison {0}", message);
    const diagnostic = new vscode.Diagnostic(range, text, vscode.DiagnosticSeverity.Error);
    diagnostic.source = "Sparse Tuner";
    return diagnostic;
  });
}

function provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
  const top = new vscode.Range(0, 0, 0, 0);
  return [
    new vscode.CodeLens(top, { title: vscode.l10n.t("Start comparison"), command: commandId("startComparison"), arguments: [document.uri] }),
    new vscode.CodeLens(top, { title: vscode.l10n.t("Open comparisons"), command: commandId("compareRuns") }),
  ];
}
