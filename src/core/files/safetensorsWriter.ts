/**
 * Writes safetensors files as a stream: the header from names, dtypes and shapes, then each tensor's bytes from its source, one after the other.
 * Layout as upstream's writer: dtypes of the largest alignment first, then names by their UTF-8 bytes, header padded with spaces to 8 bytes;
 * metadata keys sorted. The rule to keep: equal tensors and metadata give equal files.
 */
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { type Chunks, replaceFile, type WrittenFile, writeError } from "./durableFile.ts";
import { dtypeBits, maxHeaderBytes, type SafetensorsDType } from "./safetensors.ts";

/** A tensor to be written. `chunks` is called once, when its turn comes, and must give exactly the bytes of its shape. */
export interface TensorEntry {
  name: string;
  dtype: SafetensorsDType;
  shape: readonly number[];
  chunks: () => Chunks;
}

const alignmentOrder = Object.keys(dtypeBits);

/** Bytes of a tensor. */
export function tensorBytes({ dtype, shape }: Pick<TensorEntry, "dtype" | "shape">): number {
  return (shape.reduce((product, n) => product * n, 1) * dtypeBits[dtype]) / 8;
}

/** The entries in file order, and the bytes of length and header. Throws on a name that is used twice or cannot be read back. */
export function layOut(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): { sorted: TensorEntry[]; header: Buffer } {
  const sorted = [...entries].sort(
    (a, b) => alignmentOrder.indexOf(b.dtype) - alignmentOrder.indexOf(a.dtype) || Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  const fields: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) fields.push(`"__metadata__":{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`).join(",")}}`);
  const names = new Set(["__metadata__", "__proto__"]);
  let position = 0;
  for (const { name, dtype, shape } of sorted) {
    if (names.has(name)) throw new Error(`a safetensors file cannot have two tensors, or any, called ${name}`);
    names.add(name);
    const end = position + tensorBytes({ dtype, shape });
    if (!Number.isSafeInteger(end)) throw new Error(`${name} of shape ${shape} does not end at a byte that can be counted`);
    fields.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${position},${end}]}`);
    position = end;
  }
  const json = Buffer.from(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderBytes) throw new Error(`a header of ${length} bytes is more than safetensors allows`);
  const header = Buffer.alloc(8 + length, 0x20);
  header.writeBigUInt64LE(BigInt(length), 0);
  json.copy(header, 8);
  return { sorted, header };
}

/** Size of the file these entries make, in bytes. */
export function safetensorsBytes(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): number {
  return layOut(entries, metadata).header.length + entries.reduce((sum, entry) => sum + tensorBytes(entry), 0);
}

/** The file's bytes, chunk by chunk. Throws when a source gives more or fewer bytes than its shape has. */
export async function* safetensorsChunks(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): AsyncGenerator<Uint8Array> {
  const { sorted, header } = layOut(entries, metadata);
  yield header;
  for (const entry of sorted) {
    let bytes = 0;
    for await (const chunk of entry.chunks()) {
      bytes += chunk.length;
      yield chunk;
    }
    if (bytes !== tensorBytes(entry)) throw new Error(`${entry.name}: its source gave ${bytes} bytes, its shape has ${tensorBytes(entry)}`);
  }
}

/** Writes the file at once or not at all (temporary file, fsync, rename). Throws UserError `run/disk-full` when it does not fit. */
export async function writeSafetensors(
  file: string,
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<WrittenFile> {
  try {
    return await replaceFile(file, safetensorsChunks(entries, metadata));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw await writeError(error, file, path.dirname(file), safetensorsBytes(entries, metadata));
  }
}

/** A tensor whose values are at hand or come in one piece. */
export function entryOf(
  name: string,
  dtype: SafetensorsDType,
  shape: readonly number[],
  values: () => ArrayBufferView | Promise<ArrayBufferView>,
): TensorEntry {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    const view = await values();
    yield new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }
  return { name, dtype, shape, chunks };
}
