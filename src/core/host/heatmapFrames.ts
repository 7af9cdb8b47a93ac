/**
 * The bytes of heatmap frames, from a run's values: for a live run and for one that is read from its folder alike. It reads nothing itself.
 * The rule to keep: equal values give equal bytes, so that a frame of a live run and one made later from its files can be compared.
 */
import type { FrameHeader } from "../../protocol/coreProtocol.ts";
import { encodeFrame } from "../../protocol/frames.ts";
import type { SelectedBlock, Selection } from "../../protocol/selection.ts";
import { gridShape, type ScoreGrid } from "../methods/smt/selection.ts";
import type { ScoredStep } from "../trainer.ts";

/** Scores as one byte a block, each matrix with its own scale, so that small layers keep their detail. */
export function scoresFrame(grids: readonly ScoreGrid[], blockSize: number, { step, afterStep }: ScoredStep, final: boolean): Uint8Array {
  const payload = new Uint8Array(grids.reduce((sum, { scores }) => sum + scores.length, 0));
  let at = 0;
  const matrices = grids.map(({ name, shape, scores }) => {
    const [rows, columns] = gridShape(shape, blockSize);
    const { low, high } = range(scores);
    const perUnit = high > low ? 255 / (high - low) : 0;
    // Storing a byte cuts the fraction off.
    for (let i = 0; i < scores.length; i++) payload[at++] = (scores[i] - low) * perUnit + 0.5;
    return { name, rows, columns, low, high };
  });
  return encodeFrame({ kind: "scores", step, afterStep, final, matrices } satisfies FrameHeader, payload);
}

function range(scores: Float32Array): { low: number; high: number } {
  let [low, high] = [scores[0] ?? 0, scores[0] ?? 0];
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] < low) low = scores[i];
    if (scores[i] > high) high = scores[i];
  }
  return { low, high };
}

/** The chosen blocks as frames list them: matrices in the order the selection lists them, in rank order within each. */
export function blocksByMatrix({ matrices, blocks }: Selection): Map<string, SelectedBlock[]> {
  const byName = new Map<string, SelectedBlock[]>(matrices.map(({ name }) => [name, []]));
  for (const block of blocks) {
    const list = byName.get(block.name);
    if (list) list.push(block);
    else byName.set(block.name, [block]);
  }
  return byName;
}

/** The chosen blocks alone. */
export function selectionFrame(selection: Selection, step: number, shapes: (name: string) => readonly number[]): Uint8Array {
  const { blockSize, blocks } = selection;
  const payload = new DataView(new ArrayBuffer(12 * blocks.length));
  let at = 0;
  const matrices = [...blocksByMatrix(selection)].map(([name, chosen]) => {
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

/** Means over a block's entries: |gradient|, |value − base|, Adam's second moment; null where the run has none. */
export interface Magnitudes {
  gradient: number | null;
  delta: number | null;
  secondMoment: number | null;
}

/** How the chosen blocks fare, given in the order of {@link blocksByMatrix}. What the run has none of is NaN. */
export function magnitudesFrame(step: number, blocks: readonly Magnitudes[]): Uint8Array {
  const payload = new DataView(new ArrayBuffer(12 * blocks.length));
  const parts = ["gradient", "delta", "secondMoment"] as const;
  for (const [part, name] of parts.entries())
    for (const [i, block] of blocks.entries()) payload.setFloat32(4 * (part * blocks.length + i), block[name] ?? Number.NaN, true);
  return encodeFrame({ kind: "magnitudes", step, blocks: blocks.length } satisfies FrameHeader, payload);
}
