/** Reads a ZIP file's list of entries and their bytes, as far as a VSIX uses the format: stored or deflated, no ZIP64. */
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";

export interface ZipEntry {
  name: string;
  compressedBytes: number;
  read(): Buffer;
}

const endSignature = 0x06054b50;
const entrySignature = 0x02014b50;

export function readZip(file: string): ZipEntry[] {
  const bytes = readFileSync(file);
  // The end record is last but for a comment.
  let end = bytes.length - 22;
  while (end >= 0 && bytes.readUInt32LE(end) !== endSignature) end--;
  if (end < 0) throw new Error(`${file} is no ZIP file`);
  const entries: ZipEntry[] = [];
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left--) {
    if (bytes.readUInt32LE(at) !== entrySignature) throw new Error(`${file} is damaged at ${at}`);
    const method = bytes.readUInt16LE(at + 10);
    const compressedBytes = bytes.readUInt32LE(at + 20);
    const lengths = [28, 30, 32].map((offset) => bytes.readUInt16LE(at + offset));
    const local = bytes.readUInt32LE(at + 42);
    const name = bytes.toString("utf8", at + 46, at + 46 + lengths[0]);
    entries.push({ name, compressedBytes, read: () => content(bytes, local, compressedBytes, method) });
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return entries;
}

function content(bytes: Buffer, local: number, length: number, method: number): Buffer {
  const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
  const stored = bytes.subarray(start, start + length);
  return method === 0 ? stored : inflateRawSync(stored);
}
