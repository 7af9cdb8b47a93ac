/**
 * events.jsonl of a run: one JSON object a line, appended only, numbered without a gap from 1. What the events mean is in protocol/events.ts.
 * The rules to keep: every event is handed to the operating system before `append` returns, so that `kill -9` loses none; a last line that was cut
 * is removed when the log is opened for writing and passed over by readers.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import type { RunEvent, RunEventBody } from "../../protocol/events.ts";
import { UserError } from "../../protocol/userError.ts";
import { formatBytes } from "../terminal/format.ts";
import { writeError } from "./durableFile.ts";
import { runFiles } from "./runFolder.ts";

/** Appends events to a run. One per run: the process that holds the lock. */
export class EventLog {
  readonly #file: string;
  readonly #fd: number;
  #bytes: number;
  #sequence: number;

  private constructor(file: string, fd: number, bytes: number, sequence: number) {
    this.#file = file;
    this.#fd = fd;
    this.#bytes = bytes;
    this.#sequence = sequence;
  }

  /** Opens the log, removing a line that was cut. Throws UserError `run/bad-events` when a line before the last is no event or a number is missing. */
  static async open(runFolder: string): Promise<EventLog> {
    const file = path.join(runFolder, runFiles.events);
    const fd = openSync(file, "a+");
    try {
      let sequence = 0;
      let bytes = 0;
      for await (const { event, end } of lines(file)) {
        sequence = event.sequence;
        bytes = end;
      }
      ftruncateSync(fd, bytes);
      return new EventLog(file, fd, bytes, sequence);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Sequence number of the last event; 0 when there is none. */
  get lastSequence(): number {
    return this.#sequence;
  }

  /** Writes the event and returns it with its number and time. A line that does not fit is taken back, and UserError `run/disk-full` thrown. */
  append(body: RunEventBody, timeMs = Date.now()): RunEvent {
    const event = { sequence: this.#sequence + 1, timeMs, ...body } as RunEvent;
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    try {
      for (let done = 0; done < line.length; ) done += writeSync(this.#fd, line, done);
    } catch (error) {
      ftruncateSync(this.#fd, this.#bytes);
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      const message = `The disk is full: ${this.#file} needs ${formatBytes(line.length)} more.`;
      throw new UserError("run/disk-full", message, "Free space on that disk.", { badInput: false, cause: error });
    }
    this.#bytes += line.length;
    this.#sequence++;
    return event;
  }

  /** Makes everything appended so far survive a power loss. */
  sync(): void {
    fsyncSync(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** All complete events of a run, also while another process appends to it. An absent log has none. */
export async function readEvents(runFolder: string): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const { event } of lines(path.join(runFolder, runFiles.events))) events.push(event);
  return events;
}

/** The events of a file with the position after each; stops before a last line that has no end or, after a power loss, no sense. */
async function* lines(file: string): AsyncGenerator<{ event: RunEvent; end: number }> {
  const handle = await open(file, "r").catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw await writeError(error, runFiles.events, path.dirname(file), 0);
  });
  if (!handle) return;
  try {
    let rest = Buffer.alloc(0);
    let position = 0;
    let sequence = 0;
    let bad: string | null = null;
    const buffer = Buffer.allocUnsafe(1 << 20);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position + rest.length);
      if (bytesRead === 0) return;
      let text = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      for (let newline = text.indexOf(0x0a); newline >= 0; newline = text.indexOf(0x0a)) {
        if (bad)
          throw new UserError("run/bad-events", `${file}: ${bad}.`, "The file was changed by hand or damaged; restore it, or start a new run.");
        const event = parseEvent(text.subarray(0, newline), sequence + 1);
        position += newline + 1;
        text = text.subarray(newline + 1);
        if (event) {
          sequence = event.sequence;
          yield { event, end: position };
        } else bad = `the line after event ${sequence} is not event ${sequence + 1}`;
      }
      rest = Buffer.from(text);
    }
  } finally {
    await handle.close();
  }
}

function parseEvent(line: Uint8Array, sequence: number): RunEvent | null {
  try {
    const event = JSON.parse(Buffer.from(line).toString("utf8")) as RunEvent;
    return event?.sequence === sequence && typeof event.kind === "string" ? event : null;
  } catch {
    return null;
  }
}
