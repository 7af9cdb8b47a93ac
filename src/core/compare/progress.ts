/**
 * progress.json of a comparison: which run is being done, how far it is, and how long the rest may take. For whoever watches; nothing is decided by it.
 * The rule to keep: it appears whole or not at all, and costs a run nothing: it is written at most once a second.
 */
import { renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type ComparisonProgress, comparisonFiles } from "../../protocol/compareResults.ts";
import type { ComparedRun, ComparisonSummary } from "../../protocol/compareSummary.ts";
import type { RunEvent } from "../../protocol/events.ts";
import { temporaryName } from "../files/durableFile.ts";
import { remainingMs } from "./queue.ts";

const writeMs = 1000;

export class ProgressFile {
  readonly #folder: string;
  #run: ComparedRun | null = null;
  #name = "";
  #scoring = "";
  #summary: ComparisonSummary | null = null;
  #beganMs = 0;
  #step = 0;
  #of = 0;
  #writtenMs = Number.NEGATIVE_INFINITY;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** A process has begun to work; what an earlier one ended with holds no longer. */
  open(summary: ComparisonSummary | null): void {
    this.#begin("", summary);
    this.#write("running", "");
  }

  begin(run: ComparedRun, summary: ComparisonSummary): void {
    this.#begin(run.run, summary);
    this.#run = run;
    this.#write("running", "");
  }

  /** A run, or the untrained model, answers the questions of a task. */
  beginScore(name: string, task: string, summary: ComparisonSummary): void {
    this.#begin(name, summary);
    this.#scoring = task;
    this.#write("running", "");
  }

  #begin(name: string, summary: ComparisonSummary | null): void {
    this.#run = null;
    this.#name = name;
    this.#scoring = "";
    this.#summary = summary;
    this.#beganMs = performance.now();
    this.#step = 0;
    this.#of = 0;
  }

  /** The disk is full: nothing happens until it no longer is. */
  waiting(reason: string): void {
    this.#write("waiting", reason);
  }

  scored(done: number, of: number): void {
    this.#step = done;
    this.#of = of;
    if (performance.now() - this.#writtenMs >= writeMs) this.#write("running", "");
  }

  onEvent(event: RunEvent): void {
    if (event.kind === "started") this.#of = event.totalSteps;
    if (event.kind === "step" || event.kind === "skipped") this.#step = event.step;
    if (performance.now() - this.#writtenMs >= writeMs) this.#write("running", "");
  }

  end(state: "done" | "stopped" | "failed", summary: ComparisonSummary | null, message: string): void {
    this.#begin("", summary);
    this.#write(state, message);
  }

  /** Time to the end of all, as far as it can be told. */
  get etaMs(): number | null {
    if (!this.#summary) return null;
    const current = this.#run && {
      run: this.#run,
      doneShare: this.#of > 0 ? this.#step / this.#of : 0,
      elapsedMs: performance.now() - this.#beganMs,
    };
    return remainingMs(this.#summary, current);
  }

  #write(state: ComparisonProgress["state"], message: string): void {
    const progress: ComparisonProgress = {
      state,
      timeMs: Date.now(),
      run: this.#name,
      step: this.#step,
      of: this.#of,
      ...(this.#scoring && { scoring: this.#scoring }),
      runsDone: this.#summary?.runsDone ?? 0,
      runsInAll: this.#summary?.runsInAll ?? 0,
      etaMs: state === "running" ? this.etaMs : null,
      message: message.slice(0, 10_000),
    };
    this.#writtenMs = performance.now();
    const file = path.join(this.#folder, comparisonFiles.progress);
    const text = `${JSON.stringify(progress)}\n`;
    const temporary = path.join(this.#folder, temporaryName());
    try {
      writeFileSync(temporary, text);
      renameSync(temporary, file);
    } catch {
      rmSync(temporary, { force: true });
      if (state === "waiting") writeInPlace(file, text);
    }
  }
}

/** A full disk has room for what takes no more of it than what is there. Who reads in this moment sees no progress, and looks again. */
function writeInPlace(file: string, text: string): void {
  try {
    writeFileSync(file, text.padEnd(statSync(file).size), { flag: "r+" });
  } catch {
    // Nothing can be said then; who watches sees the last progress.
  }
}
