/**
 * How far a run has come, from its events one after the other. Pure; the same for a live run and for one read from its folder.
 * The rule to keep: only what the events say; a time is given only where steps were measured.
 */

import type { RunEvent } from "../../protocol/events.ts";
import type { Failure } from "../../protocol/panelProtocol.ts";
import { failureFrom } from "./failures.ts";

/** Steps whose times the rest is reckoned from. */
const recentSteps = 50;

export class RunProgress {
  step = 0;
  totalSteps = 0;
  warmup: { step: number; of: number } | null = null;
  initialising: { done: number; of: number } | null = null;
  loss: number | null = null;
  /** How the newest process on the run ended; null while none has, or when it went without a word. */
  outcome: "finished" | "stopped" | "failed" | null = null;
  failure: Failure | null = null;
  /** How far the newest process has come; null before its first step. */
  position: string | null = null;
  /** Of consecutive steps, milliseconds apart. */
  readonly #intervalsMs: number[] = [];
  #lastStep: { step: number; timeMs: number } | null = null;

  apply(event: RunEvent): void {
    switch (event.kind) {
      case "started":
        this.#goOn();
        this.totalSteps = event.totalSteps;
        return;
      case "resumed":
        this.#goOn();
        this.step = Math.max(0, event.fromStep);
        this.warmup = null;
        this.initialising = null;
        this.#breakOff();
        return;
      case "warmup":
        this.#goOn();
        this.warmup = { step: event.step, of: event.of };
        this.loss = event.loss;
        this.position = `warm-up ${event.step} after ${event.afterStep}`;
        this.#breakOff();
        return;
      case "selection":
        this.warmup = null;
        return;
      case "initialising":
        this.#goOn();
        this.initialising = event.done < event.of ? { done: event.done, of: event.of } : null;
        this.position = `initialising ${event.done}`;
        this.#breakOff();
        return;
      case "step":
        this.loss = event.loss;
        this.#stepDone(event);
        return;
      case "skipped":
        this.#stepDone(event);
        return;
      case "paused":
        this.#breakOff();
        return;
      case "stopped":
        this.#end("stopped");
        return;
      case "failed":
        this.failure = failureFrom(event);
        this.#end("failed");
        return;
      case "done":
        this.step = event.step;
        this.totalSteps = event.step;
        this.#end("finished");
        return;
    }
  }

  /** Time to the end at the pace of the last steps; null while that is unknown. */
  get remainingMs(): number | null {
    if (this.warmup || this.initialising || this.#intervalsMs.length < 3 || this.totalSteps === 0) return null;
    const mean = this.#intervalsMs.reduce((sum, ms) => sum + ms, 0) / this.#intervalsMs.length;
    return Math.round(Math.max(0, this.totalSteps - this.step) * mean);
  }

  #stepDone({ step, timeMs }: { step: number; timeMs: number }): void {
    this.#goOn();
    this.warmup = null;
    this.initialising = null;
    this.step = step;
    this.position = `step ${step}`;
    if (this.#lastStep?.step === step - 1 && timeMs >= this.#lastStep.timeMs) {
      this.#intervalsMs.push(timeMs - this.#lastStep.timeMs);
      if (this.#intervalsMs.length > recentSteps) this.#intervalsMs.shift();
    }
    this.#lastStep = { step, timeMs };
  }

  /** A process works on the run again. */
  #goOn(): void {
    this.outcome = null;
    this.failure = null;
  }

  /** The time to the next step is not a step's. */
  #breakOff(): void {
    this.#lastStep = null;
  }

  #end(outcome: "finished" | "stopped" | "failed"): void {
    this.outcome = outcome;
    this.warmup = null;
    this.initialising = null;
    this.#breakOff();
  }
}
