/**
 * The report that a pruning leaves in its model's folder, read and checked: a folder may come from anywhere.
 * Throws UserError `prune/no-report` where there is none, `prune/bad-report` where it is none of ours.
 */
import path from "node:path";
import { Value } from "typebox/value";
import * as vscode from "vscode";
import { type PruningReport, pruningReportSchema } from "../../protocol/pruning.ts";
import { UserError } from "../../protocol/userError.ts";
import { pruningReportName } from "../commands/newRunMethod.ts";

/** A matrix takes some hundred bytes; the largest models have some thousand matrices. */
const largestBytes = 1 << 24;

export async function readPruningReport(folder: string): Promise<PruningReport> {
  const uri = vscode.Uri.file(path.join(folder, pruningReportName));
  const found = await vscode.workspace.fs.stat(uri).then(
    ({ size }) => size,
    () => null,
  );
  if (found === null)
    throw new UserError(
      "prune/no-report",
      vscode.l10n.t("{0} has no pruning report.", folder),
      vscode.l10n.t("Choose a model that Prune Model has written."),
    );
  const report = found > largestBytes ? null : parsed(new TextDecoder().decode(await vscode.workspace.fs.readFile(uri)));
  if (Value.Check(pruningReportSchema, report)) return report;
  throw new UserError(
    "prune/bad-report",
    vscode.l10n.t("{0} is no pruning report that this version understands.", uri.fsPath),
    vscode.l10n.t("Prune the model again to get a new one."),
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
