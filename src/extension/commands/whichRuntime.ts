/**
 * Which Node runs the core, in words, and whether only the editor itself could be found. It looks and says; installing is installRuntime.ts' business.
 */
import * as vscode from "vscode";
import { UserError } from "../../protocol/userError.ts";
import type { CoreProgram, NodeKind } from "../startCore.ts";
import type { ShellParts } from "./shellParts.ts";

/** How a Node was found, as the end of a sentence. */
export function foundText(kind: NodeKind = "path"): string {
  const texts: Record<NodeKind, string> = {
    configured: vscode.l10n.t("named in the settings"),
    path: vscode.l10n.t("found on the PATH"),
    server: vscode.l10n.t("the one that runs this editor's server"),
    installed: vscode.l10n.t("installed by this extension, because the settings name none and the PATH has none"),
    electron: vscode.l10n.t("the editor itself, for the cpu device only, because neither the settings nor the PATH have a Node.js"),
  };
  return texts[kind];
}

/** The Node with why it is used, and what was passed over. */
export function runtimeText({ node, kind, passedOver = [] }: CoreProgram): string {
  const used = `${node} (${foundText(kind)})`;
  return passedOver.length === 0 ? used : vscode.l10n.t("{0}; not used: {1}", used, passedOver.join("; "));
}

/** What a machine without a plain Node is told to do; the same in the doctor's findings and before a start. */
export function runtimeFix(): string {
  return vscode.l10n.t("Give the command “Sparse Tuner: Install Runtime”, or install Node.js 20 or newer, to use other devices than the cpu.");
}

/** Null with a plain Node; else whether the editor can stand in for it, and why there is none. A Node that is set and cannot be used is not missing. */
export async function missingRuntime({ program }: Pick<ShellParts, "program">): Promise<{ editorCanTrain: boolean; why: string } | null> {
  try {
    const { kind, passedOver = [] } = await program();
    return kind === "electron" ? { editorCanTrain: true, why: passedOver.join("\n") } : null;
  } catch (error) {
    if (error instanceof UserError && error.code === "node/not-found") return { editorCanTrain: false, why: error.message };
    return null;
  }
}
