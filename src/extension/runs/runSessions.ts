/**
 * The runs that this window knows: those under its roots, and those that somebody asked for by folder. Plain Node.
 * The rules to keep: one session a folder; activation reads the register and nothing else; a run of a folder outside the roots is attached to only when
 * somebody opens it.
 */
import { type FSWatcher, watch } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import path from "node:path";
import { setImmediate as breath } from "node:timers/promises";
import { liveRuns, registerFolder } from "../liveRuns.ts";
import { createRun } from "../startCore.ts";
import { restricted } from "./failures.ts";
import type { RunServices } from "./runServices.ts";
import { type RunOptions, RunSession } from "./runSession.ts";

/** Listeners to the whole list are told this often at most. */
const changeMs = 100;
/** A record appears, and its file is renamed into place: one look for both. */
const registerMs = 100;

export class RunSessions {
  readonly #services: RunServices;
  readonly #options: RunOptions;
  readonly #sessions = new Map<string, { session: RunSession; asked: boolean }>();
  readonly #listeners = new Set<() => void>();
  #roots: readonly string[] = [];
  #changeTimer: NodeJS.Timeout | null = null;
  #registerTimer: NodeJS.Timeout | null = null;
  #watcher: FSWatcher | null = null;
  #scanning: Promise<void> | null = null;
  #disposed = false;

  constructor(services: RunServices, options: RunOptions = {}) {
    this.#services = services;
    this.#options = options;
  }

  /** Folders under which run folders lie; sets them and scans. */
  async setRoots(roots: readonly string[]): Promise<void> {
    this.#roots = roots.map((root) => path.resolve(root));
    await this.scan();
  }

  /** Attaches to live runs under the roots. Reads the register alone. */
  async attachLive(): Promise<void> {
    if (!this.#services.isTrusted()) return;
    this.#watchRegister();
    const records = await liveRuns();
    if (records.length === 0) return;
    const roots = new Map<string, string>();
    for (const root of this.#roots) roots.set(await realpath(root).catch(() => root), root);
    const found = records.flatMap(({ runFolder }) => {
      const root = roots.get(path.dirname(runFolder));
      if (root !== undefined) return [this.#known(path.join(root, path.basename(runFolder)))];
      const session = this.#sessions.get(runFolder)?.session;
      return session ? [session] : [];
    });
    await Promise.all(found.map((session) => session.refresh(records)));
  }

  /** Looks for run folders. No run's weights are read, and of its events only the ends. */
  scan(): Promise<void> {
    this.#scanning ??= this.#scan().finally(() => {
      this.#scanning = null;
    });
    return this.#scanning;
  }

  /** Newest first. */
  all(): RunSession[] {
    const sessions = [...this.#sessions.values()].map(({ session }) => session);
    return sessions.sort((a, b) => b.createdMs - a.createdMs || (a.runFolder < b.runFolder ? 1 : -1));
  }

  /** The session of a run folder, which is known from then on. */
  get(runFolder: string): RunSession {
    const known = this.#sessions.has(path.resolve(runFolder));
    const session = this.#known(runFolder, true);
    if (!known) void session.refresh();
    return session;
  }

  /** Makes the run folder of a run file, starts its core and attaches. Throws the UserError that it is refused with. */
  async start(runFile: string): Promise<RunSession> {
    if (!this.#services.isTrusted()) throw restricted();
    const runFolder = await createRun(await this.#services.program(), runFile);
    const session = this.#known(runFolder, true);
    await session.resume();
    this.#watchRegister();
    return session;
  }

  /** The setting keepRunning is another one: cores that are attached to are told. */
  async keepRunningChanged(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map(({ session }) => session.live && session.keepRunningChanged()));
  }

  /** Forgets a run whose folder was deleted. */
  remove(session: RunSession): void {
    const known = this.#sessions.get(session.runFolder);
    if (known?.session !== session) return;
    session.dispose();
    this.#sessions.delete(session.runFolder);
    this.#changed();
  }

  /** The list or a view of it changed. */
  onDidChange(listener: () => void): { dispose(): void } {
    this.#listeners.add(listener);
    return { dispose: () => void this.#listeners.delete(listener) };
  }

  /** Lets go of all; the runs go on. */
  dispose(): void {
    this.#disposed = true;
    this.#watcher?.close();
    for (const timer of [this.#changeTimer, this.#registerTimer]) if (timer) clearTimeout(timer);
    for (const { session } of this.#sessions.values()) session.dispose();
    this.#sessions.clear();
    this.#listeners.clear();
  }

  async #scan(): Promise<void> {
    const found = new Set<string>();
    for (const root of this.#roots)
      for (const entry of await readdir(root, { withFileTypes: true }).catch(() => [])) {
        const folder = path.join(root, entry.name);
        if (entry.isDirectory() && (await stat(path.join(folder, "run.yaml")).catch(() => null))?.isFile()) found.add(folder);
      }
    for (const { session, asked } of [...this.#sessions.values()])
      if (!found.has(session.runFolder) && !session.live && !(asked && (await isFolder(session.runFolder)))) this.remove(session);
    const records = this.#services.isTrusted() ? await liveRuns() : [];
    for (const folder of found) {
      if (this.#disposed) return;
      await this.#known(folder).refresh(records);
      await breath();
    }
    this.#watchRegister();
    this.#changed();
  }

  #known(runFolder: string, asked = false): RunSession {
    const folder = path.resolve(runFolder);
    let known = this.#sessions.get(folder);
    if (!known) {
      const session = new RunSession(folder, this.#services, { ...this.#options, onView: () => this.#changed() });
      known = { session, asked };
      this.#sessions.set(folder, known);
      this.#changed();
    }
    known.asked ||= asked;
    return known.session;
  }

  #changed(): void {
    if (this.#disposed) return;
    this.#changeTimer ??= setTimeout(() => {
      this.#changeTimer = null;
      for (const listener of [...this.#listeners]) listener();
    }, changeMs);
  }

  /** Another window starts a run: its record appears in the register. */
  #watchRegister(): void {
    if (this.#watcher || this.#disposed || !this.#services.isTrusted()) return;
    try {
      this.#watcher = watch(registerFolder(), { persistent: false }, () => {
        this.#registerTimer ??= setTimeout(() => {
          this.#registerTimer = null;
          this.attachLive().catch((error: unknown) => this.#services.log(`the register: ${error instanceof Error ? error.message : error}`));
        }, registerMs);
      });
      this.#watcher.on("error", () => {
        this.#watcher?.close();
        this.#watcher = null;
      });
    } catch {
      // No core was ever started here; the next start or scan looks again.
    }
  }
}

async function isFolder(folder: string): Promise<boolean> {
  return (await stat(folder).catch(() => null))?.isDirectory() ?? false;
}
