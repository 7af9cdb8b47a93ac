/** Files that people take out of a webview: figures and numbers. */
import path from "node:path";
import * as vscode from "vscode";

/** What a webview asks to have saved; its name and size were checked by the schema of its message. */
export interface SavedFile {
  name: string;
  content: string;
  encoding: "text" | "base64";
}

/** Asks where, beginning in `folder` or else in the workspace's first one, and writes it; the dialog asks before something is overwritten. */
export async function saveAs({ name, content, encoding }: SavedFile, folder: string | null): Promise<void> {
  const start = folder ?? vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
  const target = await vscode.window.showSaveDialog({ defaultUri: start ? vscode.Uri.file(path.join(start, name)) : undefined });
  if (target) await vscode.workspace.fs.writeFile(target, encoding === "base64" ? Buffer.from(content, "base64") : new TextEncoder().encode(content));
}
