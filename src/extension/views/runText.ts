/** What the screen says of a run in a few words: states, progress, loss. Used by the Runs view, the status bar and quick picks. */
import * as vscode from "vscode";
import type { LockHolder, RunState, RunView } from "../../protocol/panelProtocol.ts";
import { formatBytes } from "../commands/format.ts";

/** A run's name without the time that its folder's name begins with; that is in {@link startedText}. */
export function shortName({ name }: Pick<RunView, "name">): string {
  return name.replace(/^\d{8}-\d{6}-(?=.)/, "");
}

/** `2026-11-21 14:19`, as the folder's name says it; empty where it does not. */
export function startedText({ name }: Pick<RunView, "name">): string {
  const time = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)\d\d-/.exec(name);
  return time ? `${time[1]}-${time[2]}-${time[3]} ${time[4]}:${time[5]}` : "";
}

/** A state's name. */
export function stateText(state: RunState): string {
  const texts: Record<RunState, string> = {
    draft: vscode.l10n.t("not started"),
    starting: vscode.l10n.t("starting"),
    opening: vscode.l10n.t("loading the model"),
    running: vscode.l10n.t("running"),
    pausing: vscode.l10n.t("pausing"),
    paused: vscode.l10n.t("paused"),
    waiting: vscode.l10n.t("waiting for disk space"),
    stopping: vscode.l10n.t("stopping"),
    stopped: vscode.l10n.t("stopped"),
    interrupted: vscode.l10n.t("interrupted"),
    failed: vscode.l10n.t("failed"),
    finished: vscode.l10n.t("finished"),
    notResponding: vscode.l10n.t("not responding"),
    elsewhere: vscode.l10n.t("running elsewhere"),
    restricted: vscode.l10n.t("restricted"),
  };
  return texts[state];
}

/** One sentence on a state and what can be done next. */
export function stateHelp(state: RunState): string {
  const texts: Record<RunState, string> = {
    draft: vscode.l10n.t("This run file was not started. Start it, or plan its memory first."),
    starting: vscode.l10n.t("Its process is being started."),
    opening: vscode.l10n.t("The model and the data are being read."),
    running: vscode.l10n.t("It is training. It goes on when this window is closed."),
    pausing: vscode.l10n.t("It pauses when the step that is being computed is done."),
    paused: vscode.l10n.t("It is paused between two steps. Resume it, or stop it."),
    waiting: vscode.l10n.t("The disk is full. Free space on it, and the run goes on by itself."),
    stopping: vscode.l10n.t("It is being saved and ends after that."),
    stopped: vscode.l10n.t("It was stopped. Resume goes on from its last checkpoint."),
    interrupted: vscode.l10n.t("Its process ended before it was done. Resume goes on from its last checkpoint."),
    failed: vscode.l10n.t("It ended with an error. Its panel shows the reason and what to do."),
    finished: vscode.l10n.t("It is done. Try the model, or merge and export it."),
    notResponding: vscode.l10n.t("Its process has not answered for 10 seconds. Wait, or kill it and resume from its last checkpoint."),
    elsewhere: vscode.l10n.t("Another machine or another program works on it. Stop it there, or remove its lock if that one is gone."),
    restricted: vscode.l10n.t("The workspace is not trusted: the run can be inspected, not started."),
  };
  return texts[state];
}

/** Who holds a run, as its lock says it. */
export function holderText({ pid, host, here, file }: LockHolder): string {
  return here
    ? vscode.l10n.t("Process {0} of this machine, which no window has started, holds the run by {1}.", pid, file)
    : vscode.l10n.t("Process {0} on {1} holds the run by {2}.", pid, host, file);
}

const icons: Record<RunState, string> = {
  draft: "file",
  starting: "loading~spin",
  opening: "loading~spin",
  running: "loading~spin",
  pausing: "debug-pause",
  paused: "debug-pause",
  waiting: "warning",
  stopping: "loading~spin",
  stopped: "debug-stop",
  interrupted: "debug-disconnect",
  failed: "error",
  finished: "pass",
  notResponding: "warning",
  elsewhere: "remote",
  restricted: "lock",
};
const colours: Partial<Record<RunState, string>> = {
  running: "charts.blue",
  waiting: "charts.yellow",
  notResponding: "charts.yellow",
  failed: "charts.red",
  finished: "charts.green",
};

/** Codicon of a state, by its name. */
export function stateIconName(state: RunState): string {
  return icons[state];
}

export function stateIcon(state: RunState): vscode.ThemeIcon {
  const colour = colours[state];
  return new vscode.ThemeIcon(icons[state], colour ? new vscode.ThemeColor(colour) : undefined);
}

/** `45 / 300`, or how far the warm-up or what comes before the first step is; empty before all of it. */
export function progressText({ step, totalSteps, warmup, initialising }: RunView): string {
  if (initialising) return vscode.l10n.t("main directions {0} / {1}", initialising.done, initialising.of);
  if (warmup) return vscode.l10n.t("warm-up {0} / {1}", warmup.step, warmup.of);
  return totalSteps > 0 ? `${step} / ${totalSteps}` : "";
}

/** State, progress, loss, disk use and when it was started, as far as they are known. */
export function runDescription(view: RunView, diskBytes: number | null): string {
  const parts = [stateText(view.state), progressText(view)];
  if (view.loss !== null) parts.push(vscode.l10n.t("loss {0}", view.loss.toFixed(4)));
  if (diskBytes !== null) parts.push(formatBytes(diskBytes));
  parts.push(startedText(view));
  return parts.filter((part) => part !== "").join(" · ");
}
