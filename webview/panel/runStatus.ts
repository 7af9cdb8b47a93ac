/**
 * What the panel's header says of a run in each of its states: a label, one sentence, and what can be done next. No DOM.
 * The rule to keep: every state has all three, and a button that cannot help is not offered.
 */
import type { LockHolder, PanelAction, RunState, RunView } from "../../src/protocol/panelProtocol.ts";
import { t } from "../strings.ts";

/** How a state is told apart at a glance; each has a shape of its own, not only a colour. */
export type Tone = "neutral" | "busy" | "good" | "waiting" | "bad";

export interface RunStatus {
  label: string;
  sentence: string;
  tone: Tone;
  /** The first is the one that is most likely wanted. */
  actions: PanelAction[];
  /** Whether progress and what remains mean anything. */
  progress: boolean;
}

/** `pauseReason`: of the newest `paused` event. `choosesBlocks`: whether there are blocks to inspect. */
export function runStatus(run: RunView, pauseReason: string, choosesBlocks = true): RunStatus {
  const { label, sentence, tone, actions, progress } = statusOf(run, pauseReason);
  const missing: PanelAction[] = choosesBlocks ? [] : ["inspect"];
  // A run that was never saved anywhere has no log and nothing to report on.
  if (run.runFolder === null) missing.push("showLog", "copyReport");
  return { label, sentence, tone, actions: actions.filter((action) => !missing.includes(action)), progress };
}

function statusOf(run: RunView, pauseReason: string): RunStatus {
  const state: RunState = run.state;
  switch (state) {
    case "draft":
      return status(t("Draft"), t("This run file was not started yet."), "neutral", ["start", "previewData", "openRunFile"], false);
    case "starting":
      return status(t("Starting"), t("The training process is being started."), "busy", ["stop", "showLog"], false);
    case "opening":
      return status(t("Opening"), t("Model and data are being read."), "busy", ["stop", "showLog"], false);
    case "running":
      if (run.initialising)
        return status(t("Preparing"), t("LoRS looks for the gradient's main directions before its first step."), "busy", ["pause", "stop"]);
      return run.warmup
        ? status(t("Warm-up"), t("Blocks are being scored; the best are chosen when the warm-up ends."), "busy", ["pause", "stop"])
        : status(t("Running"), t("The run is training."), "busy", ["pause", "stop", "inspect"]);
    case "pausing":
      return status(t("Pausing"), t("The run pauses when the step that it computes is done."), "waiting", ["resume", "stop"]);
    case "paused":
      return status(t("Paused"), t("The run holds its place and its memory, and goes on when you resume it."), "waiting", [
        "resume",
        "stop",
        "inspect",
      ]);
    case "waiting":
      return status(t("Waiting for disk"), pauseReason || t("The disk is full; the run goes on by itself when there is room."), "waiting", [
        "stop",
        "showLog",
      ]);
    case "stopping":
      return status(t("Stopping"), t("The run saves itself when the step that it computes is done, and ends."), "waiting", ["showLog"]);
    case "stopped":
      return status(t("Stopped"), t("The run was stopped and saved; it can be resumed where it was."), "neutral", [
        "resume",
        "inspect",
        "evaluate",
        "tryModel",
        "export",
      ]);
    case "interrupted":
      return status(t("Interrupted"), t("The run has no process any more and is not done; it can be resumed from its last checkpoint."), "waiting", [
        "resume",
        "showLog",
        "duplicate",
      ]);
    case "failed":
      return status(t("Failed"), t("The run ended with an error."), "bad", failureActions(run));
    case "finished":
      return status(t("Finished"), t("The run is done."), "good", ["tryModel", "evaluate", "export", "inspect", "duplicate"]);
    case "notResponding":
      return status(t("Not responding"), t("The training process has said nothing for ten seconds; it may be computing, or hang."), "bad", [
        "kill",
        "showLog",
        "copyReport",
      ]);
    case "elsewhere":
      return status(
        t("Running elsewhere"),
        holderSentence(run.holder),
        "neutral",
        run.holder ? ["removeLock", "duplicate", "showLog"] : ["duplicate", "showLog"],
      );
    case "restricted":
      return status(
        t("Restricted"),
        t("This workspace is not trusted: runs can be looked at, but not started or commanded."),
        "neutral",
        ["manageTrust"],
        run.runFolder !== null,
      );
  }
}

function status(label: string, sentence: string, tone: Tone, actions: PanelAction[], progress = true): RunStatus {
  return { label, sentence, tone, actions, progress };
}

/** Whose lock it is, as far as the lock itself says it. */
function holderSentence(holder: LockHolder | null): string {
  if (!holder) return t("The run's process does not let this window in; the run can be looked at here, not commanded.");
  const { pid, host, here, file } = holder;
  return here
    ? t(
        "Process {0} of this machine, which no window has started, holds this run by {1}. Stop it, or remove the lock if it is not the run's.",
        pid,
        file,
      )
    : t("Process {0} on {1} holds this run by {2}. Stop it there, or remove the lock if that machine is gone.", pid, host, file);
}

/** What helps against a failure comes first. */
function failureActions({ failure }: RunView): PanelAction[] {
  const first: PanelAction[] = [];
  if (failure?.place) first.push("openAtLine");
  if (failure && /memory/.test(failure.code)) first.push("lowerBatch");
  return [...first, "resume", "showLog", "copyReport", "duplicate"];
}

export function actionText(action: PanelAction): string {
  switch (action) {
    case "start":
      return t("Start");
    case "pause":
      return t("Pause");
    case "resume":
      return t("Resume");
    case "stop":
      return t("Stop");
    case "kill":
      return t("Kill Process");
    case "showLog":
      return t("Show Log");
    case "copyReport":
      return t("Copy Report");
    case "lowerBatch":
      return t("Lower Batch Size");
    case "openAtLine":
      return t("Open at Line");
    case "openRunFile":
      return t("Open Run File");
    case "duplicate":
      return t("Duplicate");
    case "previewData":
      return t("Preview Training Data");
    case "evaluate":
      return t("Evaluate");
    case "tryModel":
      return t("Try Model");
    case "export":
      return t("Merge and Export");
    case "inspect":
      return t("Inspect Sub-matrix");
    case "newRun":
      return t("New Run");
    case "manageTrust":
      return t("Manage Workspace Trust");
    case "installRuntime":
      return t("Install Runtime");
    case "removeLock":
      return t("Remove Lock…");
  }
}

/** How far a run is, from 0 to 1; null where it is not known. */
export function progressOf({ step, totalSteps, warmup, initialising, state }: RunView): number | null {
  if (state === "finished") return 1;
  if (initialising) return initialising.of > 0 ? Math.min(1, initialising.done / initialising.of) : null;
  if (warmup) return warmup.of > 0 ? Math.min(1, warmup.step / warmup.of) : null;
  return totalSteps > 0 ? Math.min(1, step / totalSteps) : null;
}

export function progressText({ step, totalSteps, warmup, initialising }: RunView): string {
  if (initialising) return t("Looking for the gradient's main directions: {0} of {1}", initialising.done, initialising.of);
  if (warmup) return t("Warm-up step {0} of {1}", warmup.step, warmup.of);
  return totalSteps > 0 ? t("Step {0} of {1}", step, totalSteps) : "";
}

/** A time as people say it: the two largest units. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return t("{0} d {1} h", days, hours);
  if (hours > 0) return t("{0} h {1} min", hours, minutes);
  return minutes > 0 ? t("{0} min {1} s", minutes, seconds % 60) : t("{0} s", seconds);
}
