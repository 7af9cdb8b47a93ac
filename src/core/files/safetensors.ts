/**
 * Reads safetensors files: the header checked in full before anything is believed, tensor bytes by position. Never a whole file into memory.
 * It does not interpret tensors, knows no model, and does not look at values.
 * The rule to keep: nothing is allocated by a size from the file before that size was checked against the file itself.
 * Source: the checks of huggingface/safetensors' Rust reader, in its order; stricter in that a key given twice, `__proto__`, numbers that are no
 * plain integers or pass 2^53, and lone surrogates are refused.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { UserError } from "../../protocol/userError.ts";
import { recogniseForeignFormat } from "./foreignFormats.ts";
import { decodeUtf8, JsonRefused, type JsonValue, parseStrictJson, quote } from "./strictJson.ts";

/** Bits of one element by dtype, in upstream's order of alignment, which is the order tensors are written in (last first). */
export const dtypeBits = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type SafetensorsDType = keyof typeof dtypeBits;

/** One tensor of a header; `begin` and `end` are bytes from the header's `dataStart`. */
export interface TensorInfo {
  dtype: SafetensorsDType;
  shape: number[];
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  tensors: Map<string, TensorInfo>;
  metadata: Map<string, string>;
  /** Position of the first tensor's first byte. */
  dataStart: number;
  fileBytes: number;
}

/** Upstream's bound on the header, in bytes. */
export const maxHeaderBytes = 100_000_000;

const downloadAgain = "Download or export the file again.";

function refuse(file: string, code: string, reason: string, action = downloadAgain): UserError {
  return new UserError(`safetensors/${code}`, `${file}: ${reason}.`, action);
}

/** Reads and checks the header of a file. Throws UserError `safetensors/…`, the codes being upstream's error names where it has one. */
export async function readHeader(file: string): Promise<SafetensorsHeader> {
  const opened = await openSafetensors(file);
  await opened.close();
  return opened.header;
}

/** An open file with a checked header. */
export class SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  readonly #handle: FileHandle;

  constructor(file: string, header: SafetensorsHeader, handle: FileHandle) {
    this.path = file;
    this.header = header;
    this.#handle = handle;
  }

  /** The entry of a tensor; throws UserError `safetensors/TensorNotFound`. */
  info(name: string): TensorInfo {
    const info = this.header.tensors.get(name);
    if (!info) throw refuse(this.path, "TensorNotFound", `it has no tensor ${quote(name)}`);
    return info;
  }

  /** Bytes [begin, end) of a tensor, counted from its start; the whole tensor by default. In a fresh buffer, or in the start of `into`. */
  async readBytes(name: string, begin = 0, end?: number, into?: Uint8Array): Promise<Uint8Array> {
    const info = this.info(name);
    const stop = end ?? info.end - info.begin;
    if (begin < 0 || stop < begin || stop > info.end - info.begin) throw new RangeError(`bytes ${begin}…${stop} are outside ${name}`);
    return this.readAt(this.header.dataStart + info.begin + begin, stop - begin, into);
  }

  /** `bytes` bytes from a position in the file, in a fresh buffer or in the start of `into`. */
  async readAt(position: number, bytes: number, into?: Uint8Array): Promise<Uint8Array> {
    const buffer = into ? into.subarray(0, bytes) : Buffer.allocUnsafeSlow(bytes);
    await readFully(this.#handle, buffer, position, this.path);
    return buffer;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Opens a file, checks its header, and keeps it open for reading; the caller closes it. */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const status = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw cannotRead(file, error);
  });
  // Looked at before opening: opening a pipe would wait for a writer.
  if (!status.isFile()) {
    throw refuse(
      file,
      "NotAFile",
      `it is ${status.isDirectory() ? "a folder" : "no regular file"}, not a safetensors file`,
      "Give a .safetensors file.",
    );
  }
  const handle = await open(file, "r").catch((error: NodeJS.ErrnoException) => {
    throw cannotRead(file, error);
  });
  try {
    const { size } = await handle.stat();
    return new SafetensorsFile(file, await headerOf(handle, file, size), handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function cannotRead(file: string, error: NodeJS.ErrnoException): UserError {
  const reasons: Record<string, string> = {
    ENOENT: "it does not exist",
    EACCES: "it may not be read",
    ELOOP: "its links lead in a circle",
    ENOTDIR: "its folder is a file",
  };
  const reason = reasons[error.code ?? ""] ?? `it cannot be opened (${error.code ?? error.message})`;
  const code = error.code === "ENOENT" || error.code === "ENOTDIR" ? "NotFound" : "CannotRead";
  return new UserError(`safetensors/${code}`, `${file}: ${reason}.`, "Check the path and the file's permissions.", { cause: error });
}

async function readFully(handle: FileHandle, buffer: Uint8Array, position: number, file: string): Promise<void> {
  for (let filled = 0; filled < buffer.length; ) {
    const { bytesRead } = await handle.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) throw refuse(file, "Truncated", `it ends ${buffer.length - filled} bytes early; it was cut while it was being read`);
    filled += bytesRead;
  }
}

async function headerOf(handle: FileHandle, file: string, fileBytes: number): Promise<SafetensorsHeader> {
  const head = Buffer.alloc(Math.min(512, fileBytes));
  await readFully(handle, head, 0, file);
  try {
    const length = headerLength(head, file, fileBytes);
    const bytes = Buffer.allocUnsafeSlow(length);
    await readFully(handle, bytes, 8, file);
    return checkHeader(parseHeader(bytes, file), file, 8 + length, fileBytes);
  } catch (error) {
    const notJson =
      error instanceof UserError &&
      ["HeaderTooLarge", "InvalidHeaderLength", "InvalidHeader", "InvalidHeaderDeserialization"].includes(error.code.slice(12));
    const foreign = notJson ? recogniseForeignFormat(head) : null;
    throw foreign ? refuse(file, foreign.code, `it is ${foreign.what}`, foreign.action) : error;
  }
}

/** Rule 1: the length of the header, which must lie in the file. */
function headerLength(head: Buffer, file: string, fileBytes: number): number {
  if (fileBytes < 8)
    throw refuse(file, "HeaderTooSmall", fileBytes === 0 ? "it is empty" : `it has ${fileBytes} bytes, fewer than the 8 of a header's length`);
  const length = head.readBigUInt64LE(0);
  if (length > BigInt(maxHeaderBytes))
    throw refuse(file, "HeaderTooLarge", `its header would have ${length} bytes; at most ${maxHeaderBytes} are allowed`);
  if (8 + Number(length) > fileBytes) {
    throw refuse(
      file,
      "InvalidHeaderLength",
      `its header would have ${length} bytes, but the file has ${fileBytes}; it was cut, or it is no safetensors file`,
    );
  }
  return Number(length);
}

/** Rule 2: UTF-8, then JSON, then an object. */
function parseHeader(bytes: Uint8Array, file: string): { [key: string]: JsonValue } {
  let text: string;
  try {
    text = decodeUtf8(bytes);
  } catch {
    throw refuse(file, "InvalidHeader", "its header is not valid UTF-8");
  }
  try {
    const value = parseStrictJson(text, { unsignedIntegersOnly: true });
    if (isObject(value)) return value;
  } catch (error) {
    if (error instanceof JsonRefused) throw refuse(file, "InvalidHeaderDeserialization", `its header is refused: ${error.message}`);
    throw error;
  }
  throw refuse(file, "InvalidHeaderDeserialization", "its header is no JSON object");
}

function isObject(value: JsonValue | undefined): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Rules 2 (fields), 3, 4 and 5. */
function checkHeader(json: { [key: string]: JsonValue }, file: string, dataStart: number, fileBytes: number): SafetensorsHeader {
  const metadata = new Map<string, string>();
  const entries: [string, TensorInfo][] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") readMetadata(metadata, value, file);
    else entries.push([name, tensorInfo(name, value, file)]);
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const [name, info] of entries) {
    checkTensor(name, info, position, file);
    position = info.end;
  }
  if (dataStart + position !== fileBytes) {
    const difference = fileBytes - dataStart - position;
    const reason = difference < 0 ? `${-difference} bytes of its tensors are missing; it was cut` : `${difference} bytes follow its last tensor`;
    throw refuse(file, "MetadataIncompleteBuffer", reason);
  }
  return { tensors: new Map(entries), metadata, dataStart, fileBytes };
}

function readMetadata(metadata: Map<string, string>, value: JsonValue, file: string): void {
  if (!isObject(value)) throw refuse(file, "InvalidHeaderDeserialization", "its __metadata__ is no object");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw refuse(file, "InvalidHeaderDeserialization", `__metadata__ ${quote(key)} is no string`);
    metadata.set(key, text);
  }
}

function tensorInfo(name: string, value: JsonValue, file: string): TensorInfo {
  const bad = (reason: string) => refuse(file, "InvalidHeaderDeserialization", `tensor ${quote(name)} ${reason}`);
  if (!isObject(value)) throw bad("is described by no object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string") throw bad("has no dtype");
  if (!Object.hasOwn(dtypeBits, dtype)) throw bad(`has the unknown dtype ${quote(dtype)}`);
  if (!Array.isArray(shape) || !shape.every((n) => typeof n === "number")) throw bad("has no shape");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((n) => typeof n === "number")) throw bad("has no pair of data_offsets");
  return { dtype: dtype as SafetensorsDType, shape: shape as number[], begin: offsets[0] as number, end: offsets[1] as number };
}

/** Rules 3 and 4 for one tensor whose bytes must start at `position`. */
function checkTensor(name: string, { dtype, shape, begin, end }: TensorInfo, position: number, file: string): void {
  if (begin !== position || end < begin || !Number.isSafeInteger(end)) {
    const reason = begin > position ? "leaves a hole before it" : begin < position ? "overlaps the one before it" : "has offsets that are no range";
    throw refuse(file, "InvalidOffset", `tensor ${quote(name)} ${reason} (bytes ${begin} to ${end}, expected from ${position})`);
  }
  let bits: number = dtypeBits[dtype];
  let elements = 1;
  for (const n of shape) elements = Number.isSafeInteger(n) && Number.isSafeInteger(elements * n) ? elements * n : Number.POSITIVE_INFINITY;
  bits *= elements;
  // Shown as a count and not as the shape, which may have as many entries as the header has room for.
  if (!Number.isSafeInteger(bits)) throw refuse(file, "ValidationOverflow", `tensor ${quote(name)} has a shape of more elements than can be counted`);
  if (bits % 8 !== 0) throw refuse(file, "MisalignedSlice", `tensor ${quote(name)} (${dtype}, ${elements} elements) ends within a byte`);
  if (end - begin !== bits / 8)
    throw refuse(file, "TensorInvalidInfo", `tensor ${quote(name)} (${dtype}, ${elements} elements) needs ${bits / 8} bytes but has ${end - begin}`);
}
