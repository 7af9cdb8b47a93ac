/**
 * What a run's heatmaps show in this window: the latest frame of each kind, and how the chosen blocks fared in the frames that came. No I/O.
 * The rule to keep: bounded memory, however long somebody looks; a value is only given out as it came.
 */
import type { BlockPlace, Cell, HeatmapHeader } from "../../protocol/coreProtocol.ts";
import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";

type HeaderOf<Kind extends HeatmapHeader["kind"]> = Extract<HeatmapHeader, { kind: Kind }>;

interface FrameOf<Kind extends HeatmapHeader["kind"]> {
  header: HeaderOf<Kind>;
  payload: Uint8Array;
}

/** Bytes of magnitudes that are kept for the history of blocks. */
const keptBytes = 1 << 24;
/** A chosen block in a selection frame: u32 row · columns + column, u32 rank, f32 score. As many as its three f32 in a magnitudes frame. */
const chosenBytes = 12;

export class HeatmapStore {
  readonly #latest = new Map<HeatmapHeader["kind"], HeatmapFrame>();
  /** Magnitudes with the choice of blocks they belong to, oldest first. */
  #magnitudes: { frame: FrameOf<"magnitudes">; selection: FrameOf<"selection"> }[] = [];
  #magnitudesBytes = 0;
  /** One of so many magnitudes is kept. */
  #stride = 1;
  #seen = 0;
  /** Cells that were read one by one. */
  readonly #cells = new Map<string, Map<number, Cell>>();

  get frames(): readonly HeatmapFrame[] {
    return [...this.#latest.values()];
  }

  has(kind: HeatmapHeader["kind"]): boolean {
    return this.#latest.has(kind);
  }

  add(frame: HeatmapFrame): void {
    const { header, payload } = frame;
    this.#latest.set(header.kind, frame);
    // Magnitudes count the blocks of the choice before: those of another one say nothing.
    if (header.kind === "selection") this.#latest.delete("magnitudes");
    if (header.kind === "magnitudes") this.#keep({ header, payload });
  }

  /** The frames are of another time; what was seen of blocks stays. */
  forgetFrames(): void {
    this.#latest.clear();
  }

  /** Remembers a cell that was read. */
  addCell({ name, row, column }: BlockPlace, cell: Cell): void {
    const key = `${name}:${row},${column}`;
    const cells = this.#cells.get(key) ?? new Map<number, Cell>();
    cells.set(cell.step, cell);
    this.#cells.set(key, cells);
  }

  /** What was shown of a block, with what checkpoints say of it; by step. What was read exactly stands before what a frame showed. */
  history(place: BlockPlace, checkpoints: readonly Cell[]): Cell[] {
    const bySteps = new Map<number, Cell>();
    for (const { frame, selection } of [...this.#magnitudes, ...this.#newest]) {
      const cell = cellOf(place, frame, selection);
      if (cell) bySteps.set(cell.step, cell);
    }
    const { name, row, column } = place;
    for (const cell of [...(this.#cells.get(`${name}:${row},${column}`)?.values() ?? []), ...checkpoints]) bySteps.set(cell.step, cell);
    return [...bySteps.values()].sort((a, b) => a.step - b.step);
  }

  /** Evenly over the whole time: when there are too many, every other one goes, of those to come too. */
  #keep(frame: FrameOf<"magnitudes">): void {
    const selection = this.#selection;
    if (!selection || frame.payload.byteLength < chosenBytes * frame.header.blocks || this.#seen++ % this.#stride !== 0) return;
    this.#magnitudes.push({ frame, selection });
    this.#magnitudesBytes += frame.payload.byteLength;
    if (this.#magnitudesBytes <= keptBytes) return;
    this.#stride *= 2;
    this.#magnitudes = this.#magnitudes.filter((_, i) => i % 2 === 0);
    this.#magnitudesBytes = this.#magnitudes.reduce((sum, kept) => sum + kept.frame.payload.byteLength, 0);
  }

  get #selection(): FrameOf<"selection"> | undefined {
    return this.#latest.get("selection") as FrameOf<"selection"> | undefined;
  }

  /** The newest magnitudes, kept or not. */
  get #newest(): { frame: FrameOf<"magnitudes">; selection: FrameOf<"selection"> }[] {
    const frame = this.#latest.get("magnitudes") as FrameOf<"magnitudes"> | undefined;
    const selection = this.#selection;
    return frame && selection ? [{ frame, selection }] : [];
  }
}

/** A block's values in a magnitudes frame; null when it was not chosen then. */
function cellOf(place: BlockPlace, magnitudes: FrameOf<"magnitudes">, selection: FrameOf<"selection">): Cell | null {
  const found = chosenBlock(place, selection);
  const { step, blocks } = magnitudes.header;
  if (!found || found.index >= blocks || magnitudes.payload.byteLength < chosenBytes * blocks) return null;
  const values = new DataView(magnitudes.payload.buffer, magnitudes.payload.byteOffset, magnitudes.payload.byteLength);
  const [gradient, delta, secondMoment] = [0, 1, 2].map((kind) => {
    const value = values.getFloat32(4 * (kind * blocks + found.index), true);
    return Number.isFinite(value) ? value : null;
  });
  return { step, score: found.score, selected: true, rank: found.rank, gradient, delta, secondMoment };
}

/** Where a block stands in the order of a selection frame. */
function chosenBlock({ name, row, column }: BlockPlace, { header, payload }: FrameOf<"selection">) {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  let first = 0;
  for (const matrix of header.matrices) {
    const end = Math.min(first + matrix.chosen, Math.floor(payload.byteLength / chosenBytes));
    for (let index = first; matrix.name === name && index < end; index++) {
      const at = chosenBytes * index;
      if (view.getUint32(at, true) === row * matrix.columns + column)
        return { index, rank: view.getUint32(at + 4, true), score: view.getFloat32(at + 8, true) };
    }
    first += matrix.chosen;
  }
  return null;
}
