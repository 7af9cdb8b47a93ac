/** Runs something long in a notification with Cancel. What is done, and what giving up means, is the caller's business. */
import * as vscode from "vscode";

export async function cancellable<T>(title: string, work: (signal: AbortSignal, say: (message: string) => void) => Promise<T>): Promise<T> {
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  return vscode.window.withProgress(options, (progress, token) => {
    const controller = new AbortController();
    token.onCancellationRequested(() => controller.abort());
    return work(controller.signal, (message) => progress.report({ message }));
  });
}
