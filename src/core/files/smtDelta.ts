/**
 * smt.safetensors: what SMT trained, small enough to send and exact enough to take back. Per matrix, under the weight's Hugging Face name:
 * `….blocks` f32 masters (K, l, l), `….original` the base's bytes in its dtype, `….index` I32 (K, 4): rowStart, rowCount, columnStart, columnCount;
 * blocks and original are flat when edge blocks are ragged. Metadata: format, version, blockSize, baseSha256.
 * Putting it into a model and taking it out again is in deltaApply.ts. The rule to keep: no time, path or run id inside; equal runs give equal files.
 */
import { createHash } from "node:crypto";
import { UserError } from "../../protocol/userError.ts";
import type { FileDType } from "../devices/device.ts";
import { type BlockIndex, blockEntries, blockIndexStride, rowChunks } from "./blockRows.ts";
import type { WrittenFile } from "./durableFile.ts";
import type { ModelFolder } from "./modelFolder.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { entryOf, type TensorEntry, writeSafetensors } from "./safetensorsWriter.ts";
import { allFinite, encodeFloats } from "./storedFloats.ts";
import { quote } from "./strictJson.ts";

/** The trained blocks of one weight, to be written. */
export interface DeltaMatrix {
  /** Hugging Face name with `.weight`. */
  weight: string;
  /** How the base stores the weight. */
  dtype: FileDType;
  index: BlockIndex;
  /** Masters back to back in the order of `index`. Called when their turn to be written comes. */
  blocks: () => Float32Array | Promise<Float32Array>;
  /** The base's bytes of the same entries (`gatherStoredBlocks`). */
  original: () => Uint8Array | Promise<Uint8Array>;
}

/** What identifies a delta besides its blocks. */
export interface DeltaInfo {
  blockSize: number;
  /** {@link baseHash} of the model before training. */
  baseSha256: string;
}

const format = "sparse-tuner-smt";

/**
 * SHA-256 in hex over the headers (with their length) of all weight files by name, then the touched tensors by name.
 * `bytesOf` gives a tensor's bytes; by default those of the file.
 */
export async function baseHash(
  folder: ModelFolder,
  weights: Iterable<string>,
  bytesOf: (weight: string) => AsyncIterable<Uint8Array> = (weight) => storedBytes(folder, weight),
): Promise<string> {
  const hash = createHash("sha256");
  for (const name of [...folder.files.keys()].sort()) {
    const file = folder.files.get(name) as SafetensorsFile;
    hash.update(await file.readAt(0, file.header.dataStart));
  }
  for (const weight of [...weights].sort()) for await (const bytes of bytesOf(weight)) hash.update(bytes);
  return hash.digest("hex");
}

async function* storedBytes(folder: ModelFolder, weight: string): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of rowChunks(folder, weight)) yield bytes;
}

/** The tensors and metadata of a delta, for a file of its own or a part of a checkpoint. */
export function deltaContent(matrices: readonly DeltaMatrix[], info: DeltaInfo): { tensors: TensorEntry[]; metadata: Record<string, string> } {
  const tensors = matrices.flatMap(({ weight, dtype, index, blocks, original }) => {
    const shape = blocksShape(index, info.blockSize);
    return [
      entryOf(`${weight}.blocks`, "F32", shape, blocks),
      entryOf(`${weight}.original`, dtype, shape, original),
      entryOf(`${weight}.index`, "I32", [index.length / blockIndexStride, blockIndexStride], () => index),
    ];
  });
  return { tensors, metadata: { format, version: "1", blockSize: String(info.blockSize), baseSha256: info.baseSha256 } };
}

function blocksShape(index: BlockIndex, blockSize: number): number[] {
  for (let i = 0; i < index.length; i += blockIndexStride) if (index[i + 1] !== blockSize || index[i + 3] !== blockSize) return [blockEntries(index)];
  return [index.length / blockIndexStride, blockSize, blockSize];
}

/** Writes a delta at once or not at all. */
export function writeDelta(file: string, matrices: readonly DeltaMatrix[], info: DeltaInfo): Promise<WrittenFile> {
  const { tensors, metadata } = deltaContent(matrices, info);
  return writeSafetensors(file, tensors, metadata);
}

/** A delta that was opened and checked. */
export interface Delta extends DeltaInfo {
  path: string;
  /** By Hugging Face name with `.weight`, sorted. */
  matrices: ReadonlyMap<string, { dtype: FileDType; index: BlockIndex }>;
  /** f32 masters, back to back. Throws UserError `delta/not-finite` when one is NaN or infinite. */
  readBlocks(weight: string): Promise<Float32Array>;
  /** The masters rounded to the base's dtype: the bytes a model with this delta has. Throws UserError `delta/not-finite` when one does not fit it. */
  readMerged(weight: string): Promise<Uint8Array>;
  /** The base's bytes. */
  readOriginal(weight: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

function bad(file: string, reason: string): UserError {
  return new UserError("delta/invalid", `${file}: ${reason}.`, "Export the delta again.");
}

/** Opens a delta and checks everything but its values. Throws UserError `delta/invalid` or `safetensors/…`. */
export async function openDelta(file: string): Promise<Delta> {
  const opened = await openSafetensors(file);
  try {
    const info = readInfo(opened);
    const matrices = await readMatrices(opened, info.blockSize);
    return {
      ...info,
      path: file,
      matrices,
      readBlocks: (weight) => readMasters(opened, weight),
      async readMerged(weight) {
        const { dtype } = matrices.get(weight) as { dtype: FileDType };
        const merged = encodeFloats(await readMasters(opened, weight), dtype);
        if (!allFinite(merged, dtype))
          throw new UserError("delta/not-finite", `${file}: ${weight} has a value that ${dtype} cannot hold.`, "Use an earlier checkpoint.");
        return merged;
      },
      readOriginal: (weight) => opened.readBytes(`${weight}.original`),
      close: () => opened.close(),
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

function readInfo({ path: file, header: { metadata } }: SafetensorsFile): DeltaInfo {
  if (metadata.get("format") !== format) throw bad(file, "it is no SMT delta (its metadata does not say so)");
  if (metadata.get("version") !== "1") throw bad(file, `it has version ${quote(metadata.get("version") ?? "none")}; this program reads version 1`);
  const blockSize = Number(metadata.get("blockSize"));
  const baseSha256 = metadata.get("baseSha256") ?? "";
  if (!Number.isInteger(blockSize) || blockSize < 1 || blockSize > 1 << 20) throw bad(file, "its block size is not a whole number");
  if (!/^[0-9a-f]{64}$/.test(baseSha256)) throw bad(file, "it does not say which base it belongs to");
  return { blockSize, baseSha256 };
}

async function readMatrices(opened: SafetensorsFile, blockSize: number): Promise<Map<string, { dtype: FileDType; index: BlockIndex }>> {
  const { path: file, header } = opened;
  const matrices = new Map<string, { dtype: FileDType; index: BlockIndex }>();
  const names = [...header.tensors.keys()];
  for (const name of names) if (!/\.(blocks|original|index)$/.test(name)) throw bad(file, `it has an unknown tensor ${quote(name)}`);
  for (const weight of [...new Set(names.map((name) => name.replace(/\.(blocks|original|index)$/, "")))].sort()) {
    const [blocks, original, stored] = ["blocks", "original", "index"].map((part) => header.tensors.get(`${weight}.${part}`));
    if (!blocks || !original || !stored) throw bad(file, `${quote(weight)} lacks its blocks, original or index`);
    if (blocks.dtype !== "F32" || stored.dtype !== "I32") throw bad(file, `${quote(weight)} has blocks or an index of the wrong dtype`);
    const { dtype } = original;
    if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") throw bad(file, `${quote(weight)} has an original of dtype ${dtype}`);
    if (stored.shape.length !== 2 || stored.shape[0] < 1 || stored.shape[1] !== blockIndexStride)
      throw bad(file, `${quote(weight)} has an index of the wrong shape`);
    const bytes = await opened.readBytes(`${weight}.index`);
    const index = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const problem = indexProblem(index, blockSize);
    if (problem) throw bad(file, `the index of ${quote(weight)} ${problem}`);
    const shape = blocksShape(index, blockSize).join();
    if (blocks.shape.join() !== shape || original.shape.join() !== shape)
      throw bad(file, `the blocks of ${quote(weight)} do not have the size its index says`);
    matrices.set(weight, { dtype, index });
  }
  if (matrices.size === 0) throw bad(file, "it has no block");
  return matrices;
}

function indexProblem(index: BlockIndex, blockSize: number): string | null {
  const seen = new Set<string>();
  for (let i = 0; i < index.length; i += blockIndexStride) {
    const [rowStart, rowCount, columnStart, columnCount] = index.subarray(i, i + blockIndexStride);
    if (rowStart < 0 || columnStart < 0 || rowStart % blockSize !== 0 || columnStart % blockSize !== 0) return "has a block that is not on the grid";
    if (rowCount < 1 || rowCount > blockSize || columnCount < 1 || columnCount > blockSize) return "has a block of an impossible size";
    const key = `${rowStart},${columnStart}`;
    if (seen.has(key)) return "has a block twice";
    seen.add(key);
  }
  return null;
}

async function readMasters(opened: SafetensorsFile, weight: string): Promise<Float32Array> {
  const bytes = await opened.readBytes(`${weight}.blocks`);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  if (!values.every(Number.isFinite))
    throw new UserError("delta/not-finite", `${opened.path}: ${weight} has NaN or infinity among its blocks.`, "Use an earlier checkpoint.");
  return values;
}
