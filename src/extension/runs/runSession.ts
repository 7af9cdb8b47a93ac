/**
 * One run in this window: its folder, and its core while one lives. What views, panels and commands know of a run they know from here. Plain Node.
 * The rules to keep: the run folder is the truth, and nothing is kept that could not be read again from it or from the core; who looks is counted, so that
 * nobody looking costs nothing; without trust nothing is started or attached to, and what lies in the folder is shown all the same.
 */
import { statSync } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import path from "node:path";
import type { CardReport } from "../../protocol/cardReading.ts";
import type { BlockPlace, Cell, CommandName, CoreParams } from "../../protocol/coreProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { StepChoice } from "../../protocol/inspectorProtocol.ts";
import type { LiveRunRecord } from "../../protocol/liveRun.ts";
import type { HeatmapFrame, LockHolder, RunView } from "../../protocol/panelProtocol.ts";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import type { BlockValues } from "../coreClient.ts";
import { findLiveRun, holderOf } from "../liveRuns.ts";
import { CoreLink } from "./coreLink.ts";
import type { CrashBudget } from "./crashBudget.ts";
import { restricted } from "./failures.ts";
import { HeatmapStore } from "./heatmapStore.ts";
import type { LinkTimes } from "./linkState.ts";
import { readLogTail } from "./logTail.ts";
import { RunHistory } from "./runHistory.ts";
import type { RunServices } from "./runServices.ts";
import { runView } from "./runView.ts";

export type { RunReader, RunServices } from "./runServices.ts";

export interface RunListener {
  onView?(view: RunView): void;
  onEvents?(events: RunEvent[]): void;
  onFrame?(frame: HeatmapFrame): void;
  onCard?(card: CardReport | null): void;
}

export interface RunOptions {
  /** Told that the view is another one, without counting as somebody who looks. */
  onView?(): void;
  /** For tests: other times and limits than the usual ones. */
  times?: Partial<LinkTimes>;
  budget?: CrashBudget;
}

/** Views of a run that only steps on are told this often at most. */
const viewMs = 500;
/** A run that another process works on is looked at this often while somebody looks here. */
const elsewhereMs = 2000;

export class RunSession {
  readonly runFolder: string;
  readonly #services: RunServices;
  readonly #options: RunOptions;
  readonly #listeners = new Set<RunListener>();
  readonly #heatmaps = new HeatmapStore();
  #parts: { history: RunHistory; link: CoreLink } | null = null;
  #holder: LockHolder | null = null;
  #frameWatchers = 0;
  #card: CardReport | null = null;
  /** Number of the newest event when a frame came last. */
  #framesAt = 0;
  #stored: Promise<void> | null = null;
  #shown = "";
  #viewTimer: NodeJS.Timeout | null = null;
  #lookTimer: NodeJS.Timeout | null = null;
  #refreshing: Promise<void> = Promise.resolve();
  #createdMs: number | null = null;

  constructor(runFolder: string, services: RunServices, options: RunOptions = {}) {
    this.runFolder = path.resolve(runFolder);
    this.#services = services;
    this.#options = options;
  }

  /** Always current; cheap. */
  get view(): RunView {
    const { history, link } = this.#open();
    return runView({
      runFolder: this.runFolder,
      name: path.basename(this.runFolder),
      trusted: this.#services.isTrusted(),
      progress: history.progress,
      link: link.state,
      silent: link.silent,
      stopping: link.stopping,
      failure: link.failure,
      logTail: link.logTail,
      holder: this.#holder,
    });
  }

  /** All events so far as if the run had never been interrupted; those to come go to listeners. `load` reads a long run without holding others up. */
  get events(): readonly RunEvent[] {
    return this.#open().history.events;
  }

  /** The latest frame of each kind: of the core, or from the folder for a run that is not live. They come while somebody watches. */
  get frames(): readonly HeatmapFrame[] {
    return this.#heatmaps.frames;
  }

  /** The graphics card's newest figures; null where no core tells them. They come while somebody watches frames. */
  get card(): CardReport | null {
    return this.#card;
  }

  /** Attached to a core. */
  get live(): boolean {
    return this.#open().link.client !== null;
  }

  /** When its folder was made: what orders runs. */
  get createdMs(): number {
    this.#createdMs ??= statSync(path.join(this.runFolder, "run.yaml"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return this.#createdMs;
  }

  /** Tells of what comes from now on; what there is, the getters say. */
  listen(listener: RunListener): { dispose(): void } {
    this.#listeners.add(listener);
    this.#lookTimer ??= setInterval(() => this.#holder && void this.refresh(), elsewhereMs).unref();
    return {
      dispose: () => {
        if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#rest();
      },
    };
  }

  /** Reads all events, so that `events` has them at hand. */
  load(): Promise<void> {
    return this.#open().history.load();
  }

  /** Resolves when it is known whether a core lives, where that is being looked for. */
  looked(): Promise<void> {
    return this.#refreshing;
  }

  /** While somebody looks. Counted: the core sends frames and the graphics card's figures only then. */
  watchFrames(): { dispose(): void } {
    let watching = true;
    if (++this.#frameWatchers === 1) this.#watch(true);
    return {
      dispose: () => {
        if (watching && --this.#frameWatchers === 0) this.#watch(false);
        watching = false;
      },
    };
  }

  /** Starts a core that goes on with the run, or begins it. A paused run goes on. Throws UserError. */
  async resume(options: { acceptChanges?: boolean } = {}): Promise<void> {
    if (!this.#services.isTrusted()) throw restricted();
    const { link } = this.#open();
    try {
      await link.resume(options);
    } catch (error) {
      // Who has the run may be what it was refused for.
      await this.refresh();
      throw error;
    }
  }

  command(name: CommandName): Promise<void> {
    return this.#open().link.command(name);
  }

  /** The setting keepRunning is another one. */
  keepRunningChanged(): Promise<void> {
    return this.#open().link.tellKeepRunning();
  }

  /** SIGKILL for a core of the register that does not respond. */
  kill(): Promise<void> {
    return this.#open().link.kill();
  }

  /** Values of a block: from the core at its next step boundary, or from a checkpoint. */
  async readBlock(request: CoreParams["readBlock"], at: StepChoice): Promise<BlockValues> {
    const { client } = this.#open().link;
    if (at === "now" && client) return client.readBlock(request);
    return this.#services.service.readBlock({ runFolder: this.runFolder, step: at === "now" ? null : at, ...request });
  }

  async readCell({ name, row, column }: BlockPlace, at: StepChoice): Promise<Cell> {
    const place = { name, row, column };
    const { client } = this.#open().link;
    if (at !== "now" || !client)
      return this.#services.service.request("readCell", { runFolder: this.runFolder, step: at === "now" ? null : at, ...place });
    const cell = await client.readCell(place);
    this.#heatmaps.addCell(place, cell);
    return cell;
  }

  describe(): Promise<ServiceResults["describeRun"]> {
    return this.#services.service.request("describeRun", { runFolder: this.runFolder });
  }

  /** A block at every step that is known: of the checkpoints, and what was shown of it while somebody looked. */
  async history({ name, row, column }: BlockPlace): Promise<Cell[]> {
    const place = { name, row, column };
    const { cells } = await this.#services.service.request("blockHistory", { runFolder: this.runFolder, ...place });
    return this.#heatmaps.history(place, cells);
  }

  /** Last lines of the run's log.txt. */
  readLogTail(): Promise<string[]> {
    return readLogTail(this.runFolder);
  }

  /** Bytes of all files of the run; counted anew each time. Links are not followed. */
  async diskBytes(): Promise<number> {
    const bytesIn = async (folder: string): Promise<number> => {
      let sum = 0;
      for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
        const place = path.join(folder, entry.name);
        if (entry.isDirectory()) sum += await bytesIn(place);
        else if (entry.isFile()) sum += (await lstat(place).catch(() => null))?.size ?? 0;
      }
      return sum;
    };
    return bytesIn(this.runFolder);
  }

  /** Looks at the folder and the register again, and attaches to a core that it finds. `records` are of the register, where it was just read. */
  refresh(records?: readonly LiveRunRecord[]): Promise<void> {
    const looking = this.#refreshing.then(() => this.#look(records));
    this.#refreshing = looking.catch(() => undefined);
    return looking;
  }

  /** Lets go; the run goes on. */
  dispose(): void {
    this.#parts?.link.dispose();
    this.#listeners.clear();
    this.#rest();
    if (this.#viewTimer) clearTimeout(this.#viewTimer);
  }

  async #look(records?: readonly LiveRunRecord[]): Promise<void> {
    const { history, link } = this.#open();
    if (link.state.kind !== "away" && link.state.kind !== "refused") return;
    const found = this.#services.isTrusted() ? await findLiveRun(this.runFolder, records) : null;
    await history.catchUp((fresh) => {
      // Somebody else went on with the run: what it failed with here is past.
      link.failure = null;
      this.#onEvents(fresh);
    });
    const holder = found && holderOf(found, this.runFolder);
    // What it was refused for is gone.
    if (this.#holder && !holder) link.failure = null;
    this.#holder = holder;
    if (found?.kind === "live") await link.attach(found.record);
    this.#showView();
  }

  #open(): { history: RunHistory; link: CoreLink } {
    if (this.#parts) return this.#parts;
    const history = new RunHistory(this.runFolder, (what) => this.#services.log(`${this.runFolder}: ${what}`));
    const listener = {
      onEvents: (events: RunEvent[]) => this.#onEvents(events),
      onFrame: (frame: HeatmapFrame) => this.#onFrame(frame),
      onCard: (card: CardReport) => this.#setCard(card),
      onChange: () => this.#onLinkChange(),
    };
    const link = new CoreLink(this.runFolder, history, this.#services, listener, this.#options.times, this.#options.budget);
    this.#parts = { history, link };
    this.#shown = this.#sayWhat(this.view);
    return this.#parts;
  }

  #onEvents(events: RunEvent[]): void {
    this.#tell((listener) => listener.onEvents?.(events));
    this.#showView();
    if (!this.live && events.some(({ kind }) => kind === "selection")) this.#readStored();
  }

  #onFrame(frame: HeatmapFrame): void {
    this.#heatmaps.add(frame);
    this.#framesAt = this.#open().history.lastSequence;
    // A core that was resumed knows the choice and not the scores behind it; it would have sent them first.
    if (frame.header.kind === "selection" && !this.#heatmaps.has("scores")) this.#readStored();
    this.#tell((listener) => listener.onFrame?.(frame));
  }

  #setCard(card: CardReport | null): void {
    if (card === this.#card) return;
    this.#card = card;
    this.#tell((listener) => listener.onCard?.(card));
  }

  #onLinkChange(): void {
    if (!this.live) this.#setCard(null);
    if (this.#open().link.state.kind !== "away") this.#holder = null;
    else if (this.#frameWatchers > 0) this.#readStored();
    this.#showView();
  }

  /** A changed state at once, the rest gathered. */
  #showView(): void {
    const shown = this.#sayWhat(this.view);
    if (shown !== this.#shown) {
      this.#shown = shown;
      this.#tellView();
    } else this.#viewTimer ??= setTimeout(() => this.#tellView(), viewMs);
  }

  #sayWhat({ state, failure }: RunView): string {
    return `${state} ${failure?.code}`;
  }

  #tellView(): void {
    if (this.#viewTimer) clearTimeout(this.#viewTimer);
    this.#viewTimer = null;
    this.#options.onView?.();
    const { view } = this;
    this.#tell((listener) => listener.onView?.(view));
  }

  /** A listener that throws is its own defect, and no other's. */
  #tell(tell: (listener: RunListener) => void): void {
    for (const listener of [...this.#listeners])
      try {
        tell(listener);
      } catch (error) {
        this.#services.log(error instanceof Error ? (error.stack ?? error.message) : String(error));
      }
  }

  #watch(on: boolean): void {
    const { link, history } = this.#open();
    // What was shown when somebody looked last may be long past.
    if (on && this.#framesAt !== history.lastSequence) this.#heatmaps.forgetFrames();
    link.watchFrames(on).catch((error: unknown) => this.#services.log(`${this.runFolder}: ${error instanceof Error ? error.message : error}`));
    if (!on) this.#setCard(null);
    if (on && !this.live) void this.looked().then(() => this.live || this.#readStored());
  }

  /** Frames of kinds that no core has sent, out of the folder, once blocks were chosen. */
  #readStored(): void {
    if (this.#frameWatchers === 0 || this.#stored || (this.#heatmaps.has("scores") && this.#heatmaps.has("selection"))) return;
    this.#stored = this.#services.service
      .heatmap({ runFolder: this.runFolder, step: null })
      .then(({ frames }) => {
        for (const frame of frames) if (!this.#heatmaps.has(frame.header.kind)) this.#onFrame(frame);
      })
      .catch((error: unknown) => this.#services.log(`${this.runFolder}: no heatmap: ${error instanceof Error ? error.message : error}`))
      .finally(() => {
        this.#stored = null;
      });
  }

  /** Nobody listens any more. */
  #rest(): void {
    if (this.#lookTimer) clearInterval(this.#lookTimer);
    this.#lookTimer = null;
    this.#parts?.history.release();
  }
}
