/** The extension's log: VS Code's own output channel with levels, which "Show Log" opens. A run's log is a file of its folder, not this. */
import * as vscode from "vscode";

export type Log = vscode.LogOutputChannel;

export function createLog(): Log {
  return vscode.window.createOutputChannel("Sparse Tuner", { log: true });
}
