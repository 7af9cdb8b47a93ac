/**
 * One Compare Runs view: passes what it compares to its webview, again whenever that has changed, and does what its buttons say. It draws nothing.
 * The rules to keep: every message of the webview is checked by its schema; a hidden view costs nothing; a run is named by an id that was given out here.
 */
import path from "node:path";
import { Value } from "typebox/value";
import * as vscode from "vscode";
import {
  type CompareAction,
  type CompareTarget,
  type CompareView,
  type FromCompare,
  fromCompareSchemas,
  type ToCompare,
} from "../../protocol/compareProtocol.ts";
import { comparisonFiles } from "../../protocol/compareResults.ts";
import { UserError } from "../../protocol/userError.ts";
import { reveal } from "../commands/runFolders.ts";
import type { ShellParts } from "../commands/shellParts.ts";
import { requireTrust } from "../commands/trust.ts";
import { withHeadline } from "../errorHeadlines.ts";
import { reportError, toFailure } from "../failures.ts";
import { saveAs } from "../panel/saveAs.ts";
import { webviewHtml, webviewOptions, webviewStrings } from "../panel/webviewHtml.ts";
import type { RunSession } from "../runs/runSession.ts";
import { isComparisonFolder, lastFailure, readComparison, requestStop, startComparison, watchComparison } from "./comparisonFolder.ts";
import { comparisonName } from "./comparisons.ts";
import { RunCards } from "./runCards.ts";

export const comparePanelType = "sparseTuner.compare";

/** A live run moves many times a second; the view so often. */
const movedMs = 1000;

export type ComparePanelParts = Pick<ShellParts, "context" | "runs" | "comparisons" | "service" | "panels" | "program" | "log" | "perform"> & {
  /** Does what leads to another view or file. */
  lead(action: "chooseRuns" | "newComparison"): Promise<void>;
};

export class ComparePanel {
  readonly target: CompareTarget;
  readonly #panel: vscode.WebviewPanel;
  readonly #parts: ComparePanelParts;
  readonly #cards: RunCards;
  readonly #sessions: RunSession[];
  /** What the visible webview is told by; null while it is hidden or has not said `ready`. */
  #watching: vscode.Disposable | null = null;
  #timer: NodeJS.Timeout | null = null;
  #shown = "";
  /** VS Code lets nobody ask anything of a closed view. */
  #closed = false;
  /** Number of the newest look: an older one that ends later is not shown. */
  #looks = 0;

  constructor(panel: vscode.WebviewPanel, target: CompareTarget, parts: ComparePanelParts) {
    this.#panel = panel;
    this.#parts = parts;
    this.target = target;
    this.#cards = new RunCards(parts.service);
    this.#sessions = "runFolders" in target ? target.runFolders.map((folder) => parts.runs.get(folder)) : [];
    const { extensionUri } = parts.context;
    panel.webview.options = webviewOptions(extensionUri);
    const icon = (theme: string) => vscode.Uri.joinPath(extensionUri, "media", "icons", `sparse-tuner-${theme}.svg`);
    panel.iconPath = { light: icon("light"), dark: icon("dark") };
    panel.title = titleOf(target);
    panel.webview.onDidReceiveMessage((message: unknown) => this.#onMessage(message));
    panel.onDidChangeViewState(() => {
      if (!panel.visible) this.#rest();
    });
    panel.onDidDispose(() => {
      this.#closed = true;
      this.#rest();
    });
    panel.webview.html = webviewHtml(panel.webview, extensionUri, "compare", "Sparse Tuner Compare Runs");
  }

  get visible(): boolean {
    return !this.#closed && this.#panel.visible;
  }

  reveal(): void {
    this.#panel.reveal();
  }

  #rest(): void {
    this.#watching?.dispose();
    this.#watching = null;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #send(message: ToCompare): void {
    void this.#panel.webview.postMessage(message);
  }

  #onMessage(message: unknown): void {
    const kind = typeof message === "object" && message !== null ? (message as { kind?: unknown }).kind : undefined;
    const schema = typeof kind === "string" && Object.hasOwn(fromCompareSchemas, kind) ? fromCompareSchemas[kind as FromCompare["kind"]] : null;
    if (!schema || !Value.Check(schema, message)) {
      this.#parts.log.warn(`The comparison view sent what nobody understands: ${String(kind).slice(0, 40)}`);
      return;
    }
    this.#handle(message as FromCompare).catch((error: unknown) => void reportError(error, this.#parts.log, this.#parts.perform));
  }

  async #handle(message: FromCompare): Promise<void> {
    switch (message.kind) {
      case "ready":
        return this.#hydrate();
      case "action":
        return this.#act(message.action);
      case "openRun":
        return this.#parts.panels.openRun(this.#parts.runs.get(await this.#folderOf(message.id)));
      case "openRunFile":
        return openText(path.join(await this.#folderOf(message.id), "run.yaml"));
      case "save":
        return saveAs(message, this.#folder ?? this.#sessions[0]?.runFolder ?? null);
      case "problem":
        return this.#parts.log.error(`The comparison view: ${message.message}`);
    }
  }

  get #folder(): string | null {
    return "comparison" in this.target ? this.target.comparison : null;
  }

  /** The run folder of an id: a run of the comparison, or one of those side by side. Throws UserError for any other. */
  async #folderOf(id: string): Promise<string> {
    const folder = this.#folder;
    if (folder === null) {
      const session = this.#sessions[Number(id)];
      if (session) return session.runFolder;
    } else {
      const { lines, progress } = await readComparison(folder);
      const known = lines.some((line) => line.kind === "result" && line.run === id) || progress?.run === id;
      // The schema of a line allows letters, digits, dots and dashes; a name of dots alone leads elsewhere.
      if (known && !/^\.*$/.test(id)) return path.join(folder, comparisonFiles.runs, id);
    }
    throw new UserError("compare/no-run", vscode.l10n.t("The comparison has no run {0}.", id), vscode.l10n.t("Open the comparison again."));
  }

  async #hydrate(): Promise<void> {
    const strings = await webviewStrings();
    // It may have been hidden or closed meanwhile, or have said that it is ready once more.
    this.#rest();
    if (this.#closed || !this.#panel.visible) return;
    this.#send({ kind: "hydrate", strings, target: this.target, view: { kind: "loading" } });
    const folder = this.#folder;
    const soon = () => {
      this.#timer ??= setTimeout(() => {
        this.#timer = null;
        void this.#show();
      }, movedMs);
    };
    if (folder !== null) this.#watching = new vscode.Disposable(watchDisposer(folder, () => void this.#show()));
    else this.#watching = vscode.Disposable.from(...this.#sessions.map((session) => session.listen({ onView: soon, onEvents: soon })));
    this.#shown = "";
    await this.#show();
  }

  /** Sends what there is to see, when it is another than before. */
  async #show(): Promise<void> {
    const look = ++this.#looks;
    const view = await this.#view().catch((error: unknown): CompareView => {
      const { message, action } = withHeadline(toFailure(error));
      return { kind: "failed", message, action };
    });
    const text = JSON.stringify(view);
    if (look !== this.#looks || text === this.#shown || !this.#watching) return;
    this.#shown = text;
    this.#send({ kind: "view", view });
  }

  async #view(): Promise<CompareView> {
    const folder = this.#folder;
    if (folder === null) return { kind: "runs", runs: await this.#cards.cards(this.#sessions) };
    if (!(await isComparisonFolder(folder)))
      throw new UserError(
        "compare/no-comparison",
        vscode.l10n.t("{0} is no comparison folder any more.", folder),
        vscode.l10n.t("Restore it, or open another comparison."),
      );
    const state = await readComparison(folder);
    const failure = state.live ? "" : await lastFailure(folder);
    return { kind: "comparison", folder, name: comparisonName(folder), ...state, trusted: vscode.workspace.isTrusted, failure };
  }

  async #act(action: CompareAction): Promise<void> {
    const folder = this.#folder;
    if (action === "chooseRuns" || action === "newComparison") return this.#parts.lead(action);
    if (folder === null) return;
    if (action === "reveal") return reveal(vscode.Uri.file(folder));
    if (action === "openTable") return openText(path.join(folder, comparisonFiles.table));
    requireTrust();
    if (action === "stop") await requestStop(folder);
    else await startComparison(await this.#parts.program(), folder);
    await this.#parts.comparisons.look(folder);
    await this.#show();
  }
}

function watchDisposer(folder: string, changed: () => void): () => void {
  const watching = watchComparison(folder, changed);
  return () => watching.dispose();
}

function titleOf(target: CompareTarget): string {
  if ("comparison" in target) return comparisonName(target.comparison);
  return vscode.l10n.t("Compare {0} runs", target.runFolders.length);
}

async function openText(file: string): Promise<void> {
  const document = await vscode.workspace.openTextDocument(vscode.Uri.file(file));
  await vscode.window.showTextDocument(document, { preview: false });
}
