/**
 * The one place that writes HTML. A webview's document is a frame without content: its script draws everything, from messages.
 * The rule to keep: nothing that a person, a file or a run named gets into this text; scripts by nonce, styles from our own files only.
 */
import { randomBytes } from "node:crypto";
import * as vscode from "vscode";

/** Programs under dist/webview. */
export type WebviewProgram = "panel" | "inspector" | "tensors" | "compare" | "prune";

/** The UI toolkit adds empty style elements; this is the hash of nothing. */
const emptyStyle = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";

/** What a webview may load from, and that it may run scripts. */
export function webviewOptions(extensionUri: vscode.Uri): vscode.WebviewOptions {
  return { enableScripts: true, localResourceRoots: [vscode.Uri.joinPath(extensionUri, "dist", "webview")] };
}

/** The document of a webview. `title` must be one of ours, told apart from every other webview's. */
export function webviewHtml(webview: vscode.Webview, extensionUri: vscode.Uri, program: WebviewProgram, title: string): string {
  const file = (extension: string) =>
    webview.asWebviewUri(vscode.Uri.joinPath(extensionUri, "dist", "webview", `${program}.${extension}`)).toString();
  const nonce = randomBytes(16).toString("base64");
  const policy = ["default-src 'none'", `style-src ${webview.cspSource} ${emptyStyle}`, `script-src 'nonce-${nonce}'`].join("; ");
  return `<!DOCTYPE html>
<html lang="${escaped(vscode.env.language)}">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="${escaped(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<link rel="stylesheet" href="${escaped(file("css"))}">
</head>
<body>
<main id="root"></main>
<script type="module" nonce="${nonce}" src="${escaped(file("js"))}"></script>
</body>
</html>`;
}

/** English text → text of the display language, for a webview's own `t`. Empty where the language is English. */
export async function webviewStrings(): Promise<Record<string, string>> {
  const { uri } = vscode.l10n;
  if (!uri) return {};
  const bundle: unknown = JSON.parse(new TextDecoder().decode(await vscode.workspace.fs.readFile(uri)));
  const entries = typeof bundle === "object" && bundle !== null ? Object.entries(bundle) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
