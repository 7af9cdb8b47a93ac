/**
 * The Models view: what could be fine-tuned, by where it lies. What a model is comes from the service, one folder after the other, while the list is shown.
 * The rule to keep: a model that cannot be tuned is listed with the reason, not left out.
 */
import * as vscode from "vscode";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import { formatBytes, formatCount } from "../commands/format.ts";
import { type ModelPlace, modelPlaces } from "../commands/modelPlaces.ts";
import { isPruned } from "../commands/newRunMethod.ts";
import type { ShellParts } from "../commands/shellParts.ts";
import { toFailure } from "../failures.ts";

type Described = ServiceResults["describeModel"];

/** A row; New Run reads `modelFolder` of it. */
export class ModelItem extends vscode.TreeItem {
  readonly modelFolder: string;

  constructor({ name, folder, source }: ModelPlace, described: Described | null) {
    super(name);
    const pruned = isPruned(folder);
    this.modelFolder = folder;
    this.contextValue = [described?.supported ? "model" : "otherModel", ...(pruned ? ["pruned"] : [])].join(" ");
    this.iconPath = new vscode.ThemeIcon(described === null ? "loading~spin" : described.supported ? "symbol-class" : "circle-slash");
    this.description = [
      ...(pruned ? [vscode.l10n.t("pruned")] : []),
      ...(described === null ? [] : [described.supported ? supportedText(described) : vscode.l10n.t("not supported")]),
      source,
    ].join(" · ");
    this.tooltip = [folder, source, ...(described?.supported ? details(described) : described ? [described.reason] : [])].join("\n");
    if (described && !described.supported)
      this.accessibilityInformation = { label: vscode.l10n.t("{0}, not supported: {1}", name, described.reason) };
  }
}

type SupportedModel = Extract<Described, { supported: true }>;

function supportedText({ parameters, dtype, bytes }: SupportedModel): string {
  return [formatCount(parameters), dtype, formatBytes(bytes)].join(" · ");
}

function details(model: SupportedModel): string[] {
  return [
    model.architecture,
    vscode.l10n.t("{0} parameters, {1} layers, hidden size {2}, {3} positions", model.parameters, model.layers, model.hiddenSize, model.maxPositions),
  ];
}

export class ModelsView implements vscode.TreeDataProvider<ModelItem> {
  readonly #parts: ShellParts;
  readonly #changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.#changed.event;
  readonly #view: vscode.TreeView<ModelItem>;
  readonly #subscriptions: vscode.Disposable[];
  readonly #described = new Map<string, Described>();
  #describing: Promise<void> | null = null;

  constructor(parts: ShellParts) {
    this.#parts = parts;
    this.#view = vscode.window.createTreeView("sparseTuner.models", { treeDataProvider: this });
    const settings = vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("sparseTuner.modelFolders")) this.refresh();
    });
    this.#subscriptions = [this.#view, settings];
  }

  refresh(): void {
    this.#described.clear();
    this.#changed.fire(undefined);
  }

  async getChildren(item?: ModelItem): Promise<ModelItem[]> {
    if (item) return [];
    const places = await modelPlaces(this.#parts);
    this.#describing ??= this.#describe(places).finally(() => {
      this.#describing = null;
    });
    return places.map((place) => new ModelItem(place, this.#described.get(place.folder) ?? null));
  }

  getTreeItem(item: ModelItem): ModelItem {
    return item;
  }

  async #describe(places: readonly ModelPlace[]): Promise<void> {
    const unknown = places.filter(({ folder }) => !this.#described.has(folder));
    for (const { folder } of unknown) {
      const described = await this.#parts.service.request("describeModel", { folder }).catch((error: unknown): Described => {
        this.#parts.log.warn(`${folder}: ${toFailure(error).message}`);
        return { supported: false, reason: toFailure(error).message };
      });
      this.#described.set(folder, described);
    }
    if (unknown.length > 0) this.#changed.fire(undefined);
  }

  dispose(): void {
    for (const subscription of this.#subscriptions) subscription.dispose();
    this.#changed.dispose();
  }
}
