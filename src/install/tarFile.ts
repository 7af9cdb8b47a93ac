/**
 * Takes one file, or a package's files, out of a tar archive that comes piece by piece: ustar with the long names of GNU and pax. Plain Node.
 * The rule to keep: the archive decides nothing but bytes. Where they are written is the caller's choice; names, links, owners and modes of the archive lead
 * to no file, and sizes are limits to be kept, not memory to be taken.
 */

const blockBytes = 512;
/** A longer name is none of a package's. */
const maxNameBytes = 1 << 16;

/** What is wrong with an archive, as the end of a sentence. */
export class ArchiveError extends Error {}

interface TarEntry {
  name: string;
  type: string;
  size: number;
}

/**
 * Writes the regular file `wanted` of the archive through `write`, and reads no further. Throws ArchiveError when it is not there, no regular file, larger than
 * `maxBytes`, or when the archive ends too early or is none.
 */
export async function extractFile(
  archive: AsyncIterable<Buffer>,
  wanted: string,
  maxBytes: number,
  write: (piece: Buffer, fileBytes: number) => Promise<void>,
): Promise<void> {
  const bytes = new PieceReader(archive);
  try {
    for (;;) {
      const entry = await nextEntry(bytes);
      if (entry === null) throw new ArchiveError(`it holds no ${wanted}`);
      const padding = (blockBytes - (entry.size % blockBytes)) % blockBytes;
      if (entry.name !== wanted) {
        await bytes.take(entry.size + padding, async () => undefined);
        continue;
      }
      if (entry.type !== "0") throw new ArchiveError(`its ${wanted} is no regular file`);
      if (entry.size > maxBytes) throw new ArchiveError(`its ${wanted} has ${entry.size} bytes`);
      return await bytes.take(entry.size, (piece) => write(piece, entry.size));
    }
  } finally {
    await bytes.close();
  }
}

/**
 * Hands every regular file of a packed package to `write`, by the parts of its name without the archive's first folder, as npm leaves it out; folders and links
 * are passed over. Throws ArchiveError when a name leads out of the package, when all of it is larger than `maxBytes`, ends too early or is no archive.
 */
export async function extractPackage(
  archive: AsyncIterable<Buffer>,
  maxBytes: number,
  write: (name: readonly string[], content: Buffer) => Promise<void>,
): Promise<void> {
  const bytes = new PieceReader(archive);
  let total = 0;
  try {
    for (let entry = await nextEntry(bytes); entry !== null; entry = await nextEntry(bytes)) {
      total += entry.size;
      if (total > maxBytes) throw new ArchiveError(`it has more than ${maxBytes} bytes`);
      const pieces: Buffer[] = [];
      await bytes.take(entry.size, async (piece) => void pieces.push(piece));
      await bytes.take((blockBytes - (entry.size % blockBytes)) % blockBytes, async () => undefined);
      if (entry.type === "0") await write(insideParts(entry.name), Buffer.concat(pieces));
    }
  } finally {
    await bytes.close();
  }
}

/** The parts of a file's name below the archive's first folder. What another system would read as a way out is one here too. */
function insideParts(name: string): string[] {
  const [first, ...parts] = name.split("/").filter((part) => part !== "" && part !== ".");
  if (name.startsWith("/") || parts.length === 0 || [first, ...parts].some((part) => part === ".." || /[\\:\0]/.test(part)))
    throw new ArchiveError("a name in it leads out of the package");
  return parts;
}

/** The next file, folder or link with its full name; null at the end of the archive. */
async function nextEntry(bytes: PieceReader): Promise<TarEntry | null> {
  let longName: string | null = null;
  let paxSize: number | null = null;
  for (;;) {
    const header = await bytes.exactly(blockBytes);
    if (header === null || header.every((byte) => byte === 0)) return null;
    const entry = readHeader(header);
    if (entry.type === "L") longName = textOf(await content(bytes, entry.size));
    else if (entry.type === "x") {
      const records = paxRecords(await content(bytes, entry.size));
      longName = records.get("path") ?? longName;
      if (records.has("size")) paxSize = naturalNumber(records.get("size") as string, 10);
    } else if (entry.type === "g" || entry.type === "K") await content(bytes, entry.size);
    else return { name: longName ?? entry.name, type: entry.type, size: paxSize ?? entry.size };
  }
}

/** What belongs to the next entry, without its padding. */
async function content(bytes: PieceReader, size: number): Promise<Buffer> {
  if (size > maxNameBytes) throw new ArchiveError("a name in it is too long");
  const padded = await bytes.exactly(Math.ceil(size / blockBytes) * blockBytes);
  if (padded === null && size > 0) throw new ArchiveError("it ends too early");
  return (padded ?? Buffer.alloc(0)).subarray(0, size);
}

function readHeader(header: Buffer): TarEntry {
  let sum = 0;
  // The checksum counts itself as spaces.
  for (let at = 0; at < blockBytes; at++) sum += at >= 148 && at < 156 ? 32 : header[at];
  if (naturalNumber(textOf(header.subarray(148, 156)), 8) !== sum) throw new ArchiveError("it is no tar archive, or damaged");
  const prefix = textOf(header.subarray(257, 262)) === "ustar" ? textOf(header.subarray(345, 500)) : "";
  const name = textOf(header.subarray(0, 100));
  const type = header[156] === 0 ? "0" : String.fromCharCode(header[156]);
  return { name: prefix ? `${prefix}/${name}` : name, type, size: sizeOf(header.subarray(124, 136)) };
}

/** Octal digits, or a binary number where they do not suffice. */
function sizeOf(field: Buffer): number {
  if ((field[0] & 0x80) === 0) return naturalNumber(textOf(field), 8);
  const size = field.subarray(4).readBigUInt64BE();
  if (field.subarray(1, 4).some((byte) => byte !== 0) || size > BigInt(Number.MAX_SAFE_INTEGER))
    throw new ArchiveError("a size in it is not possible");
  return Number(size);
}

function naturalNumber(digits: string, radix: 8 | 10): number {
  const text = digits.trim();
  const value = /^[0-9]*$/.test(text) ? Number.parseInt(text || "0", radix) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new ArchiveError("it is no tar archive, or damaged");
  return value;
}

/** Up to the first zero byte. */
function textOf(field: Buffer): string {
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? field.length : end);
}

/** `LENGTH KEY=VALUE\n`, the length of the whole record in bytes. */
function paxRecords(records: Buffer): Map<string, string> {
  const found = new Map<string, string>();
  for (let at = 0; at < records.length; ) {
    const space = records.indexOf(32, at);
    const length = space < 0 ? 0 : naturalNumber(records.toString("utf8", at, space), 10);
    const record = records.toString("utf8", space + 1, at + length - 1);
    const equals = record.indexOf("=");
    if (length <= space - at || at + length > records.length || equals < 0) throw new ArchiveError("it is no tar archive, or damaged");
    found.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return found;
}

/** Reads counted bytes from pieces of any length. */
class PieceReader {
  readonly #pieces: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(pieces: AsyncIterable<Buffer>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Hands on `count` bytes as they come. */
  async take(count: number, use: (piece: Buffer) => Promise<void>): Promise<void> {
    for (let left = count; left > 0; ) {
      if (this.#rest.length === 0 && !(await this.#more())) throw new ArchiveError("it ends too early");
      const piece = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(piece.length);
      left -= piece.length;
      await use(piece);
    }
  }

  /** `count` bytes at once; null when the archive has ended before the first of them. */
  async exactly(count: number): Promise<Buffer | null> {
    if (this.#rest.length === 0 && !(await this.#more())) return null;
    const pieces: Buffer[] = [];
    await this.take(count, async (piece) => void pieces.push(piece));
    return Buffer.concat(pieces);
  }

  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async #more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#pieces.next();
      if (next.done) return false;
      this.#rest = next.value;
    }
    return true;
  }
}
