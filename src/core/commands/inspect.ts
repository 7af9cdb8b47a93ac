/** `sparse-tuner inspect`: which blocks a run trains, where, and one block's weight and what was added to it. Reads files only. */

import path from "node:path";
import { parseSelection, type Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { findCheckpoint } from "../files/checkpoint.ts";
import { requireRunFolder, runFiles } from "../files/runFolder.ts";
import { openDelta } from "../files/smtDelta.ts";
import { decodeFloats } from "../files/storedFloats.ts";
import { readText } from "../files/textFile.ts";
import { blockMap, blockMapLegend, shareBars } from "../terminal/blockMap.ts";
import { styleOf } from "../terminal/style.ts";
import type { BlockPlace, InspectOptions } from "./options.ts";

export interface MatrixValues {
  rows: number;
  columns: number;
  /** Row-major. */
  values: number[];
}

/** Blocks listed in text; --json lists all. */
const listed = 20;

export async function inspect({ runFolder, block, json }: InspectOptions): Promise<number> {
  await requireRunFolder(runFolder);
  const { checkpoint } = await findCheckpoint(runFolder, { readOnly: true });
  if (!checkpoint?.files.has(runFiles.selection))
    throw new UserError(
      "inspect/no-selection",
      `${runFolder} has chosen no blocks${checkpoint ? ": it is no SMT run" : " yet"}.`,
      "Inspect a run of method smt after its warm-up.",
    );
  const file = path.join(checkpoint.folder, runFiles.selection);
  const selection = parseSelection(await readText(file), file);
  const values = block ? await blockValues(path.join(checkpoint.folder, runFiles.delta), selection, block) : {};
  const { blocks, shares } = selection;
  if (json) process.stdout.write(`${JSON.stringify({ step: checkpoint.step, blockSize: selection.blockSize, blocks, shares, ...values })}\n`);
  else process.stdout.write(`${describe(selection, checkpoint.step, values).join("\n")}\n`);
  return 0;
}

/** The block's trained weight and its difference from the base, as of the newest checkpoint. */
async function blockValues(deltaFile: string, selection: Selection, place: BlockPlace): Promise<{ weight: MatrixValues; delta: MatrixValues }> {
  const delta = await openDelta(deltaFile);
  try {
    const weightName = `${place.name}.weight`;
    const matrix = delta.matrices.get(weightName);
    const index = matrix?.index ?? new Int32Array();
    for (let i = 0, at = 0; i < index.length; i += 4) {
      const [rowStart, rows, columnStart, columns] = index.subarray(i, i + 4);
      if (rowStart === place.row * delta.blockSize && columnStart === place.column * delta.blockSize) {
        const trained = (await delta.readBlocks(weightName)).subarray(at, at + rows * columns);
        const original = decodeFloats(await delta.readOriginal(weightName), matrix?.dtype ?? "F32").subarray(at, at + rows * columns);
        const difference = Array.from(trained, (value, entry) => Math.fround(value - original[entry]));
        return { weight: { rows, columns, values: Array.from(trained) }, delta: { rows, columns, values: difference } };
      }
      at += rows * columns;
    }
  } finally {
    await delta.close();
  }
  const known = selection.blocks.slice(0, 3).map(({ name, row, column }) => `${name}:${row},${column}`);
  throw new UserError(
    "inspect/no-block",
    `The run does not train block ${place.name}:${place.row},${place.column}.`,
    `Its best blocks are ${known.join(" ")}.`,
  );
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
