/**
 * The read-only editor of safetensors files: it reads header and values through the service and passes them to its webview, which draws them. It never
 * reads a file itself.
 * The rules to keep: every message of the webview is checked by its schema, what does not fit is logged and ignored; a window of values is never larger
 * than what a screen shows.
 */
import { Value } from "typebox/value";
import * as vscode from "vscode";
import { maxWindowValues } from "../../protocol/coreProtocol.ts";
import { type FromTensorFile, fromTensorFileSchemas, type ToTensorFile } from "../../protocol/tensorFileProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { webviewHtml, webviewOptions, webviewStrings } from "../panel/webviewHtml.ts";
import type { ServiceClient } from "../service/serviceClient.ts";

export const tensorFileViewType = "sparseTuner.tensorFile";

export interface TensorFileParts {
  context: vscode.ExtensionContext;
  service: Pick<ServiceClient, "request" | "readTensor">;
  log: vscode.LogOutputChannel;
}

/** A file that is shown. Nothing of it is kept here. */
interface TensorFile extends vscode.CustomDocument {
  readonly uri: vscode.Uri;
}

export function registerTensorFileEditor(parts: TensorFileParts): vscode.Disposable {
  return vscode.window.registerCustomEditorProvider(tensorFileViewType, new TensorFileEditor(parts), { supportsMultipleEditorsPerDocument: true });
}

/** Exported for its test; VS Code knows it by the registration. */
export class TensorFileEditor implements vscode.CustomReadonlyEditorProvider<TensorFile> {
  readonly #parts: TensorFileParts;

  constructor(parts: TensorFileParts) {
    this.#parts = parts;
  }

  openCustomDocument(uri: vscode.Uri): TensorFile {
    return { uri, dispose: () => undefined };
  }

  resolveCustomEditor({ uri }: TensorFile, { webview }: vscode.WebviewPanel): void {
    const { extensionUri } = this.#parts.context;
    webview.options = webviewOptions(extensionUri);
    webview.onDidReceiveMessage((message: unknown) => void this.#onMessage(uri, webview, message));
    webview.html = webviewHtml(webview, extensionUri, "tensors", "Sparse Tuner Tensor File");
  }

  async #onMessage(uri: vscode.Uri, webview: vscode.Webview, message: unknown): Promise<void> {
    const checked = checkedMessage(message);
    if (!checked) return this.#parts.log.warn("The viewer of a tensor file sent a message that nobody understands; it was ignored.");
    if (checked.kind === "problem") return this.#parts.log.warn(`Viewer of ${uri.fsPath}: ${checked.message}`);
    const answer = checked.kind === "ready" ? await this.#hydrate(uri) : await this.#read(uri, checked);
    // False when the editor was closed meanwhile.
    await webview.postMessage(answer);
  }

  async #hydrate(uri: vscode.Uri): Promise<ToTensorFile> {
    const strings = await webviewStrings();
    const file = uri.fsPath;
    try {
      if (uri.scheme !== "file") throw notOnThisMachine(uri);
      return { kind: "hydrate", strings, file, header: await this.#parts.service.request("describeTensors", { file }) };
    } catch (error) {
      return { kind: "refused", strings, file, ...this.#explained(error) };
    }
  }

  async #read(uri: vscode.Uri, { request, name, window }: Extract<FromTensorFile, { kind: "read" }>): Promise<ToTensorFile> {
    if (window.rows * window.columns > maxWindowValues) return { kind: "missing", request, reason: vscode.l10n.t("This window is too large.") };
    try {
      return { kind: "values", request, ...(await this.#parts.service.readTensor({ file: uri.fsPath, name, window })) };
    } catch (error) {
      const { message, action } = this.#explained(error);
      return { kind: "missing", request, reason: `${message} ${action}`.trim() };
    }
  }

  /** The sentence and next action of an error; what is no person's mistake goes to the log as well. */
  #explained(error: unknown): { message: string; action: string } {
    if (error instanceof UserError) return { message: error.message, action: error.action };
    this.#parts.log.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    const action = vscode.l10n.t("This is a bug: please report it with the copied report.");
    return { message: error instanceof Error ? error.message : String(error), action };
  }
}

function notOnThisMachine(uri: vscode.Uri): UserError {
  return new UserError(
    "tensors/not-a-local-file",
    vscode.l10n.t("{0} is not a file of the machine that the extension runs on.", uri.toString(true)),
    vscode.l10n.t("Save it to a folder there and open that file."),
  );
}

function checkedMessage(message: unknown): FromTensorFile | null {
  const kind = typeof message === "object" && message !== null && "kind" in message ? message.kind : null;
  if (typeof kind !== "string" || !Object.hasOwn(fromTensorFileSchemas, kind)) return null;
  return Value.Check(fromTensorFileSchemas[kind as keyof typeof fromTensorFileSchemas], message) ? (message as FromTensorFile) : null;
}
