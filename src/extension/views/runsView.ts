/**
 * The Runs view: run files that were not started, comparisons, and every run of this window by state. A row shows what the run's own view says, and disk use
 * once it was counted.
 * The rule to keep: rows are redrawn a few times a second at most, and nothing is read for a view that nobody sees.
 */
import path from "node:path";
import * as vscode from "vscode";
import { runNameOf } from "../../protocol/runName.ts";
import type { ShellParts } from "../commands/shellParts.ts";
import type { ComparisonView } from "../compare/comparisons.ts";
import { comparisonDescription, comparisonHelp } from "../compare/comparisonText.ts";
import { commandId } from "../contributions.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import type { RunSession } from "../runs/runSession.ts";
import { abilitiesOf, isLive } from "./runAbilities.ts";
import { holderText, progressText, runDescription, shortName, stateHelp, stateIcon, stateText } from "./runText.ts";

const redrawMs = 400;
/** Takes no arguments: VS Code forgets those of a row while it redraws it, and a click in that moment would open nothing. */
const openSelected = "_sparseTuner.openSelectedRun";
/** Disk use of a live run is counted anew this often. */
const countMs = 30_000;

/** A row; commands read `runFolder` and `runFile` of it. Rows have no id: VS Code refuses one twice, and asks for rows again while it still waits for them. */
export class RunItem extends vscode.TreeItem {
  readonly runFolder: string | null;
  readonly runFile: vscode.Uri | null;

  constructor(label: string, target: PanelTarget) {
    super(label);
    this.runFolder = target.runFolder;
    this.runFile = target.runFile;
    this.command = { command: openSelected, title: vscode.l10n.t("Open Training Panel") };
  }

  /** Tells rows apart. */
  get key(): string {
    return this.runFolder ?? this.runFile?.toString() ?? "";
  }

  /** All that is drawn, as one text to compare. */
  get drawn(): string {
    return JSON.stringify([this.label, this.description, this.contextValue, this.tooltip, (this.iconPath as vscode.ThemeIcon).id]);
  }
}

/** A comparison's row; its commands read `comparison`. */
export class ComparisonItem extends RunItem {
  readonly comparison: string;

  constructor(view: ComparisonView) {
    super(view.name, { runFolder: null, runFile: null });
    this.comparison = view.folder;
    this.iconPath = isLive(view) ? stateIcon(view.state) : new vscode.ThemeIcon("graph-scatter");
    this.description = comparisonDescription(view);
    const can = isLive(view) ? "stopComparison" : view.state === "finished" ? "" : "resumeComparison";
    this.contextValue = `comparison ${vscode.workspace.isTrusted ? can : ""}`.trimEnd();
    this.tooltip = [`${view.name}: ${stateText(view.state)}`, view.failure || comparisonHelp(view), view.folder].join("\n");
    this.accessibilityInformation = { label: vscode.l10n.t("Comparison {0}, {1}", view.name, String(this.description)) };
  }

  override get key(): string {
    return this.comparison;
  }
}

export class RunsView implements vscode.TreeDataProvider<RunItem> {
  readonly #parts: ShellParts;
  readonly #changed = new vscode.EventEmitter<RunItem[] | undefined>();
  readonly onDidChangeTreeData = this.#changed.event;
  readonly #view: vscode.TreeView<RunItem>;
  readonly #subscriptions: vscode.Disposable[];
  readonly #diskUse = new Map<string, { bytes: number | null; timeMs: number; state: string }>();
  /** The rows on the screen. */
  #items: readonly RunItem[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(parts: ShellParts) {
    this.#parts = parts;
    this.#view = vscode.window.createTreeView("sparseTuner.runs", { treeDataProvider: this, showCollapseAll: false, canSelectMany: true });
    const redraw = () => {
      this.#count();
      this.#redraw();
    };
    const { onDidGrantWorkspaceTrust } = vscode.workspace;
    const open = vscode.commands.registerCommand(openSelected, () => this.#openSelected());
    this.#subscriptions = [
      open,
      this.#view,
      parts.known.onDidChange(redraw),
      parts.comparisons.onDidChange(redraw),
      this.#view.onDidChangeVisibility(redraw),
      onDidGrantWorkspaceTrust(redraw),
    ];
  }

  async getChildren(item?: RunItem): Promise<RunItem[]> {
    if (item) return [];
    await this.#parts.known.sessions();
    await this.#parts.comparisons.folders();
    const items = this.#rows();
    this.#items = items;
    return items;
  }

  getTreeItem(item: RunItem): RunItem {
    return item;
  }

  async #openSelected(): Promise<void> {
    const [item] = this.#view.selection;
    if (item) await vscode.commands.executeCommand(commandId(item instanceof ComparisonItem ? "compareRuns" : "openTrainingPanel"), item);
  }

  #rows(): RunItem[] {
    const comparisons = this.#parts.comparisons.all().map((view) => new ComparisonItem(view));
    return [...this.#parts.known.drafts().map(draftItem), ...comparisons, ...this.#parts.runs.all().map((session) => this.#runItem(session))];
  }

  /** The number of live runs on the activity bar, which is seen when the view is not. */
  #count(): void {
    const live = [...this.#parts.runs.all().map(({ view }) => view), ...this.#parts.comparisons.all()].filter(isLive).length;
    if (live === (this.#view.badge?.value ?? 0)) return;
    this.#view.badge = live > 0 ? { value: live, tooltip: vscode.l10n.t("Live runs: {0}", live) } : undefined;
  }

  #runItem(session: RunSession): RunItem {
    const { view, runFolder } = session;
    const item = new RunItem(shortName(view), { runFolder, runFile: null });
    item.iconPath = stateIcon(view.state);
    item.description = runDescription(view, this.#diskUseOf(session));
    item.contextValue = ["run", view.state, ...abilitiesOf(view.state)].join(" ");
    item.tooltip = tooltip(session);
    item.accessibilityInformation = { label: `${item.label}, ${item.description}` };
    return item;
  }

  /** What is known now; counted in the background when the state has changed or some time has passed. */
  #diskUseOf(session: RunSession): number | null {
    const known = this.#diskUse.get(session.runFolder);
    const { state } = session.view;
    const old = !known || known.state !== state || (isLive(session.view) && Date.now() - known.timeMs > countMs);
    if (old) {
      this.#diskUse.set(session.runFolder, { bytes: known?.bytes ?? null, timeMs: Date.now(), state });
      session.diskBytes().then(
        (bytes) => {
          this.#diskUse.set(session.runFolder, { bytes, timeMs: Date.now(), state });
          this.#redraw();
        },
        () => undefined,
      );
    }
    return known?.bytes ?? null;
  }

  #redraw(): void {
    if (!this.#view.visible || this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#update();
    }, redrawMs);
  }

  /** Changes rows where they stand; only other rows, or another order, make the view ask for all of them, which it shows as loading. */
  #update(): void {
    const rows = this.#rows();
    if (rows.length === this.#items.length && rows.every(({ key }, index) => key === this.#items[index].key)) {
      const changed = this.#items.filter((item, index) => item.drawn !== rows[index].drawn);
      for (const [index, item] of this.#items.entries()) Object.assign(item, rows[index]);
      if (changed.length > 0) this.#changed.fire(changed);
    } else this.#changed.fire(undefined);
  }

  dispose(): void {
    if (this.#timer) clearTimeout(this.#timer);
    for (const subscription of this.#subscriptions) subscription.dispose();
    this.#changed.dispose();
  }
}

function draftItem(runFile: vscode.Uri): RunItem {
  const item = new RunItem(runNameOf(runFile.fsPath), { runFolder: null, runFile });
  const state = vscode.workspace.isTrusted ? "draft" : "restricted";
  item.iconPath = stateIcon(state);
  item.description = stateText(state);
  item.contextValue = ["draft", ...(state === "draft" ? abilitiesOf("draft") : [])].join(" ");
  item.tooltip = `${vscode.workspace.asRelativePath(runFile)}\n${stateHelp(state)}`;
  item.accessibilityInformation = { label: `${item.label}, ${item.description}` };
  return item;
}

/** Plain text: names come from folders, and nothing of them is to be read as Markdown. */
function tooltip({ view, runFolder }: RunSession): string {
  const lines = [`${view.name}: ${stateText(view.state)}`, progressText(view), stateHelp(view.state)];
  if (view.holder) lines.push(holderText(view.holder));
  if (view.failure) lines.push(`${view.failure.message} ${view.failure.action}`);
  return [...lines.filter((line) => line !== ""), path.normalize(runFolder)].join("\n");
}
