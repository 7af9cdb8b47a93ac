/**
 * A run that is open: configuration, model on its device, data, method and state, and the one thing that changes the method in mid-run: choosing blocks.
 * Opening it is `prepare`'s job, the loop `trainer`'s, saving `checkpointing`'s.
 */
import path from "node:path";
import { isSelectionFile, type RunConfig } from "../protocol/runConfig.ts";
import type { Selection } from "../protocol/selection.ts";
import type { Batch } from "./data/batch.ts";
import type { BatchSource } from "./data/packing.ts";
import type { Device } from "./devices/device.ts";
import { pauseWhileDiskFull } from "./diskPause.ts";
import { jsonText, replaceFile } from "./files/durableFile.ts";
import { exportMerged } from "./files/mergedExport.ts";
import { type ModelFolder, openModelFolder } from "./files/modelFolder.ts";
import { runFiles } from "./files/runFolder.ts";
import { entryOf, writeSafetensors } from "./files/safetensorsWriter.ts";
import { FullFineTuning } from "./methods/full.ts";
import type { TuningMethod } from "./methods/method.ts";
import { linearsOf } from "./methods/smt/scoring.ts";
import { gridShape, type ScoreGrid, sharesOf } from "./methods/smt/selection.ts";
import { SparseMatrixTuning } from "./methods/smt/smt.ts";
import { projections } from "./model/config.ts";
import type { Llama } from "./model/llama.ts";
import { loadWeights, readPieces } from "./model/tensors.ts";
import { chosenFrom, type SmtPlan, scoreBlocks, selectionFrom } from "./smtRun.ts";
import type { SparsityMeter } from "./sparsity.ts";
import type { Emit, RunControl, TrainerState } from "./trainer.ts";

/** Values of a block that an earlier selection trained and the present one does not. */
export interface RetiredBlock {
  name: string;
  row: number;
  column: number;
  values: Float32Array;
}

export interface Run {
  folder: string;
  config: RunConfig;
  /** The model the deltas count from: the run file's, or the one a warm-up by full fine-tuning left in the run folder. */
  base: ModelFolder;
  hashes: { base: string; config: string; data: string };
  device: Device;
  model: Llama;
  batches: BatchSource;
  evaluation: Batch[];
  /** Fills what is left of a row. */
  padTokenId: number;
  /** Updates of the run; early stopping lowers it. */
  totalSteps: number;
  /** Updates the learning rate's schedule is stretched over. */
  scheduledSteps: number;
  smt: SmtPlan | null;
  selection: Selection | null;
  /** Null until blocks are chosen, or an adapter is attached; and where blocks chosen anew found no room. */
  method: TuningMethod | null;
  /** Watches the zeros of a pruned base; null where it is none. */
  meter: SparsityMeter | null;
  retired: RetiredBlock[];
  /** Whether the parameters hold the gradients of the last update: not before the first one after a choice of blocks, nor after one that was skipped. */
  holdsGradients: boolean;
  /** Hash that ties the delta to its base, for the matrices in `key`. */
  deltaBase: { key: string; sha256: string } | null;
  state: TrainerState;
  /** Folder of the newest checkpoint. */
  lastCheckpoint: string | null;
  reportedPeakBytes: number;
}

export const freshState = (): TrainerState => ({
  step: 0,
  updates: 0,
  nextBatch: 0,
  skippedInRow: 0,
  skipped: 0,
  lastSelection: 0,
  bestEvaluation: null,
  evaluationsWithoutGain: 0,
});

/** Where a warm-up by full fine-tuning leaves the model it made. */
export const warmedFolder = (runFolder: string) => path.join(runFolder, "base");

/** Whether a run of this configuration has its own base once it has a checkpoint: one that trained during its warm-up. */
export function hasWarmedBase({ method }: RunConfig): boolean {
  return method.name === "smt" && method.warmup.update && !isSelectionFile(method.selection);
}

/**
 * Warm-up, selection, and the method that trains the chosen blocks, in place of the one before. `given` is a selection from a file: then nothing is scored.
 * Returns false when it was stopped meanwhile; the run is then as if it had not begun.
 */
export async function chooseBlocks(run: Run, emit: Emit, control: RunControl, given: Selection | null = null): Promise<boolean> {
  const { model, config, state } = run;
  const smt = run.smt as SmtPlan;
  let selection = given;
  let grids: ScoreGrid[] | null = null;
  if (!selection) {
    grids = await scoreBlocks({
      model,
      smt: state.step === 0 ? smt : { ...smt, warmup: { ...smt.warmup, update: false } },
      train: config.train,
      batch: (index) => run.batches.batch(index),
      firstBatch: state.nextBatch,
      afterStep: state.step,
      async onStep(progress, readGrids) {
        emit({ kind: "warmup", afterStep: state.step, ...progress });
        await control.scored?.({ step: progress.step, afterStep: state.step }, readGrids);
      },
      stopped: () => control.stopRequested(),
    });
    if (!grids) return false;
    selection = selectionFrom(grids, model.config, smt, config.train.seed, run.hashes.data);
    await keepScores(run, emit, control, grids);
    if (smt.warmup.update && state.step === 0) await keepWarmedModel(run, emit, control);
  }
  await retireBlocks(run, selection);
  await attachChosen(run, selection);
  state.lastSelection = state.step;
  state.updates = 0; // the moments are new, and AdamW's correction of their bias counts from their start
  const file = path.join(run.folder, runFiles.selection);
  await pauseWhileDiskFull(run, emit, control, runFiles.selection, () => replaceFile(file, [Buffer.from(jsonText(selection))]));
  emitSelection(run, emit, selection);
  control.selected?.(selection, grids);
  return true;
}

/** Writes the scores of all blocks, chosen or not, so that a finished run can still show them: one f32 (rows, columns) a matrix. */
async function keepScores(run: Run, emit: Emit, control: RunControl, grids: readonly ScoreGrid[]): Promise<void> {
  const { blockSize, score } = run.smt as SmtPlan;
  const entries = grids.map(({ name, shape, scores }) => entryOf(name, "F32", gridShape(shape, blockSize), () => scores));
  const metadata = { blockSize: String(blockSize), score, afterStep: String(run.state.step) };
  const file = path.join(run.folder, runFiles.scores);
  await pauseWhileDiskFull(run, emit, control, runFiles.scores, () => writeSafetensors(file, entries, metadata));
}

/** As {@link attachSmt}, and waits for the device, which may tell only then that it has no room. In that case no method is left. */
async function attachChosen(run: Run, selection: Selection): Promise<void> {
  try {
    const { parameters } = attachSmt(run, selection);
    await run.device.read(parameters[0].value, 0, 1);
  } catch (error) {
    run.method = null;
    throw error;
  }
}

/** Puts the method of a selection in place; masters are the weights as they are. */
export function attachSmt(run: Run, selection: Selection): SparseMatrixTuning {
  const { device, model } = run;
  if (run.method instanceof SparseMatrixTuning) run.method.release();
  const method = new SparseMatrixTuning(device, model.tensors, chosenFrom(selection, linearsOf(model.tensors)), selection.blockSize);
  run.method = method;
  run.selection = selection;
  run.holdsGradients = false;
  return method;
}

/** Full fine-tuning of every weight. */
export function attachFull(run: Run): FullFineTuning {
  const { method: config } = run.config;
  const method = new FullFineTuning(run.device, run.model.tensors, { keepZeros: config.name === "full" && config.sparse === "keep" });
  run.method = method;
  return method;
}

function emitSelection(run: Run, emit: Emit, selection: Selection): void {
  const { config } = run.model;
  const chosen = chosenFrom(selection, linearsOf(run.model.tensors));
  emit({
    kind: "selection",
    step: run.state.step,
    blockSize: selection.blockSize,
    blocks: chosen.length,
    trainableParameters: (run.method as TuningMethod).parameters.reduce((sum, { value }) => sum + value.shape[0], 0),
    shares: sharesOf(chosen, config, selection.blockSize),
    sharesByLayer: Array.from({ length: config.numLayers }, (_, layer) => layerShares(chosen, layer)),
  });
}

/** Share of all chosen blocks that lie in this layer's projections. */
function layerShares(chosen: readonly { layer: number; projection: string }[], layer: number): Record<string, number> {
  return Object.fromEntries(
    projections.map((projection) => [
      projection,
      chosen.filter((block) => block.layer === layer && block.projection === projection).length / chosen.length,
    ]),
  );
}

/** Before a new selection: what the old one trained, and the new one will not, is remembered, because the delta still holds it. */
async function retireBlocks(run: Run, next: Selection): Promise<void> {
  if (!(run.method instanceof SparseMatrixTuning) || !run.selection) return;
  const staying = new Set(next.blocks.map(blockKey));
  const now = await trainedBlocks(run, run.method);
  run.retired = [...run.retired, ...now].filter((block) => !staying.has(blockKey(block)));
}

/** Whether the parameters were updated since their blocks were chosen: before that, gradients and moments mean nothing. */
export function hasUpdates({ state }: Pick<Run, "state">): boolean {
  return state.step - state.lastSelection > state.skippedInRow;
}

export function blockKey({ name, row, column }: { name: string; row: number; column: number }): string {
  return `${name}:${row},${column}`;
}

/** The masters of the blocks being trained. */
export async function trainedBlocks(run: Run, method: SparseMatrixTuning): Promise<RetiredBlock[]> {
  const blockSize = (run.selection as Selection).blockSize;
  const blocks: RetiredBlock[] = [];
  for (const [name, { table, parameter }] of method.matrices) {
    const values = (await run.device.read(parameter.value)) as Float32Array;
    for (let i = 0; i < table.length; i += 6) {
      const [rowStart, rowCount, columnStart, columnCount, offset] = table.subarray(i, i + 5);
      blocks.push({
        name,
        row: rowStart / blockSize,
        column: columnStart / blockSize,
        values: values.slice(offset, offset + rowCount * columnCount),
      });
    }
  }
  return blocks;
}

/**
 * Writes the model as a warm-up by full fine-tuning left it into the run folder: from now on it is the base that deltas count from.
 * It is stored in the base's dtype and loaded back, so that the run goes on from exactly what a resume would find.
 */
async function keepWarmedModel(run: Run, emit: Emit, control: RunControl): Promise<void> {
  const { device, model } = run;
  const overrides = new Map([...model.tensors.byName].map(([name, tensor]) => [name, { floats: () => readPieces(device, tensor) }]));
  await pauseWhileDiskFull(run, emit, control, "the model after its warm-up", () => exportMerged(run.base, overrides, warmedFolder(run.folder)));
  await run.base.close();
  run.base = await openModelFolder(warmedFolder(run.folder));
  await loadWeights(device, model.tensors, run.base);
}
