/**
 * What a checkpoint of an SMT run holds of its blocks: values and changes out of smt.safetensors, gradients and moments out of optimizer.safetensors.
 * Blocks that the run never trained are not here; the base model has them (runBlocks.ts).
 * The rules to keep: what was not kept is said to be missing, with the reason, and never filled in; of a window only its own bytes are read; no file
 * stays open between two reads, because the run goes on and removes old checkpoints.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { BlockPart, BlockPlace, BlockWindow } from "../../protocol/coreProtocol.ts";
import { parseSelection, type SelectedBlock, type Selection } from "../../protocol/selection.ts";
import { checkpointFiles, readState } from "../checkpointing.ts";
import type { FileDType } from "../devices/device.ts";
import { blockIndexStride } from "../files/blockRows.ts";
import type { Checkpoint } from "../files/checkpoint.ts";
import { runFiles } from "../files/runFolder.ts";
import { openSafetensors, readHeader, type SafetensorsFile } from "../files/safetensors.ts";
import { openDelta } from "../files/smtDelta.ts";
import { blocksByMatrix, type Magnitudes } from "../host/heatmapFrames.ts";
import { inFlatOrder } from "../methods/smt/layout.ts";
import { blockKey, hasUpdates } from "../run.ts";
import type { TrainerState } from "../trainer.ts";
import { type BlockEntries, type BlockShape, meanOfAbsolute, readWindow, subtract } from "./blockWindow.ts";

/** Where a block stands in the checkpoint's tensors, in entries. */
interface StoredBlock extends BlockShape {
  weight: string;
  /** How the base stores it. */
  dtype: FileDType;
  /** In smt.safetensors. */
  offset: number;
  /** In optimizer.safetensors; null for one that an earlier selection trained. */
  momentOffset: number | null;
}

const nothing: Magnitudes = { gradient: null, delta: null, secondMoment: null };

/** The blocks of one checkpoint: their cells, and values by window. */
export class CheckpointBlocks {
  readonly step: number;
  readonly selection: Selection;
  /** Updates before the choice of blocks that the checkpoint has. */
  readonly lastSelection: number;
  readonly #folder: string;
  readonly #state: TrainerState;
  readonly #stored: ReadonlyMap<string, StoredBlock>;
  readonly #chosen: ReadonlyMap<string, SelectedBlock>;
  readonly #holdsGradients: boolean;
  #magnitudes: Promise<Magnitudes[]> | null = null;

  private constructor(checkpoint: Checkpoint, selection: Selection, state: TrainerState, stored: Map<string, StoredBlock>, holdsGradients: boolean) {
    this.step = checkpoint.step;
    this.selection = selection;
    this.lastSelection = state.lastSelection;
    this.#folder = checkpoint.folder;
    this.#state = state;
    this.#stored = stored;
    this.#chosen = new Map(selection.blocks.map((block) => [blockKey(block), block]));
    this.#holdsGradients = holdsGradients;
  }

  /** Reads what is in a checkpoint, not yet its values; null for one of a run without blocks. */
  static async open(checkpoint: Checkpoint): Promise<CheckpointBlocks | null> {
    if (!checkpoint.files.has(runFiles.selection)) return null;
    const file = path.join(checkpoint.folder, runFiles.selection);
    const selection = parseSelection(await readFile(file, "utf8"), file);
    const state = await readState(checkpoint.folder);
    const { tensors } = await readHeader(path.join(checkpoint.folder, checkpointFiles.optimizer));
    const names = [...new Set(selection.blocks.map(({ name }) => name))];
    const holdsGradients = names.every((name) => tensors.has(`${name}.weight.gradient`));
    return new CheckpointBlocks(checkpoint, selection, state, await storedBlocks(checkpoint.folder, selection), holdsGradients);
  }

  /** The block among the chosen ones, with its score and rank. */
  chosen(place: BlockPlace): SelectedBlock | null {
    return this.#chosen.get(blockKey(place)) ?? null;
  }

  /** The shape of a block that the run has trained; null for others. */
  shapeOf(place: BlockPlace): BlockShape | null {
    return this.#stored.get(blockKey(place)) ?? null;
  }

  /** Values of a block that the run has trained, or why there are none. */
  async read(place: BlockPlace, part: BlockPart, window: BlockWindow): Promise<Float32Array | string> {
    const block = this.#stored.get(blockKey(place));
    if (!block) throw new Error(`${blockKey(place)} was never trained`);
    if (part === "weight" || part === "delta")
      return this.#withFile(runFiles.delta, async (file) => {
        const values = await readWindow(file, blocksOf(block), window);
        return part === "weight" ? values : subtract(values, await readWindow(file, originalOf(block), window));
      });
    const missing = this.#whyMissing(block, part);
    return missing ?? this.#withFile(checkpointFiles.optimizer, (file) => readWindow(file, stateOf(block, part), window));
  }

  /** Means of one block; those of a block that the run never trained are all missing. */
  async measure(place: BlockPlace): Promise<Magnitudes> {
    const block = this.#stored.get(blockKey(place));
    if (!block) return nothing;
    return this.#withFile(runFiles.delta, (delta) =>
      this.#withFile(checkpointFiles.optimizer, (optimizer) => this.#measure(delta, optimizer, block)),
    );
  }

  /** Means of all chosen blocks, in the order of heatmap frames. Read once. */
  measureChosen(): Promise<Magnitudes[]> {
    this.#magnitudes ??= this.#measureAll().catch((error) => {
      this.#magnitudes = null;
      throw error;
    });
    return this.#magnitudes;
  }

  #measureAll(): Promise<Magnitudes[]> {
    return this.#withFile(runFiles.delta, (delta) =>
      this.#withFile(checkpointFiles.optimizer, async (optimizer) => {
        const all: Magnitudes[] = [];
        for (const chosen of blocksByMatrix(this.selection).values())
          for (const block of chosen) all.push(await this.#measure(delta, optimizer, this.#stored.get(blockKey(block)) as StoredBlock));
        return all;
      }),
    );
  }

  async #measure(delta: SafetensorsFile, optimizer: SafetensorsFile, block: StoredBlock): Promise<Magnitudes> {
    const whole = { row: 0, column: 0, rows: block.rows, columns: block.columns };
    const change = subtract(await readWindow(delta, blocksOf(block), whole), await readWindow(delta, originalOf(block), whole));
    const mean = async (part: "gradient" | "secondMoment") =>
      this.#whyMissing(block, part) === null ? known(meanOfAbsolute(await readWindow(optimizer, stateOf(block, part), whole))) : null;
    return { gradient: await mean("gradient"), delta: known(meanOfAbsolute(change)), secondMoment: await mean("secondMoment") };
  }

  /** Why a trained block lacks a gradient or moments; null where it does not. */
  #whyMissing({ momentOffset }: StoredBlock, part: "gradient" | "firstMoment" | "secondMoment"): string | null {
    if (momentOffset === null) return "This block was trained earlier and is not trained at this step: it has no gradient and no moments.";
    if (!hasUpdates({ state: this.#state })) return "No update was made since the blocks were chosen.";
    if (part !== "gradient" || this.#holdsGradients) return null;
    return this.#state.skippedInRow > 0
      ? "The last update was skipped, because its loss or its gradient was not finite: there is no gradient of it."
      : "This checkpoint holds no gradients.";
  }

  async #withFile<T>(name: string, read: (file: SafetensorsFile) => Promise<T>): Promise<T> {
    const file = await openSafetensors(path.join(this.#folder, name));
    try {
      return await read(file);
    } finally {
      await file.close();
    }
  }
}

/** JSON has no NaN. */
function known(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

const blocksOf = ({ weight, offset, columns }: StoredBlock): BlockEntries => ({ tensor: `${weight}.blocks`, dtype: "F32", offset, stride: columns });
const originalOf = ({ weight, dtype, offset, columns }: StoredBlock): BlockEntries => ({
  tensor: `${weight}.original`,
  dtype,
  offset,
  stride: columns,
});
const stateOf = ({ weight, momentOffset, columns }: StoredBlock, part: string): BlockEntries => ({
  tensor: `${weight}.${part}`,
  dtype: "F32",
  offset: momentOffset as number,
  stride: columns,
});

/** Every block that the run has trained, by key. */
async function storedBlocks(folder: string, selection: Selection): Promise<Map<string, StoredBlock>> {
  const delta = await openDelta(path.join(folder, runFiles.delta));
  await delta.close();
  const stored = new Map<string, StoredBlock>();
  for (const [weight, { dtype, index }] of delta.matrices) {
    const name = weight.replace(/\.weight$/, "");
    for (let i = 0, offset = 0; i < index.length; i += blockIndexStride) {
      const [row, column] = [index[i] / delta.blockSize, index[i + 2] / delta.blockSize];
      const [rows, columns] = [index[i + 1], index[i + 3]];
      stored.set(blockKey({ name, row, column }), { weight, dtype, rows, columns, offset, momentOffset: null });
      offset += rows * columns;
    }
  }
  for (const chosen of blocksByMatrix(selection).values()) {
    let offset = 0;
    for (const place of [...chosen].sort(inFlatOrder)) {
      const block = stored.get(blockKey(place));
      if (!block) throw new Error(`${folder}: ${runFiles.delta} has no block ${blockKey(place)}, which ${runFiles.selection} names`);
      block.momentOffset = offset;
      offset += block.rows * block.columns;
    }
  }
  return stored;
}
