/**
 * Compare Runs, and New, Start, Resume and Stop Comparison: which runs or which comparison is meant, and where a new one's file goes. What is seen is comparePanel.ts'
 * business, what is run the core's.
 * The rule to keep: nothing is started in Restricted Mode, and a file is saved before it is run; what is there is never overwritten.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { runNameOf } from "../../protocol/runName.ts";
import { UserError } from "../../protocol/userError.ts";
import { offerRuntime } from "../commands/installRuntime.ts";
import type { Handlers, ShellParts } from "../commands/shellParts.ts";
import { targetOf } from "../commands/targets.ts";
import { requireTrust } from "../commands/trust.ts";
import type { RunSession } from "../runs/runSession.ts";
import { isLive } from "../views/runAbilities.ts";
import { runDescription, shortName } from "../views/runText.ts";
import { compareFileEnding, isCompareFile, outputOf } from "./compareFiles.ts";
import { createComparison, requestStop, startComparison } from "./comparisonFolder.ts";
import { type ComparisonView, comparisonName } from "./comparisons.ts";
import { comparisonDescription } from "./comparisonText.ts";
import { comparisonText, readRunFile } from "./newComparison.ts";

const comparisonsFolder = path.join(".sparse-tuner", "comparisons");
/** More files than this are not looked for. */
const mostFiles = 200;

export function compareCommands(
  parts: ShellParts,
): Handlers<"compareRuns" | "newComparison" | "startComparison" | "resumeComparison" | "stopComparison"> {
  return {
    compareRuns: (argument, all) => compareRuns(parts, argument, all),
    newComparison: (argument) => newComparison(parts, argument),
    startComparison: (argument) => start(parts, argument),
    resumeComparison: (argument) => resume(parts, argument),
    stopComparison: (argument) => stop(parts, argument),
  };
}

async function compareRuns(parts: ShellParts, argument: unknown, all: unknown): Promise<void> {
  const comparison = comparisonOf(argument);
  if (comparison) return parts.compare.open({ comparison });
  const given = (Array.isArray(all) ? all : [argument]).flatMap((item) => targetOf(item)?.runFolder ?? []);
  if (given.length > 1) return parts.compare.open({ runFolders: given });
  if (given.length === 1) return chooseRuns(parts, given);
  const sessions = await parts.known.sessions();
  await parts.comparisons.folders({ anew: true });
  const comparisons = parts.comparisons.all();
  if (comparisons.length === 0) return sessions.length > 0 ? chooseRuns(parts, []) : sayNone();
  const picked = await vscode.window.showQuickPick(comparePicks(comparisons, sessions), {
    title: vscode.l10n.t("Compare Runs"),
    placeHolder: vscode.l10n.t("Choose a comparison, or runs to put side by side"),
    matchOnDescription: true,
  });
  if (picked?.folder) parts.compare.open({ comparison: picked.folder });
  else if (picked) await (picked.create ? newComparison(parts, undefined) : chooseRuns(parts, []));
}

/** A comparison's folder that an argument names: a row of the Runs view, or a path. */
function comparisonOf(argument: unknown): string | null {
  const row = (argument as { comparison?: unknown } | null | undefined)?.comparison;
  const file = argument instanceof vscode.Uri && argument.scheme === "file" ? argument.fsPath : typeof row === "string" ? row : null;
  const folder = file !== null && path.basename(file) === "compare.yaml" ? path.dirname(file) : file;
  return folder !== null && existsSync(path.join(folder, "compare.yaml")) ? folder : null;
}

interface ComparePick extends vscode.QuickPickItem {
  folder?: string;
  create?: boolean;
}

function comparePicks(comparisons: readonly ComparisonView[], sessions: readonly RunSession[]): ComparePick[] {
  const picks = comparisons.map(comparisonPick);
  if (sessions.length > 0) picks.push({ label: `$(checklist) ${vscode.l10n.t("Choose runs…")}`, description: vscode.l10n.t("side by side") });
  picks.push({ label: `$(add) ${vscode.l10n.t("New Comparison…")}`, description: vscode.l10n.t("methods at the same budgets"), create: true });
  return picks;
}

function comparisonPick(view: ComparisonView): ComparePick {
  const detail = vscode.workspace.asRelativePath(view.folder);
  return { label: `$(graph-scatter) ${view.name}`, description: comparisonDescription(view), detail, folder: view.folder };
}

async function sayNone(): Promise<void> {
  const [newRun, create] = [vscode.l10n.t("New Run"), vscode.l10n.t("New Comparison")];
  const chosen = await vscode.window.showInformationMessage(
    vscode.l10n.t("There is nothing to compare yet: no run has done a step."),
    newRun,
    create,
  );
  if (chosen) await vscode.commands.executeCommand(chosen === newRun ? "sparseTuner.newRun" : "sparseTuner.newComparison");
}

/** Runs to put side by side; those that never began have nothing to show. */
async function chooseRuns(parts: ShellParts, picked: readonly string[]): Promise<void> {
  const sessions = (await parts.known.sessions()).filter(({ view }) => view.step > 0 || picked.includes(view.runFolder ?? ""));
  if (sessions.length === 0) return sayNone();
  const items = sessions.map((session) => ({
    label: shortName(session.view),
    description: runDescription(session.view, null),
    picked: picked.includes(session.runFolder),
    runFolder: session.runFolder,
  }));
  const chosen = await vscode.window.showQuickPick(items, {
    title: vscode.l10n.t("Compare Runs"),
    placeHolder: vscode.l10n.t("Choose the runs to put side by side"),
    canPickMany: true,
    matchOnDescription: true,
  });
  if (chosen && chosen.length > 0) parts.compare.open({ runFolders: chosen.map(({ runFolder }) => runFolder) });
}

/** Folders that hold comparisons of some folders of this window, and where the files in it send theirs. */
export async function comparisonOutputs(roots: readonly string[]): Promise<string[]> {
  const outputs = await Promise.all((await compareFiles()).map(({ fsPath }) => outputOf(fsPath)));
  return [...roots.map((folder) => path.join(folder, comparisonsFolder)), ...outputs];
}

async function compareFiles(): Promise<vscode.Uri[]> {
  return vscode.workspace.findFiles(`**/*${compareFileEnding}`, "**/{node_modules,.sparse-tuner}/**", mostFiles);
}

/** Writes the file of a comparison on the model and data of a run file, and opens it. */
async function newComparison(parts: ShellParts, argument: unknown): Promise<string | null> {
  const title = vscode.l10n.t("New Comparison");
  const target = await parts.targets.either(argument, title);
  if (!target) return null;
  const runFile = target.runFile?.fsPath ?? path.join(target.runFolder ?? "", "run.yaml");
  const config = await readRunFile(runFile);
  const held = config.data.eval ?? (await askHeldOut());
  if (!held) return null;
  const plan = await parts.service.request("plan", { runFile, text: (await vscode.workspace.openTextDocument(runFile)).getText() }).catch(() => null);
  const folder = target.runFile ? path.dirname(runFile) : (workspaceFolderOf(runFile) ?? path.dirname(runFile));
  const file = freeFile(folder, target.runFile ? runNameOf(runFile) : comparisonName(path.dirname(runFile)));
  await vscode.workspace.fs.writeFile(
    vscode.Uri.file(file),
    new TextEncoder().encode(comparisonText(config, held, folder, plan?.totalParameters ?? null)),
  );
  await vscode.window.showTextDocument(await vscode.workspace.openTextDocument(vscode.Uri.file(file)), { preview: false });
  return file;
}

async function askHeldOut(): Promise<string | null> {
  const options = { canSelectMany: false, title: vscode.l10n.t("Choose the held-out rows that methods are compared by") };
  const filters = { [vscode.l10n.t("Data")]: ["jsonl", "json", "csv", "txt"] };
  return (await vscode.window.showOpenDialog({ ...options, filters }))?.[0].fsPath ?? null;
}

function workspaceFolderOf(file: string): string | null {
  return vscode.workspace.getWorkspaceFolder(vscode.Uri.file(file))?.uri.fsPath ?? null;
}

function freeFile(folder: string, name: string): string {
  for (let number = 1; ; number++) {
    const file = path.join(folder, `${name}${number === 1 ? "" : `-${number}`}${compareFileEnding}`);
    if (!existsSync(file)) return file;
  }
}

/** Makes the folder of a comparison's file, starts a core on it and shows it. Returns the folder. */
async function start(parts: ShellParts, argument: unknown): Promise<string | null> {
  requireTrust();
  const file = await compareFile(argument);
  if (!file) return null;
  const document = vscode.workspace.textDocuments.find(({ uri }) => uri.toString() === file.toString());
  if (document?.isDirty && !(await document.save()))
    throw new UserError("run/not-saved", vscode.l10n.t("{0} could not be saved.", file.fsPath), vscode.l10n.t("Save it, then start the comparison."));
  await offerRuntime(parts);
  const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Starting the comparison") };
  const folder = await vscode.window.withProgress(options, async () => {
    const program = await parts.program();
    const made = await createComparison(program, file.fsPath);
    await startComparison(program, made);
    return made;
  });
  await parts.comparisons.look(folder);
  parts.compare.open({ comparison: folder });
  return folder;
}

/** Goes on with a comparison that no process works on, and shows it. Returns the folder. */
async function resume(parts: ShellParts, argument: unknown): Promise<string | null> {
  requireTrust();
  const resumable = ({ state }: ComparisonView) => !isLive({ state }) && state !== "finished";
  const folder = comparisonOf(argument) ?? (await pickComparison(parts, vscode.l10n.t("Resume Comparison"), resumable));
  if (folder === null) return null;
  await offerRuntime(parts);
  const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Starting the comparison") };
  await vscode.window.withProgress(options, async () => startComparison(await parts.program(), folder));
  await parts.comparisons.look(folder);
  parts.compare.open({ comparison: folder });
  return folder;
}

/** Asks a live comparison to stop after its step. */
async function stop(parts: ShellParts, argument: unknown): Promise<void> {
  requireTrust();
  const folder = comparisonOf(argument) ?? (await pickComparison(parts, vscode.l10n.t("Stop Comparison"), isLive));
  if (folder !== null) await requestStop(folder);
}

async function pickComparison(parts: ShellParts, title: string, accepts: (view: ComparisonView) => boolean): Promise<string | null> {
  await parts.comparisons.folders({ anew: true });
  const candidates = parts.comparisons.all().filter(accepts);
  if (candidates.length === 0) void vscode.window.showInformationMessage(vscode.l10n.t("{0}: no comparison is in a state for that.", title));
  if (candidates.length < 2) return candidates[0]?.folder ?? null;
  const picked = await vscode.window.showQuickPick(candidates.map(comparisonPick), { title, matchOnDescription: true });
  return picked?.folder ?? null;
}

/** The file meant: given, in the editor in front, the only one, or picked. */
async function compareFile(argument: unknown): Promise<vscode.Uri | null> {
  const given = argument instanceof vscode.Uri ? argument : vscode.window.activeTextEditor?.document.uri;
  if (given && isCompareFile(given.fsPath)) return given;
  const files = await compareFiles();
  if (files.length === 1) return files[0];
  if (files.length === 0) {
    const create = vscode.l10n.t("New Comparison");
    const chosen = await vscode.window.showInformationMessage(vscode.l10n.t("There is no comparison's file in this window."), create);
    if (chosen) await vscode.commands.executeCommand("sparseTuner.newComparison");
    return null;
  }
  const items = files.map((uri) => ({ label: path.basename(uri.fsPath), description: vscode.workspace.asRelativePath(uri), uri }));
  return (await vscode.window.showQuickPick(items, { title: vscode.l10n.t("Start Comparison") }))?.uri ?? null;
}
