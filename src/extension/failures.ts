/**
 * Shows what went wrong: one sentence, what to do next, a stable code, and buttons that do it. What a person cannot mend is a bug: its stack goes to the
 * log, and the message says so.
 * The rule to keep: every failure has a button that leads on.
 */
import * as vscode from "vscode";
import type { Failure, PanelAction, RunState } from "../protocol/panelProtocol.ts";
import { UserError } from "../protocol/userError.ts";
import { withHeadline } from "./errorHeadlines.ts";
import type { Log } from "./log.ts";
import type { PanelTarget } from "./panel/panelParts.ts";
import { failureFrom } from "./runs/failures.ts";

/** Does what a button says; the same as the panel's buttons do. */
export type Perform = (action: PanelAction, target: PanelTarget) => Promise<void>;

const noTarget: PanelTarget = { runFolder: null, runFile: null };

/** Any thrown thing as a failure. */
export function toFailure(error: unknown): Failure {
  if (error instanceof UserError) return failureFrom(error);
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message, action: vscode.l10n.t("This is a bug: please report it with the copied report."), place: null };
}

/** A person closed a dialog, or pressed Cancel: nothing to show. */
export function isCancelled(error: unknown): boolean {
  return error instanceof vscode.CancellationError || (error instanceof Error && error.name === "AbortError");
}

const memoryCodes = ["run/memory-too-small", "device/out-of-memory"];
/** States in which a run can go on from its last checkpoint. */
const resumable: readonly RunState[] = ["failed", "interrupted", "stopped"];

/** The buttons of a failure, the likeliest first; `state` is of the run it belongs to. */
export function failureActions({ code, place }: Pick<Failure, "code" | "place">, state: RunState | null): PanelAction[] {
  const actions: PanelAction[] = [];
  if (code === "trust/restricted") actions.push("manageTrust");
  if (code === "node/not-found") actions.push("installRuntime");
  if (place) actions.push("openAtLine");
  if (code === "run/elsewhere" || code === "run/locked") actions.push("removeLock");
  if (memoryCodes.includes(code)) actions.push("lowerBatch");
  if (state && resumable.includes(state)) actions.push("resume");
  if (state === "notResponding") actions.push("kill");
  if (code !== "trust/restricted") actions.push("showLog", "copyReport");
  return actions;
}

/** What stands on the button of an action. */
export function actionTitle(action: PanelAction): string {
  const titles: Record<PanelAction, string> = {
    start: vscode.l10n.t("Start"),
    pause: vscode.l10n.t("Pause"),
    resume: vscode.l10n.t("Resume"),
    stop: vscode.l10n.t("Stop"),
    kill: vscode.l10n.t("Kill"),
    showLog: vscode.l10n.t("Show Log"),
    copyReport: vscode.l10n.t("Copy Report"),
    lowerBatch: vscode.l10n.t("Lower Batch Size"),
    openAtLine: vscode.l10n.t("Open File at Line"),
    openRunFile: vscode.l10n.t("Open Run File"),
    duplicate: vscode.l10n.t("Duplicate"),
    previewData: vscode.l10n.t("Preview Training Data"),
    evaluate: vscode.l10n.t("Evaluate"),
    tryModel: vscode.l10n.t("Try Model"),
    export: vscode.l10n.t("Merge and Export"),
    inspect: vscode.l10n.t("Inspect Sub-matrix"),
    newRun: vscode.l10n.t("New Run"),
    manageTrust: vscode.l10n.t("Manage Workspace Trust"),
    installRuntime: vscode.l10n.t("Install Runtime"),
    removeLock: vscode.l10n.t("Remove Lock…"),
  };
  return titles[action];
}

/** The last failures of this window, for reports: what stood in a notification is gone when it is asked for. */
export const recentFailures: string[] = [];
const rememberedFailures = 10;

/** Texts that stand on the screen: a command that fails and the run that it failed may tell the same. */
const shown = new Set<string>();

/** Puts a failure into a notification; `place` wins over what the run itself knows of where it lies. */
export async function showFailure(failure: Failure, state: RunState | null, target: PanelTarget, perform: Perform): Promise<void> {
  const text = failureText(failure);
  recentFailures.push(`${new Date().toISOString()} ${text}`);
  recentFailures.splice(0, recentFailures.length - rememberedFailures);
  if (shown.has(text)) return;
  shown.add(text);
  const actions = failureActions(failure, state);
  const chosen = await vscode.window.showErrorMessage(text, ...actions.map(actionTitle)).then(undefined, () => undefined);
  shown.delete(text);
  const action = actions.find((candidate) => actionTitle(candidate) === chosen);
  if (action === "openAtLine" && failure.place) return openPlace(failure.place);
  if (action) await perform(action, target);
}

/** Sentence, next action and code as one line. */
export function failureText(failure: Failure): string {
  const { message, action, code } = withHeadline(failure);
  return `${message.replace(/[^.!?…:]$/, "$&.")} ${action} (${code})`;
}

/** Shows an error that a command, a view or a panel met, once, and keeps it in the log. */
export async function reportError(error: unknown, log: Log, perform: Perform, target: PanelTarget = noTarget): Promise<void> {
  if (isCancelled(error)) return;
  const failure = toFailure(error);
  log.error(error instanceof Error && failure.code === "internal" ? (error.stack ?? error.message) : failureText(failure));
  await showFailure(failure, null, target, perform);
}

/** Opens a file with the cursor on a line, counted from 1. */
export async function openPlace({ file, line }: { file: string; line: number }): Promise<void> {
  const document = await vscode.workspace.openTextDocument(vscode.Uri.file(file));
  const at = new vscode.Position(Math.max(0, Math.min(line, document.lineCount) - 1), 0);
  await vscode.window.showTextDocument(document, { selection: new vscode.Range(at, at), viewColumn: vscode.ViewColumn.One });
}
