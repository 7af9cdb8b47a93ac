/**
 * The events of one run in this window: how far they say it has come, and all of them when somebody wants to see them. Until then only the file's ends
 * are read.
 * The rule to keep: `events` and what `take` and `catchUp` return afterwards are together every event once, in order: what comes twice, from the file and
 * from a core, counts once.
 */
import { extendHistory, history, type RunEvent } from "../../protocol/events.ts";
import { type Report, readEnds, readEventsFrom, readEventsSync } from "./eventFile.ts";
import { RunProgress } from "./runProgress.ts";

export class RunHistory {
  readonly progress: RunProgress = new RunProgress();
  readonly #runFolder: string;
  readonly #report: Report;
  /** Number of the newest event that was taken. */
  #last = 0;
  /** Where the file is read on from. */
  #position = 0;
  #events: RunEvent[] | null = null;
  #loading: Promise<void> | null = null;
  /** What was taken while the file is read: it may have been written behind the reader. */
  #meanwhile: RunEvent[] = [];

  constructor(runFolder: string, report: Report) {
    this.#runFolder = runFolder;
    this.#report = report;
    const { first, last, position } = readEnds(runFolder, report);
    this.#position = position;
    this.#apply([...first, ...last]);
  }

  /** Number of the newest event; 0 when the run never began. */
  get lastSequence(): number {
    return this.#last;
  }

  /** As if the run had never been interrupted. Reads the file unless {@link load} has. */
  get events(): readonly RunEvent[] {
    this.#events ??= history(readEventsSync(this.#runFolder, this.#report).filter(({ sequence }) => sequence <= this.#last));
    return this.#events;
  }

  /** Reads all events without holding others up. */
  load(): Promise<void> {
    if (this.#events) return Promise.resolve();
    this.#loading ??= this.#readAll().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #readAll(): Promise<void> {
    this.#meanwhile = [];
    const all: RunEvent[] = [];
    await readEventsFrom(this.#runFolder, 0, this.#report, (events) => all.push(...events));
    const read = all.at(-1)?.sequence ?? 0;
    // What the file has beyond the newest that was taken comes from the core.
    this.#events ??= history([...all.filter(({ sequence }) => sequence <= this.#last), ...this.#meanwhile.filter(({ sequence }) => sequence > read)]);
    this.#meanwhile = [];
  }

  /** Nobody looks: the file has them all. */
  release(): void {
    this.#events = null;
  }

  /** Takes events of a core; returns those that are new. */
  take(events: readonly RunEvent[]): RunEvent[] {
    const fresh = this.#apply(events);
    if (this.#events) extendHistory(this.#events, fresh);
    else if (this.#loading) this.#meanwhile.push(...fresh);
    return fresh;
  }

  /** Takes what the file has grown by, and tells of it as it comes. */
  async catchUp(tell: (fresh: RunEvent[]) => void): Promise<void> {
    this.#position = await readEventsFrom(this.#runFolder, this.#position, this.#report, (events) => {
      const fresh = this.take(events);
      if (fresh.length > 0) tell(fresh);
    });
  }

  #apply(events: readonly RunEvent[]): RunEvent[] {
    const fresh: RunEvent[] = [];
    for (const event of events) {
      if (event.sequence <= this.#last) continue;
      this.#last = event.sequence;
      this.progress.apply(event);
      fresh.push(event);
    }
    return fresh;
  }
}
