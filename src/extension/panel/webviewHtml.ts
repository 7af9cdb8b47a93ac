/**
 * What every webview is made with: its document, what it may load, its texts. What it shows comes by messages.
 * The rule to keep: a webview loads our own built files and nothing else.
 */
import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import { webviewDocument } from "./webviewDocument.ts";

/** Programs under dist/webview. */
export type WebviewProgram = "panel" | "inspector" | "tensors" | "compare" | "prune";

/** What a webview may load from, and that it may run scripts. */
export function webviewOptions(extensionUri: vscode.Uri): vscode.WebviewOptions {
  return { enableScripts: true, localResourceRoots: [vscode.Uri.joinPath(extensionUri, "dist", "webview")] };
}

/** The document of a webview. `title` must be one of ours, told apart from every other webview's. */
export function webviewHtml(webview: vscode.Webview, extensionUri: vscode.Uri, program: WebviewProgram, title: string): string {
  const file = (extension: string) =>
    webview.asWebviewUri(vscode.Uri.joinPath(extensionUri, "dist", "webview", `${program}.${extension}`)).toString();
  return webviewDocument({
    language: vscode.env.language,
    styleSource: webview.cspSource,
    nonce: randomBytes(16).toString("base64"),
    style: file("css"),
    program: file("js"),
    title,
  });
}

/** English text → text of the display language, for a webview's own `t`. Empty where the language is English. */
export async function webviewStrings(): Promise<Record<string, string>> {
  const { uri } = vscode.l10n;
  if (!uri) return {};
  const bundle: unknown = JSON.parse(new TextDecoder().decode(await vscode.workspace.fs.readFile(uri)));
  const entries = typeof bundle === "object" && bundle !== null ? Object.entries(bundle) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}
