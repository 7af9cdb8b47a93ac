/**
 * Heatmaps for hosts that look at them: block scores during a warm-up, then the chosen blocks and how they fare. Values are read from the device only
 * when somebody waits for them, so that nobody looking costs nothing. How a frame is laid out is in heatmapFrames.ts.
 * The rules to keep: latest wins, one frame of a kind waits per host at most; a frame holds one step's values whole, never a mixture; magnitudes never
 * follow a selection that they do not belong to.
 */
import type { HeatmapHeader } from "../../protocol/coreProtocol.ts";
import type { Selection } from "../../protocol/selection.ts";
import type { ScoreGrid } from "../methods/smt/selection.ts";
import type { ScoredStep } from "../trainer.ts";
import { type Magnitudes, magnitudesFrame, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

/** Where a host's frames go; `send` resolves when one has left. */
export interface FrameSink {
  send(bytes: Uint8Array): Promise<void>;
}

type HeatmapKind = HeatmapHeader["kind"];

/**
 * From frame to frame. What carries frames to a screen costs by the byte, so that large ones come more seldom: 100,000 blocks twice a second, and
 * nobody sees that it is not ten times; 400,000 once.
 */
const shortestMs = 100;
const longestMs = 1000;
const bytesPerMs = 200;
/**
 * After values were read from a run for so long, none are read for this many times as long: a watcher costs the run less than 2 %, with what is left for
 * the garbage collector counted in.
 */
const restFactor = 75;

function intervalMs({ length }: Uint8Array): number {
  return Math.min(longestMs, Math.max(shortestMs, length / bytesPerMs));
}

class Watcher {
  readonly #sink: FrameSink;
  readonly #waiting = new Map<HeatmapKind, Uint8Array>();
  #busy = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  get busy(): boolean {
    return this.#busy;
  }

  offer(kind: HeatmapKind, bytes: Uint8Array): void {
    this.#waiting.set(kind, bytes);
    if (!this.#busy) void this.#pump();
  }

  /** Takes back what has not been sent. */
  withdraw(kind: HeatmapKind): void {
    this.#waiting.delete(kind);
  }

  async #pump(): Promise<void> {
    this.#busy = true;
    try {
      for (const [kind, bytes] of this.#waiting) {
        this.#waiting.delete(kind);
        await this.#sink.send(bytes);
      }
      this.#busy = false;
    } catch {
      // The connection has ended: it stays busy until it is taken off the list.
    }
  }
}

export class HeatmapFeed {
  readonly #watchers = new Map<FrameSink, Watcher>();
  readonly #latest = new Map<HeatmapKind, Uint8Array>();
  readonly #blockSize: () => number;
  readonly #record: (frame: Uint8Array) => void;
  /** Scores are not read before this time. */
  #scoresMs = Number.NEGATIVE_INFINITY;
  /** Magnitudes neither, nor twice for a step. */
  #magnitudesMs = Number.NEGATIVE_INFINITY;
  #magnitudesStep: number | null = null;

  /** `record` sees every frame of scores and magnitudes that is made. */
  constructor(blockSize: () => number, record: (frame: Uint8Array) => void = () => {}) {
    this.#blockSize = blockSize;
    this.#record = record;
  }

  /** Starts or ends sending to a host; it gets what there is at once. */
  watch(sink: FrameSink, on: boolean): void {
    if (!on) this.#watchers.delete(sink);
    if (!on || this.#watchers.has(sink)) return;
    const watcher = new Watcher(sink);
    this.#watchers.set(sink, watcher);
    for (const [kind, bytes] of this.#latest) watcher.offer(kind, bytes);
  }

  /** After a warm-up step. */
  async scored(at: ScoredStep, grids: () => Promise<ScoreGrid[]>): Promise<void> {
    const began = performance.now();
    if (began < this.#scoresMs || !this.#somebodyWaits()) return;
    const bytes = scoresFrame(await grids(), this.#blockSize(), at, false);
    const ended = performance.now();
    // The first time says little: code is not compiled yet.
    const restMs = this.#latest.has("scores") ? restFactor * (ended - began) : 0;
    this.#scoresMs = Math.max(began + intervalMs(bytes), ended + restMs);
    this.#show("scores", bytes);
  }

  /** After blocks were chosen; without scores where a file or a checkpoint says which they are. `afterStep` as in {@link ScoredStep}. */
  selected(selection: Selection, grids: readonly ScoreGrid[] | null, afterStep: number, shapes: (name: string) => readonly number[]): void {
    if (grids) this.#show("scores", scoresFrame(grids, this.#blockSize(), { step: selection.steps, afterStep }, true));
    this.#magnitudesStep = null;
    this.#latest.delete("magnitudes");
    for (const watcher of this.#watchers.values()) watcher.withdraw("magnitudes");
    this.#show("selection", selectionFrame(selection, afterStep, shapes));
  }

  /**
   * At a step boundary once blocks are chosen. `measure` is called when somebody waits, this step has not been shown, and the run has earned it; where
   * the run stands still (`still`) it costs nobody anything and the last step is shown in any case.
   */
  async updated(step: number, still: boolean, measure: () => Promise<Magnitudes[]>): Promise<void> {
    if (step === this.#magnitudesStep || this.#watchers.size === 0) return;
    const began = performance.now();
    if (!still && (began < this.#magnitudesMs || !this.#somebodyWaits())) return;
    let bytes: Uint8Array = new Uint8Array();
    try {
      bytes = magnitudesFrame(step, await measure());
      this.#magnitudesStep = step;
      this.#show("magnitudes", bytes);
    } finally {
      const ended = performance.now();
      this.#magnitudesMs = Math.max(began + intervalMs(bytes), ended + restFactor * (ended - began));
    }
  }

  #somebodyWaits(): boolean {
    return [...this.#watchers.values()].some(({ busy }) => !busy);
  }

  #show(kind: HeatmapKind, bytes: Uint8Array): void {
    this.#latest.set(kind, bytes);
    if (kind !== "selection") this.#record(bytes);
    for (const watcher of this.#watchers.values()) watcher.offer(kind, bytes);
  }
}
