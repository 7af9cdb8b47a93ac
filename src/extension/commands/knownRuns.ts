/**
 * The runs and run files of this window: where they lie, and which of them is in front. Runs themselves are `RunSessions`' business; here is where to
 * look for them, and the run files that nobody has started yet.
 * The rule to keep: no folder is looked through before somebody asks.
 */
import { readFile, realpath } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import type { RunState } from "../../protocol/panelProtocol.ts";
import { checkRunFile } from "../../protocol/runConfig.ts";
import { nameInFolder, runNameOf, safeName } from "../../protocol/runName.ts";
import { runFileEndings } from "../contributions.ts";
import { liveComparisons, liveRuns } from "../liveRuns.ts";
import type { TrainingPanels } from "../panel/trainingPanels.ts";
import type { RunSession } from "../runs/runSession.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import { type FoundFiles, findFiles } from "./workspaceFiles.ts";

const runsFolder = path.join(".sparse-tuner", "runs");
/** More run files than this are not read for their `output`. */
const readRunFiles = 200;

export class KnownRuns {
  readonly #runs: RunSessions;
  readonly #storage: string;
  #panels: TrainingPanels | null = null;
  #found: FoundFiles | null = null;
  /** Where the runs of each run file go. */
  #outputs: ReadonlyMap<string, string> = new Map();
  #looking: Promise<void> | null = null;
  readonly #changed = new vscode.EventEmitter<void>();
  /** A run, the list of runs or run files, or what is in front has changed. */
  readonly onDidChange = this.#changed.event;
  readonly #subscriptions: vscode.Disposable[];

  constructor(runs: RunSessions, globalStorage: vscode.Uri) {
    this.#runs = runs;
    this.#storage = globalStorage.fsPath;
    const changed = runs.onDidChange(() => this.#changed.fire());
    const again = () => void this.#lookAgain();
    this.#subscriptions = [
      new vscode.Disposable(() => changed.dispose()),
      vscode.workspace.onDidChangeWorkspaceFolders(again),
      vscode.workspace.onDidDeleteFiles(again),
      vscode.workspace.onDidRenameFiles(again),
      vscode.workspace.onDidSaveTextDocument(({ uri }) => {
        if (isRunFile(uri.fsPath) && !this.#found?.runFiles.includes(uri.fsPath)) again();
      }),
    ];
  }

  /** Given later than the rest, because panels need commands and commands need this. */
  follow(panels: TrainingPanels): void {
    this.#panels = panels;
    this.#subscriptions.push(panels.onDidChangeActive(() => this.#changed.fire()));
  }

  /** Whether folders were looked through, so that a run that is not known does not exist. */
  get scanned(): boolean {
    return this.#found !== null;
  }

  /** Run folders below the workspace's folders or the storage that a core works on. Reads the register of live runs alone. */
  async liveRunFolders(): Promise<string[]> {
    return this.#below((await liveRuns()).map(({ runFolder }) => runFolder));
  }

  /** Comparison folders there that a process works on. Reads the register alone. */
  async liveComparisonFolders(): Promise<string[]> {
    return this.#below((await liveComparisons()).map(({ runFolder }) => runFolder));
  }

  /** Those of some real folders that lie in this window, under the names by which it was opened. */
  async #below(real: readonly string[]): Promise<string[]> {
    const found: string[] = [];
    for (const root of real.length > 0 ? this.roots : []) {
      const realRoot = await realpath(root).catch(() => root);
      for (const folder of real) if (isBelow(folder, realRoot)) found.push(path.join(root, path.relative(realRoot, folder)));
    }
    return [...new Set(found)];
  }

  /** The workspace's folders, and where runs lie that belong to none. */
  get roots(): string[] {
    return [...this.#folders(), this.#storage];
  }

  #folders(): string[] {
    return (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath);
  }

  /** Looks through the folders, once for all who ask at the same time. */
  refresh(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** Once somebody has asked. A look that is going on may have begun before what has changed now. */
  async #lookAgain(): Promise<void> {
    await this.#looking?.catch(() => undefined);
    if (this.#found) await this.refresh();
  }

  async #look(): Promise<void> {
    const folders = this.roots;
    const found = await findFiles(folders);
    const outputs = await Promise.all(found.runFiles.slice(0, readRunFiles).map(async (file) => [file, await outputOf(file)] as const));
    this.#outputs = new Map(outputs);
    await this.#runs.setRoots([...new Set([...folders.map((folder) => path.join(folder, runsFolder)), ...this.#outputs.values()])]);
    this.#found = found;
    this.#changed.fire();
  }

  /** What was found; looks first when nobody has yet. */
  async files(): Promise<FoundFiles> {
    if (!this.#found) await this.refresh();
    return this.#found ?? { runFiles: [], modelFolders: [], dataFiles: [] };
  }

  /** What is there now: files that nobody watches, such as data, may have come since somebody looked. */
  async filesNow(): Promise<FoundFiles> {
    await this.refresh();
    return this.files();
  }

  /** Runs, newest first; looks first when nobody has yet. */
  async sessions(): Promise<RunSession[]> {
    if (!this.#found) await this.refresh();
    return this.#runs.all();
  }

  /** Run files that no run folder was made from, as far as names tell. The demo's has a command of its own. */
  drafts(): vscode.Uri[] {
    const key = (output: string, name: string) => `${output}\0${name}`;
    const started = new Set(this.#runs.all().map(({ runFolder }) => key(path.dirname(runFolder), nameInFolder(path.basename(runFolder)))));
    const demo = path.join(this.#storage, "demo", "demo.sparse-tuner.yaml");
    const files = (this.#found?.runFiles ?? []).filter((file) => file !== demo);
    return files.filter((file) => !started.has(key(this.#outputs.get(file) ?? "", safeName(runNameOf(file))))).map((file) => vscode.Uri.file(file));
  }

  /** State of the run or draft whose panel is in front. */
  frontState(): RunState | null {
    const target = this.#panels?.active;
    if (!target) return null;
    return target.runFolder === null ? "draft" : this.#runs.get(target.runFolder).view.state;
  }

  dispose(): void {
    for (const subscription of this.#subscriptions) subscription.dispose();
    this.#changed.dispose();
  }
}

function isBelow(file: string, folder: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== "" && !relative.startsWith("..") && !path.isAbsolute(relative);
}

export function isRunFile(file: string): boolean {
  return runFileEndings.some((ending) => file.endsWith(ending));
}

async function outputOf(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(() => "");
  return checkRunFile(text, file).config?.output ?? path.join(path.dirname(file), runsFolder);
}
