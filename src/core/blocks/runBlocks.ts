/**
 * Blocks of a run as its folder has them: cells, values and heatmap frames at the step of any checkpoint, without a core. What a live run says of the
 * same is in host/liveBlock.ts and its neighbours; both must say the same of the same step.
 * The rules to keep: only files are read; what the run has not is said with the reason, never filled in.
 */
import path from "node:path";
import type { BlockPart, BlockPlace, BlockWindow, Cell } from "../../protocol/coreProtocol.ts";
import { parseRunFile, type RunConfig } from "../../protocol/runConfig.ts";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import type { Checkpoint } from "../files/checkpoint.ts";
import { type ModelFolder, openModelConfig, openModelFolder } from "../files/modelFolder.ts";
import { requireRunFolder, runFiles } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { type Magnitudes, magnitudesFrame, scoresFrame, selectionFrame } from "../host/heatmapFrames.ts";
import { gridShape } from "../methods/smt/selection.ts";
import { projectionName, projectionShape, weightShapes } from "../model/config.ts";
import { hasWarmedBase, warmedFolder } from "../run.ts";
import { resolveSmt } from "../smtRun.ts";
import { type BlockEntries, noBlock, readWindow, readWithWhole, shapeOfBlock, type WindowRead, whyNoBlocks, windowWithin } from "./blockWindow.ts";
import { CheckpointBlocks } from "./checkpointBlocks.ts";
import { checkpointAt, identityOf, keptSteps, newestCheckpoint } from "./keptCheckpoints.ts";
import { readScore, readScoreGrids } from "./keptScores.ts";

/** Values of a block, or why there are none. */
export type BlockReading =
  | (WindowRead & { step: number; rows: number; columns: number; blockRows: number; blockColumns: number })
  | { step: number; reason: string };

const notChosen = "No blocks have been chosen yet.";
const notTrained = "This block is not trained at this step: it has no gradient and no moments, and its weight is the base model's.";

/** Checkpoints that are open for looking: a window that is scrolled asks for the same one again and again. */
const opened = new Map<string, { identity: string; blocks: Promise<CheckpointBlocks | null> }>();
const keptOpen = 4;

/** What can be looked at of a run folder: its blocks as of each whole checkpoint. Reads files only. */
export class RunBlocks {
  readonly runFolder: string;
  readonly config: RunConfig;

  private constructor(runFolder: string, config: RunConfig) {
    this.runFolder = runFolder;
    this.config = config;
  }

  /** Throws UserError `run/no-run`, or what is wrong with its run.yaml. */
  static async open(runFolder: string): Promise<RunBlocks> {
    await requireRunFolder(runFolder);
    const file = path.join(runFolder, runFiles.config);
    return new RunBlocks(runFolder, parseRunFile(await readText(file), file));
  }

  /** Blocks of the checkpoint of a step, or of the newest one; null while none were chosen. Throws UserError `run/no-checkpoint` for a step not kept. */
  async at(step: number | null): Promise<CheckpointBlocks | null> {
    if (this.config.method.name !== "smt") return null;
    const checkpoint = step === null ? await newestCheckpoint(this.runFolder) : await checkpointAt(this.runFolder, step);
    return checkpoint && openOnce(checkpoint);
  }

  async describe(): Promise<ServiceResults["describeRun"]> {
    const checkpoints = await keptSteps(this.runFolder);
    const { method } = this.config;
    if (method.name !== "smt") return { checkpoints, blockSize: null, matrices: [] };
    const blocks = await this.at(null);
    if (blocks && blocks.selection.matrices.length > 0) {
      const { blockSize, matrices } = blocks.selection;
      return { checkpoints, blockSize, matrices: matrices.map(({ name, rows, columns }) => ({ name, rows, columns })) };
    }
    const model = await this.#modelConfig().catch(onlyUserErrors);
    if (!model) return { checkpoints, blockSize: blocks?.selection.blockSize ?? null, matrices: [] };
    const { blockSize, targets } = resolveSmt(method, model, blocks?.selection);
    const matrices = Array.from({ length: model.numLayers }, (_, layer) =>
      targets.map((target) => {
        const [rows, columns] = gridShape(projectionShape(model, target), blockSize);
        return { name: projectionName(layer, target), rows, columns };
      }),
    );
    return { checkpoints, blockSize, matrices: matrices.flat() };
  }

  /** Throws UserError `inspect/no-block` for a block that the model does not have. */
  async cell(place: BlockPlace, step: number | null): Promise<Cell> {
    const blocks = await this.at(step);
    if (blocks) return this.#cellAt(blocks, place);
    if (this.config.method.name === "smt") await this.#shapeOf(null, place);
    return { step: step ?? 0, score: null, selected: false, rank: null, gradient: null, delta: null, secondMoment: null };
  }

  /** Its cell at every checkpoint that is whole, oldest first. */
  async history(place: BlockPlace): Promise<Cell[]> {
    const cells: Cell[] = [];
    for (const step of await keptSteps(this.runFolder)) {
      const blocks = await this.at(step).catch(onlyUserErrors);
      if (blocks) cells.push(await this.#cellAt(blocks, place));
    }
    return cells;
  }

  /**
   * Values of a window of a block, with `analyze` those of the whole block too. Throws UserError `inspect/no-block` for one that the model does not have,
   * `inspect/no-window`.
   */
  async read(
    place: BlockPlace,
    part: BlockPart,
    step: number | null,
    { window, analyze = false }: { window?: BlockWindow; analyze?: boolean } = {},
  ): Promise<BlockReading> {
    if (this.config.method.name !== "smt") return { step: step ?? 0, reason: whyNoBlocks(this.config.method) };
    const blocks = await this.at(step);
    const at = blocks?.step ?? 0;
    const shape = await this.#shapeOf(blocks, place);
    const inside = windowWithin(shape, window);
    const read = await readWithWhole(shape, inside, analyze, async (asked) => {
      if (blocks?.shapeOf(place)) return blocks.read(place, part, asked);
      if (part === "weight") return this.#readBase(place, asked, await this.#blockSize(blocks));
      return blocks ? notTrained : notChosen;
    });
    if (typeof read === "string") return { step: at, reason: read };
    return { step: at, ...read, rows: inside.rows, columns: inside.columns, blockRows: shape.rows, blockColumns: shape.columns };
  }

  /** Frames of a heatmap, those that the run has at a step. */
  async frames(step: number | null): Promise<{ step: number | null; frames: Uint8Array[] }> {
    const blocks = await this.at(step);
    if (!blocks) return { step: null, frames: [] };
    const { selection, lastSelection } = blocks;
    const frames: Uint8Array[] = [];
    const grids = await readScoreGrids(this.runFolder, { afterStep: lastSelection, blockSize: selection.blockSize });
    if (grids) frames.push(scoresFrame(grids, selection.blockSize, { step: selection.steps, afterStep: lastSelection }, true));
    const shapes = await this.#shapes(blocks);
    frames.push(selectionFrame(selection, lastSelection, shapes), magnitudesFrame(blocks.step, await blocks.measureChosen()));
    return { step: blocks.step, frames };
  }

  async #cellAt(blocks: CheckpointBlocks, place: BlockPlace): Promise<Cell> {
    const { selection, lastSelection, step } = blocks;
    const chosen = blocks.chosen(place);
    if (!blocks.shapeOf(place)) await this.#requireBlock(blocks, place);
    const choice = { afterStep: lastSelection, blockSize: selection.blockSize };
    // A list that a person wrote was ranked by nothing; its scores are what the format fills in.
    const score = chosen ? (selection.score === "given" ? null : chosen.score) : await readScore(this.runFolder, choice, place);
    const magnitudes: Magnitudes = await blocks.measure(place);
    return {
      step,
      score: score !== null && Number.isFinite(score) ? score : null,
      selected: chosen !== null,
      rank: chosen?.rank ?? null,
      ...magnitudes,
    };
  }

  /** As {@link RunBlocks.#shapeOf}, without the model where the selection knows the matrix. */
  async #requireBlock(blocks: CheckpointBlocks, place: BlockPlace): Promise<void> {
    const grid = blocks.selection.matrices.find(({ name }) => name === place.name);
    if (!grid) await this.#shapeOf(blocks, place);
    else if (place.row >= grid.rows || place.column >= grid.columns)
      throw noBlock(`${place.name} has ${grid.rows} × ${grid.columns} blocks: there is none at ${place.row},${place.column}.`);
  }

  /** The base model's configuration: its own, or that which a warm-up that trained left. */
  async #modelConfig() {
    return (await openModelConfig(await this.#baseFolder())).config;
  }

  async #baseFolder(): Promise<string> {
    if (!hasWarmedBase(this.config) || !(await newestCheckpoint(this.runFolder))) return this.config.model;
    return warmedFolder(this.runFolder);
  }

  async #blockSize(blocks: CheckpointBlocks | null): Promise<number> {
    if (blocks) return blocks.selection.blockSize;
    const { method } = this.config;
    if (method.name !== "smt") throw new Error("no blocks");
    return resolveSmt(method, await this.#modelConfig()).blockSize;
  }

  async #shapeOf(blocks: CheckpointBlocks | null, place: BlockPlace): Promise<{ rows: number; columns: number }> {
    const known = blocks?.shapeOf(place);
    if (known) return known;
    const shape = weightShapes(await this.#modelConfig()).get(`${place.name}.weight`);
    if (shape?.length !== 2) throw noBlock(`The model has no matrix ${place.name}.`);
    return shapeOfBlock(shape, await this.#blockSize(blocks), place);
  }

  /** Shapes of matrices, good for counting their blocks: the selection's grids, or the model's. */
  async #shapes({ selection }: CheckpointBlocks): Promise<(name: string) => readonly number[]> {
    const { blockSize, matrices } = selection;
    const grids = new Map(matrices.map(({ name, rows, columns }) => [name, [rows * blockSize, columns * blockSize]]));
    const ofModel = selection.blocks.every(({ name }) => grids.has(name)) ? null : weightShapes(await this.#modelConfig());
    return (name) => grids.get(name) ?? ofModel?.get(`${name}.weight`) ?? [0, 0];
  }

  async #readBase(place: BlockPlace, window: BlockWindow, blockSize: number): Promise<Float32Array> {
    const base: ModelFolder = await openModelFolder(await this.#baseFolder());
    try {
      const tensor = `${place.name}.weight`;
      const { shape, dtype } = base.tensor(tensor);
      const offset = (place.row * shape[1] + place.column) * blockSize;
      const entries: BlockEntries = { tensor, dtype, offset, stride: shape[1] };
      return await readWindow(base, entries, window);
    } finally {
      await base.close();
    }
  }
}

async function openOnce(checkpoint: Checkpoint): Promise<CheckpointBlocks | null> {
  const { folder } = checkpoint;
  const identity = await identityOf(checkpoint);
  const known = opened.get(folder);
  if (known?.identity === identity) return known.blocks;
  const blocks = CheckpointBlocks.open(checkpoint);
  opened.delete(folder);
  opened.set(folder, { identity, blocks });
  if (opened.size > keptOpen) opened.delete(opened.keys().next().value as string);
  blocks.catch(() => opened.delete(folder));
  return blocks;
}

/** A model that is not there, or a checkpoint that is damaged, leaves something out; what was not foreseen is still thrown. */
function onlyUserErrors(error: unknown): null {
  if (error instanceof UserError) return null;
  throw error;
}
