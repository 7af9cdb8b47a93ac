/**
 * scores.safetensors of a run folder: the scores of all blocks, chosen or not, that the newest choice was made from.
 * The rule to keep: they are shown beside the choice they led to and beside no other.
 */
import path from "node:path";
import type { BlockPlace } from "../../protocol/coreProtocol.ts";
import { runFiles } from "../files/runFolder.ts";
import { openSafetensors, type SafetensorsFile } from "../files/safetensors.ts";
import { decodeFloats } from "../files/storedFloats.ts";
import type { ScoreGrid } from "../methods/smt/selection.ts";
import { type Projection, projections } from "../model/config.ts";

/** A choice of blocks: what was done before it, and in blocks of which size. */
export interface Choice {
  afterStep: number;
  blockSize: number;
}

/** Scores of all blocks in (layer, projection) order, as a live run has them; null where the file holds none of this choice. */
export function readScoreGrids(runFolder: string, choice: Choice): Promise<ScoreGrid[] | null> {
  return withScores(runFolder, choice, async (file) => {
    const grids: ScoreGrid[] = [];
    for (const [name, { shape }] of file.header.tensors) {
      const parts = /^model\.layers\.(\d+)\.\w+\.(\w+)$/.exec(name);
      const projection = parts?.[2] as Projection;
      if (!parts || !projections.includes(projection)) continue;
      const scores = decodeFloats(await file.readBytes(name), "F32");
      // What counts of the weight's shape is how many blocks it has.
      grids.push({ name, layer: Number(parts[1]), projection, shape: [shape[0] * choice.blockSize, shape[1] * choice.blockSize], scores });
    }
    return grids.sort((a, b) => a.layer - b.layer || projections.indexOf(a.projection) - projections.indexOf(b.projection));
  });
}

/** The score of one block; null where it is not known. */
export function readScore(runFolder: string, choice: Choice, { name, row, column }: BlockPlace): Promise<number | null> {
  return withScores(runFolder, choice, async (file) => {
    const [rows, columns] = file.header.tensors.get(name)?.shape ?? [0, 0];
    if (row >= rows || column >= columns) return null;
    const begin = 4 * (row * columns + column);
    return decodeFloats(await file.readBytes(name, begin, begin + 4), "F32")[0];
  });
}

async function withScores<T>(runFolder: string, { afterStep, blockSize }: Choice, read: (file: SafetensorsFile) => Promise<T>): Promise<T | null> {
  const file = await openSafetensors(path.join(runFolder, runFiles.scores)).catch(() => null);
  if (!file) return null;
  try {
    const { metadata, tensors } = file.header;
    const ofChoice = metadata.get("afterStep") === String(afterStep) && metadata.get("blockSize") === String(blockSize);
    const wellFormed = [...tensors.values()].every(({ dtype, shape }) => dtype === "F32" && shape.length === 2);
    return ofChoice && wellFormed ? await read(file) : null;
  } finally {
    await file.close();
  }
}
