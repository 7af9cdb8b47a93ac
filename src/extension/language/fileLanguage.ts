/**
 * A kind of file of ours in the editor: completion, hover, errors, quick fixes and the line of commands above the first line. It binds plain modules to VS
 * Code; what such a file may hold is its schema's, what is wrong with it its reader's.
 * The rule to keep: an editor that does not show such a file costs nothing.
 */
import * as vscode from "vscode";
import type { RunFileProblem } from "../../protocol/runConfig.ts";
import { CompletionProvider } from "./completionProvider.ts";
import { Diagnostics, rangeOf } from "./diagnostics.ts";
import { namedPlace } from "./fileCursor.ts";
import { fixOf } from "./fileFixes.ts";
import type { FileSchema } from "./fileSchema.ts";
import { describeKey } from "./keyTexts.ts";

export interface FileLanguage {
  /** Of its collection of errors. */
  name: string;
  selector: vscode.DocumentFilter;
  schema: FileSchema;
  problemsOf(text: string): RunFileProblem[];
  /** A problem's words as a sentence, where no key is wrong but the file. */
  ofWholeFile(message: string): string;
  /** What stands above the first line. */
  commandsOf(document: vscode.TextDocument): vscode.Command[];
}

/** Registers everything; what it returns ends it. */
export function registerFileLanguage(language: FileLanguage): vscode.Disposable {
  const { selector, schema } = language;
  return vscode.Disposable.from(
    vscode.languages.registerCompletionItemProvider(selector, new CompletionProvider(schema), ":", " ", "/", "{", "[", ","),
    vscode.languages.registerHoverProvider(selector, { provideHover: (document, position) => hoverAt(schema, document, position) }),
    vscode.languages.registerCodeLensProvider(selector, { provideCodeLenses: (document) => language.commandsOf(document).map(aboveAll) }),
    vscode.languages.registerCodeActionsProvider(
      selector,
      { provideCodeActions: (document, range, { diagnostics }) => fixesAt(language, document, range, diagnostics) },
      { providedCodeActionKinds: [vscode.CodeActionKind.QuickFix] },
    ),
    new Diagnostics(language),
  );
}

function aboveAll(command: vscode.Command): vscode.CodeLens {
  return new vscode.CodeLens(new vscode.Range(0, 0, 0, 0), command);
}

function hoverAt(schema: FileSchema, document: vscode.TextDocument, position: vscode.Position): vscode.Hover | null {
  const place = namedPlace(document.getText(), document.offsetAt(position));
  const key = place && schema.keyAt(place.path, place.values);
  return place && key ? new vscode.Hover(describeKey(key, { withDefault: true }), rangeOf(document, place)) : null;
}

function fixesAt(
  { problemsOf }: FileLanguage,
  document: vscode.TextDocument,
  range: vscode.Range,
  diagnostics: readonly vscode.Diagnostic[],
): vscode.CodeAction[] {
  const text = document.getText();
  const actions: vscode.CodeAction[] = [];
  for (const problem of problemsOf(text)) {
    const at = rangeOf(document, problem);
    const fix = at.intersection(range) ? fixOf(text, problem, problemsOf) : null;
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
