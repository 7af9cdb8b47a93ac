/**
 * The tie between this window and the core of one run: attaches to the one that the register knows, carries what it says and what it is told, and notices
 * when it hangs or goes. When one is started, and what follows when it has gone without a word, is its supervisor's (`coreSupervisor.ts`); what the events
 * mean is the history's and the session's.
 * The rules to keep: without trust nothing is started or connected to; every event reaches the history once; letting go of a core never ends it.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { CommandName, CoreStatus, HeatmapHeader } from "../../protocol/coreProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { LiveRunRecord } from "../../protocol/liveRun.ts";
import type { Failure } from "../../protocol/panelProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { CoreClient, type CoreEnd } from "../coreClient.ts";
import { unreachable } from "../coreRpc.ts";
import { findLiveRun, type LiveRun } from "../liveRuns.ts";
import { CoreSupervisor, type StartOptions } from "./coreSupervisor.ts";
import { CrashBudget } from "./crashBudget.ts";
import { failureFrom, notLive, restricted } from "./failures.ts";
import { type LinkListener, type LinkState, type LinkTimes, usualTimes } from "./linkState.ts";
import type { RunHistory } from "./runHistory.ts";
import type { RunServices } from "./runServices.ts";

/** A core that lives answers within that. */
const soonMs = 1500;
const goneMs = 5000;
/** Changes of these say nothing of the run's state. */
const routine = new Set<RunEvent["kind"]>(["step", "memory", "warmup", "evaluation", "card"]);

export class CoreLink {
  state: LinkState = { kind: "away" };
  /** Why the last core ended or could not be started, where the event log does not say. */
  failure: Failure | null = null;
  readonly #runFolder: string;
  readonly #history: RunHistory;
  readonly #services: RunServices;
  readonly #listener: LinkListener;
  readonly #times: LinkTimes;
  readonly #supervisor: CoreSupervisor;
  #watchingFrames = false;
  #disposed = false;
  #connecting: Promise<"attached" | "gone" | "refused"> | null = null;
  #askingStatus = false;
  /** Ends the wait that is going on, be it for a restart or for another try. */
  #wake: () => void = () => {};

  constructor(
    runFolder: string,
    history: RunHistory,
    services: RunServices,
    listener: LinkListener,
    times: Partial<LinkTimes> = {},
    budget = new CrashBudget(),
  ) {
    this.#runFolder = runFolder;
    this.#history = history;
    this.#services = services;
    this.#listener = listener;
    this.#times = { ...usualTimes, ...times };
    this.#supervisor = new CoreSupervisor(runFolder, history, services, this.#times.aloneMs, budget, {
      isDisposed: () => this.#disposed,
      isAttached: () => this.client !== null,
      connect: (record) => this.#connect(record),
      expectCore: () => this.#expectCore(),
      wait: (ms) => this.#wait(ms),
      stop: () => this.command("stop").catch(() => undefined),
      stayAway: (failure) => this.#stayAway(failure),
    });
  }

  /** The core, when it is attached to. */
  get client(): CoreClient | null {
    return this.state.kind === "attached" ? this.state.client : null;
  }

  /** The last lines of the log of the core that crashed last; none once another was started. */
  get logTail(): readonly string[] {
    return this.#supervisor.logTail;
  }

  /** Whether a core that is still to come will be stopped as soon as it is reached. */
  get stopping(): boolean {
    return this.#supervisor.stopWanted && this.#coming;
  }

  get #coming(): boolean {
    return this.state.kind === "starting" || this.state.kind === "connecting";
  }

  /** Whether the core has been silent for too long. */
  get silent(): boolean {
    const { state } = this;
    if (state.kind === "attached") return !state.responding;
    return state.kind === "connecting" && performance.now() - state.sinceMs >= this.#times.notRespondingMs;
  }

  /** Attaches to a core of the register, unless that is done or being done. One that does not answer soon is tried further after this has resolved. */
  async attach(record: LiveRunRecord): Promise<void> {
    if (!this.#services.isTrusted() || (this.state.kind !== "away" && this.state.kind !== "refused")) return;
    const attaching = this.#connect(record).then((how) => {
      if (how === "gone") this.#set({ kind: "away" });
    });
    await Promise.race([attaching, delay(soonMs, undefined, { ref: false })]);
  }

  /** Starts a core (or finds the one that is alive) and attaches. Throws UserError. */
  async start(options: StartOptions = {}): Promise<void> {
    if (!this.#services.isTrusted()) throw restricted();
    if (this.state.kind === "starting") {
      this.#supervisor.stopWanted = false;
      return this.#wake();
    }
    if (this.state.kind !== "away" && this.state.kind !== "refused") return;
    await this.#supervisor.start(options);
  }

  /** Lets a paused core go on, or starts one; one that is just ending is waited for. Throws UserError. */
  async resume(options: StartOptions = {}): Promise<void> {
    try {
      if (this.client) return await this.command("resume");
    } catch (error) {
      if (!(error instanceof UserError) || !["core/unreachable", "run/ended"].includes(error.code)) throw error;
      for (const sinceMs = performance.now(); this.client; await delay(50)) if (performance.now() - sinceMs > goneMs) throw error;
    }
    await this.start(options);
  }

  /** A stop is also taken for a core that is still to come; anything else needs one that is attached. Throws UserError. */
  async command(name: CommandName): Promise<void> {
    if (!this.#services.isTrusted()) throw restricted();
    const { client } = this;
    if (name === "stop" && (client || this.#coming)) await this.#supervisor.noteStop();
    if (name === "stop" && this.#coming) {
      this.#wake();
      return this.#listener.onChange();
    }
    if (!client) throw notLive();
    await client.command(name, randomUUID());
    await this.#askStatus();
  }

  /** Heatmap frames, and the graphics card's figures. */
  async watchFrames(on: boolean): Promise<void> {
    this.#watchingFrames = on;
    if (this.client) await this.#tellWatching(this.client, on);
  }

  /** Tells the core what the setting keepRunning is by now. */
  async tellKeepRunning(): Promise<void> {
    const { client } = this;
    if (!client) return;
    try {
      await client.stopWhenAlone(this.#services.keepRunning() ? null : this.#times.aloneMs);
    } catch (error) {
      // A core of an earlier version goes on as it was started; the end of one that has gone is dealt with where every end is.
      this.#services.log(`${this.#runFolder}: keepRunning: ${error instanceof Error ? error.message : error}`);
    }
  }

  async #tellWatching(client: CoreClient, on: boolean): Promise<void> {
    await client.watchHeatmap(on);
    // A core of an earlier version, which still works on its run, knows no card.
    await client.watchCard(on);
  }

  /** Ends a core that has been silent for too long, with SIGKILL. */
  async kill(): Promise<void> {
    if (!this.#services.isTrusted()) throw restricted();
    if (this.state.kind === "away" || this.state.kind === "starting") throw notLive();
    if (!this.silent)
      throw new UserError("run/responding", "The run's process still answers.", "Stop it, so that it saves before it ends.", { badInput: false });
    if (await this.#supervisor.kill()) return this.#gone();
    throw new UserError("run/no-process", "No process of this run is known to the register and the system alike.", "Refresh the runs.", {
      badInput: false,
    });
  }

  /** Waits a while for what follows a kill. */
  async #gone(): Promise<void> {
    this.#wake();
    const isAway = () => this.state.kind === "away";
    for (const began = performance.now(); !isAway() && performance.now() - began < goneMs; ) await delay(20);
  }

  /** Lets go of the core; the run goes on. */
  dispose(): void {
    this.#disposed = true;
    this.client?.close();
    this.#wake();
  }

  #set(state: LinkState): void {
    if (state.kind === "away" || state.kind === "refused") this.#supervisor.stopWanted = false;
    this.state = state;
    this.#listener.onChange();
  }

  #expectCore(): void {
    this.failure = null;
    this.#set({ kind: "starting" });
  }

  #stayAway(failure: Failure | null): void {
    if (failure) this.failure = failure;
    this.#set({ kind: "away" });
  }

  #connect(record: LiveRunRecord): Promise<"attached" | "gone" | "refused"> {
    this.#connecting ??= this.#tryToConnect(record).finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  /** Tries until it is attached, or the register has nobody any more. */
  async #tryToConnect(record: LiveRunRecord): Promise<"attached" | "gone" | "refused"> {
    const sinceMs = performance.now();
    for (let found: LiveRun = { kind: "live", record }; found.kind === "live"; found = await findLiveRun(this.#runFolder)) {
      if (this.#disposed || !this.#services.isTrusted()) break;
      const { pid, startedMs } = found.record;
      this.#supervisor.coreBeganMs = startedMs;
      this.#set({ kind: "connecting", pid, sinceMs });
      try {
        await this.#attachTo(found.record);
        return "attached";
      } catch (error) {
        this.#logError(error);
        if (error instanceof UserError && error.code === "core/refused") {
          this.failure = failureFrom(error);
          this.#set({ kind: "refused", pid });
          return "refused";
        }
      }
      this.#listener.onChange();
      await this.#wait(this.silent ? this.#times.retryMs : Math.min(250, this.#times.retryMs));
    }
    await this.#catchUp();
    return "gone";
  }

  /** Says hello and asks for events and, where somebody looks, frames. Throws UserError `core/unreachable` or `core/refused`. */
  async #attachTo(record: LiveRunRecord): Promise<void> {
    const ended: CoreEnd[] = [];
    let client: CoreClient | null = null;
    const isCurrent = () => client !== null && this.client === client;
    client = await CoreClient.connect({
      record,
      name: `window ${process.pid}`,
      notRespondingMs: this.#times.notRespondingMs,
      timeoutMs: this.#times.notRespondingMs,
      listener: {
        onEvents: (events) => this.#take(events),
        onHeartbeat: (status) => isCurrent() && this.#setStatus(status),
        onResponding: (responding) => isCurrent() && this.#setResponding(responding),
        onFrame: (header: HeatmapHeader, payload) => this.#listener.onFrame({ header, payload }),
        onCard: (report) => isCurrent() && this.#listener.onCard(report),
        onMalformed: (what) => this.#services.log(`${this.#runFolder}: the core sent what is not understood: ${what}`),
        onEnd: (end) => {
          ended.push(end);
          if (isCurrent()) void this.#ended(end);
        },
      },
    });
    if (this.#disposed) return client.close();
    if (ended.length > 0) throw unreachable("The core has gone.");
    this.failure = null;
    this.#supervisor.killed = false;
    this.#set({ kind: "attached", client, status: client.hello.status, responding: true });
    try {
      if (this.#supervisor.stopWanted) await client.command("stop", randomUUID());
      await this.tellKeepRunning();
      await client.follow(this.#history.lastSequence);
      if (this.#watchingFrames) await this.#tellWatching(client, true);
    } catch (error) {
      // Its end is dealt with where every end is.
      this.#logError(error);
    }
  }

  #take(events: RunEvent[]): void {
    const fresh = this.#history.take(events);
    if (fresh.length > 0) this.#listener.onEvents(fresh);
    if (!events.every(({ kind }) => routine.has(kind)) || !this.#saysRunning()) void this.#askStatus();
  }

  #saysRunning(): boolean {
    return this.state.kind !== "attached" || ["running", "pausing", "stopping"].includes(this.state.status.state);
  }

  async #catchUp(): Promise<void> {
    await this.#history.catchUp((fresh) => this.#listener.onEvents(fresh));
  }

  /** A heartbeat is up to a second late: after what changes the state it is asked for. */
  async #askStatus(): Promise<void> {
    const { client } = this;
    if (!client || this.#askingStatus) return;
    this.#askingStatus = true;
    const status = await client.status().catch(() => null);
    this.#askingStatus = false;
    if (status && this.client === client) this.#setStatus(status);
  }

  #setStatus(status: CoreStatus): void {
    if (this.state.kind !== "attached") return;
    const changed = this.state.status.state !== status.state || this.state.status.totalSteps !== status.totalSteps;
    this.state = { ...this.state, status };
    if (changed) this.#listener.onChange();
  }

  #setResponding(responding: boolean): void {
    if (this.state.kind === "attached") this.#set({ ...this.state, responding });
  }

  /** The core's connection has come to its end. */
  async #ended(end: CoreEnd): Promise<void> {
    const silent = this.silent;
    const { progress } = this.#history;
    // Until it is clear what happened, the run counts as coming back.
    if (end.outcome === "lost" && !silent) this.#set({ kind: "starting" });
    await this.#catchUp();
    if (this.#disposed) return;
    if (end.outcome !== "lost") {
      if (end.outcome === "failed" && end.error && progress.outcome !== "failed") this.failure = failureFrom(end.error);
      return this.#set({ kind: "away" });
    }
    await this.#supervisor.coreLost({ silent });
  }

  readonly #logError = (error: unknown): void => this.#services.log(`${this.#runFolder}: ${error instanceof Error ? error.message : error}`);

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
