/** The Devices view: the doctor's findings as rows; what is not usable opens to what was probed, what came back and how to mend it. */
import * as vscode from "vscode";
import { examine } from "../commands/doctor.ts";
import { type Finding, inLanguage } from "../commands/findingTexts.ts";
import type { ShellParts } from "../commands/shellParts.ts";

class FindingItem extends vscode.TreeItem {
  readonly finding: Finding;

  constructor(finding: Finding) {
    super(finding.subject, finding.usable && !finding.fix ? vscode.TreeItemCollapsibleState.None : vscode.TreeItemCollapsibleState.Collapsed);
    this.finding = finding;
    this.description = finding.usable ? finding.result : vscode.l10n.t("not usable");
    this.iconPath = finding.usable ? new vscode.ThemeIcon("pass") : new vscode.ThemeIcon("circle-slash");
    this.tooltip = [finding.subject, ...detailsOf(finding)].join("\n");
    this.accessibilityInformation = { label: `${finding.subject}, ${this.description}` };
    this.contextValue = "finding";
  }
}

function detailsOf({ probe, result, fix }: Finding): string[] {
  return [vscode.l10n.t("Probed: {0}", probe), vscode.l10n.t("Result: {0}", result), ...(fix ? [vscode.l10n.t("Fix: {0}", fix)] : [])];
}

export class DevicesView implements vscode.TreeDataProvider<vscode.TreeItem> {
  readonly #parts: ShellParts;
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.#changed.event;
  readonly #view: vscode.TreeView<vscode.TreeItem>;

  constructor(parts: ShellParts) {
    this.#parts = parts;
    this.#view = vscode.window.createTreeView("sparseTuner.devices", { treeDataProvider: this });
  }

  refresh(): void {
    this.#changed.fire(undefined);
  }

  async getChildren(item?: vscode.TreeItem): Promise<vscode.TreeItem[]> {
    if (item instanceof FindingItem) return detailsOf(item.finding).map(detailItem);
    if (item) return [];
    return (await examine(this.#parts)).findings.map((finding) => new FindingItem(inLanguage(finding)));
  }

  getTreeItem(item: vscode.TreeItem): vscode.TreeItem {
    return item;
  }

  dispose(): void {
    this.#view.dispose();
    this.#changed.dispose();
  }
}

function detailItem(text: string): vscode.TreeItem {
  const item = new vscode.TreeItem(text);
  item.tooltip = text;
  return item;
}
