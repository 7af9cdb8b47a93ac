/**
 * Supervises the core of a run: starts it when a person asks, and decides what follows when it has gone without a word: it is attached to again where the
 * register still has one, left at that where its end was wanted, and started again after a crash. It is no connection, and shows nothing: both are the tie's
 * ({@link CoreTie}); how many crashes are forgiven is the budget's.
 * The rules to keep: without trust, after a kill, after a Stop in whichever window, or once the window has let go no core is started by itself; a crash that
 * is not forgiven is told as a failure; a process is signalled only if the register and the operating system agree on it.
 */
import type { LiveRunRecord } from "../../protocol/liveRun.ts";
import type { Failure } from "../../protocol/panelProtocol.ts";
import { findLiveRun, killLiveRun } from "../liveRuns.ts";
import type { CrashBudget } from "./crashBudget.ts";
import { failureOf } from "./failures.ts";
import { readLogTail } from "./logTail.ts";
import type { RunHistory } from "./runHistory.ts";
import type { RunServices } from "./runServices.ts";
import { startOrJoin } from "./startOrJoin.ts";
import { forgetStop, noteStop, wasStopped } from "./stopRequests.ts";

/** The tie to a core, as far as its supervisor needs one. */
export interface CoreTie {
  isDisposed(): boolean;
  isAttached(): boolean;
  /** Attaches to a core of the register; `gone` when the register has none any more. */
  connect(record: LiveRunRecord): Promise<"attached" | "gone" | "refused">;
  /** A core is asked for, or comes back. */
  expectCore(): void;
  /** Ends early when a person speaks, or the window lets go. */
  wait(ms: number): Promise<void>;
  /** Tells the attached core to stop. */
  stop(): Promise<void>;
  /** No core comes; why, where that is a failure. */
  stayAway(failure: Failure | null): void;
}

export interface StartOptions {
  acceptChanges?: boolean;
}

export class CoreSupervisor {
  /** Stopped by a person: a core that is still to come is told so, and one that crashes is not started again. */
  stopWanted = false;
  /** Killed by a person: that is no crash. */
  killed = false;
  /** When the core that the tie has spoken of last began. */
  coreBeganMs = 0;
  /** The last lines of the log of the core that crashed last; none once another was started. */
  logTail: readonly string[] = [];
  readonly #runFolder: string;
  readonly #history: RunHistory;
  readonly #services: RunServices;
  readonly #aloneMs: number;
  readonly #budget: CrashBudget;
  readonly #tie: CoreTie;

  constructor(runFolder: string, history: RunHistory, services: RunServices, aloneMs: number, budget: CrashBudget, tie: CoreTie) {
    this.#runFolder = runFolder;
    this.#history = history;
    this.#services = services;
    this.#aloneMs = aloneMs;
    this.#budget = budget;
    this.#tie = tie;
  }

  /** A person asks for a core: earlier crashes, a kill and a Stop count no more. Throws UserError. */
  async start(options: StartOptions): Promise<void> {
    this.#budget.renew();
    this.killed = false;
    try {
      await forgetStop(this.#runFolder).catch(this.#logError);
      await this.#startAndConnect(options);
    } catch (error) {
      this.#tie.stayAway(failureOf(error));
      throw error;
    }
  }

  /** A person stops the run, which other windows heed as well. */
  async noteStop(): Promise<void> {
    this.stopWanted = true;
    await noteStop(this.#runFolder).catch(this.#logError);
  }

  /** A person ends a core that hangs, with SIGKILL; false when there is none. */
  async kill(): Promise<boolean> {
    this.killed = true;
    if (await killLiveRun(this.#runFolder)) return true;
    this.killed = false;
    return false;
  }

  /** The core went without a word: it is still there, was ended on purpose, or has crashed. `silent`: it hung before. */
  async coreLost({ silent }: { silent: boolean }): Promise<void> {
    if ((await this.#rejoin()) || this.#tie.isDisposed()) return;
    // Whoever ends a core that hangs does not want it back at once.
    const wanted = this.#history.progress.outcome === null && !this.killed && !silent;
    if (!wanted || !this.#services.isTrusted()) {
      this.killed = false;
      return this.#tie.stayAway(null);
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
    if (!verdict.restart) return this.#tie.stayAway(crashFailure(position, verdict.because));
    progress.position = null;
    await this.#restart(verdict.delayMs);
  }

  async #restart(delayMs: number): Promise<void> {
    const tie = this.#tie;
    const beganMs = this.coreBeganMs;
    tie.expectCore();
    if (!this.stopWanted) await tie.wait(delayMs);
    this.stopWanted ||= await wasStopped(this.#runFolder, beganMs);
    if (tie.isDisposed()) return;
    if (this.stopWanted) return this.#stopOthers();
    await this.#startAndConnect().catch((error: unknown) => tie.stayAway(failureOf(error)));
    // While the core was being started, a window that did not know of it may have stopped the run.
    if (tie.isAttached() && (await wasStopped(this.#runFolder, beganMs))) await tie.stop();
  }

  /** Nothing is started here any more; a core that another window has started meanwhile is told to stop. */
  async #stopOthers(): Promise<void> {
    if (!(await this.#rejoin())) this.#tie.stayAway(null);
  }

  /** Attaches to a core that the register has after all, be it the old one or another window's; false when it has none. */
  async #rejoin(): Promise<boolean> {
    const found = await findLiveRun(this.#runFolder);
    return found.kind === "live" && (await this.#tie.connect(found.record)) !== "gone";
  }

  async #startAndConnect({ acceptChanges }: StartOptions = {}): Promise<void> {
    this.#tie.expectCore();
    const resume = this.#history.lastSequence > 0;
    const record = await startOrJoin(this.#runFolder, this.#services, { resume, acceptChanges, aloneMs: this.#aloneMs });
    if (this.#tie.isDisposed()) return;
    this.logTail = [];
    if ((await this.#tie.connect(record)) === "gone") await this.coreLost({ silent: false });
  }

  readonly #logError = (error: unknown): void => this.#services.log(`${this.#runFolder}: ${error instanceof Error ? error.message : error}`);
}

function crashFailure(position: string, because: "same-step" | "too-many"): Failure {
  const why = because === "same-step" ? `crashed twice at ${position}` : "keeps crashing";
  return { code: "core/crashed", message: `The run's process ${why}.`, action: "Look into the log, then resume the run.", place: null };
}
