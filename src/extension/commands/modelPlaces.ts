/** Where models lie that can be tuned: workspace folders, the Hugging Face cache, folders of the settings. What they are, the service says. */
import { existsSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import type { ShellParts } from "./shellParts.ts";
import { cachedModels, findFiles, huggingFaceCache } from "./workspaceFiles.ts";

export interface ModelPlace {
  name: string;
  folder: string;
  /** Where it was found, as a person knows it. */
  source: string;
}

/** All of them, the workspace's first, each folder once. */
export async function modelPlaces({ known, context }: Pick<ShellParts, "known" | "context">): Promise<ModelPlace[]> {
  const configured = vscode.workspace.getConfiguration("sparseTuner").get<unknown>("modelFolders");
  const folders = Array.isArray(configured)
    ? configured.filter((folder): folder is string => typeof folder === "string" && path.isAbsolute(folder))
    : [];
  const [{ modelFolders }, cached, other] = await Promise.all([
    known.files(),
    cachedModels(huggingFaceCache(process.env, os.homedir())),
    findFiles(folders.filter((folder) => existsSync(folder))),
  ]);
  const places = [
    ...modelFolders.map((folder) => ({ name: path.basename(folder), folder, source: sourceOf(folder, context.globalStorageUri.fsPath) })),
    ...other.modelFolders.map((folder) => ({ name: path.basename(folder), folder, source: vscode.l10n.t("from the settings") })),
    ...cached.map(({ name, folder }) => ({ name, folder, source: vscode.l10n.t("Hugging Face cache") })),
  ];
  return [...new Map(places.reverse().map((place) => [place.folder, place])).values()].reverse();
}

/** The extension's storage holds the demo's model once it was run. */
function sourceOf(folder: string, storage: string): string {
  return folder.startsWith(storage + path.sep) ? vscode.l10n.t("demo") : vscode.workspace.asRelativePath(folder);
}
