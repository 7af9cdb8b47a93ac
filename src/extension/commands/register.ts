/**
 * Registers every command, and is what the buttons of panels, notifications and views do: one function for one thing, whoever asks for it.
 * The rule to keep: a command that is contributed has a handler here, or this file does not compile.
 */
import * as vscode from "vscode";
import type { PanelAction } from "../../protocol/panelProtocol.ts";
import { compareCommands } from "../compare/compareCommands.ts";
import { type CommandName, commandId, commandNames } from "../contributions.ts";
import { openPlace, reportError } from "../failures.ts";
import { runFileProblems } from "../files/runFileDocument.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import { pruneCommands } from "../prune/pruneModel.ts";
import { demoCommand } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { exportModel } from "./exportModel.ts";
import { inspectCommands } from "./inspect.ts";
import { installRuntimeCommand } from "./installRuntime.ts";
import { installTensorflowCommand } from "./installTensorflow.ts";
import { logAndReport } from "./logAndReport.ts";
import { newRunCommand } from "./newRun.ts";
import { planMemoryCommand } from "./planMemory.ts";
import { runControl } from "./runControl.ts";
import { runFolders } from "./runFolders.ts";
import { runLockCommand } from "./runLock.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { targetOf } from "./targets.ts";
import { tryModelCommand } from "./tryModel.ts";
import { useModel } from "./useModel.ts";

/** All commands; `refresh` reads the views anew. */
export function commandHandlers(parts: ShellParts, refresh: () => Promise<void>): Handlers<CommandName> {
  return {
    ...newRunCommand(parts),
    ...runControl(parts),
    ...runFolders(parts),
    ...runLockCommand(parts),
    ...planMemoryCommand(parts),
    ...inspectCommands(parts),
    ...useModel(parts),
    ...exportModel(parts),
    ...tryModelCommand(parts),
    ...pruneCommands(parts),
    ...compareCommands(parts),
    ...doctorCommand(parts),
    ...installRuntimeCommand(parts, refresh),
    ...installTensorflowCommand(parts, refresh),
    ...logAndReport(parts),
    ...demoCommand(parts),
    refreshViews: refresh,
  };
}

/** A command that fails shows why, and is answered with undefined: nobody who gave it by hand reads an exception. */
export function registerCommands(handlers: Handlers<CommandName>, parts: ShellParts): vscode.Disposable {
  const registered = commandNames.map((name) =>
    vscode.commands.registerCommand(commandId(name), async (argument?: unknown, all?: unknown) => {
      try {
        return await handlers[name](argument, all);
      } catch (error) {
        const target = targetOf(argument) ?? parts.panels.active ?? undefined;
        void reportError(error, parts.log, parts.perform, target);
        return undefined;
      }
    }),
  );
  return vscode.Disposable.from(...registered);
}

/** What an action of a button is called as a command; null for the two that are not commands of ours. */
const commandOf: Record<PanelAction, CommandName | null> = {
  start: "start",
  pause: "pause",
  resume: "resume",
  stop: "stop",
  kill: "kill",
  showLog: "showLog",
  copyReport: "copyReport",
  lowerBatch: "lowerBatch",
  openAtLine: null,
  openRunFile: "openRunFile",
  duplicate: "duplicateRun",
  previewData: "previewTrainingData",
  evaluate: "evaluate",
  tryModel: "tryModel",
  export: "mergeAndExport",
  inspect: "inspectSubMatrix",
  newRun: "newRun",
  manageTrust: null,
  installRuntime: "installRuntime",
  removeLock: "removeLock",
};

/** Does what a button says, for the run or run file it stands beside. */
export async function performAction(parts: ShellParts, action: PanelAction, target: PanelTarget): Promise<void> {
  if (action === "manageTrust") return void (await vscode.commands.executeCommand("workbench.trust.manage"));
  if (action === "openAtLine") return openAtLine(parts, target);
  const name = commandOf[action];
  const named = target.runFolder !== null || target.runFile !== null;
  if (name) await vscode.commands.executeCommand(commandId(name), named ? target : undefined);
}

/** The place that a run's failure names; else the first problem of the run file. */
async function openAtLine(parts: ShellParts, { runFolder, runFile }: PanelTarget): Promise<void> {
  const place = runFolder ? parts.runs.get(runFolder).view.failure?.place : null;
  if (place) return openPlace(place);
  const uri = runFile ?? vscode.Uri.joinPath(vscode.Uri.file(runFolder ?? ""), "run.yaml");
  const text = (await vscode.workspace.openTextDocument(uri)).getText();
  await openPlace({ file: uri.fsPath, line: runFileProblems(text)[0]?.line ?? 1 });
}
