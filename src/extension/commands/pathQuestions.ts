/**
 * Questions for a path: models and data files that this window knows, or a dialog. It knows nothing of what the path is for.
 * The rule to keep: a dialog that is closed leads back to the list.
 */
import path from "node:path";
import * as vscode from "vscode";
import { modelPlaces } from "./modelPlaces.ts";
import { type Answer, back, type Place, pickStep } from "./multiStep.ts";
import type { ShellParts } from "./shellParts.ts";

export interface PathPick extends vscode.QuickPickItem {
  /** Null opens a dialog. */
  path: string | null;
}

export interface PathQuestion extends Place {
  placeholder: string;
  items: PathPick[] | Promise<PathPick[]>;
  /** The answer as it stands. */
  chosen: string;
}

/** A path from a list, or from a dialog. */
export async function askPath(question: PathQuestion, dialog: vscode.OpenDialogOptions): Promise<Answer<string>> {
  for (;;) {
    const picked = await pickStep({ ...question, active: ({ path: file }) => file === question.chosen });
    if (picked === undefined || picked === back) return picked;
    const chosen = picked.path ?? (await vscode.window.showOpenDialog({ canSelectMany: false, ...dialog }))?.[0].fsPath;
    if (chosen !== undefined) return chosen;
  }
}

/** Opens a dialog. */
export function browseItem(description: string): PathPick {
  return { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description, path: null };
}

export function askModelFolder(parts: ShellParts, place: Place, placeholder: string, chosen: string): Promise<Answer<string>> {
  const items = modelPlaces(parts).then((places): PathPick[] => [
    ...places.map(({ name, folder, source }) => ({ label: `$(symbol-class) ${name}`, description: source, detail: folder, path: folder })),
    browseItem(vscode.l10n.t("a folder with config.json and safetensors")),
  ]);
  return askPath({ ...place, placeholder, items, chosen }, { canSelectFolders: true, title: vscode.l10n.t("Choose a model folder") });
}

/** `others` stand above the files. */
export function askDataFile(parts: ShellParts, place: Place, placeholder: string, chosen: string, others: PathPick[] = []): Promise<Answer<string>> {
  const items = parts.known
    .filesNow()
    .then(({ dataFiles }): PathPick[] => [
      ...others,
      ...dataFiles
        .slice(0, 500)
        .map((file) => ({ label: `$(file) ${path.basename(file)}`, description: vscode.workspace.asRelativePath(path.dirname(file)), path: file })),
      browseItem(vscode.l10n.t("a .jsonl, .json, .csv or .txt file")),
    ]);
  const dialog = {
    canSelectFiles: true,
    title: vscode.l10n.t("Choose a data file"),
    filters: { [vscode.l10n.t("Data")]: ["jsonl", "json", "csv", "txt"] },
  };
  return askPath({ ...place, placeholder, items, chosen }, dialog);
}

/** Puts a path into the state. */
export async function settle<Key extends string>(state: Record<Key, string>, key: Key, asked: Promise<Answer<string>>): Promise<Answer<true>> {
  const answer = await asked;
  if (answer === undefined || answer === back) return answer;
  state[key] = answer;
  return true;
}
