/**
 * What hosts ask of a run, kept until the run comes to a step boundary: pause, resume, stop, save, reads of blocks, and a look at how they fare.
 * It knows no socket.
 * The rules to keep: nothing happens to a run between two boundaries; a command acts once, whoever repeats it; every command stands in the event log
 * with its giver.
 */
import type { BlockPlace, Cell, CommandName, CoreParams, CoreState } from "../../protocol/coreProtocol.ts";
import type { RunEventBody } from "../../protocol/events.ts";
import { UserError } from "../../protocol/userError.ts";
import type { Run } from "../run.ts";
import type { ScoreReader } from "../smtRun.ts";
import { type Emit, type RunControl, save } from "../trainer.ts";
import { type LiveBlock, type MissingBlock, readLiveBlock } from "./liveBlock.ts";
import { readLiveCell } from "./liveCell.ts";

interface PendingRead {
  serve(run: Run): Promise<void>;
  reject(error: unknown): void;
}

/** Looks at a run that stands between two steps; `still` when it goes no further from there: it is paused, to be stopped, or done. */
export type Look = (run: Run, still: boolean) => Promise<void>;

/** Ids remembered, and reads that may wait: more than any host needs. */
const rememberedIds = 1000;
const waitingReads = 64;

export class Steering {
  #run: Run | null = null;
  #emit: Emit | null = null;
  /** Commands given before the run was open. */
  readonly #early: RunEventBody[] = [];
  readonly #ids = new Set<string>();
  readonly #reads: PendingRead[] = [];
  #pauseBy: string | null = null;
  #held = false;
  #saveAsked = false;
  #stopAsked = false;
  #waiting = false;
  #ended = false;
  /** Scores of the warm-up that goes on. */
  #scores: ScoreReader | null = null;
  readonly #look: Look;
  /** Set when something may have come for a run that is paused. */
  #woken = false;
  #wake: () => void = () => {};

  /** `look` is called at every step boundary, after the reads that waited for it. */
  constructor(look: Look = async () => {}) {
    this.#look = look;
  }

  get state(): CoreState {
    if (this.#ended) return "ended";
    if (this.#stopAsked) return "stopping";
    if (this.#held) return "paused";
    if (this.#waiting) return "waiting";
    if (!this.#run) return "opening";
    return this.#pauseBy === null ? "running" : "pausing";
  }

  get step(): number {
    return this.#run?.state.step ?? 0;
  }

  get totalSteps(): number {
    return this.#run?.totalSteps ?? 0;
  }

  /** Takes a command, which acts at the next step boundary. Throws UserError `run/ended`. */
  command(name: CommandName, id: string, by: string): { repeated: boolean } {
    if (this.#ids.has(id)) return { repeated: true };
    if (this.#ended) throw ended();
    this.#remember(id);
    if (name === "pause") this.#pauseBy ??= by;
    else if (name === "resume") this.#pauseBy = null;
    else if (name === "stop") this.#stopAsked = true;
    else this.#saveAsked = true;
    const event: RunEventBody = { kind: "command", name, id, by };
    if (this.#emit) this.#emit(event);
    else this.#early.push(event);
    this.wake();
    return { repeated: false };
  }

  /** Reads a block at the next step boundary, or at once while the run is paused. */
  readBlock(request: CoreParams["readBlock"]): Promise<LiveBlock | MissingBlock> {
    return this.#atBoundary((run) => readLiveBlock(run, request));
  }

  /** The same of what heatmaps show of it. */
  readCell(place: BlockPlace): Promise<Cell> {
    return this.#atBoundary((run) => readLiveCell(run, place, this.#scores));
  }

  #atBoundary<Value>(read: (run: Run) => Promise<Value>): Promise<Value> {
    if (this.#ended) return Promise.reject(ended());
    if (this.#reads.length >= waitingReads)
      return Promise.reject(
        new UserError("host/busy", "Too many blocks are being waited for.", "Ask again when some have come.", { badInput: false }),
      );
    return new Promise((resolve, reject) => {
      this.#reads.push({ serve: (run) => read(run).then(resolve, reject), reject });
      this.wake();
    });
  }

  /** A run that is paused looks again at what it is asked. */
  wake(): void {
    this.#woken = true;
    this.#wake();
  }

  // What a session calls.

  onOpen(run: Run, emit: Emit): void {
    this.#run = run;
    this.#emit = emit;
    this.#scores = null; // of a device that was lost and opened again
    for (const event of this.#early.splice(0)) emit(event);
  }

  onWaiting(): void {
    this.#waiting = true;
  }

  /** After a warm-up step. */
  scored(scores: ScoreReader): void {
    this.#scores = scores;
  }

  /** The warm-up is over, and its scores are gone from the device. */
  selected(): void {
    this.#scores = null;
  }

  stopRequested(): boolean {
    return this.#stopAsked;
  }

  /** Does what was asked for; stays in here while the run is paused. */
  async atBoundary(control: RunControl): Promise<void> {
    this.#waiting = false;
    await this.#work(control);
    await this.#look(this.#run as Run, this.#isPaused() || this.#stopAsked);
    if (!this.#isPaused()) return;
    this.#held = true;
    this.#emit?.({ kind: "paused", step: this.step, reason: `${this.#pauseBy} asked to pause` });
    while (this.#isPaused()) {
      if (!this.#woken) await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#woken = false;
      await this.#work(control);
      await this.#look(this.#run as Run, true);
    }
    this.#held = false;
  }

  /** The run is done and still open: answers what waits. */
  async done(): Promise<void> {
    await this.#serveReads();
    await this.#look(this.#run as Run, true);
  }

  /** No step comes any more: whoever waits is told. */
  end(): void {
    this.#ended = true;
    for (const { reject } of this.#reads.splice(0)) reject(ended());
  }

  #isPaused(): boolean {
    return this.#pauseBy !== null && !this.#stopAsked;
  }

  async #serveReads(): Promise<void> {
    for (const { serve } of this.#reads.splice(0)) await serve(this.#run as Run);
  }

  async #work(control: RunControl): Promise<void> {
    await this.#serveReads();
    if (!this.#saveAsked) return;
    this.#saveAsked = false;
    const [run, emit] = [this.#run as Run, this.#emit as Emit];
    if (run.method) await save(run, emit, control);
    else emit({ kind: "notice", code: "run/nothing-to-save", message: "Nothing was saved: no blocks have been chosen yet." });
  }

  #remember(id: string): void {
    this.#ids.add(id);
    if (this.#ids.size > rememberedIds) this.#ids.delete(this.#ids.values().next().value as string);
  }
}

function ended(): UserError {
  return new UserError("run/ended", "The run has ended.", "Look at its run folder, or resume it.", { badInput: false });
}
