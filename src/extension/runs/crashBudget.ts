/**
 * Decides whether a crashed core is started again, and after how long. It knows no clock, no process and no folder.
 * The rule to keep: a run that can only crash again ends as a failure that is told, never as a loop.
 */

export interface CrashLimits {
  /** Wait before the first, second, … restart within the window; as many restarts as there are entries. */
  delaysMs: readonly number[];
  windowMs: number;
}

export const crashLimits: CrashLimits = { delaysMs: [1000, 4000, 16_000], windowMs: 300_000 };

export type CrashVerdict = { restart: true; delayMs: number } | { restart: false; because: "same-step" | "too-many" };

export class CrashBudget {
  readonly #limits: CrashLimits;
  /** When it crashed within the window, oldest first. */
  #crashesMs: number[] = [];
  /** Where it crashed since the budget was new, whenever that was: what crashes at a step does so again. */
  readonly #positions = new Set<string>();

  constructor(limits: CrashLimits = crashLimits) {
    this.#limits = limits;
  }

  /** Counts a crash. `position` says how far the process had come, e.g. `step 12`. */
  crashed(nowMs: number, position: string): CrashVerdict {
    const { delaysMs, windowMs } = this.#limits;
    this.#crashesMs = this.#crashesMs.filter((atMs) => nowMs - atMs < windowMs);
    this.#crashesMs.push(nowMs);
    const known = this.#positions.has(position);
    this.#positions.add(position);
    if (known) return { restart: false, because: "same-step" };
    if (this.#crashesMs.length > delaysMs.length) return { restart: false, because: "too-many" };
    return { restart: true, delayMs: delaysMs[this.#crashesMs.length - 1] };
  }

  /** A person asked to go on: the budget is whole again. */
  renew(): void {
    this.#crashesMs = [];
    this.#positions.clear();
  }
}
