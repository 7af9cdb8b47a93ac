/**
 * "Preview Training Data": the real first batch of a run file, as it stands in its editor, in a read-only document with tokens coloured by whether the loss
 * counts them. The service makes the batch; previewText.ts lays it out.
 * The rule to keep: it shows what training would do with exactly this text, or the error; never an older batch without saying so.
 */
import * as vscode from "vscode";
import { checkRunFile } from "../../protocol/runConfig.ts";
import type { ServiceClient } from "../service/serviceClient.ts";
import { PreviewDocuments } from "./previewDocument.ts";
import { type PreviewText, type PreviewWords, previewText } from "./previewText.ts";

export interface PreviewParts {
  context: vscode.ExtensionContext;
  service: Pick<ServiceClient, "request">;
  log: vscode.LogOutputChannel;
}

/** Made when the first preview is asked for: until then it costs nothing. */
const documents = new WeakMap<vscode.ExtensionContext, PreviewDocuments>();

/** Shows the first batch of a run file beside it. Throws UserError where there is none, CancellationError where it was given up. */
export async function previewTrainingData(parts: PreviewParts, uri: vscode.Uri): Promise<void> {
  const progress = { location: vscode.ProgressLocation.Notification, cancellable: true, title: vscode.l10n.t("Reading the training data") };
  const preview = await vscode.window.withProgress(progress, async (_, token) => {
    const made = await makePreview(parts, uri, token);
    if (token.isCancellationRequested) throw new vscode.CancellationError();
    return made;
  });
  await documentsOf(parts).show(uri, preview);
}

/** Lets a preview that a window was closed with come back when it is opened again; without it previews work from the first one that is asked for. */
export function registerTrainingPreview(parts: PreviewParts): vscode.Disposable {
  return documentsOf(parts);
}

function documentsOf(parts: PreviewParts): PreviewDocuments {
  const { context } = parts;
  const known = documents.get(context);
  if (known) return known;
  const made = new PreviewDocuments((uri) => makePreview(parts, uri));
  documents.set(context, made);
  context.subscriptions.push(made);
  return made;
}

async function makePreview({ service }: PreviewParts, uri: vscode.Uri, token?: vscode.CancellationToken): Promise<PreviewText> {
  const abort = new AbortController();
  const listening = token?.onCancellationRequested(() => abort.abort());
  try {
    const text = (await vscode.workspace.openTextDocument(uri)).getText();
    const preview = await service.request("preview", { runFile: uri.fsPath, text }, { signal: abort.signal });
    return previewText(preview, checkRunFile(text, uri.fsPath).config?.data.train ?? null, words(uri));
  } catch (error) {
    throw token?.isCancellationRequested ? new vscode.CancellationError() : error;
  } finally {
    listening?.dispose();
  }
}

function words(uri: vscode.Uri): PreviewWords {
  return {
    title: vscode.l10n.t("First batch of {0}", vscode.workspace.asRelativePath(uri)),
    summary: (rows, columns, filled, inLoss) => vscode.l10n.t("{0} × {1} tokens, {2} filled, {3} targets in the loss", rows, columns, filled, inLoss),
    legend: [
      vscode.l10n.t("⟦between these⟧: in the loss. Outside: read only, not in the loss."),
      vscode.l10n.t("⏎ a line break, → a tab. Point at a token for its number and role."),
    ],
    row: (number) => vscode.l10n.t("Row {0}", number),
    document: (line, counts, inLoss) => vscode.l10n.t("Line {0} of the data: {1} tokens, {2} in the loss", line, counts, inLoss),
    role: roleWords,
    padding: (count) => vscode.l10n.t("{0} positions of padding", count),
    notices: vscode.l10n.t("Notes"),
    skipped: vscode.l10n.t("Rows left out"),
    more: (count) => vscode.l10n.t("… and {0} more", count),
  };
}

function roleWords(role: string, count: number): string {
  if (role === "prompt") return vscode.l10n.t("{0} prompt", count);
  return role === "response" ? vscode.l10n.t("{0} response", count) : vscode.l10n.t("{0} text", count);
}
