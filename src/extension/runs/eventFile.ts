/**
 * Reads events.jsonl of a run as a host does: whole, by its ends, or what was added since. It never writes and holds no state of the run.
 * The rules to keep: a line is an event only if the schemas say so, and what is none is reported and left out; a last line without an end is not yet
 * there; whatever the file holds, no more than a chunk and one line of it is in memory beside the events.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { setImmediate as breath } from "node:timers/promises";
import { asRunEvent } from "../../protocol/eventSchemas.ts";
import type { RunEvent } from "../../protocol/events.ts";

const chunkBytes = 1 << 18;
/** A longer line is no event. */
const maxLineBytes = 1 << 24;
/** As much of each end says how a run stands. */
const endBytes = 1 << 14;

export type Report = (what: string) => void;

/** Cuts bytes that come one after the other into events. */
class LineCutter {
  readonly #report: Report;
  #rest: Buffer[] = [];
  #restBytes = 0;
  #skipping: boolean;
  /** Bytes up to the end of the last whole line. */
  wholeBytes = 0;

  /** `inLine`: the bytes begin in the midst of a line, which is passed over. */
  constructor(report: Report, inLine = false) {
    this.#report = report;
    this.#skipping = inLine;
  }

  push(chunk: Buffer): RunEvent[] {
    const events: RunEvent[] = [];
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      const part = chunk.subarray(from, end);
      if (!this.#skipping) this.#read(this.#restBytes > 0 ? Buffer.concat([...this.#rest, part]) : part, events);
      this.wholeBytes += this.#restBytes + part.length + 1;
      this.#rest = [];
      this.#restBytes = 0;
      this.#skipping = false;
      from = end + 1;
    }
    this.#keep(chunk.subarray(from));
    return events;
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return;
    this.#restBytes += part.length;
    if (this.#skipping) return;
    this.#rest.push(Buffer.from(part));
    if (this.#restBytes <= maxLineBytes) return;
    this.#report("a line of events.jsonl is too long to be an event");
    this.#rest = [];
    this.#skipping = true;
  }

  #read(line: Buffer, events: RunEvent[]): void {
    if (line.length === 0) return;
    const event = parsed(line);
    if (event) events.push(event);
    else this.#report(`a line of events.jsonl is no event: ${line.toString("utf8", 0, 80)}`);
  }
}

function parsed(line: Buffer): RunEvent | null {
  try {
    return asRunEvent(JSON.parse(line.toString("utf8")));
  } catch {
    return null;
  }
}

export function eventsFile(runFolder: string): string {
  return path.join(runFolder, "events.jsonl");
}

/** All events, at once. Absent or unreadable: none. */
export function readEventsSync(runFolder: string, report: Report): RunEvent[] {
  return withFile(runFolder, [], (handle) => {
    const cutter = new LineCutter(report);
    const buffer = Buffer.allocUnsafe(chunkBytes);
    const all: RunEvent[] = [];
    for (let position = 0; ; ) {
      const bytes = readSync(handle, buffer, 0, buffer.length, position);
      if (bytes === 0) return all;
      position += bytes;
      for (const event of cutter.push(buffer.subarray(0, bytes))) all.push(event);
    }
  });
}

/**
 * The events from a position on, chunk by chunk, with others having their turn in between. Resolves to the position after the last whole line, where a
 * later call goes on.
 */
export async function readEventsFrom(runFolder: string, start: number, report: Report, take: (events: RunEvent[]) => void): Promise<number> {
  const handle = await open(eventsFile(runFolder), "r").catch(() => null);
  if (!handle) return start;
  try {
    const cutter = new LineCutter(report);
    const buffer = Buffer.allocUnsafe(chunkBytes);
    for (let position = start; ; ) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return start + cutter.wholeBytes;
      position += bytesRead;
      const events = cutter.push(buffer.subarray(0, bytesRead));
      if (events.length > 0) take(events);
      await breath();
    }
  } finally {
    await handle.close();
  }
}

/** The first and the last events of a run, without those in between, and the position after the last whole line. */
export function readEnds(runFolder: string, report: Report): { first: RunEvent[]; last: RunEvent[]; position: number } {
  return withFile(runFolder, { first: [], last: [], position: 0 }, (handle) => {
    const { size } = fstatSync(handle);
    // A line of a large model's selection can be longer than what usually is enough.
    for (let bytes = endBytes; ; bytes *= 8) {
      const start = Math.max(0, size - bytes);
      const { events: last, wholeBytes } = readPart(handle, start, size, report);
      if (last.length === 0 && start > 0 && bytes < maxLineBytes) continue;
      const begun = last.some(({ kind }) => kind === "started");
      const first = start > 0 && !begun ? readPart(handle, 0, Math.min(start, endBytes), report).events : [];
      return { first, last, position: start + wholeBytes };
    }
  });
}

function readPart(handle: number, start: number, end: number, report: Report): { events: RunEvent[]; wholeBytes: number } {
  const buffer = Buffer.allocUnsafe(end - start);
  const bytes = readSync(handle, buffer, 0, buffer.length, start);
  const cutter = new LineCutter(report, start > 0);
  const events = cutter.push(buffer.subarray(0, bytes));
  return { events, wholeBytes: cutter.wholeBytes };
}

/** An absent or unreadable file is as good as an empty one: the folder then says nothing of the run. */
function withFile<T>(runFolder: string, otherwise: T, read: (handle: number) => T): T {
  let handle: number;
  try {
    handle = openSync(eventsFile(runFolder), "r");
  } catch {
    return otherwise;
  }
  try {
    return read(handle);
  } catch {
    return otherwise;
  } finally {
    closeSync(handle);
  }
}
