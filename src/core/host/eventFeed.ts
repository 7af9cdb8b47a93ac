/**
 * Sends the events of a run to one host without a gap: a cursor that reads events.jsonl from where the host was, and goes on as it grows.
 * The rules to keep: what is sent was read from the file, so that nobody sees an event that a crash could take back; the next events are read only when
 * the last have left, so that a slow host costs no memory.
 */
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import type { RunEvent } from "../../protocol/events.ts";
import { runFiles } from "../files/runFolder.ts";

const chunkBytes = 1 << 18;

export class EventFeed {
  readonly #file: string;
  readonly #send: (events: RunEvent[]) => Promise<void>;
  #sent: number;
  #position = 0;
  #handle: FileHandle | null = null;
  #closed = false;
  /** Set while reading; `#again` when the file grew meanwhile. */
  #pumping: Promise<void> | null = null;
  #again = false;

  /** `send` resolves when the events have left. */
  constructor(runFolder: string, after: number, send: (events: RunEvent[]) => Promise<void>) {
    this.#file = path.join(runFolder, runFiles.events);
    this.#sent = after;
    this.#send = send;
  }

  /** Sends what the file holds beyond what was sent; resolves when that has left. Called whenever an event was written. */
  pump(): Promise<void> {
    this.#again = true;
    this.#pumping ??= this.#run();
    return this.#pumping;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pumping?.catch(() => undefined);
    await this.#handle?.close();
    this.#handle = null;
  }

  async #run(): Promise<void> {
    try {
      this.#handle ??= await open(this.#file, "r");
      while (this.#again && !this.#closed) {
        this.#again = false;
        await this.#sendGrowth(this.#handle);
      }
    } finally {
      // At once after the look at `#again`: a call in between would be lost.
      this.#pumping = null;
    }
  }

  async #sendGrowth(handle: FileHandle): Promise<void> {
    for (let buffer = Buffer.allocUnsafe(chunkBytes); ; ) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, this.#position);
      // Only whole lines count: half of one may be taken back when the disk is full.
      const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
      if (this.#closed || (end === 0 && bytesRead < buffer.length)) return;
      if (end === 0) buffer = Buffer.allocUnsafe(2 * buffer.length);
      this.#position += end;
      await this.#sendNew(buffer.toString("utf8", 0, end));
    }
  }

  async #sendNew(lines: string): Promise<void> {
    const events = lines
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as RunEvent)
      .filter(({ sequence }) => sequence > this.#sent);
    if (events.length === 0) return;
    await this.#send(events);
    this.#sent = (events.at(-1) as RunEvent).sequence;
  }
}
