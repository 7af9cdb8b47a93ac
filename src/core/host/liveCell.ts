/**
 * What heatmaps show of one block of an open run, exactly, between two steps. Values of its entries are liveBlock's.
 * The rule to keep: what the run does not hold at this step is null; nothing is ever filled in.
 */
import path from "node:path";
import type { BlockPlace, Cell } from "../../protocol/coreProtocol.ts";
import { runFiles } from "../files/runFolder.ts";
import { openSafetensors, type SafetensorsFile } from "../files/safetensors.ts";
import { decodeFloats } from "../files/storedFloats.ts";
import { gridShape } from "../methods/smt/selection.ts";
import type { Run } from "../run.ts";
import type { ScoreReader } from "../smtRun.ts";
import type { Magnitudes } from "./heatmapFrames.ts";
import { findBlock, type Place, retiredBlock, trainedBlock } from "./liveBlock.ts";
import { meanChanges, measureBlocks, type PlacedBlock } from "./liveMagnitudes.ts";

const nothing: Magnitudes = { gradient: null, delta: null, secondMoment: null };

/** Reads at a step boundary; `scores` are those of the warm-up that goes on. Throws UserError for a block that the model does not have. */
export async function readLiveCell(run: Run, block: BlockPlace, scores: ScoreReader | null): Promise<Cell> {
  const { step } = run.state;
  const place = findBlock(run, block);
  if (!place) return { step, score: null, selected: false, rank: null, ...nothing };
  const { name, row, column } = block;
  const chosen = run.selection?.blocks.find((other) => other.name === name && other.row === row && other.column === column);
  const score = scores ? await scoreSoFar(scores, run, block) : chosen ? chosenScore(run, chosen.score) : await finalScore(run, block);
  const { gradient, delta, secondMoment } = await measure(run, name, place);
  return {
    step,
    score: known(score),
    selected: chosen !== undefined,
    rank: chosen?.rank ?? null,
    gradient: known(gradient),
    delta: known(delta),
    secondMoment: known(secondMoment),
  };
}

/** JSON has no NaN. */
function known(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null;
}

async function measure(run: Run, name: string, place: Place): Promise<Magnitudes> {
  const { rowStart, columnStart, blockRows: rowCount, blockColumns: columnCount } = place;
  const placed = (offset: number): PlacedBlock => ({ rowStart, rowCount, columnStart, columnCount, offset });
  const trained = trainedBlock(run, name, place);
  if (trained) return (await measureBlocks(run, trained.matrix, [placed(trained.offset)]))[0];
  const retired = retiredBlock(run, name, place);
  if (!retired) return nothing;
  const [delta] = await meanChanges(run.base, `${name}.weight`, [placed(0)], retired.values);
  return { ...nothing, delta };
}

async function scoreSoFar(scores: ScoreReader, run: Run, { name, row, column }: BlockPlace): Promise<number | null> {
  const [grid] = await scores(name);
  return grid ? grid.scores[row * columnsOf(run, name) + column] : null;
}

function columnsOf({ model, smt }: Run, name: string): number {
  const shape = model.tensors.byName.get(`${name}.weight`)?.shape ?? [0, 0];
  return gridShape(shape, smt?.blockSize ?? 1)[1];
}

/** A list that a person wrote was ranked by nothing; its scores are what the format fills in. */
function chosenScore({ selection }: Run, score: number): number | null {
  return selection?.score === "given" ? null : score;
}

/** The score of a block that was not chosen, from the file that keeps them all; null where that holds those of another choice, or is not there. */
async function finalScore(run: Run, { name, row, column }: BlockPlace): Promise<number | null> {
  if (!run.selection) return null;
  const file = await openSafetensors(path.join(run.folder, runFiles.scores)).catch(() => null);
  if (!file) return null;
  try {
    if (!isOfThisChoice(run, file) || !file.header.tensors.has(name)) return null;
    const begin = 4 * (row * columnsOf(run, name) + column);
    return decodeFloats(await file.readBytes(name, begin, begin + 4), "F32")[0];
  } finally {
    await file.close();
  }
}

function isOfThisChoice({ state, selection }: Run, { header }: SafetensorsFile): boolean {
  return header.metadata.get("afterStep") === String(state.lastSelection) && header.metadata.get("blockSize") === String(selection?.blockSize);
}
