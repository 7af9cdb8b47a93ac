/**
 * The comparisons that this window knows: those that lie in its folders and those that somebody opened. A live one is followed by its files; one at rest is
 * read when somebody looks.
 * The rules to keep: activation reads the register of live comparisons and nothing else; folders are looked through when somebody asks.
 */
import { existsSync, type FSWatcher, watch } from "node:fs";
import path from "node:path";
import { type ComparisonProgress, comparisonFiles } from "../../protocol/compareResults.ts";
import type { RunState } from "../../protocol/panelProtocol.ts";
import { comparisonsRegister } from "../liveRuns.ts";
import { comparisonsUnder, lastFailure, readProgress, watchComparison } from "./comparisonFolder.ts";

export interface ComparisonView {
  folder: string;
  /** Without the time that its folder's name begins with. */
  name: string;
  state: RunState;
  progress: ComparisonProgress | null;
  /** What it failed with; empty otherwise. */
  failure: string;
}

export interface ComparisonServices {
  /** Comparison folders of this window that the register names. */
  liveFolders(): Promise<string[]>;
  /** Folders that hold this window's comparisons. */
  outputs(): Promise<string[]>;
  isTrusted(): boolean;
}

/** A record appears, and its file is renamed into place: one look for both. */
const registerMs = 100;

export class Comparisons {
  readonly #services: ComparisonServices;
  readonly #views = new Map<string, ComparisonView>();
  readonly #watching = new Map<string, { dispose(): void }>();
  readonly #listeners = new Set<() => void>();
  #register: FSWatcher | null = null;
  #registerTimer: NodeJS.Timeout | null = null;
  #looked: Promise<void> | null = null;
  #disposed = false;

  constructor(services: ComparisonServices) {
    this.#services = services;
  }

  /** Newest first. */
  all(): ComparisonView[] {
    return [...this.#views.values()].sort((a, b) => (path.basename(a.folder) < path.basename(b.folder) ? 1 : -1));
  }

  onDidChange(listener: () => void): { dispose(): void } {
    this.#listeners.add(listener);
    return { dispose: () => void this.#listeners.delete(listener) };
  }

  /** Follows the live ones. Reads the register alone. */
  async attachLive(): Promise<void> {
    if (this.#disposed || !this.#services.isTrusted()) return;
    this.#watchRegister();
    for (const folder of await this.#services.liveFolders()) await this.look(folder);
  }

  /** All of this window's folders, newest first; looks through them once, or again with `anew`. */
  async folders(options: { anew?: boolean } = {}): Promise<string[]> {
    if (options.anew) this.#looked = null;
    this.#looked ??= this.#lookThrough();
    await this.#looked;
    return this.all().map(({ folder }) => folder);
  }

  async #lookThrough(): Promise<void> {
    const found = await comparisonsUnder(await this.#services.outputs());
    await Promise.all([...new Set([...found, ...this.#views.keys()])].map((folder) => this.look(folder)));
  }

  /** Reads how one stands, which is known from then on, and follows it while it is live. */
  async look(folder: string): Promise<void> {
    const key = path.resolve(folder);
    const there = existsSync(path.join(key, comparisonFiles.config));
    const { progress, live } = await readProgress(key);
    if (this.#disposed) return;
    if (!there) return this.#forget(key);
    const own = stateOf(progress, live);
    // A process that could not begin, or crashed, has said so in the log alone.
    const failure = own === "failed" ? (progress?.message ?? "") : own === "draft" || own === "interrupted" ? await lastFailure(key) : "";
    const state = failure === "" ? own : "failed";
    if (this.#disposed) return;
    if (live && !this.#watching.has(key))
      this.#watching.set(
        key,
        watchComparison(key, () => void this.look(key)),
      );
    if (!live) this.#rest(key);
    const view: ComparisonView = { folder: key, name: comparisonName(key), state, progress, failure };
    if (JSON.stringify(view) === JSON.stringify(this.#views.get(key))) return;
    this.#views.set(key, view);
    this.#changed();
  }

  dispose(): void {
    this.#disposed = true;
    this.#register?.close();
    if (this.#registerTimer) clearTimeout(this.#registerTimer);
    for (const watching of this.#watching.values()) watching.dispose();
    this.#watching.clear();
    this.#listeners.clear();
  }

  #forget(folder: string): void {
    this.#rest(folder);
    if (this.#views.delete(folder)) this.#changed();
  }

  #rest(folder: string): void {
    this.#watching.get(folder)?.dispose();
    this.#watching.delete(folder);
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Another window, or a command line, begins one: its record appears in the register. */
  #watchRegister(): void {
    if (this.#register) return;
    try {
      this.#register = watch(comparisonsRegister(), { persistent: false }, () => {
        this.#registerTimer ??= setTimeout(() => {
          this.#registerTimer = null;
          void this.attachLive().catch(() => undefined);
        }, registerMs);
      });
      this.#register.on("error", () => {
        this.#register?.close();
        this.#register = null;
      });
    } catch {
      // None was ever started here; the next look tries again.
    }
  }
}

/** Said as of a run. What its last process left in the middle was interrupted. */
export function stateOf(progress: ComparisonProgress | null, live: boolean): RunState {
  if (live) return progress?.state === "waiting" ? "waiting" : "running";
  if (!progress) return "draft";
  const states = { running: "interrupted", waiting: "interrupted", done: "finished", stopped: "stopped", failed: "failed" } as const;
  return states[progress.state];
}

/** A comparison's name without the time that its folder's name begins with. */
export function comparisonName(folder: string): string {
  return path.basename(folder).replace(/^\d{8}-\d{6}-(?=.)/, "");
}
