/**
 * Puts an SMT delta into a model folder and takes it out again, in place. Apply writes round(master), undo the original bytes; nothing is subtracted.
 * A patched copy of each touched file is made beside it, fsynced, and renamed over it.
 * The rule to keep: a folder is only changed when everything but the chosen blocks is byte for byte the delta's base, and each block is either the
 * base's or the delta's. A kill between two shards leaves such a folder too; the same command then finishes the work.
 */
import { constants } from "node:fs";
import { chmod, copyFile, open, readdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { type BlockIndex, blockIndexStride, forEachBlockRow, type RowChunk, rowChunks } from "./blockRows.ts";
import { requireFreeBytes, syncFolder, temporaryName, temporaryPrefix, writeError } from "./durableFile.ts";
import { type ModelFolder, openModelFolder } from "./modelFolder.ts";
import { baseHash, type Delta, openDelta } from "./smtDelta.ts";
import { decodeFloats, storedElementBytes } from "./storedFloats.ts";

/** What was done. */
export interface DeltaApplied {
  /** Names of the rewritten files. */
  files: string[];
  /** Weights whose bytes changed. */
  weights: string[];
}

/** Writes the trained blocks into the model. Throws UserError `delta/already-applied`, `delta/wrong-base`, `run/disk-full`, … */
export function applyDelta(modelFolder: string, deltaFile: string): Promise<DeltaApplied> {
  return patchFolder(modelFolder, deltaFile, "apply");
}

/** Writes the base's bytes back: afterwards the weight files equal the base's. Throws UserError `delta/not-applied`, `delta/wrong-base`, … */
export function undoDelta(modelFolder: string, deltaFile: string): Promise<DeltaApplied> {
  return patchFolder(modelFolder, deltaFile, "undo");
}

type Direction = "apply" | "undo";

async function patchFolder(modelFolder: string, deltaFile: string, direction: Direction): Promise<DeltaApplied> {
  const delta = await openDelta(deltaFile);
  try {
    const folder = await openModelFolder(modelFolder);
    try {
      const weights = await weightsToPatch(folder, delta, direction);
      await sweepPatches(modelFolder);
      const files = [...new Set(weights.map((weight) => folder.tensor(weight).file))].sort();
      for (const file of files) await patchFile(folder, delta, file, weights, direction);
      return { files, weights };
    } finally {
      await folder.close();
    }
  } finally {
    await delta.close();
  }
}

/** Checks the folder against the delta, block by block and as a whole; the weights that have to change. */
async function weightsToPatch(folder: ModelFolder, delta: Delta, direction: Direction): Promise<string[]> {
  for (const [weight, { dtype, index }] of delta.matrices) requireFits(folder, delta, weight, dtype, index);
  /** Weights that do not yet have all they shall have, and whether any block shows which state the folder is in. */
  const pending = new Set<string>();
  let distinguishable = false;
  const sha256 = await baseHash(folder, delta.matrices.keys(), async function* (weight) {
    const { index } = delta.matrices.get(weight) as { index: BlockIndex };
    const original = await delta.readOriginal(weight);
    const merged = await delta.readMerged(weight);
    if (Buffer.compare(original, merged) !== 0) distinguishable = true;
    const wanted = direction === "apply" ? merged : original;
    const { shape, dtype } = folder.tensor(weight);
    for await (const chunk of rowChunks(folder, weight)) {
      forEachBlockRow(index, shape[1], storedElementBytes[dtype], chunk, (inChunk, inFlat, bytes, block) => {
        const found = chunk.bytes.subarray(inChunk, inChunk + bytes);
        const equals = (flat: Uint8Array) => Buffer.compare(found, flat.subarray(inFlat, inFlat + bytes)) === 0;
        if (!equals(wanted)) pending.add(weight);
        if (!equals(original) && !equals(merged)) throw foreignBlock(folder, weight, index, block);
        found.set(original.subarray(inFlat, inFlat + bytes));
      });
      yield chunk.bytes;
    }
  });
  if (sha256 !== delta.baseSha256) throw wrongBase(folder, delta, sha256);
  if (pending.size === 0 && distinguishable) {
    const [code, state] =
      direction === "apply" ? ["delta/already-applied", "already has this delta"] : ["delta/not-applied", "does not have this delta"];
    throw new UserError(
      code,
      `${folder.path} ${state}; nothing was changed.`,
      direction === "apply" ? "Use `undo` to take it out." : "Use `apply` to put it in.",
    );
  }
  return [...pending];
}

function requireFits(folder: ModelFolder, delta: Delta, weight: string, dtype: string, index: BlockIndex): void {
  const tensor = folder.tensors.get(weight);
  const refuse = (reason: string) =>
    new UserError("delta/wrong-base", `${delta.path} does not belong to ${folder.path}: ${reason}.`, "Use the model the delta was trained on.");
  if (tensor?.shape.length !== 2) throw refuse(`the model has no matrix ${weight}`);
  if (tensor.dtype !== dtype) throw refuse(`${weight} is stored as ${tensor.dtype}, not as ${dtype}`);
  const [rows, columns] = tensor.shape;
  for (let i = 0; i < index.length; i += blockIndexStride) {
    const [rowStart, rowCount, columnStart, columnCount] = index.subarray(i, i + blockIndexStride);
    const whole = (start: number, count: number, size: number) => count === delta.blockSize || start + count === size;
    const inside = rowStart + rowCount <= rows && columnStart + columnCount <= columns;
    if (!inside || !whole(rowStart, rowCount, rows) || !whole(columnStart, columnCount, columns))
      throw refuse(`${weight} (${rows}, ${columns}) has no such blocks`);
  }
}

function foreignBlock(folder: ModelFolder, weight: string, index: BlockIndex, block: number): UserError {
  const [rowStart, , columnStart] = index.subarray(block * blockIndexStride);
  return new UserError(
    "delta/wrong-base",
    `${folder.path}: the block of ${weight} at row ${rowStart}, column ${columnStart} has neither the base's bytes nor the delta's.`,
    "Use the model the delta was trained on; another delta may have been applied to this one.",
  );
}

function wrongBase(folder: ModelFolder, delta: Delta, sha256: string): UserError {
  const message = `${folder.path} is not the base of ${delta.path}: its hash is ${sha256.slice(0, 12)}…, the delta's base has ${delta.baseSha256.slice(0, 12)}….`;
  return new UserError("delta/wrong-base", message, "Use the model the delta was trained on, unchanged.");
}

/** Replaces one weight file by a copy with the wanted blocks in it. A link, as in a Hugging Face cache, is replaced by a file; what it led to stays. */
async function patchFile(folder: ModelFolder, delta: Delta, file: string, weights: readonly string[], direction: Direction): Promise<void> {
  const target = path.join(folder.path, file);
  const temporary = path.join(folder.path, temporaryName());
  const { size, mode } = await stat(target);
  try {
    await requireFreeBytes(`a patched copy of ${file}`, folder.path, size);
    await copyFile(target, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await chmod(temporary, 0o600);
    const handle = await open(temporary, "r+");
    try {
      for (const weight of weights) {
        if (folder.tensor(weight).file !== file) continue;
        const wanted = direction === "apply" ? await delta.readMerged(weight) : await delta.readOriginal(weight);
        for await (const { position, bytes } of patchedChunks(folder, delta, weight, wanted)) {
          for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await chmod(temporary, mode & 0o7777);
    await rename(temporary, target);
    await syncFolder(folder.path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error instanceof UserError ? error : await writeError(error, `a patched copy of ${file}`, folder.path, size);
  }
}

/** The chunks of a weight that hold any of its blocks, with the blocks' bytes laid over them, and their positions in the file. */
async function* patchedChunks(
  folder: ModelFolder,
  delta: Delta,
  weight: string,
  flat: Uint8Array,
): AsyncGenerator<{ position: number; bytes: Uint8Array }> {
  const { position, shape, dtype } = folder.tensor(weight);
  const elementBytes = storedElementBytes[dtype];
  for await (const chunk of rowChunks(folder, weight)) {
    if (layBlocksOver(chunk, delta, weight, shape[1], elementBytes, flat))
      yield { position: position + chunk.firstRow * shape[1] * elementBytes, bytes: chunk.bytes };
  }
}

/** Writes the rows of the blocks that lie in a chunk into it; false when there are none. */
function layBlocksOver(chunk: RowChunk, delta: Delta, weight: string, columns: number, elementBytes: number, flat: Uint8Array): boolean {
  const { index } = delta.matrices.get(weight) as { index: BlockIndex };
  let any = false;
  forEachBlockRow(index, columns, elementBytes, chunk, (inChunk, inFlat, bytes) => {
    chunk.bytes.set(flat.subarray(inFlat, inFlat + bytes), inChunk);
    any = true;
  });
  return any;
}

/** A weight's bytes with the delta's trained blocks in it, for an export. */
export async function* mergedBytes(folder: ModelFolder, delta: Delta, weight: string): AsyncGenerator<Uint8Array> {
  const { dtype, index } = delta.matrices.get(weight) as { dtype: string; index: BlockIndex };
  requireFits(folder, delta, weight, dtype, index);
  const merged = await delta.readMerged(weight);
  const { shape, dtype: stored } = folder.tensor(weight);
  for await (const chunk of rowChunks(folder, weight)) {
    layBlocksOver(chunk, delta, weight, shape[1], storedElementBytes[stored], merged);
    yield chunk.bytes;
  }
}

/** The same as numbers: the base's, with the masters as they were trained, unrounded. */
export async function* mergedFloats(folder: ModelFolder, delta: Delta, weight: string): AsyncGenerator<Float32Array> {
  const { dtype, index } = delta.matrices.get(weight) as { dtype: string; index: BlockIndex };
  requireFits(folder, delta, weight, dtype, index);
  const masters = await delta.readBlocks(weight);
  const { shape, dtype: stored } = folder.tensor(weight);
  for await (const chunk of rowChunks(folder, weight)) {
    const values = decodeFloats(chunk.bytes, stored);
    forEachBlockRow(index, shape[1], 1, chunk, (inChunk, inFlat, count) => values.set(masters.subarray(inFlat, inFlat + count), inChunk));
    yield values;
  }
}

/** Removes patched copies that a kill left behind. */
async function sweepPatches(modelFolder: string): Promise<void> {
  const leftOver = new RegExp(`^\\${temporaryPrefix}[0-9a-f-]{36}$`);
  for (const name of await readdir(modelFolder)) {
    if (leftOver.test(name)) await rm(path.join(modelFolder, name), { recursive: true, force: true });
  }
}
