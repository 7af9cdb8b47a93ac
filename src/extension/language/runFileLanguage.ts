/** Run files in the editor: their names, their schema, and the commands above their first line. What an editor does with them is fileLanguage.ts' business. */
import * as vscode from "vscode";
import { runSchema } from "../../protocol/runSchema.ts";
import { commandId } from "../contributions.ts";
import { runFileProblems } from "../files/runFileDocument.ts";
import { registerFileLanguage } from "./fileLanguage.ts";
import { FileSchema } from "./fileSchema.ts";

/** By its name alone: a run file stays one in whatever language its editor shows it. */
export const runFileSelector: vscode.DocumentFilter = { pattern: "**/*.sparse-tuner.{yaml,yml}" };

/** Registers everything; what it returns ends it. */
export function registerRunFileLanguage(): vscode.Disposable {
  return registerFileLanguage({
    name: "sparse-tuner",
    selector: runFileSelector,
    schema: new FileSchema(runSchema),
    problemsOf: runFileProblems,
    ofWholeFile: (message) => vscode.l10n.t("The run file {0}", message),
    commandsOf: ({ uri }) => [
      { title: vscode.l10n.t("Plan memory"), command: commandId("planMemory"), arguments: [uri] },
      { title: vscode.l10n.t("Start"), command: commandId("start"), arguments: [uri] },
      { title: vscode.l10n.t("Open panel"), command: commandId("openTrainingPanel"), arguments: [uri] },
    ],
  });
}
