/**
 * `sparse-tuner inspect`: which blocks a run trains, where, and one block's weight and what was added to it; of adapters what they added to each matrix
 * (inspectAdapter.ts). Reads files only.
 */
import path from "node:path";
import type { BlockPart } from "../../protocol/coreProtocol.ts";
import { parseRunFile } from "../../protocol/runConfig.ts";
import type { Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { adapterOf } from "../adapterParameters.ts";
import { CheckpointBlocks } from "../blocks/checkpointBlocks.ts";
import { checkpointAt, newestCheckpoint } from "../blocks/keptCheckpoints.ts";
import { requireRunFolder, runFiles } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { blocksByMatrix } from "../host/heatmapFrames.ts";
import { blockKey } from "../run.ts";
import { blockMap, blockMapLegend, shareBars } from "../terminal/blockMap.ts";
import { styleOf } from "../terminal/style.ts";
import { adapterLines, inspectAdapter } from "./inspectAdapter.ts";
import type { BlockPlace, InspectOptions } from "./options.ts";

/** A matrix as --json prints it. */
export interface MatrixValues {
  rows: number;
  columns: number;
  /** Row-major. */
  values: number[];
}

/** Blocks listed in text; --json lists all. */
const listed = 20;

/** `sparse-tuner inspect`: what a run trains, or one of its blocks. Returns the exit code; throws UserError. */
export async function inspect({ runFolder, block, step, json }: InspectOptions): Promise<number> {
  await requireRunFolder(runFolder);
  const file = path.join(runFolder, runFiles.config);
  const config = parseRunFile(await readText(file), file);
  const adapter = adapterOf(config.method);
  if (adapter && !block) {
    const found = await inspectAdapter(runFolder, config, adapter, step);
    process.stdout.write(json ? `${JSON.stringify(found)}\n` : `${adapterLines(found, styleOf(process.stdout)).join("\n")}\n`);
    return 0;
  }
  const blocks = await openBlocks(runFolder, step, adapter !== null);
  const { selection } = blocks;
  const values = block ? await blockValues(blocks, block, json ? allParts : textParts) : {};
  if (json) {
    const { blockSize, shares } = selection;
    process.stdout.write(`${JSON.stringify({ step: blocks.step, blockSize, blocks: await withMagnitudes(blocks), shares, ...values })}\n`);
  } else process.stdout.write(`${describe(selection, blocks.step, values).join("\n")}\n`);
  return 0;
}

async function openBlocks(runFolder: string, step: number | null, adapted: boolean): Promise<CheckpointBlocks> {
  const checkpoint = step === null ? await newestCheckpoint(runFolder) : await checkpointAt(runFolder, step);
  const blocks = checkpoint && (await CheckpointBlocks.open(checkpoint));
  if (blocks) return blocks;
  throw new UserError(
    "inspect/no-selection",
    `${runFolder} has chosen no blocks${checkpoint ? ": it is no SMT run" : " yet"}.`,
    adapted ? "Leave --block out to see what the adapter adds to each matrix." : "Inspect an SMT run after its warm-up, or a run with an adapter.",
  );
}

/** The chosen blocks in rank order, each with its means. */
async function withMagnitudes(blocks: CheckpointBlocks): Promise<object[]> {
  const measured = await blocks.measureChosen();
  const inFrameOrder = [...blocksByMatrix(blocks.selection).values()].flat();
  const byKey = new Map(inFrameOrder.map((block, i) => [blockKey(block), measured[i]]));
  return blocks.selection.blocks.map((block) => ({ ...block, ...byKey.get(blockKey(block)) }));
}

const textParts = ["weight", "delta"] as const;
const allParts = [...textParts, "gradient", "firstMoment", "secondMoment"] as const;

/** A block's values, those that the checkpoint has. */
async function blockValues(
  blocks: CheckpointBlocks,
  place: BlockPlace,
  parts: readonly BlockPart[],
): Promise<{ [Part in BlockPart]?: MatrixValues }> {
  const shape = blocks.shapeOf(place);
  if (!shape) throw noSuchBlock(blocks.selection, place);
  const { rows, columns } = shape;
  const found: { [Part in BlockPart]?: MatrixValues } = {};
  for (const part of parts) {
    const values = await blocks.read(place, part, { row: 0, column: 0, rows, columns });
    if (typeof values !== "string") found[part] = { rows, columns, values: Array.from(values) };
  }
  return found;
}

/** Why a block has no values here: the matrix is none of the run's, it has no block there, or that block is not trained. */
function noSuchBlock({ blocks, matrices }: Selection, { name, row, column }: BlockPlace): UserError {
  const grid = matrices.find((matrix) => matrix.name === name);
  if (matrices.length > 0 && !grid)
    return new UserError(
      "inspect/no-block",
      `${name} is none of the matrices that the run chose blocks from.`,
      `Their names are like ${matrices[0].name}.`,
    );
  if (grid && (row >= grid.rows || column >= grid.columns))
    return new UserError(
      "inspect/no-block",
      `${name} has ${grid.rows} × ${grid.columns} blocks: there is none at ${row},${column}.`,
      `Rows go up to ${grid.rows - 1}, columns to ${grid.columns - 1}.`,
    );
  const known = blocks.slice(0, 3).map(blockKey);
  return new UserError("inspect/no-block", `The run does not train block ${name}:${row},${column}.`, `Its best blocks are ${known.join(" ")}.`);
}

function describe(selection: Selection, step: number, values: { weight?: MatrixValues; delta?: MatrixValues }): string[] {
  const style = styleOf(process.stdout);
  const lines = [
    `${selection.blocks.length} blocks of ${selection.blockSize} × ${selection.blockSize}, chosen by ${selection.score} (${selection.selection}), as of step ${step}`,
  ];
  lines.push(...shareBars(selection.shares, style), ...blockMap(selection.matrices, selection.blocks, style), blockMapLegend(style));
  if (values.weight && values.delta) return [...lines, ...summary("weight", values.weight), ...summary("delta", values.delta)];
  for (const { rank, name, row, column, score } of selection.blocks.slice(0, listed))
    lines.push(`${String(rank + 1).padStart(4)}  ${name}:${row},${column}  ${score.toExponential(3)}`);
  if (selection.blocks.length > listed) lines.push(`… and ${selection.blocks.length - listed} more; --json lists all.`);
  return lines;
}

function summary(title: string, { rows, columns, values }: MatrixValues): string[] {
  const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return [`${title}: ${rows} × ${columns}, norm ${norm.toExponential(4)}, largest |entry| ${largest.toExponential(4)}; --json prints the entries.`];
}
