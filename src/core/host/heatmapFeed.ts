/**
 * Heatmaps for hosts that look at them: block scores during a warm-up, then the chosen blocks. Scores are read from the device only when somebody waits
 * for them, so that nobody looking costs nothing.
 * The rules to keep: latest wins, one frame of a kind waits per host at most; a frame holds one step's scores whole, never a mixture.
 */
import type { FrameHeader } from "../../protocol/coreProtocol.ts";
import { encodeFrame } from "../../protocol/frames.ts";
import type { Selection } from "../../protocol/selection.ts";
import { gridShape, type ScoreGrid } from "../methods/smt/selection.ts";
import type { ScoredStep } from "../trainer.ts";

/** Where a host's frames go; `send` resolves when one has left. */
export interface FrameSink {
  send(bytes: Uint8Array): Promise<void>;
}

type HeatmapKind = "scores" | "selection";

/** Frames a second, for heatmaps of usual and of very large models. */
const manyCells = 200_000;
const intervalMs = { usual: 100, large: 250 };

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
  #lastMs = 0;
  #intervalMs = intervalMs.usual;

  /** `record` sees every frame of scores that is made. */
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
    const now = performance.now();
    if (now - this.#lastMs < this.#intervalMs || ![...this.#watchers.values()].some(({ busy }) => !busy)) return;
    this.#lastMs = now;
    this.#show("scores", scoresFrame(await grids(), this.#blockSize(), at, false));
  }

  /** After blocks were chosen; without scores where a file or a checkpoint says which they are. `afterStep` as in {@link ScoredStep}. */
  selected(selection: Selection, grids: readonly ScoreGrid[] | null, afterStep: number, shapes: (name: string) => readonly number[]): void {
    if (grids) this.#show("scores", scoresFrame(grids, this.#blockSize(), { step: selection.steps, afterStep }, true));
    this.#show("selection", selectionFrame(selection, afterStep, shapes));
  }

  #show(kind: HeatmapKind, bytes: Uint8Array): void {
    this.#latest.set(kind, bytes);
    if (kind === "scores") {
      this.#record(bytes);
      this.#intervalMs = bytes.length > manyCells ? intervalMs.large : intervalMs.usual;
    }
    for (const watcher of this.#watchers.values()) watcher.offer(kind, bytes);
  }
}

/** Scores as one byte a block, each matrix with its own scale, so that small layers keep their detail. */
export function scoresFrame(grids: readonly ScoreGrid[], blockSize: number, { step, afterStep }: ScoredStep, final: boolean): Uint8Array {
  const payload = new Uint8Array(grids.reduce((sum, { scores }) => sum + scores.length, 0));
  let at = 0;
  const matrices = grids.map(({ name, shape, scores }) => {
    const [rows, columns] = gridShape(shape, blockSize);
    const { low, high } = range(scores);
    const perUnit = high > low ? 255 / (high - low) : 0;
    for (const score of scores) payload[at++] = Math.round((score - low) * perUnit);
    return { name, rows, columns, low, high };
  });
  return encodeFrame({ kind: "scores", step, afterStep, final, matrices } satisfies FrameHeader, payload);
}

function range(scores: Float32Array): { low: number; high: number } {
  let [low, high] = [scores[0] ?? 0, scores[0] ?? 0];
  for (const score of scores) {
    if (score < low) low = score;
    if (score > high) high = score;
  }
  return { low, high };
}

/** The chosen blocks alone, in rank order within each matrix; matrices in the order the selection lists them. */
export function selectionFrame(selection: Selection, step: number, shapes: (name: string) => readonly number[]): Uint8Array {
  const { blockSize, blocks } = selection;
  const byName = new Map<string, Selection["blocks"]>(selection.matrices.map(({ name }) => [name, []]));
  for (const block of blocks) {
    const list = byName.get(block.name);
    if (list) list.push(block);
    else byName.set(block.name, [block]);
  }
  const payload = new DataView(new ArrayBuffer(12 * blocks.length));
  let at = 0;
  const matrices = [...byName].map(([name, chosen]) => {
    const [rows, columns] = gridShape(shapes(name), blockSize);
    for (const block of chosen) {
      payload.setUint32(at, block.row * columns + block.column, true);
      payload.setUint32(at + 4, block.rank, true);
      payload.setFloat32(at + 8, block.score, true);
      at += 12;
    }
    return { name, rows, columns, chosen: chosen.length };
  });
  return encodeFrame({ kind: "selection", step, blockSize, matrices } satisfies FrameHeader, payload);
}
