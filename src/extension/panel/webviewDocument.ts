/**
 * The text of a webview's document: a frame without content, whose program draws everything from messages. It knows no VS Code: tests make the same one.
 * The rule to keep: nothing that a person, a file or a run named gets into this text; scripts by nonce, styles from our own files only.
 */

/** The UI toolkit adds empty style elements; this is the hash of nothing. */
const emptyStyle = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";

/**
 * Says `ready` while the page is still fetching its style and its program, and keeps what the host answers until the program takes it (webview/host.ts).
 * The host's answer takes about as long as the fetching.
 */
const beginning = `const page = globalThis.sparseTunerPage = { vsCode: acquireVsCodeApi(), messages: [], take: (message) => page.messages.push(message) };
addEventListener("message", ({ data }) => page.take(data));
page.vsCode.postMessage({ kind: "ready" });`;

/** `styleSource` is what a policy calls the place of the style; `style` and `program` are addresses; `title` must be told apart from every other webview's. */
export function webviewDocument(parts: {
  language: string;
  styleSource: string;
  nonce: string;
  style: string;
  program: string;
  title: string;
}): string {
  const { nonce } = parts;
  const policy = ["default-src 'none'", `style-src ${parts.styleSource} ${emptyStyle}`, `script-src 'nonce-${nonce}'`].join("; ");
  return `<!DOCTYPE html>
<html lang="${escaped(parts.language)}">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="${escaped(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(parts.title)}</title>
<script nonce="${nonce}">${beginning}</script>
<link rel="stylesheet" href="${escaped(parts.style)}">
</head>
<body>
<main id="root"></main>
<script type="module" nonce="${nonce}" src="${escaped(parts.program)}"></script>
</body>
</html>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
