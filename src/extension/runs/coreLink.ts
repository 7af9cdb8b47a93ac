/**
 * The tie between this window and the core of one run: attaches to the one that the register knows, starts one, notices when it hangs, and starts it
 * again after a crash as far as the budget goes. What the events mean is the history's and the session's.
 * The rules to keep: without trust nothing is started or connected to; a process is signalled only if the register and the operating system agree on it;
 * every event reaches the history once; letting go of a core never ends it.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { CommandName, CoreStatus, HeatmapHeader } from "../../protocol/coreProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { LiveRunRecord } from "../../protocol/liveRun.ts";
import type { Failure } from "../../protocol/panelProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { CoreClient, type CoreEnd } from "../coreClient.ts";
import { findLiveRun, killLiveRun, type LiveRun } from "../liveRuns.ts";
import { CrashBudget } from "./crashBudget.ts";
import { failureFrom, failureOf, restricted } from "./failures.ts";
import { type LinkListener, type LinkState, type LinkTimes, usualTimes } from "./linkState.ts";
import { readLogTail } from "./logTail.ts";
import type { RunHistory } from "./runHistory.ts";
import type { RunServices } from "./runServices.ts";
import { startOrJoin } from "./startOrJoin.ts";
import { forgetStop, noteStop, wasStopped } from "./stopRequests.ts";

/** A core that lives answers within that. */
const soonMs = 1500;
const goneMs = 5000;
/** Changes of these say nothing of the run's state. */
const routine = new Set<RunEvent["kind"]>(["step", "memory", "warmup", "evaluation", "card"]);

export class CoreLink {
  state: LinkState = { kind: "away" };
  /** Why the last core ended or could not be started, where the event log does not say. */
  failure: Failure | null = null;
  logTail: string[] = [];
  readonly #runFolder: string;
  readonly #history: RunHistory;
  readonly #services: RunServices;
  readonly #listener: LinkListener;
  readonly #times: LinkTimes;
  readonly #budget: CrashBudget;
  #watchingFrames = false;
  /** Killed by a person: that is no crash. */
  #killed = false;
  /** Stopped by a person: a core that is still to come is told so, and one that crashes is not started again. */
  #stopWanted = false;
  /** When the core that was spoken of last began. */
  #coreBeganMs = 0;
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
    this.#budget = budget;
  }

  /** The core, when it is attached to. */
  get client(): CoreClient | null {
    return this.state.kind === "attached" ? this.state.client : null;
  }

  /** Whether a core that is still to come will be stopped as soon as it is reached. */
  get stopping(): boolean {
    return this.#stopWanted && this.#coming;
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
  async start(options: { acceptChanges?: boolean } = {}): Promise<void> {
    if (!this.#services.isTrusted()) throw restricted();
    if (this.state.kind === "starting") {
      this.#stopWanted = false;
      return this.#wake();
    }
    if (this.state.kind !== "away" && this.state.kind !== "refused") return;
    this.#budget.renew();
    this.#killed = false;
    try {
      await forgetStop(this.#runFolder).catch(this.#logError);
      await this.#startAndConnect(options);
    } catch (error) {
      this.#fail(failureOf(error));
      throw error;
    }
  }

  /** Lets a paused core go on, or starts one; one that is just ending is waited for. Throws UserError. */
  async resume(options: { acceptChanges?: boolean } = {}): Promise<void> {
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
    if (name === "stop" && (client || this.#coming)) {
      this.#stopWanted = true;
      await noteStop(this.#runFolder).catch(this.#logError);
    }
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
    this.#killed = true;
    if (await killLiveRun(this.#runFolder)) return this.#gone();
    this.#killed = false;
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
    if (state.kind === "away" || state.kind === "refused") this.#stopWanted = false;
    this.state = state;
    this.#listener.onChange();
  }

  #fail(failure: Failure): void {
    this.failure = failure;
    this.#set({ kind: "away" });
  }

  async #startAndConnect(options: { acceptChanges?: boolean } = {}): Promise<void> {
    this.failure = null;
    this.#set({ kind: "starting" });
    const record = await startOrJoin(this.#runFolder, this.#services, {
      resume: this.#history.lastSequence > 0,
      acceptChanges: options.acceptChanges,
      aloneMs: this.#times.aloneMs,
    });
    if (this.#disposed) return;
    this.logTail = [];
    if ((await this.#connect(record)) === "gone") await this.#lost();
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
      this.#coreBeganMs = startedMs;
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
    if (ended.length > 0) throw unreachable();
    this.failure = null;
    this.#killed = false;
    this.#set({ kind: "attached", client, status: client.hello.status, responding: true });
    try {
      if (this.#stopWanted) await client.command("stop", randomUUID());
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
    await this.#lost(silent);
  }

  /** It went without a word: it is still there, was killed on purpose, or has crashed. */
  async #lost(silent = false): Promise<void> {
    const found = await findLiveRun(this.#runFolder);
    if (found.kind === "live" && (await this.#connect(found.record)) !== "gone") return;
    if (this.#disposed) return;
    const { progress } = this.#history;
    // Whoever ends a core that hangs does not want it back at once.
    if (progress.outcome !== null || this.#killed || silent || !this.#services.isTrusted()) {
      this.#killed = false;
      return this.#set({ kind: "away" });
    }
    await this.#crashed();
  }

  async #crashed(): Promise<void> {
    const { progress } = this.#history;
    this.logTail = await readLogTail(this.#runFolder);
    const position = progress.position ?? "its start";
    const verdict = this.#budget.crashed(performance.now(), position);
    const told = verdict.restart ? `is started again in ${verdict.delayMs / 1000} s` : `is not started again (${verdict.because})`;
    this.#services.log(`${this.#runFolder}: the core crashed at ${position} and ${told}`);
    if (!verdict.restart) return this.#fail(crashFailure(position, verdict.because));
    progress.position = null;
    this.#set({ kind: "starting" });
    const beganMs = this.#coreBeganMs;
    if (!this.#stopWanted) await this.#wait(verdict.delayMs);
    this.#stopWanted ||= await wasStopped(this.#runFolder, beganMs);
    if (this.#disposed) return;
    if (this.#stopWanted) return this.#stopOthers();
    await this.#startAndConnect().catch((error: unknown) => this.#fail(failureOf(error)));
    // While the core was being started, a window that did not know of it may have stopped the run.
    if (this.client && (await wasStopped(this.#runFolder, beganMs))) await this.command("stop").catch(() => undefined);
  }

  /** Nothing is started here any more; a core that another window has started meanwhile is told to stop. */
  async #stopOthers(): Promise<void> {
    const found = await findLiveRun(this.#runFolder);
    if (found.kind !== "live" || (await this.#connect(found.record)) === "gone") this.#set({ kind: "away" });
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

function unreachable(): UserError {
  return new UserError("core/unreachable", "The core has gone.", "Look whether the run still goes on, and attach again or resume it.", {
    badInput: false,
  });
}

function notLive(): UserError {
  return new UserError("run/not-live", "No process works on the run.", "Resume the run.", { badInput: false });
}

function crashFailure(position: string, because: "same-step" | "too-many"): Failure {
  const why = because === "same-step" ? `crashed twice at ${position}` : "keeps crashing";
  return { code: "core/crashed", message: `The run's process ${why}.`, action: "Look into the log, then resume the run.", place: null };
}
