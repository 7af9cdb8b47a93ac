/**
 * Prune Model and Open Pruning Report: asks, lets the service prune, shows how far it is, and offers what to do with the result. A pruning belongs to its
 * window: it goes on while its view is closed, and ends, leaving nothing, with the window.
 * The rule to keep: nothing is pruned in Restricted Mode, and never two into one folder.
 */
import path from "node:path";
import * as vscode from "vscode";
import { patternTitle } from "../../protocol/pruning.ts";
import { UserError } from "../../protocol/userError.ts";
import { modelPlaces } from "../commands/modelPlaces.ts";
import { isPruned } from "../commands/newRunMethod.ts";
import { reveal } from "../commands/runFolders.ts";
import type { Handlers, ShellParts } from "../commands/shellParts.ts";
import { requireTrust } from "../commands/trust.ts";
import { commandId } from "../contributions.ts";
import { failureText, reportError, toFailure } from "../failures.ts";
import { methodTitle } from "./pruneNames.ts";
import { PrunePanel, type PrunePanelParts } from "./prunePanel.ts";
import { askPruning } from "./pruneQuestions.ts";
import { type PruneRequest, type PruneSubject, PruningJob, reportSubject } from "./pruningJob.ts";
import { readPruningReport } from "./pruningReport.ts";

export function pruneCommands(parts: ShellParts): Handlers<"pruneModel" | "openPruningReport"> {
  const prunings = new Prunings(parts);
  return {
    pruneModel: async (argument) => {
      requireTrust();
      const answers = await askPruning(parts, givenModel(argument), (folder) => prunings.isRunning(folder));
      if (!answers) return null;
      const { base, calibration, ...request } = answers;
      return prunings.start({ ...request, calibration: calibration || null, sequenceLength: null }, base);
    },
    openPruningReport: async (argument) => {
      const folder = givenModel(argument)?.model ?? (await pickPruned(parts));
      if (folder) prunings.show(reportSubject(await readPruningReport(folder), folder));
    },
  };
}

/** A row of the Models view, or what another command names. */
function givenModel(argument: unknown): { model: string; base: string } | null {
  if (typeof argument !== "object" || argument === null) return null;
  const { modelFolder, label } = argument as { modelFolder?: unknown; label?: unknown };
  if (typeof modelFolder !== "string") return null;
  return { model: modelFolder, base: typeof label === "string" ? label : path.basename(modelFolder) };
}

async function pickPruned(parts: ShellParts): Promise<string | null> {
  const places = (await modelPlaces(parts)).filter(({ folder }) => isPruned(folder));
  const title = vscode.l10n.t("Open Pruning Report");
  if (places.length === 0)
    throw new UserError("prune/no-report", vscode.l10n.t("No model here has a pruning report."), vscode.l10n.t("Prune a model first."));
  const items = places.map(({ name, folder, source }) => ({ label: `$(symbol-class) ${name}`, description: source, detail: folder, folder }));
  const placeHolder = vscode.l10n.t("Choose a pruned model");
  return (await vscode.window.showQuickPick(items, { title, placeHolder, matchOnDetail: true }))?.folder ?? null;
}

/** The prunings of this window and their views. */
class Prunings {
  readonly #parts: ShellParts;
  readonly #panels = new Map<string, PrunePanel>();
  readonly #running = new Map<string, PruningJob>();

  constructor(parts: ShellParts) {
    this.#parts = parts;
  }

  /** Whether one writes, or will write, into a folder. */
  isRunning(folder: string): boolean {
    return this.#running.has(folder);
  }

  /** Begins, and shows it. Resolves with the view of what it has become when it has ended. */
  async start(request: PruneRequest, base: string): Promise<string | null> {
    const { to } = request;
    if (this.#running.has(to))
      throw new UserError(
        "prune/busy",
        vscode.l10n.t("Another pruning writes into {0}.", to),
        vscode.l10n.t("Wait until it has ended, or choose another folder."),
      );
    const job = new PruningJob(request, base, { service: this.#parts.service, explain: toFailure });
    this.#running.set(to, job);
    // What had been tried there before has ended without a model.
    this.#panels.get(to)?.close();
    this.show(job);
    const view = await this.#untilEnded(job);
    this.#running.delete(to);
    if (view.failure) this.#parts.log.error(failureText(view.failure));
    if (view.state === "done") await vscode.commands.executeCommand(commandId("refreshViews"));
    if (!this.#panels.get(to)?.visible) void this.#tell(job);
    return view.state === "done" ? to : null;
  }

  /** Opens a view, or brings the one that is there to the front. */
  show(subject: PruneSubject): void {
    const { folder } = subject.view;
    const known = this.#panels.get(folder);
    if (known && (known.subject === subject || subject.view.state === "report")) {
      known.reveal();
      return;
    }
    const { context, log, perform } = this.#parts;
    const fail = (error: unknown) => void reportError(error, log, perform);
    const panel = new PrunePanel(subject, { context, log, perform: (action, about) => this.#perform(action, about), fail });
    this.#panels.set(folder, panel);
    panel.onDidDispose(() => {
      if (this.#panels.get(folder) === panel) this.#panels.delete(folder);
      if (subject.view.state === "running") void this.#sayItGoesOn(subject);
    });
  }

  /** In the status bar too, where it is seen when its view is not. */
  async #untilEnded(job: PruningJob) {
    const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Pruning {0}", job.view.base) };
    return vscode.window.withProgress(options, (bar) => {
      const onNotes = (notes: string[]) => {
        for (const note of notes) this.#parts.log.warn(`${job.view.base}: ${note}`);
      };
      job.listen({ onProgress: ({ done }) => bar.report({ message: `${Math.floor(100 * done)} %` }), onNotes, onEnded: () => undefined });
      return job.ended;
    });
  }

  async #sayItGoesOn(subject: PruneSubject): Promise<void> {
    const [show, cancel] = [vscode.l10n.t("Show"), vscode.l10n.t("Cancel Pruning")];
    const chosen = await vscode.window.showInformationMessage(vscode.l10n.t("The pruning of {0} goes on.", subject.view.base), show, cancel);
    if (chosen === show) this.show(subject);
    if (chosen === cancel) subject.cancel();
  }

  /** What became of it, when nobody looks. */
  async #tell(job: PruningJob): Promise<void> {
    const { state, base, method, pattern, failure } = job.view;
    if (state === "cancelled") return;
    const show = vscode.l10n.t("Show");
    if (failure) {
      const text = vscode.l10n.t("{0} was not pruned: {1}", base, failureText(failure));
      if ((await vscode.window.showErrorMessage(text, show)) === show) this.show(job);
      return;
    }
    const run = vscode.l10n.t("Start a LoRS Run");
    const text = vscode.l10n.t("{0} was pruned by {1} to {2}.", base, methodTitle(method), patternTitle(pattern));
    const chosen = await vscode.window.showInformationMessage(text, show, run);
    if (chosen === show) this.show(job);
    if (chosen === run) await this.#perform("startRun", job);
  }

  async #perform(action: Parameters<PrunePanelParts["perform"]>[0], { view, model }: PruneSubject): Promise<void> {
    switch (action) {
      case "startRun":
        return void (await vscode.commands.executeCommand(commandId("newRun"), { modelFolder: view.folder, method: "lors" }));
      case "reveal":
        return reveal(vscode.Uri.file(view.folder));
      case "again":
        return void (await vscode.commands.executeCommand(commandId("pruneModel"), model ? { modelFolder: model, label: view.base } : undefined));
      case "showLog":
        return void (await vscode.commands.executeCommand(commandId("showLog")));
    }
  }
}
