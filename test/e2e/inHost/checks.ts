/** What the checks inside the extension host share: their shape, waiting, and the documents of the workspace. */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as vscode from "vscode";

/** Checks of a file by their names, in the order in which they run. */
export type Checks = Record<string, () => Promise<void>>;

/** Waits until `check` gives something else than false, null and undefined, and returns it. The machine may be busy. */
export async function until<Value>(
  what: string,
  check: () => Promise<Value> | Value,
  timeoutMs = 60_000,
): Promise<Exclude<Value, false | null | undefined>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== false && value !== null && value !== undefined) return value as Exclude<Value, false | null | undefined>;
    if (Date.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s in vain for: ${what}`);
    await delay(30);
  }
}

export function workspaceFile(name: string): vscode.Uri {
  const [folder] = vscode.workspace.workspaceFolders ?? [];
  return vscode.Uri.joinPath(folder.uri, name);
}

/** Writes a file of the workspace and shows it in an editor. */
export async function shown(name: string, text: string): Promise<vscode.TextEditor> {
  const uri = workspaceFile(name);
  writeFileSync(uri.fsPath, text);
  const editor = await vscode.window.showTextDocument(await vscode.workspace.openTextDocument(uri), {
    viewColumn: vscode.ViewColumn.One,
    preview: false,
  });
  await until("the document's text", () => editor.document.getText() === text);
  return editor;
}

/** Has a picture of the window taken by who drives it. */
export async function picture(name: string): Promise<void> {
  const wish = path.join(process.env.SPARSE_TUNER_TEST_REPORT ?? "", `${name}.picture`);
  writeFileSync(wish, "");
  await until(`the picture ${name}`, () => !existsSync(wish));
}

/** What a person does with a question: types into the box that asks it, or picks an entry. */
export type Gesture = { kind: "type"; question: string; text: string } | { kind: "pick"; label: string };

let gestures = 0;

/** Has a question answered by who drives the window; ends when that is done. */
async function answer(gesture: Gesture): Promise<void> {
  const wish = path.join(process.env.SPARSE_TUNER_TEST_REPORT ?? "", `${++gestures}.gesture`);
  writeFileSync(`${wish}.part`, JSON.stringify(gesture));
  renameSync(`${wish}.part`, wish);
  await until(`the answer ${JSON.stringify(gesture)}`, () => !existsSync(wish));
}

/** Runs a command, has its questions answered one after another, and returns what it returns. */
export async function answered<Result>(name: string, argument: unknown, ...answers: Gesture[]): Promise<Result> {
  const result = vscode.commands.executeCommand<Result>(name, argument);
  for (const gesture of answers) await answer(gesture);
  return result;
}
