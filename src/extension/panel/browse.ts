/** Asks for a file or folder of the run file's, and gives it as it stands best there: relative where it lies below the run file, else absolute. */
import path from "node:path";
import * as vscode from "vscode";
import type { FromPanel } from "../../protocol/panelProtocol.ts";

/** The path to write, with `/`; null when nothing was chosen. `folder` is the run file's. */
export async function editablePath(key: Extract<FromPanel, { kind: "browse" }>["path"], folder: string): Promise<string | null> {
  const isModel = key === "model";
  const chosen = await vscode.window.showOpenDialog({
    defaultUri: vscode.Uri.file(folder),
    canSelectFolders: isModel,
    canSelectFiles: !isModel,
    canSelectMany: false,
    title: isModel ? vscode.l10n.t("Choose a model folder") : vscode.l10n.t("Choose a data file"),
    filters: isModel ? undefined : { [vscode.l10n.t("Data")]: ["jsonl", "json", "csv", "txt"] },
  });
  if (!chosen) return null;
  const file = chosen[0].fsPath;
  const relative = path.relative(folder, file);
  const inside = relative !== "" && !relative.startsWith("..") && !path.isAbsolute(relative);
  return (inside ? relative : file).replaceAll("\\", "/");
}
