/**
 * Reads data files — JSON lines, a JSON array or one object, CSV and TSV, plain text — as rows with line numbers.
 * It does not know what a row means. The rule to keep: a row that cannot be read becomes a reason with its line, not an exception; only a file
 * that cannot be read at all is refused (UserError `data/…`).
 */
import { isUtf8 } from "node:buffer";
import { open, readFile, stat } from "node:fs/promises";
import { extname } from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { readCsv } from "./csv.ts";
import { readLines } from "./lines.ts";

/** One row, or why there is none. */
export type Row = { line: number; value: unknown } | { line: number; problem: string };

export type FileKind = "jsonLines" | "json" | "csv" | "tsv" | "text";

/** JSON that is not in lines is parsed as a whole, so it must fit; larger data belongs in JSON lines. */
const maxJsonBytes = 200_000_000;

/** What kind of file it is, by its name and first bytes. Throws UserError for what cannot be data. */
export async function identifyFile(path: string): Promise<FileKind> {
  const head = await readHead(path);
  const text = head.toString("latin1");
  const refuse = (what: string, action: string): never => {
    throw new UserError("data/unsupported-file", `${path} ${what}.`, action);
  };
  if (head.length === 0) throw new UserError("data/empty-file", `${path} is empty.`, "Give a file with at least one row.");
  if (text.startsWith("version https://git-lfs")) refuse("is a Git LFS pointer, not the data itself", "Run `git lfs pull` where it came from.");
  if (text.startsWith("\x1f\x8b") || text.startsWith("PK\x03\x04")) refuse("is compressed", "Unpack it first.");
  if (text.startsWith("PAR1")) refuse("is a Parquet file, which is not read yet", "Convert it to JSON lines.");
  if (/^(\xff\xfe|\xfe\xff)/.test(text)) refuse("is encoded as UTF-16", "Save it as UTF-8.");
  const extension = extname(path).toLowerCase();
  if (extension === ".json") return /^(?:\xef\xbb\xbf)?\s*(?:\[|\{\s*\n)/.test(text) ? "json" : "jsonLines";
  const kinds: Record<string, FileKind> = {
    ".jsonl": "jsonLines",
    ".ndjson": "jsonLines",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".md": "text",
  };
  return kinds[extension] ?? refuse(`has the unknown extension ${JSON.stringify(extension)}`, "Use .jsonl, .json, .csv, .tsv or .txt.");
}

async function readHead(path: string): Promise<Buffer> {
  try {
    if ((await stat(path)).isDirectory()) throw new UserError("data/unreadable", `${path} is a folder.`, "Name a data file.");
    const handle = await open(path, "r");
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    throw new UserError(
      missing ? "data/missing-file" : "data/unreadable",
      missing ? `There is no ${path}.` : `${path} cannot be read (${error instanceof Error ? error.message : error}).`,
      missing ? "Check the path; in a run file it counts from the file's folder." : "Check the file's permissions.",
      { cause: error },
    );
  }
}

/** Rows of a file in order. Plain text gives rows of {text, continues}: pieces of one document, cut after a line feed. */
export function readRows(path: string, kind: FileKind, pieceBytes = textPieceBytes): AsyncGenerator<Row> {
  switch (kind) {
    case "jsonLines":
      return readJsonLines(path);
    case "json":
      return readJson(path);
    case "csv":
      return readCsv(path, ",");
    case "tsv":
      return readCsv(path, "\t");
    case "text":
      return readText(path, pieceBytes);
  }
}

async function* readJsonLines(path: string): AsyncGenerator<Row> {
  for await (const lines of readLines(path)) {
    for (const { number, bytes } of lines) {
      const row = parseLine(number, bytes);
      if (row !== null) yield row;
    }
  }
}

/** Null for a blank line. */
function parseLine(line: number, bytes: Buffer | null): Row | null {
  if (bytes === null) return { line, problem: "the line is longer than 8 MB" };
  if (!isUtf8(bytes)) return { line, problem: "it is not valid UTF-8" };
  const text = bytes.toString("utf8");
  const json = line === 1 && text.startsWith("\ufeff") ? text.slice(1) : text;
  if (json.trim() === "") return null;
  try {
    return { line, value: JSON.parse(json) };
  } catch (error) {
    return { line, problem: `it is not valid JSON (${describe(error)})` };
  }
}

/** V8's message without the excerpt of the data, which may be private and long. */
function describe(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/, (?:\.\.\.)?".*$/s, "").slice(0, 120);
}

async function* readJson(path: string): AsyncGenerator<Row> {
  const refuse = (what: string, action: string): never => {
    throw new UserError("data/unreadable", `${path} ${what}.`, action);
  };
  if ((await stat(path)).size > maxJsonBytes) refuse("is one JSON value of more than 200 MB", "Write one row a line into a .jsonl file.");
  const bytes = await readFile(path);
  if (!isUtf8(bytes)) refuse("is not valid UTF-8", "Save it as UTF-8.");
  const text = bytes.toString("utf8").replace(/^\ufeff/, "");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(
      "data/unreadable",
      `${path} is not valid JSON (${describe(error)}).`,
      "Correct the file, or write one row a line into a .jsonl file.",
      {
        cause: error,
      },
    );
  }
  if (!Array.isArray(value)) {
    yield { line: 1, value };
    return;
  }
  const lines = elementLines(text);
  for (const [index, element] of value.entries()) yield { line: lines[index], value: element };
}

/** Line on which each element of a valid JSON array begins. */
function elementLines(text: string): number[] {
  const lines: number[] = [];
  let line = 1;
  let depth = 0;
  let expecting = false;
  for (let place = 0; place < text.length; place++) {
    const character = text[place];
    if (character === "\n") line++;
    if (/\s/.test(character)) continue;
    if (depth === 1 && expecting && character !== "]") {
      lines.push(line);
      expecting = false;
    }
    if (character === '"') place = endOfString(text, place);
    else if (character === "[" || character === "{") {
      depth++;
      if (depth === 1) expecting = true;
    } else if (character === "]" || character === "}") depth--;
    else if (character === "," && depth === 1) expecting = true;
  }
  return lines;
}

/** Place of the quote that ends a string; strings of valid JSON hold no line feed. */
function endOfString(text: string, quote: number): number {
  for (let end = text.indexOf('"', quote + 1); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}

/** Text is encoded in pieces of this many bytes; ordinary files are one piece. */
export const textPieceBytes = 16 << 20;
const lineFeed = Buffer.from("\n");

async function* readText(path: string, pieceBytes: number): AsyncGenerator<Row> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  let firstLine = 1;
  let first = true;
  const piece = (ends: boolean): Row => {
    const bytes = Buffer.concat(held);
    if (!isUtf8(bytes)) throw new UserError("data/unreadable", `${path} is not valid UTF-8 (from line ${firstLine} on).`, "Save it as UTF-8.");
    if (bytes.includes(0)) throw new UserError("data/unreadable", `${path} holds NUL bytes, so it is no text file.`, "Name a text file.");
    const text = bytes.toString("utf8");
    const row = { line: firstLine, value: { text: first ? text.replace(/^\ufeff/, "") : text, continues: !ends } };
    first = false;
    held = [];
    heldBytes = 0;
    return row;
  };
  const size = (await stat(path)).size;
  let read = 0;
  for await (const lines of readLines(path)) {
    for (const { number, bytes } of lines) {
      if (bytes === null) throw new UserError("data/unreadable", `Line ${number} of ${path} is longer than 8 MB.`, "Break the line.");
      if (heldBytes >= pieceBytes) {
        yield piece(false);
        firstLine = number;
      }
      held.push(bytes);
      if (read + bytes.length < size) held.push(lineFeed);
      read += bytes.length + 1;
      heldBytes += bytes.length + 1;
    }
  }
  yield piece(true);
}
