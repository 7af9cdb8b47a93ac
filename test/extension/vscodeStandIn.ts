/**
 * Stands in for the `vscode` module in plain Node, so that the extension's own wiring can be looked at: what it registers, which context keys it sets.
 * It shows nothing and answers every question with undefined, as a person who presses Escape. What the real editor does is the e2e tests' business.
 */
import path from "node:path";
import { pathToFileURL } from "node:url";

type Listener = (value: unknown) => unknown;

export class Disposable {
  readonly dispose: () => void;
  constructor(dispose: () => void) {
    this.dispose = dispose;
  }
  static from(...all: { dispose(): unknown }[]): Disposable {
    return new Disposable(() => {
      for (const one of all) one.dispose();
    });
  }
}

export class EventEmitter {
  readonly #listeners = new Set<Listener>();
  readonly event = (listener: Listener): Disposable => {
    this.#listeners.add(listener);
    return new Disposable(() => this.#listeners.delete(listener));
  };
  fire(value: unknown): void {
    for (const listener of this.#listeners) listener(value);
  }
  dispose(): void {
    this.#listeners.clear();
  }
}

export class Uri {
  readonly scheme: string;
  readonly path: string;
  constructor(scheme: string, file: string) {
    this.scheme = scheme;
    this.path = file;
  }
  get fsPath(): string {
    return this.path;
  }
  toString(): string {
    return this.scheme === "file" ? pathToFileURL(this.path).href : `${this.scheme}:${this.path}`;
  }
  static file(file: string): Uri {
    return new Uri("file", file);
  }
  static from({ scheme, path: file }: { scheme: string; path: string }): Uri {
    return new Uri(scheme, file);
  }
  static joinPath(base: Uri, ...parts: string[]): Uri {
    return new Uri(base.scheme, path.posix.join(base.path, ...parts));
  }
}

export class TreeItem {
  readonly label: string;
  readonly collapsibleState: number;
  constructor(label: string, collapsibleState = 0) {
    this.label = label;
    this.collapsibleState = collapsibleState;
  }
}

class Named {
  readonly id: string;
  constructor(id: string) {
    this.id = id;
  }
}
export class ThemeIcon extends Named {}
export class ThemeColor extends Named {}
/** Of places that are offsets. */
export class Range {
  readonly start: number;
  readonly end: number;
  constructor(start: number, end: number) {
    this.start = start;
    this.end = end;
  }
}
export class WorkspaceEdit {
  readonly replacements: { range: Range; text: string }[] = [];
  replace(_: Uri, range: Range, text: string): void {
    this.replacements.push({ range, text });
  }
}
export class CancellationError extends Error {}
/** An enum whose members nobody compares. */
const members = () => new Proxy({}, { get: (_, name) => String(name) });
export const CodeActionKind = members();
export const ConfigurationTarget = members();
export const DecorationRangeBehavior = members();
export const TreeItemCollapsibleState = members();
export const StatusBarAlignment = members();
export const ProgressLocation = members();
export const ViewColumn = members();
export const UIKind = members();
export const OverviewRulerLane = members();
export const QuickInputButtons = members();

/** What was registered and set, for assertions. */
export const seen = {
  commands: new Map<string, (...given: unknown[]) => unknown>(),
  treeViews: new Set<string>(),
  customEditors: new Set<string>(),
  serializers: new Set<string>(),
  context: new Map<string, unknown>(),
  /** Of every message shown, with its buttons. */
  messages: [] as string[][],
};

/** What the editor would be set to. */
export const state = { trusted: true, folders: [] as string[], settings: {} as Record<string, unknown>, panel: null as object | null };

const nothing = () => new Disposable(() => undefined);
/** An object whose unknown members are functions that return something to dispose of. */
const loose = <T extends object>(known: T): T => new Proxy(known, { get: (target, name) => (name in target ? Reflect.get(target, name) : nothing) });
const message = async (...shown: unknown[]): Promise<undefined> => {
  seen.messages.push(shown.filter((part) => typeof part === "string"));
};

export const l10n = {
  /** Texts of the display language; undefined in an English window. */
  bundle: undefined as Record<string, string> | undefined,
  t: (text: string, ...given: unknown[]) => text.replace(/\{(\d+)\}/g, (found, index) => String(given[Number(index)] ?? found)),
  uri: undefined,
};
export const env = { language: "en", appName: "Stand-in", remoteName: undefined, uiKind: 1, clipboard: { writeText: async () => undefined } };
export const version = "1.100.0";

export const commands = {
  registerCommand(id: string, handler: (...given: unknown[]) => unknown): Disposable {
    seen.commands.set(id, handler);
    return nothing();
  },
  async executeCommand(id: string, ...given: unknown[]): Promise<unknown> {
    if (id === "setContext") seen.context.set(String(given[0]), given[1]);
    return seen.commands.get(id)?.(...given);
  },
};

export const window = loose({
  activeTextEditor: undefined,
  createOutputChannel: () => loose({}),
  createStatusBarItem: () => loose({}),
  createWebviewPanel: () => state.panel ?? loose({}),
  createTreeView(id: string) {
    seen.treeViews.add(id);
    return loose({ visible: false });
  },
  registerCustomEditorProvider(id: string) {
    seen.customEditors.add(id);
    return nothing();
  },
  registerWebviewPanelSerializer(id: string) {
    seen.serializers.add(id);
    return nothing();
  },
  showErrorMessage: message,
  showWarningMessage: message,
  showInformationMessage: message,
  showQuickPick: async () => undefined,
  showInputBox: async () => undefined,
  showOpenDialog: async () => undefined,
  withProgress: (_: unknown, work: (progress: unknown, token: unknown) => unknown) => work(loose({}), loose({})),
});

export const workspace = loose({
  get isTrusted() {
    return state.trusted;
  },
  get workspaceFolders() {
    return state.folders.map((folder) => ({ uri: Uri.file(folder), name: path.basename(folder) }));
  },
  textDocuments: [],
  asRelativePath: (file: Uri | string) => String(file),
  getConfiguration: (section: string) => ({ get: (name: string, fallback: unknown) => state.settings[`${section}.${name}`] ?? fallback }),
});

export const languages = loose({});
