/**
 * Changes documents of the editor by what their text is at that moment: one change after the other, so that none is made from a text that another is just
 * changing. What the changes are, others say.
 * The rule to keep: every change goes through the open document, so that undo and unsaved text are the editor's own.
 */
import { setTimeout as delay } from "node:timers/promises";
import * as vscode from "vscode";
import { UserError } from "../../protocol/userError.ts";
import type { TextChange } from "./runFileDocument.ts";

/** The editor refuses a change of a text that has become another one meanwhile, by typing for example. */
const mostTries = 5;
const pauseMs = 20;

/** The change of each document that comes last in its row. */
const last = new Map<string, Promise<void>>();

/** Makes the changes that `changesOf` finds in the document's text. Throws UserError `panel/not-edited`, or what `changesOf` throws. */
export async function editDocument(uri: vscode.Uri, changesOf: (text: string) => TextChange[]): Promise<void> {
  const key = uri.toString();
  const before = last.get(key) ?? Promise.resolve();
  const done = before.then(() => editNow(uri, changesOf));
  const settled = done.catch(() => undefined);
  last.set(key, settled);
  try {
    await done;
  } finally {
    if (last.get(key) === settled) last.delete(key);
  }
}

async function editNow(uri: vscode.Uri, changesOf: (text: string) => TextChange[]): Promise<void> {
  for (let tries = 0; tries < mostTries; tries++) {
    if (tries > 0) await delay(pauseMs);
    const document = await vscode.workspace.openTextDocument(uri);
    const edit = new vscode.WorkspaceEdit();
    for (const { offset, length, text } of changesOf(document.getText()))
      edit.replace(uri, new vscode.Range(document.positionAt(offset), document.positionAt(offset + length)), text);
    if (await vscode.workspace.applyEdit(edit)) return;
  }
  throw new UserError(
    "panel/not-edited",
    vscode.l10n.t("{0} could not be edited.", uri.fsPath),
    vscode.l10n.t("Open it and look whether it is read-only."),
    { badInput: false },
  );
}
