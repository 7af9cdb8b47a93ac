/**
 * The webview's line to the extension host, shared by all webviews. It passes messages on and keeps what has to outlive the page; it knows no meaning.
 * The rule to keep: VS Code gives its API out once a page, to the document's first script; nobody else calls acquireVsCodeApi.
 */
import type { FromCompare } from "../src/protocol/compareProtocol.ts";
import type { FromInspector } from "../src/protocol/inspectorProtocol.ts";
import type { FromPanel } from "../src/protocol/panelProtocol.ts";
import type { FromPrune } from "../src/protocol/prunePanelProtocol.ts";
import type { FromTensorFile } from "../src/protocol/tensorFileProtocol.ts";

interface VsCodeApi {
  postMessage(message: unknown): void;
  getState(): unknown;
  setState(state: unknown): void;
}

/** What the document's first script left (src/extension/panel/webviewDocument.ts): it has said `ready`, and keeps what has come since. */
declare const sparseTunerPage: { vsCode: VsCodeApi; messages: unknown[]; take(message: unknown): void };

/** Sends a message to the host. */
export function send(message: FromPanel | FromInspector | FromTensorFile | FromCompare | FromPrune): void {
  sparseTunerPage.vsCode.postMessage(message);
}

/**
 * Calls the handler with every message of the host, those first that came before the program was there; never before the caller is through. `Message` is the
 * protocol's type of what this webview is sent.
 */
export function onMessage<Message>(handler: (message: Message) => void): void {
  // A message from another origin than the page's own frame never reaches a webview: VS Code's outer frame passes on only the host's.
  sparseTunerPage.take = (message) => handler(message as Message);
  for (const message of sparseTunerPage.messages.splice(0)) queueMicrotask(() => sparseTunerPage.take(message));
}

/** What was kept by `keepState`, also over a reload of the window. */
export function keptState(): unknown {
  return sparseTunerPage.vsCode.getState();
}

/** Keeps a small JSON value for the next time this webview is made; a panel's host reads it too, to know what the panel showed. */
export function keepState(state: unknown): void {
  sparseTunerPage.vsCode.setState(state);
}
