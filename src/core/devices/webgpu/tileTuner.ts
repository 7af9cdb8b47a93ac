/**
 * Chooses tiles of products by their speed: the first calls of a class of sizes take each tile in turn between two timestamps of the card, and the fastest
 * stays. Nobody waits for a timing; until all are there, and where the card cannot tell, the number of tiles decides.
 * The rule to keep: whatever is chosen gives the same bits, so that a run may be continued where another tile is faster.
 */
import type { TileShape } from "./kernels/tiledProduct.wgsl.ts";

export interface ShapeChoice<Shape extends TileShape> {
  shape: Shape;
  /** Takes the nanoseconds of this call. */
  timed: ((nanoseconds: number) => void) | undefined;
}

/** Timings of each tile; the shortest counts, because a first call waits for more than its own work. */
const repeats = 3;
/** Multiplications and additions below which a choice gains nothing. */
const smallWork = 2 ** 27;
/** Tiles that keep a large card busy. */
const manyTiles = 256;

interface SizeClass {
  /** Nanoseconds of each tile, as they come. */
  times: number[][];
  begun: number;
  best: number | null;
}

export class TileTuner {
  readonly #canTime: boolean;
  readonly #classes = new Map<string, SizeClass>();

  constructor(canTime: boolean) {
    this.#canTime = canTime;
  }

  /** `shapes` go from the smallest; sizes within the same powers of two are one class. */
  choose<Shape extends TileShape>(
    form: string,
    shapes: readonly Shape[],
    { rows, N, K }: { rows: number; N: number; K: number },
  ): ShapeChoice<Shape> {
    const tiles = ({ rows: height, columns }: TileShape) => Math.ceil(rows / height) * Math.ceil(N / columns);
    const likely = Math.max(
      0,
      shapes.findLastIndex((shape) => tiles(shape) >= manyTiles),
    );
    if (!this.#canTime || shapes.length === 1 || rows * N * K < smallWork) return { shape: shapes[likely], timed: undefined };
    const key = [form, ...[rows, N, K].map((length) => Math.ceil(Math.log2(length)))].join(" ");
    let known = this.#classes.get(key);
    if (!known) {
      known = { times: shapes.map(() => []), begun: 0, best: null };
      this.#classes.set(key, known);
    }
    if (known.best !== null) return { shape: shapes[known.best], timed: undefined };
    if (known.begun === repeats * shapes.length) return { shape: shapes[likely], timed: undefined };
    const tried = known.begun++ % shapes.length;
    return { shape: shapes[tried], timed: (nanoseconds) => this.#timed(known, tried, nanoseconds) };
  }

  #timed(known: SizeClass, tried: number, nanoseconds: number): void {
    known.times[tried].push(nanoseconds);
    if (known.times.some((times) => times.length < repeats)) return;
    const shortest = known.times.map((times) => Math.min(...times));
    known.best = shortest.indexOf(Math.min(...shortest));
  }
}
