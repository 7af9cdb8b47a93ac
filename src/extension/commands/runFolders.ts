/**
 * What is done to the folder of a run, or to a run file, outside of training: open, reveal, rename, delete, duplicate, lower the batch.
 * The rules to keep: a run that a process works on is neither renamed nor deleted; nothing is overwritten; deleted is what can be fetched back from the
 * trash, unless the person says that there is none.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { runNameOf } from "../../protocol/runName.ts";
import { UserError } from "../../protocol/userError.ts";
import { editDocument } from "../files/documentEdits.ts";
import { findLiveRun, holderOf } from "../liveRuns.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import type { RunSession } from "../runs/runSession.ts";
import { isLive } from "../views/runAbilities.ts";
import { shortName } from "../views/runText.ts";
import { lowerBatchEdits, withEdits } from "./runFileEdits.ts";
import { heldElsewhere } from "./runLock.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

/** File systems take 255 bytes; the rest is for endings and numbers. A Chinese character takes 3. */
const longestNameBytes = 200;

export function runFolders(
  parts: ShellParts,
): Handlers<"openTrainingPanel" | "openRunFile" | "revealRun" | "renameRun" | "deleteRun" | "duplicateRun" | "lowerBatch"> {
  const { targets, runs } = parts;
  return {
    openTrainingPanel: async (argument) => {
      const target = await targets.either(argument, vscode.l10n.t("Open Training Panel"));
      if (target?.runFolder) parts.panels.openRun(runs.get(target.runFolder));
      else if (target?.runFile) parts.panels.openRunFile(target.runFile);
    },
    openRunFile: async (argument) => {
      const target = await targets.either(argument, vscode.l10n.t("Open Run File"));
      if (target) await vscode.window.showTextDocument(runFileOf(target), { viewColumn: vscode.ViewColumn.One });
    },
    revealRun: async (argument) => {
      const target = await targets.either(argument, vscode.l10n.t("Reveal Run Folder"));
      if (target) await reveal(target.runFolder ? vscode.Uri.file(target.runFolder) : runFileOf(target));
    },
    renameRun: (argument) => rename(parts, argument),
    deleteRun: (argument) => remove(parts, argument),
    duplicateRun: (argument) => duplicate(parts, argument),
    lowerBatch: (argument) => lowerBatch(parts, argument),
  };
}

/** The text that a target's run is made of. */
function runFileOf({ runFolder, runFile }: PanelTarget): vscode.Uri {
  return runFile ?? vscode.Uri.file(path.join(runFolder ?? "", "run.yaml"));
}

/** In the operating system's file manager; where VS Code runs on another machine than its window, in the explorer. */
export async function reveal(uri: vscode.Uri): Promise<void> {
  const elsewhere = vscode.env.remoteName !== undefined || vscode.env.uiKind === vscode.UIKind.Web;
  if (!elsewhere) return void (await vscode.commands.executeCommand("revealFileInOS", uri));
  if (vscode.workspace.getWorkspaceFolder(uri)) return void (await vscode.commands.executeCommand("revealInExplorer", uri));
  const copy = vscode.l10n.t("Copy Path");
  if ((await vscode.window.showInformationMessage(vscode.l10n.t("It lies in {0}.", uri.fsPath), copy)) === copy)
    await vscode.env.clipboard.writeText(uri.fsPath);
}

async function rename(parts: ShellParts, argument: unknown): Promise<void> {
  const session = await parts.targets.run(argument, vscode.l10n.t("Rename Run"), "remove");
  if (!session) return;
  await requireRest(session);
  const folder = path.dirname(session.runFolder);
  const old = path.basename(session.runFolder);
  const name = await vscode.window.showInputBox({
    title: vscode.l10n.t("Rename Run"),
    prompt: vscode.l10n.t("New name of the run's folder"),
    value: old,
    // The date in front sorts runs; what people change is behind it.
    valueSelection: [/^\d{8}-\d{6}-/.exec(old)?.[0].length ?? 0, old.length],
    validateInput: (value) => (value === old ? null : nameProblem(folder, value)),
  });
  if (!name || name === old) return;
  // It may have been resumed while the name was typed.
  await requireRest(session);
  const target = path.join(folder, name);
  await vscode.workspace.fs.rename(vscode.Uri.file(session.runFolder), vscode.Uri.file(target), { overwrite: false });
  parts.runs.remove(session);
  parts.runs.get(target);
  await parts.known.refresh();
}

/** Why a name cannot be a folder or a file beside others; null when it can. */
export function nameProblem(folder: string, name: string, ending = ""): string | null {
  if (!/^[\p{L}\p{N}_][\p{L}\p{M}\p{N} ._#+-]*$/u.test(name) || /[. ]$/.test(name))
    return vscode.l10n.t("Use letters, digits, spaces and . _ # + -, beginning with a letter or digit.");
  if (Buffer.byteLength(name) > longestNameBytes) return vscode.l10n.t("The name is too long; shorten it.");
  return existsSync(path.join(folder, `${name}${ending}`)) ? vscode.l10n.t("{0} exists already. Choose another name.", `${name}${ending}`) : null;
}

/** Throws UserError `run/live` when a process works on a run, whatever the view said, and `run/elsewhere` when its lock says that one may. */
async function requireRest(session: RunSession): Promise<void> {
  const found = await findLiveRun(session.runFolder);
  const holder = holderOf(found, session.runFolder);
  if (holder) throw heldElsewhere(holder);
  if (found.kind !== "live" && !session.live && !isLive(session.view)) return;
  throw new UserError("run/live", vscode.l10n.t("A process works on {0}.", shortName(session.view)), vscode.l10n.t("Stop the run first."));
}

async function remove(parts: ShellParts, argument: unknown): Promise<void> {
  const session = await parts.targets.run(argument, vscode.l10n.t("Delete Run"), "remove");
  if (!session) return;
  await requireRest(session);
  const yes = vscode.l10n.t("Move to Trash");
  const detail = vscode.l10n.t("Its checkpoints and results go with it: {0}", session.runFolder);
  const question = vscode.l10n.t("Delete the run {0}?", shortName(session.view));
  if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, yes)) !== yes) return;
  await requireRest(session);
  if (!(await toTrash(session.runFolder))) return;
  parts.runs.remove(session);
}

/** False when there is no trash and the person keeps the folder then. */
async function toTrash(folder: string): Promise<boolean> {
  const uri = vscode.Uri.file(folder);
  try {
    await vscode.workspace.fs.delete(uri, { recursive: true, useTrash: true });
    return true;
  } catch (error) {
    const yes = vscode.l10n.t("Delete for Good");
    const detail = vscode.l10n.t("It could not be moved to a trash: {0}", error instanceof Error ? error.message : String(error));
    const question = vscode.l10n.t("Delete {0} for good? This cannot be undone.", folder);
    if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, yes)) !== yes) return false;
    await vscode.workspace.fs.delete(uri, { recursive: true, useTrash: false });
    return true;
  }
}

async function duplicate(parts: ShellParts, argument: unknown): Promise<vscode.Uri | null> {
  const target = await parts.targets.either(argument, vscode.l10n.t("Duplicate Run"));
  if (!target) return null;
  return openCopy(parts, target, await textOf(runFileOf(target)));
}

/** Writes a new run file beside the old one, or in the folder that a run was started from, and opens it with its panel. */
async function openCopy(parts: ShellParts, target: PanelTarget, text: string): Promise<vscode.Uri> {
  const folder = target.runFile ? path.dirname(target.runFile.fsPath) : folderFor(target.runFolder ?? "");
  const stem = target.runFile ? runNameOf(target.runFile.fsPath) : path.basename(target.runFolder ?? "").replace(/^\d{8}-\d{6}-/, "");
  const uri = vscode.Uri.file(path.join(folder, freeName(folder, stem.replace(/-copy(-\d+)?$/, ""))));
  await vscode.workspace.fs.writeFile(uri, new TextEncoder().encode(text));
  await vscode.window.showTextDocument(uri, { viewColumn: vscode.ViewColumn.One, preview: false });
  parts.panels.openRunFile(uri);
  return uri;
}

/** The folder that holds `.sparse-tuner/runs/RUN`; the run's own parent where it lies otherwise. */
function folderFor(runFolder: string): string {
  const at = runFolder.split(path.sep).lastIndexOf(".sparse-tuner");
  return at > 0 ? runFolder.split(path.sep).slice(0, at).join(path.sep) : path.dirname(runFolder);
}

function freeName(folder: string, stem: string): string {
  for (let number = 1; ; number++) {
    const name = `${stem}-copy${number === 1 ? "" : `-${number}`}.sparse-tuner.yaml`;
    if (!existsSync(path.join(folder, name))) return name;
  }
}

async function textOf(uri: vscode.Uri): Promise<string> {
  return (await vscode.workspace.openTextDocument(uri)).getText();
}

/** Makes a run take less memory: in its run file, or in a copy where it was started already, because its own run.yaml is a fact. */
async function lowerBatch(parts: ShellParts, argument: unknown): Promise<void> {
  const target = await parts.targets.either(argument, vscode.l10n.t("Lower Batch Size"));
  if (!target) return;
  const uri = runFileOf(target);
  const text = await textOf(uri);
  const lower = lowerBatchEdits(text, uri.fsPath);
  if (!lower)
    throw new UserError(
      "run/cannot-lower",
      vscode.l10n.t("Batch size, recompute and sequence length are as low as they go."),
      vscode.l10n.t("Lower method.ratio, or use a smaller model."),
    );
  if (target.runFile) {
    await editDocument(uri, (now) => lowerBatchEdits(now, uri.fsPath)?.changes ?? []);
    await vscode.window.showTextDocument(uri, { viewColumn: vscode.ViewColumn.One });
  } else await openCopy(parts, target, withEdits(text, lower.changes));
  void vscode.window.showInformationMessage(vscode.l10n.t("Changed in the run file: {0}", lower.summary));
}
