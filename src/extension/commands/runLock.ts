/**
 * Remove Lock: for a run that a machine or a process holds that is gone, and for sentences about who holds one. What is removed, and when it is not, is
 * runs/removeLock.ts.
 * The rule to keep: nothing is removed before a person has read whose lock it is and what happens if that one still works.
 */
import * as vscode from "vscode";
import type { LockHolder } from "../../protocol/panelProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { findLiveRun, holderOf } from "../liveRuns.ts";
import { readRemovableLock, removeLock } from "../runs/removeLock.ts";
import type { RunSession } from "../runs/runSession.ts";
import { holderText, shortName } from "../views/runText.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { requireTrust } from "./trust.ts";

export function runLockCommand(parts: ShellParts): Handlers<"removeLock"> {
  return { removeLock: (argument) => remove(parts, argument) };
}

/** A refusal that says who holds a run; its button leads to Remove Lock. */
export function heldElsewhere(holder: LockHolder): UserError {
  const action = vscode.l10n.t("Stop it there, or remove the lock if that machine or process is gone.");
  return new UserError("run/elsewhere", holderText(holder), action, { badInput: false });
}

async function remove(parts: ShellParts, argument: unknown): Promise<boolean> {
  requireTrust();
  const session = await parts.targets.run(argument, vscode.l10n.t("Remove Lock"), "unlock");
  if (!session) return false;
  const found = await findLiveRun(session.runFolder);
  if (found.kind === "live")
    throw new UserError("run/live", vscode.l10n.t("A process works on {0}.", shortName(session.view)), vscode.l10n.t("Stop the run first."));
  const holder = holderOf(found, session.runFolder);
  const text = await readRemovableLock(session.runFolder);
  if (text === null || !holder) return sayFree(session);
  const yes = vscode.l10n.t("Remove Lock");
  const question = vscode.l10n.t("Remove the lock of {0}?", shortName(session.view));
  const risk = holder.here
    ? vscode.l10n.t("A process of this number is alive. If it is the run's, two processes will write into one folder, and the run is lost.")
    : vscode.l10n.t("If it still works there, two processes will write into one folder, and the run is lost. It cannot be asked from here.");
  const detail = `${holderText(holder)} ${risk}`;
  if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, yes)) !== yes) return false;
  if (!(await removeLock(session.runFolder, text))) return sayFree(session);
  parts.log.info(`${session.runFolder}: the lock of process ${holder.pid} on ${holder.host} was removed`);
  await session.refresh();
  return true;
}

/** It was given back, or taken by somebody else, since it was seen. */
async function sayFree(session: RunSession): Promise<false> {
  await session.refresh();
  void vscode.window.showInformationMessage(vscode.l10n.t("The lock of {0} is another one by now: look again.", shortName(session.view)));
  return false;
}
