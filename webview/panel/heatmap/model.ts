/**
 * What the heatmap knows: the grids of blocks and what the last frame of each kind said of them. Frames in, typed arrays out; no colours, no DOM.
 * The rules to keep: a frame is taken whole or not at all; a payload is a view into a larger buffer, so its offset counts; what no frame told is unknown
 * and never zero. NaN among the magnitudes means: not kept at that step.
 */
import type { HeatmapHeader } from "../../../src/protocol/coreProtocol.ts";
import type { HeatmapFrame } from "../../../src/protocol/panelProtocol.ts";
import { type Grid, type MatrixGrid, orderedGrids } from "./grids.ts";

type Header<Kind extends HeatmapHeader["kind"]> = Extract<HeatmapHeader, { kind: Kind }>;

/** Scores of all blocks after a warm-up step, one byte a block: byte b means low + b · (high − low) / 255 of its matrix. */
export interface Scores {
  step: number;
  /** Updates before this warm-up. */
  afterStep: number;
  /** The blocks were chosen from these. */
  final: boolean;
  /** Per matrix of the model; NaN where the frame does not list it. */
  low: Float64Array;
  high: Float64Array;
  /** Where each matrix begins in `bytes`; −1 where the frame does not list it. */
  starts: Int32Array;
  bytes: Uint8Array;
}

/** The chosen blocks; a matrix's own stand together, in rank order. */
export interface Chosen {
  step: number;
  blockSize: number;
  count: number;
  /** Index of each block's cell, counted over all matrices. */
  cells: Uint32Array;
  ranks: Uint32Array;
  scores: Float32Array;
  /** Per matrix of the model: its first chosen block and how many there are. */
  first: Int32Array;
  counts: Int32Array;
  /** Per cell: its chosen block, or −1. */
  ofCell: Int32Array;
}

/** Means over the entries of each chosen block, in the order of `Chosen`. */
export interface Magnitudes {
  step: number;
  gradient: Float32Array;
  delta: Float32Array;
  secondMoment: Float32Array;
}

export interface HeatmapModel {
  /** In the order in which they are drawn and walked. */
  matrices: readonly MatrixGrid[];
  cellCount: number;
  scores: Scores | null;
  chosen: Chosen | null;
  magnitudes: Magnitudes | null;
  /** The frames as they came: another list of matrices needs them again. */
  raw: { scores: Frame<"scores"> | null; selection: Frame<"selection"> | null; magnitudes: Frame<"magnitudes"> | null };
}

interface Frame<Kind extends HeatmapHeader["kind"]> {
  header: Header<Kind>;
  payload: Uint8Array;
}

/** More blocks than this come from no model, but from a broken or hostile file. */
const maxCells = 1 << 24;

export const emptyHeatmap: HeatmapModel = {
  matrices: [],
  cellCount: 0,
  scores: null,
  chosen: null,
  magnitudes: null,
  raw: { scores: null, selection: null, magnitudes: null },
};

/** The model after a frame. Throws an Error when the frame contradicts itself. */
export function applyFrame(model: HeatmapModel, { header, payload }: HeatmapFrame): HeatmapModel {
  switch (header.kind) {
    case "scores":
      return withScores(model, { header, payload });
    case "selection":
      return withSelection(model, { header, payload });
    case "magnitudes":
      return withMagnitudes(model, { header, payload });
  }
}

/** The model without what a resume from this step will do again. */
export function withoutFramesAfter(model: HeatmapModel, fromStep: number): HeatmapModel {
  const { scores, selection, magnitudes } = model.raw;
  // As in the protocol's `history`: a warm-up and its choice come after what their step left was saved, but the first is part of step 0.
  const undone = (afterStep: number) => (afterStep > 0 ? afterStep + 0.5 : 0) > fromStep;
  const raw = {
    scores: scores && undone(scores.header.afterStep) ? null : scores,
    selection: selection && undone(selection.header.step) ? null : selection,
    magnitudes: magnitudes && magnitudes.header.step > fromStep ? null : magnitudes,
  };
  const unchanged = raw.scores === scores && raw.selection === selection && raw.magnitudes === magnitudes;
  return unchanged ? model : rebuilt(model, raw, "selection");
}

function withScores(model: HeatmapModel, frame: Frame<"scores">): HeatmapModel {
  const cells = frame.header.matrices.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  if (cells !== frame.payload.length) throw new Error(`a frame of scores of ${cells} blocks came with ${frame.payload.length} bytes`);
  const raw = { ...model.raw, scores: frame };
  const before = model.raw.scores;
  // The usual case, ten times a second: the same matrices with other values.
  if (before && model.scores && sameGrids(before.header.matrices, frame.header.matrices))
    return { ...model, raw, scores: decodeScores(model.matrices, frame, model.scores.starts) };
  return rebuilt(model, raw, "scores");
}

function withSelection(model: HeatmapModel, frame: Frame<"selection">): HeatmapModel {
  const count = frame.header.matrices.reduce((sum, { chosen }) => sum + chosen, 0);
  if (12 * count !== frame.payload.length) throw new Error(`a selection of ${count} blocks came with ${frame.payload.length} bytes`);
  const next = rebuilt(model, { ...model.raw, selection: frame }, "selection");
  const same = model.chosen && next.chosen && sameCells(model, next);
  // Magnitudes belong to blocks by their order: those of another selection say nothing.
  return same || !model.chosen ? next : { ...next, magnitudes: null, raw: { ...next.raw, magnitudes: null } };
}

function withMagnitudes(model: HeatmapModel, frame: Frame<"magnitudes">): HeatmapModel {
  if (12 * frame.header.blocks !== frame.payload.length)
    throw new Error(`magnitudes of ${frame.header.blocks} blocks came with ${frame.payload.length} bytes`);
  return { ...model, raw: { ...model.raw, magnitudes: frame }, magnitudes: decodeMagnitudes(frame, model.chosen) };
}

/** Makes everything anew for another list of matrices. Where two frames disagree on a matrix's grid, the one that came now is right. */
function rebuilt(model: HeatmapModel, raw: HeatmapModel["raw"], newest: "scores" | "selection"): HeatmapModel {
  const lists = [raw.scores?.header.matrices ?? [], raw.selection?.header.matrices ?? []];
  for (const list of lists) checkGrids(list);
  if (contradict(lists[0], lists[1]))
    return rebuilt(model, newest === "scores" ? { ...raw, selection: null, magnitudes: null } : { ...raw, scores: null }, newest);
  const matrices = orderedGrids(lists.flat());
  const last = matrices.at(-1);
  const cellCount = last ? last.offset + last.rows * last.columns : 0;
  if (cellCount > maxCells) throw new Error(`a heatmap of ${cellCount} blocks is larger than any model's`);
  const chosen = raw.selection && decodeSelection(matrices, cellCount, raw.selection);
  return {
    matrices,
    cellCount,
    scores: raw.scores && decodeScores(matrices, raw.scores, startsOf(matrices, raw.scores.header)),
    chosen,
    magnitudes: raw.magnitudes && decodeMagnitudes(raw.magnitudes, chosen),
    raw,
  };
}

function checkGrids(list: readonly Grid[]): void {
  if (new Set(list.map(({ name }) => name)).size < list.length) throw new Error("a frame names a matrix twice");
  if (list.some(({ rows, columns }) => rows < 1 || columns < 1)) throw new Error("a frame lists a matrix without blocks");
}

function contradict(a: readonly Grid[], b: readonly Grid[]): boolean {
  const known = new Map(a.map((grid) => [grid.name, grid]));
  return b.some(({ name, rows, columns }) => {
    const other = known.get(name);
    return other && (other.rows !== rows || other.columns !== columns);
  });
}

function sameGrids(a: readonly Grid[], b: readonly Grid[]): boolean {
  return a.length === b.length && a.every(({ name, rows, columns }, i) => name === b[i].name && rows === b[i].rows && columns === b[i].columns);
}

function sameCells(before: HeatmapModel, after: HeatmapModel): boolean {
  if (before.chosen === null || after.chosen === null || before.chosen.count !== after.chosen.count) return false;
  if (!sameGrids(before.raw.selection?.header.matrices ?? [], after.raw.selection?.header.matrices ?? [])) return false;
  const [a, b] = [before.raw.selection?.payload, after.raw.selection?.payload].map((bytes) => bytes && wordsOf(bytes));
  for (let block = 0; block < before.chosen.count; block++) if (a?.getUint32(12 * block, true) !== b?.getUint32(12 * block, true)) return false;
  return true;
}

function wordsOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function startsOf(matrices: readonly MatrixGrid[], header: Header<"scores">): Int32Array {
  const places = new Map<string, number>();
  let at = 0;
  for (const { name, rows, columns } of header.matrices) {
    places.set(name, at);
    at += rows * columns;
  }
  return Int32Array.from(matrices, ({ name }) => places.get(name) ?? -1);
}

function decodeScores(matrices: readonly MatrixGrid[], { header, payload }: Frame<"scores">, starts: Int32Array): Scores {
  const ranges = new Map(header.matrices.map((matrix) => [matrix.name, matrix]));
  return {
    step: header.step,
    afterStep: header.afterStep,
    final: header.final,
    low: Float64Array.from(matrices, ({ name }) => ranges.get(name)?.low ?? Number.NaN),
    high: Float64Array.from(matrices, ({ name }) => ranges.get(name)?.high ?? Number.NaN),
    starts,
    bytes: payload,
  };
}

function decodeSelection(matrices: readonly MatrixGrid[], cellCount: number, { header, payload }: Frame<"selection">): Chosen {
  const indexes = new Map(matrices.map(({ name }, index) => [name, index]));
  const count = payload.length / 12;
  const chosen: Chosen = {
    step: header.step,
    blockSize: header.blockSize,
    count,
    cells: new Uint32Array(count),
    ranks: new Uint32Array(count),
    scores: new Float32Array(count),
    first: new Int32Array(matrices.length),
    counts: new Int32Array(matrices.length),
    ofCell: new Int32Array(cellCount).fill(-1),
  };
  const words = wordsOf(payload);
  let block = 0;
  for (const { name, rows, columns, chosen: own } of header.matrices) {
    const index = indexes.get(name) as number;
    chosen.first[index] = block;
    chosen.counts[index] = own;
    for (const end = block + own; block < end; block++) {
      const cell = words.getUint32(12 * block, true);
      if (cell >= rows * columns) throw new Error(`a selection names a block outside ${name}`);
      chosen.cells[block] = matrices[index].offset + cell;
      chosen.ranks[block] = words.getUint32(12 * block + 4, true);
      chosen.scores[block] = words.getFloat32(12 * block + 8, true);
      chosen.ofCell[chosen.cells[block]] = block;
    }
  }
  return chosen;
}

/** Null while the blocks are not known that the values belong to. */
function decodeMagnitudes({ header, payload }: Frame<"magnitudes">, chosen: Chosen | null): Magnitudes | null {
  if (chosen?.count !== header.blocks || header.step < chosen.step) return null;
  const words = wordsOf(payload);
  const column = (index: number) =>
    Float32Array.from({ length: header.blocks }, (_, block) => words.getFloat32(4 * (index * header.blocks + block), true));
  return { step: header.step, gradient: column(0), delta: column(1), secondMoment: column(2) };
}
