/**
 * Run files in the editor: completion, hover, errors, quick fixes and the line of commands above the first line. It binds plain modules to VS Code and
 * makes their words; what a run file may hold is the schema's.
 * The rule to keep: an editor that does not show a run file costs nothing.
 */
import * as vscode from "vscode";
import { runFileProblems } from "../files/runFileDocument.ts";
import { CompletionProvider } from "./completionProvider.ts";
import { Diagnostics, rangeOf } from "./diagnostics.ts";
import { describeKey } from "./keyTexts.ts";
import { namedPlace } from "./runFileCursor.ts";
import { fixOf } from "./runFileFixes.ts";
import { keyAt } from "./runFileSchema.ts";

/** By its name alone: a run file stays one in whatever language its editor shows it. */
export const runFileSelector: vscode.DocumentFilter = { pattern: "**/*.sparse-tuner.{yaml,yml}" };

/** Registers everything; what it returns, which the context keeps as well, ends it. */
export function registerRunFileLanguage(context: vscode.ExtensionContext): vscode.Disposable {
  const registered = vscode.Disposable.from(
    vscode.languages.registerCompletionItemProvider(runFileSelector, new CompletionProvider(), ":", " ", "/", "{", "[", ","),
    vscode.languages.registerHoverProvider(runFileSelector, { provideHover }),
    vscode.languages.registerCodeLensProvider(runFileSelector, { provideCodeLenses }),
    vscode.languages.registerCodeActionsProvider(
      runFileSelector,
      { provideCodeActions },
      { providedCodeActionKinds: [vscode.CodeActionKind.QuickFix] },
    ),
    new Diagnostics(runFileSelector),
  );
  context.subscriptions.push(registered);
  return registered;
}

function provideHover(document: vscode.TextDocument, position: vscode.Position): vscode.Hover | null {
  const place = namedPlace(document.getText(), document.offsetAt(position));
  const key = place && keyAt(place.path, place.values);
  return place && key ? new vscode.Hover(describeKey(key, { withDefault: true }), rangeOf(document, place)) : null;
}

function provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
  const top = new vscode.Range(0, 0, 0, 0);
  const lens = (title: string, command: string) => new vscode.CodeLens(top, { title, command, arguments: [document.uri] });
  return [
    lens(vscode.l10n.t("Plan memory"), "sparseTuner.planMemory"),
    lens(vscode.l10n.t("Start"), "sparseTuner.start"),
    lens(vscode.l10n.t("Open panel"), "sparseTuner.openTrainingPanel"),
  ];
}

function provideCodeActions(document: vscode.TextDocument, range: vscode.Range, { diagnostics }: vscode.CodeActionContext): vscode.CodeAction[] {
  const text = document.getText();
  const actions: vscode.CodeAction[] = [];
  for (const problem of runFileProblems(text)) {
    const at = rangeOf(document, problem);
    const fix = at.intersection(range) ? fixOf(text, problem) : null;
    if (!fix) continue;
    const title = fix.kind === "move" ? vscode.l10n.t("Move to {0}", fix.to) : vscode.l10n.t("Change to {0}", fix.to);
    const action = new vscode.CodeAction(title, vscode.CodeActionKind.QuickFix);
    action.edit = new vscode.WorkspaceEdit();
    for (const { offset, length, text: replacement } of fix.changes)
      action.edit.replace(document.uri, rangeOf(document, { start: offset, end: offset + length }), replacement);
    action.diagnostics = diagnostics.filter((diagnostic) => diagnostic.range.isEqual(at));
    action.isPreferred = true;
    actions.push(action);
  }
  return actions;
}
