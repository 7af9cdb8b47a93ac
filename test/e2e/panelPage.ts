/**
 * The training panel, or another webview, alone in a browser page, under the policy that VS Code gives it: for what needs many messages and no window. What
 * it is in VS Code is the other end-to-end tests' business.
 */
import { readFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import type { Page } from "playwright-core";
import { webviewDocument } from "../../src/extension/panel/webviewDocument.ts";
import type { RunView, ToPanel } from "../../src/protocol/panelProtocol.ts";

const built = path.resolve(import.meta.dirname, "../../dist/webview");
/** What VS Code puts at a document's beginning. */
const vsCodeApi = `<script nonce="panel">
window.sent = [];
window.acquireVsCodeApi = () => ({ postMessage: (message) => { sent.push(message.kind); window.onSent?.(message.kind); window.onMessage?.(message); }, getState() {}, setState() {} });
</script>`;

/** A run that trains. */
export const someRun: RunView = {
  runFolder: "/runs/some",
  name: "some",
  state: "running",
  step: 0,
  totalSteps: 20_000,
  warmup: { step: 1, of: 100 },
  initialising: null,
  loss: 2,
  remainingMs: 3_600_000,
  failure: null,
  logTail: [],
  pid: 1,
  holder: null,
  machineBytes: 64 * 2 ** 30,
};

/** Serves a built webview on this machine alone. What it sends is kept by kind, and whole for who has exposed `onMessage` in the page. */
export async function serveWebview(name: "panel" | "inspector"): Promise<{ url: string; close(): void }> {
  const page = webviewDocument({ language: "en", styleSource: "'self'", nonce: "panel", style: `/${name}.css`, program: `/${name}.js`, title: "" })
    .replace("<meta name", `${vsCodeApi}<meta name`)
    .replace("<body>", '<body class="vscode-dark">');
  const types: Record<string, string> = { js: "text/javascript", css: "text/css" };
  const server = http.createServer(async (request, response) => {
    const file = (request.url ?? "/").slice(1);
    if (/^\w+\.(js|css)$/.test(file)) response.setHeader("content-type", types[file.split(".")[1]]).end(await readFile(path.join(built, file)));
    else response.setHeader("content-type", "text/html").end(page);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

/** Puts a message into the page, its payloads as bytes, for `deliver`. */
export async function prepare(page: Page, message: ToPanel): Promise<void> {
  await page.evaluate(
    (text) => {
      const bytes = (packed: string) => Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
      (window as unknown as { prepared: unknown }).prepared = JSON.parse(text, (key, value) => (key === "payload" ? bytes(value) : value));
    },
    JSON.stringify(message, (key, value) => (key === "payload" ? Buffer.from(value).toString("base64") : value)),
  );
}

/** Delivers the prepared message and waits until the panel has painted it; milliseconds until then. */
export function deliver(page: Page): Promise<number> {
  return page.evaluate(
    () =>
      new Promise<number>((resolve) => {
        const scope = window as unknown as { prepared: unknown; onSent: ((sent: string) => void) | null };
        const started = performance.now();
        scope.onSent = (sent) => {
          if (sent !== "frameShown") return;
          scope.onSent = null;
          requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
        };
        window.dispatchEvent(new MessageEvent("message", { data: scope.prepared }));
      }),
  );
}
