/**
 * What a training panel shows: a draft (an open run file, which the form edits) or a run (a folder and perhaps its core). One shape for both, so that the
 * panel only passes messages on.
 * The rule to keep: nothing is kept here that cannot be read again from the file, the folder or the core.
 */
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import type { CardReport } from "../../protocol/cardReading.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { FormView, FromPanel, HeatmapFrame, RunView } from "../../protocol/panelProtocol.ts";
import type { ServiceParams } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { editDocument } from "../files/documentEdits.ts";
import { editRunFile, formView } from "../files/runFileDocument.ts";
import { problemMessage } from "../language/problemTexts.ts";
import type { RunSession } from "../runs/runSession.ts";
import type { PanelTarget } from "./panelParts.ts";

/** Told what changed. */
export interface SubjectListener {
  onRun(run: RunView): void;
  /** The run file's text is another one, or the blocks are known now: form and plan are made anew. */
  onText(): void;
  onEvents(events: RunEvent[]): void;
  onFrame(frame: HeatmapFrame): void;
  onCard?(card: CardReport | null): void;
}

export interface PanelSubject {
  readonly target: PanelTarget;
  readonly name: string;
  readonly run: RunView;
  readonly events: readonly RunEvent[];
  readonly frames: readonly HeatmapFrame[];
  /** The graphics card's newest figures, where a core tells them. */
  readonly card: CardReport | null;
  /** The form, and what a plan is made from. */
  read(): Promise<{ form: FormView; toPlan: ServiceParams["plan"] } | null>;
  /** Begins what `read` and `frames` will have to wait for; until it is disposed of. */
  prepare(): vscode.Disposable;
  /** While the panel is visible. */
  watch(listener: SubjectListener): vscode.Disposable;
  edit(changes: Extract<FromPanel, { kind: "edit" }>["changes"]): Promise<void>;
}

/** A run file that was not started. */
export class DraftSubject implements PanelSubject {
  readonly target: PanelTarget;
  readonly events: readonly RunEvent[] = [];
  readonly frames: readonly HeatmapFrame[] = [];
  readonly card = null;
  readonly #uri: vscode.Uri;

  constructor(uri: vscode.Uri) {
    this.#uri = uri;
    this.target = { runFolder: null, runFile: uri };
  }

  get name(): string {
    return path.basename(this.#uri.fsPath).replace(/(\.sparse-tuner)?\.ya?ml$/, "");
  }

  get run(): RunView {
    return {
      runFolder: null,
      name: this.name,
      state: vscode.workspace.isTrusted ? "draft" : "restricted",
      step: 0,
      totalSteps: 0,
      warmup: null,
      initialising: null,
      loss: null,
      remainingMs: null,
      failure: null,
      logTail: [],
      pid: null,
      holder: null,
      machineBytes: os.totalmem(),
    };
  }

  prepare(): vscode.Disposable {
    return new vscode.Disposable(() => {});
  }

  async read() {
    const text = (await vscode.workspace.openTextDocument(this.#uri)).getText();
    const runFile = this.#uri.fsPath;
    return { form: formView(text, runFile, true, problemMessage), toPlan: { runFile, text } };
  }

  watch(listener: SubjectListener): vscode.Disposable {
    return vscode.Disposable.from(
      vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        if (document.uri.toString() === this.#uri.toString() && contentChanges.length > 0) listener.onText();
      }),
      vscode.workspace.onDidGrantWorkspaceTrust(() => listener.onRun(this.run)),
    );
  }

  edit(changes: Extract<FromPanel, { kind: "edit" }>["changes"]): Promise<void> {
    return editDocument(this.#uri, (text) => editRunFile(text, changes));
  }
}

/** A started run. */
export class RunSubject implements PanelSubject {
  readonly target: PanelTarget;
  readonly session: RunSession;

  constructor(session: RunSession) {
    this.session = session;
    this.target = { runFolder: session.runFolder, runFile: null };
  }

  get name(): string {
    return this.session.view.name;
  }

  get run(): RunView {
    return this.session.view;
  }

  get events(): readonly RunEvent[] {
    return this.session.events;
  }

  get frames(): readonly HeatmapFrame[] {
    return this.session.frames;
  }

  get card(): CardReport | null {
    return this.session.card;
  }

  prepare(): vscode.Disposable {
    this.session.load().catch(() => undefined); // It is asked for again, by who can say what is wrong.
    return this.session.watchFrames();
  }

  async read() {
    const { runFolder } = this.session;
    const runFile = path.join(runFolder, "run.yaml");
    // A long history is read without holding the window up. And a run whose core is still being looked for would be shown as interrupted.
    const [text] = await Promise.all([readFile(runFile, "utf8"), this.session.load(), this.session.looked()]);
    const form = formView(text, runFile, false, problemMessage);
    return { form, toPlan: { runFile, text, runFolder } };
  }

  watch(listener: SubjectListener): vscode.Disposable {
    const watched = this.session.listen({
      onView: (view) => listener.onRun(view),
      onEvents: (events) => {
        listener.onEvents(events);
        if (events.some(({ kind }) => kind === "selection")) listener.onText();
      },
      onFrame: (frame) => listener.onFrame(frame),
      onCard: (card) => listener.onCard?.(card),
    });
    const frames = this.session.watchFrames();
    return new vscode.Disposable(() => {
      frames.dispose();
      watched.dispose();
    });
  }

  async edit(): Promise<void> {
    throw new UserError("panel/read-only", vscode.l10n.t("A started run cannot be changed."), vscode.l10n.t("Duplicate it and change the copy."));
  }
}
