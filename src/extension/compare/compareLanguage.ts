/** The files of comparisons in the editor: their names, their schema, and the commands above their first line. */
import * as vscode from "vscode";
import { commandId } from "../contributions.ts";
import { registerFileLanguage } from "../language/fileLanguage.ts";
import { compareFileProblems, compareFileSchema } from "./compareSchemaKeys.ts";

/** Registers everything; what it returns ends it. */
export function registerCompareLanguage(): vscode.Disposable {
  return registerFileLanguage({
    name: "sparse-tuner-compare",
    selector: { pattern: "**/*.sparse-tuner-compare.{yaml,yml}" },
    schema: compareFileSchema,
    problemsOf: compareFileProblems,
    ofWholeFile: (message) => vscode.l10n.t("The comparison {0}", message),
    commandsOf: ({ uri }) => [
      { title: vscode.l10n.t("Start comparison"), command: commandId("startComparison"), arguments: [uri] },
      { title: vscode.l10n.t("Open comparisons"), command: commandId("compareRuns") },
    ],
  });
}
