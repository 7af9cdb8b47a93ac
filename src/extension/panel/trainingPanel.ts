/**
 * One training panel: passes messages between a webview and its subject. It draws nothing and keeps no data.
 * The rules to keep: every message of the webview is checked by its schema, what does not fit is logged and ignored; a hidden panel costs nothing; of
 * frames only the latest of a kind waits, and the next is sent when the last one was shown; no event overtakes another.
 */
import path from "node:path";
import { Value } from "typebox/value";
import * as vscode from "vscode";
import { history, type RunEvent } from "../../protocol/events.ts";
import {
  chartedKinds,
  type FormView,
  type FromPanel,
  fromPanelSchemas,
  type HeatmapFrame,
  type PlanView,
  type RunView,
  type ToPanel,
} from "../../protocol/panelProtocol.ts";
import type { ServiceParams } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { withHeadline } from "../errorHeadlines.ts";
import { editablePath } from "./browse.ts";
import type { PanelParts } from "./panelParts.ts";
import { DraftSubject, type PanelSubject, RunSubject } from "./panelSubject.ts";
import { saveAs } from "./saveAs.ts";
import { webviewHtml, webviewOptions, webviewStrings } from "./webviewHtml.ts";

export const trainingPanelType = "sparseTuner.trainingPanel";

/** To write and read so many events as JSON takes some 15 ms. */
const eventsAtOnce = 10_000;
/** Text changes this close together are planned once. */
const settleMs = 30;

export class TrainingPanel {
  readonly #panel: vscode.WebviewPanel;
  readonly #parts: PanelParts;
  #subject: PanelSubject;
  /** VS Code takes a while to make the page, each time the panel is shown: what it will show is begun meanwhile. Null once it is there. */
  #preparing: vscode.Disposable | null = null;
  /** What the visible webview is told by; null while it is hidden or has not said `ready`. */
  #watching: vscode.Disposable | null = null;
  readonly #waitingFrames = new Map<HeatmapFrame["header"]["kind"], HeatmapFrame>();
  #frameOnItsWay = false;
  /** Events that wait until the page has on the screen what it was sent first, and until those before them have arrived. Null when none need wait. */
  #waitingEvents: RunEvent[] | null = null;
  /** VS Code lets nobody ask anything of a closed view. */
  #closed = false;
  #settle: NodeJS.Timeout | null = null;
  #planNumber = 0;
  /** For the log: when it was to be shown, how long afterwards its page was ready, and what it was sent then. Null once that was on the screen. */
  #opening: { beganMs: number; readyMs: number; frames: number } | null = null;
  #plan: PlanView = { kind: "none" };

  constructor(panel: vscode.WebviewPanel, subject: PanelSubject, parts: PanelParts) {
    this.#panel = panel;
    this.#parts = parts;
    this.#subject = subject;
    panel.webview.options = webviewOptions(parts.context.extensionUri);
    const icon = (theme: string) => vscode.Uri.joinPath(parts.context.extensionUri, "media", "icons", `sparse-tuner-${theme}.svg`);
    panel.iconPath = { light: icon("light"), dark: icon("dark") };
    panel.webview.onDidReceiveMessage((message: unknown) => this.#onMessage(message));
    panel.onDidChangeViewState(() => {
      if (!panel.visible) this.#rest();
      else if (!this.#preparing && !this.#watching) this.#open();
    });
    panel.onDidDispose(() => {
      this.#closed = true;
      this.#rest();
    });
    panel.title = subject.name;
    if (panel.visible) this.#open();
    panel.webview.html = webviewHtml(panel.webview, parts.context.extensionUri, "panel", "Sparse Tuner Training Panel");
  }

  get subject(): PanelSubject {
    return this.#subject;
  }

  get visible(): boolean {
    return this.#panel.visible;
  }

  get active(): boolean {
    return this.#panel.active;
  }

  reveal(): void {
    this.#panel.reveal();
  }

  /** A draft that was started becomes its run. */
  show(subject: PanelSubject): void {
    const ready = this.#watching !== null;
    this.#rest();
    this.#subject = subject;
    this.#plan = { kind: "none" };
    this.#panel.title = subject.name;
    if (ready) void this.#hydrate();
  }

  #open(): void {
    this.#opening = { beganMs: performance.now(), readyMs: 0, frames: 0 };
    this.#preparing = this.#subject.prepare();
  }

  /** The webview will say `ready` again when it is shown again: VS Code makes it anew. */
  #rest(): void {
    this.#preparing?.dispose();
    this.#watching?.dispose();
    this.#preparing = this.#watching = null;
    this.#waitingFrames.clear();
    this.#frameOnItsWay = false;
    this.#waitingEvents = null;
    if (this.#settle) clearTimeout(this.#settle);
  }

  #send(message: ToPanel): void {
    void this.#panel.webview.postMessage(message);
  }

  #onMessage(message: unknown): void {
    const kind = typeof message === "object" && message !== null ? (message as { kind?: unknown }).kind : undefined;
    const schema = typeof kind === "string" && Object.hasOwn(fromPanelSchemas, kind) ? fromPanelSchemas[kind as FromPanel["kind"]] : null;
    if (!schema || !Value.Check(schema, message)) {
      this.#parts.log.warn(`The training panel sent what nobody understands: ${String(kind).slice(0, 40)}`);
      return;
    }
    this.#handle(message as FromPanel).catch((error: unknown) => this.#fail(error));
  }

  async #handle(message: FromPanel): Promise<void> {
    switch (message.kind) {
      case "ready":
        return this.#hydrate();
      case "action":
        return this.#parts.perform(message.action, this.#subject.target);
      case "edit":
        return this.#subject.edit(message.changes);
      case "browse":
        return this.#browse(message.path);
      case "frameShown":
        this.#frameOnItsWay = false;
        this.#logOpening();
        this.#sendFrame();
        return this.#sendWaitingEvents();
      case "readCell":
        return this.#readCell(message);
      case "inspect":
        if (this.#subject instanceof RunSubject) await this.#parts.inspect(this.#subject.session, message);
        return;
      case "save":
        return saveAs(message, this.#subject.target.runFolder);
      case "problem":
        this.#parts.log.error(`The training panel: ${message.message}`);
    }
  }

  #fail(error: unknown): void {
    this.#parts.log.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    const text = error instanceof UserError ? `${error.message} ${error.action}` : String(error instanceof Error ? error.message : error);
    void vscode.window.showErrorMessage(text);
  }

  async #hydrate(): Promise<void> {
    if (this.#opening) this.#opening.readyMs = performance.now() - this.#opening.beganMs;
    const subject = this.#subject;
    // Held until it is watched: if nobody looked for a moment in between, the core would be told so.
    const preparing = subject.prepare();
    try {
      this.#rest();
      const [strings, read] = await Promise.all([webviewStrings(), subject.read().catch(() => null)]);
      // It may have been hidden or closed, have shown something else, or have said that it is ready once more, meanwhile.
      if (this.#closed || !this.#panel.visible || subject !== this.#subject) return;
      this.#rest();
      this.#watching = this.#watch(subject);
      this.#sendAll(subject, strings, read?.form ?? null);
      if (read) void this.#makePlan(read.toPlan);
    } finally {
      preparing.dispose();
    }
  }

  #watch(subject: PanelSubject): vscode.Disposable {
    return subject.watch({
      onRun: (run) => this.#send({ kind: "run", run: inLanguage(run) }),
      onText: () => this.#textChanged(),
      onEvents: (events) => {
        if (this.#waitingEvents) for (const event of events) this.#waitingEvents.push(event);
        else this.#send({ kind: "events", events });
      },
      onFrame: (frame) => this.#offer(frame),
      onCard: (card) => this.#send({ kind: "card", card }),
    });
  }

  #sendAll({ run, events, frames, card }: PanelSubject, strings: Record<string, string>, form: FormView | null): void {
    this.#frameOnItsWay = true;
    if (this.#opening) this.#opening.frames = frames.length;
    const known = history(events);
    const first = known.filter(({ kind }) => !chartedKinds.has(kind));
    this.#waitingEvents = known.filter(({ kind }) => chartedKinds.has(kind));
    this.#send({ kind: "hydrate", strings, run: inLanguage(run), form, plan: this.#plan, events: first, frames: [...frames], card });
  }

  /** In pieces, so that neither VS Code nor the page is held up by a long history. */
  async #sendWaitingEvents(): Promise<void> {
    const waiting = this.#waitingEvents;
    if (!waiting) return;
    do {
      const events = waiting.splice(0, eventsAtOnce);
      await this.#panel.webview.postMessage({ kind: "events", events } satisfies ToPanel);
    } while (waiting === this.#waitingEvents && waiting.length > 0);
    if (waiting === this.#waitingEvents) this.#waitingEvents = null;
  }

  #logOpening(): void {
    if (!this.#opening) return;
    const { beganMs, readyMs, frames } = this.#opening;
    this.#opening = null;
    const shownMs = performance.now() - beganMs;
    const what = frames > 0 ? "its heatmap" : "no heatmap yet";
    this.#parts.log.info(
      `A training panel: its page was ready after ${readyMs.toFixed(0)} ms and on the screen, with ${what}, after ${shownMs.toFixed(0)} ms`,
    );
  }

  #offer(frame: HeatmapFrame): void {
    this.#waitingFrames.set(frame.header.kind, frame);
    this.#sendFrame();
  }

  #sendFrame(): void {
    if (this.#frameOnItsWay) return;
    const next = this.#waitingFrames.entries().next().value;
    if (!next) return;
    this.#waitingFrames.delete(next[0]);
    this.#frameOnItsWay = true;
    this.#send({ kind: "frame", frame: next[1] });
  }

  #textChanged(): void {
    if (this.#settle) clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      this.#refreshText().catch((error: unknown) => this.#fail(error));
    }, settleMs);
  }

  async #refreshText(): Promise<void> {
    const subject = this.#subject;
    const read = await subject.read();
    if (!read || subject !== this.#subject || !this.#watching) return;
    this.#send({ kind: "form", form: read.form });
    await this.#makePlan(read.toPlan);
  }

  /** Plans by running the very steps on the planner's device; a later text makes an earlier answer void. */
  async #makePlan(toPlan: ServiceParams["plan"]): Promise<void> {
    const number = ++this.#planNumber;
    if (this.#plan.kind === "none") this.#show({ kind: "planning" }, number);
    const plan = await this.#parts.service.request("plan", toPlan).then(
      (made): PlanView => ({ kind: "plan", plan: made }),
      (error: unknown): PlanView => ({ kind: "problem", failure: failureOf(error) }),
    );
    this.#show(plan, number);
  }

  #show(plan: PlanView, number: number): void {
    if (number !== this.#planNumber) return;
    this.#plan = plan;
    if (this.#watching) this.#send({ kind: "plan", plan });
  }

  async #readCell({ request, name, row, column }: Extract<FromPanel, { kind: "readCell" }>): Promise<void> {
    if (!(this.#subject instanceof RunSubject)) return;
    const answer = await this.#subject.session.readCell({ name, row, column }, "now").then(
      (cell) => ({ cell, reason: "" }),
      (error: unknown) => ({ cell: null, reason: failureOf(error).message }),
    );
    this.#send({ kind: "cell", request, ...answer });
  }

  async #browse(key: Extract<FromPanel, { kind: "browse" }>["path"]): Promise<void> {
    const file = this.#subject instanceof DraftSubject ? this.#subject.target.runFile : null;
    if (!file) return;
    const value = await editablePath(key, path.dirname(file.fsPath));
    if (value !== null) await this.#subject.edit([{ path: key.split("."), value }]);
  }
}

/** The run, with what it failed with in the display language as far as there are words. */
function inLanguage(run: RunView): RunView {
  return run.failure ? { ...run, failure: withHeadline(run.failure) } : run;
}

function failureOf(error: unknown) {
  if (error instanceof UserError) return withHeadline({ code: error.code, message: error.message, action: error.action, place: null });
  return {
    code: "internal",
    message: error instanceof Error ? error.message : String(error),
    action: vscode.l10n.t("Look into the log."),
    place: null,
  };
}
