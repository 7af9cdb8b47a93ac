/**
 * Start, Pause, Resume, Stop and Kill. The core acts at step boundaries; here a run is found, trust is asked for, and what went wrong is shown.
 * The rule to keep: nothing is started or commanded in Restricted Mode, and a run file is saved before it is run.
 */
import * as vscode from "vscode";
import type { CommandName as CoreCommand } from "../../protocol/coreProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import type { RunSession } from "../runs/runSession.ts";
import { abilitiesOf } from "../views/runAbilities.ts";
import { shortName } from "../views/runText.ts";
import { offerRuntime } from "./installRuntime.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { targetOf } from "./targets.ts";
import { requireTrust } from "./trust.ts";

export function runControl(parts: ShellParts): Handlers<"start" | "pause" | "resume" | "stop" | "kill"> {
  return {
    start: (argument) => start(parts, argument),
    resume: (argument) => resume(parts, argument),
    pause: async (argument) => command(await find(parts, argument, "pause"), "pause"),
    stop: async (argument) => command(await find(parts, argument, "stop"), "stop"),
    kill: (argument) => kill(parts, argument),
  };
}

async function start(parts: ShellParts, argument: unknown): Promise<unknown> {
  requireTrust();
  const given = targetOf(argument) ?? parts.panels.active;
  // A run has been started already; what starting it can only mean is to go on.
  if (given?.runFolder) return resume(parts, { runFolder: given.runFolder });
  const runFile = await parts.targets.runFile(argument, vscode.l10n.t("Start"));
  if (!runFile) return null;
  await saveIfOpen(runFile);
  return startRunFile(parts, runFile);
}

/** Starts a saved run file and shows its panel. Returns the run folder. */
export async function startRunFile(parts: ShellParts, runFile: vscode.Uri): Promise<string> {
  await offerRuntime(parts);
  const session = await whileStarting(() => parts.runs.start(runFile.fsPath));
  parts.panels.openRun(session, runFile);
  return session.runFolder;
}

async function saveIfOpen(runFile: vscode.Uri): Promise<void> {
  const open = vscode.workspace.textDocuments.find(({ uri }) => uri.toString() === runFile.toString());
  if (!open?.isDirty || (await open.save())) return;
  throw new UserError("run/not-saved", vscode.l10n.t("{0} could not be saved.", runFile.fsPath), vscode.l10n.t("Save it, then start the run."));
}

async function find(parts: ShellParts, argument: unknown, ability: "pause" | "stop"): Promise<RunSession | null> {
  requireTrust();
  return parts.targets.run(argument, ability === "pause" ? vscode.l10n.t("Pause") : vscode.l10n.t("Stop"), ability);
}

async function command(session: RunSession | null, name: CoreCommand): Promise<void> {
  if (!session) return;
  // A stop is also taken by a core that is still to come.
  if (!session.live && !(name === "stop" && abilitiesOf(session.view.state).includes("stop")))
    throw new UserError(
      "run/not-live",
      vscode.l10n.t("No core works on {0}.", shortName(session.view)),
      vscode.l10n.t("Resume the run to go on with it."),
    );
  await session.command(name);
}

async function resume(parts: ShellParts, argument: unknown): Promise<string | null> {
  requireTrust();
  const session = await parts.targets.run(argument, vscode.l10n.t("Resume"), "resume");
  if (!session) return null;
  if (session.live) await session.command("resume");
  else {
    await offerRuntime(parts);
    await restart(session);
  }
  parts.panels.openRun(session);
  return session.runFolder;
}

/** Starts a core for a run that has none. What was changed since its start is only gone on with when the person says so. */
async function restart(session: RunSession): Promise<void> {
  try {
    await whileStarting(() => session.resume());
  } catch (error) {
    if (!(error instanceof UserError && error.code.startsWith("run/changed-"))) throw error;
    const go = vscode.l10n.t("Resume with the Changes");
    const chosen = await vscode.window.showWarningMessage(error.message, { modal: true, detail: error.action }, go);
    if (chosen === go) await whileStarting(() => session.resume({ acceptChanges: true }));
  }
}

function whileStarting<T>(work: () => Promise<T>): Promise<T> {
  const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Starting the run") };
  return Promise.resolve(vscode.window.withProgress(options, work));
}

async function kill(parts: ShellParts, argument: unknown): Promise<void> {
  requireTrust();
  const session = await parts.targets.run(argument, vscode.l10n.t("Kill"), "kill");
  if (!session) return;
  const yes = vscode.l10n.t("Kill");
  const detail = vscode.l10n.t("What was computed since the last checkpoint is computed again after Resume. Nothing else is lost.");
  const chosen = await vscode.window.showWarningMessage(
    vscode.l10n.t("Kill the process of {0}?", shortName(session.view)),
    { modal: true, detail },
    yes,
  );
  if (chosen === yes) await session.kill();
}
