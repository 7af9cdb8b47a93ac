/**
 * What an error of the core is, in the display language: a sentence a code, for the codes that people meet most. The core speaks English, with the names and
 * numbers of the case; its own sentence stays behind the headline.
 * The rule to keep: an English window shows the core's sentences alone, and a code without a headline is shown as it is.
 */
import * as vscode from "vscode";
import type { Failure } from "../protocol/panelProtocol.ts";

/** The failure with its headline in front of its sentence. */
export function withHeadline<F extends Pick<Failure, "code" | "message">>(failure: F): F {
  const headline = headlineOf(failure.code);
  return headline === null ? failure : { ...failure, message: `${headline} ${failure.message}` };
}

/** Null where the window is English, or nothing is known of the code. */
export function headlineOf(code: string): string | null {
  if (vscode.l10n.bundle === undefined) return null;
  const known = headlines();
  return Object.hasOwn(known, code) ? known[code] : null;
}

function headlines(): Record<string, string> {
  return {
    "config/invalid": vscode.l10n.t("The file has errors; correct the lines that are named."),
    "data/unreadable": vscode.l10n.t("A data file cannot be read; check its path and whether you may read it."),
    "data/empty-file": vscode.l10n.t("A data file is empty."),
    "data/no-usable-row": vscode.l10n.t("A data file has no row that can be used; look at the preview of the training data."),
    "data/too-many-bad-rows": vscode.l10n.t("Too many rows of a data file cannot be used; look at the preview of the training data."),
    "data/unsupported-file": vscode.l10n.t("A data file is of a kind that cannot be read."),
    "run/disk-full": vscode.l10n.t("The disk is full; free space and go on."),
    "run/disk-too-small": vscode.l10n.t("The disk has too little room for this run; free space, or write somewhere else."),
    "run/memory-too-small": vscode.l10n.t("The run needs more memory than there is; lower the batch size, or train less."),
    "run/cannot-write": vscode.l10n.t("A file cannot be written; check whether you may write to the folder."),
    "run/locked": vscode.l10n.t("Another process works on this folder; stop it first."),
    "run/not-finite": vscode.l10n.t("Training diverged: the numbers are infinite or undefined. Lower the learning rate."),
    "run/nothing-trained": vscode.l10n.t("There is no checkpoint yet; wait for the first one."),
    "run/changed-data": vscode.l10n.t("The data has changed since the run began."),
    "run/changed-base": vscode.l10n.t("The model has changed since the run began."),
    "device/out-of-memory": vscode.l10n.t("The device is out of memory; lower the batch size, or use another device."),
    "device/no-addon": vscode.l10n.t("The native code for this machine is not there."),
    "node/not-found": vscode.l10n.t("No Node that can run the core was found; install the runtime."),
    "node/not-usable": vscode.l10n.t("The Node of the setting cannot run the core; correct the setting."),
    "core/slow-start": vscode.l10n.t("The process did not answer in time; look into its log."),
    "core/unreachable": vscode.l10n.t("The process of the run cannot be reached."),
    "model/no-config": vscode.l10n.t("The folder is no model: its config.json is missing."),
    "model/no-weights": vscode.l10n.t("The model folder holds no weights."),
    "model/missing-file": vscode.l10n.t("A file of the model is missing; download the model again."),
    "model/bad-json": vscode.l10n.t("A file of the model is damaged; download the model again."),
    "model/unsupported": vscode.l10n.t("Models of this kind are not supported."),
    "tokenizer/missing": vscode.l10n.t("The model folder has no tokenizer.json."),
    "method/unknown-target": vscode.l10n.t("A target names no matrix of the model; correct method.targets."),
    "method/rank-too-large": vscode.l10n.t("The rank is larger than a matrix; lower it."),
    "method/groups": vscode.l10n.t("The number of groups does not divide a matrix; choose another."),
    "export/not-empty": vscode.l10n.t("The target folder is not empty; choose another. Nothing is overwritten."),
    "task/missing-file": vscode.l10n.t("The file of the test set was not found."),
    "compare/changed": vscode.l10n.t("Something differs from what the comparison was begun with."),
    "compare/runs-failed": vscode.l10n.t("Parts of the comparison failed; mend the cause and resume it."),
  };
}
