/**
 * Which run or run file a command is about: what it was given, else the panel in front, else the only candidate, else what the person picks.
 * The rule to keep: an argument may come from anywhere, and is a path at most; whether a run accepts the command is judged by its state.
 */
import { existsSync, statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { nameInFolder, runNameOf, safeName } from "../../protocol/runName.ts";
import { UserError } from "../../protocol/userError.ts";
import { type Ability, commandId } from "../contributions.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import type { TrainingPanels } from "../panel/trainingPanels.ts";
import type { RunSession } from "../runs/runSession.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import { abilitiesOf } from "../views/runAbilities.ts";
import { runDescription, shortName } from "../views/runText.ts";
import { isRunFile, type KnownRuns } from "./knownRuns.ts";

export interface TargetParts {
  runs: RunSessions;
  known: KnownRuns;
  /** The panel in front. */
  panels: Pick<TrainingPanels, "active">;
}

export class Targets {
  readonly #parts: TargetParts;

  constructor(parts: TargetParts) {
    this.#parts = parts;
  }

  /** The run meant; null when the person picked none or there is none. `ability` narrows the choice to runs that accept it. */
  async run(argument: unknown, title: string, ability: Ability | null = null): Promise<RunSession | null> {
    const given = targetOf(argument);
    if (given?.runFolder) return this.#parts.runs.get(given.runFolder);
    const accepts = (session: RunSession) => ability === null || abilitiesOf(session.view.state).includes(ability);
    const front = given ? null : this.#parts.panels.active?.runFolder;
    if (front && accepts(this.#parts.runs.get(front))) return this.#parts.runs.get(front);
    const all = await this.#parts.known.sessions();
    const candidates = all.filter((session) => accepts(session) && (!given?.runFile || isRunOf(session, given.runFile)));
    if (candidates.length === 0) return this.#sayNone(title);
    return candidates.length === 1 ? candidates[0] : pickRun(candidates, title);
  }

  /** The run file meant: given, in the panel in front, in the editor in front, or picked. */
  async runFile(argument: unknown, title: string): Promise<vscode.Uri | null> {
    const given = targetOf(argument) ?? this.#parts.panels.active ?? targetOf(vscode.window.activeTextEditor?.document.uri);
    if (given?.runFile) return existing(given.runFile);
    const { runFiles } = await this.#parts.known.files();
    if (runFiles.length === 0) {
      await this.#offerNewRun(vscode.l10n.t("{0}: there is no run file in this window.", title));
      return null;
    }
    return runFiles.length === 1 ? vscode.Uri.file(runFiles[0]) : pickRunFile(runFiles, title);
  }

  /** The run or run file meant, a run file first where none is in front. */
  async either(argument: unknown, title: string): Promise<PanelTarget | null> {
    const given = targetOf(argument) ?? this.#parts.panels.active ?? targetOf(vscode.window.activeTextEditor?.document.uri);
    if (given?.runFile) existing(given.runFile);
    if (given) return given;
    const [sessions, { runFiles }] = [await this.#parts.known.sessions(), await this.#parts.known.files()];
    if (sessions.length === 0 || runFiles.length === 0) {
      if (sessions.length > 0) return asTarget(await this.run(undefined, title));
      const runFile = await this.runFile(undefined, title);
      return runFile && { runFolder: null, runFile };
    }
    return pickEither(sessions, runFiles, title);
  }

  async #sayNone(title: string): Promise<null> {
    const any = (await this.#parts.known.sessions()).length > 0;
    await this.#offerNewRun(any ? vscode.l10n.t("{0}: no run is in a state for that.", title) : vscode.l10n.t("{0}: there is no run yet.", title));
    return null;
  }

  async #offerNewRun(message: string): Promise<void> {
    const [newRun, demo] = [vscode.l10n.t("New Run"), vscode.l10n.t("Run Demo")];
    const chosen = await vscode.window.showInformationMessage(message, newRun, demo);
    if (chosen) await vscode.commands.executeCommand(commandId(chosen === newRun ? "newRun" : "runDemo"));
  }
}

/** What an argument names: a Uri of a run folder or a run file, a tree item, a target; null when it names nothing. */
export function targetOf(argument: unknown): PanelTarget | null {
  if (argument instanceof vscode.Uri) return argument.scheme === "file" ? targetAt(argument) : null;
  if (typeof argument !== "object" || argument === null) return null;
  const { runFolder, runFile } = argument as { runFolder?: unknown; runFile?: unknown };
  if (typeof runFolder === "string") return { runFolder, runFile: null };
  return runFile instanceof vscode.Uri ? { runFolder: null, runFile } : null;
}

function targetAt(uri: vscode.Uri): PanelTarget | null {
  const file = uri.fsPath;
  if (isRunFile(file)) return { runFolder: null, runFile: uri };
  if (path.basename(file) === "run.yaml") return { runFolder: path.dirname(file), runFile: null };
  return statSync(path.join(file, "run.yaml"), { throwIfNoEntry: false })?.isFile() ? { runFolder: file, runFile: null } : null;
}

/** Throws UserError `file/unreadable` when a run file is neither on the disk nor open. */
function existing(runFile: vscode.Uri): vscode.Uri {
  const isOpen = vscode.workspace.textDocuments.some(({ uri }) => uri.toString() === runFile.toString());
  if (isOpen || existsSync(runFile.fsPath)) return runFile;
  throw new UserError(
    "file/unreadable",
    vscode.l10n.t("{0} does not exist.", runFile.fsPath),
    vscode.l10n.t("Restore it, or choose another run file."),
  );
}

function asTarget(session: RunSession | null): PanelTarget | null {
  return session && { runFolder: session.runFolder, runFile: null };
}

/** Whether a run was started from a run file, as far as names tell. */
function isRunOf(session: RunSession, runFile: vscode.Uri): boolean {
  return nameInFolder(path.basename(session.runFolder)) === safeName(runNameOf(runFile.fsPath));
}

interface RunPick extends vscode.QuickPickItem {
  target: PanelTarget;
  session: RunSession | null;
}

async function pickRun(sessions: readonly RunSession[], title: string): Promise<RunSession | null> {
  return (await vscode.window.showQuickPick(sessions.map(runItem), runPickOptions(title)))?.session ?? null;
}

async function pickRunFile(runFiles: readonly string[], title: string): Promise<vscode.Uri | null> {
  const placeHolder = vscode.l10n.t("Choose a run file");
  return (await vscode.window.showQuickPick(runFiles.map(runFileItem), { title, placeHolder, matchOnDescription: true }))?.target.runFile ?? null;
}

async function pickEither(sessions: readonly RunSession[], runFiles: readonly string[], title: string): Promise<PanelTarget | null> {
  return (await vscode.window.showQuickPick([...runFiles.map(runFileItem), ...sessions.map(runItem)], runPickOptions(title)))?.target ?? null;
}

function runPickOptions(title: string): vscode.QuickPickOptions {
  return { title, placeHolder: vscode.l10n.t("Choose a run"), matchOnDescription: true, matchOnDetail: true };
}

function runItem(session: RunSession): RunPick {
  const target = { runFolder: session.runFolder, runFile: null };
  return {
    label: `$(graph-line) ${shortName(session.view)}`,
    description: runDescription(session.view, null),
    detail: path.basename(session.runFolder),
    target,
    session,
  };
}

function runFileItem(file: string): RunPick {
  const uri = vscode.Uri.file(file);
  const description = vscode.workspace.asRelativePath(uri);
  return { label: `$(file) ${runNameOf(file)}`, description, target: { runFolder: null, runFile: uri }, session: null };
}
