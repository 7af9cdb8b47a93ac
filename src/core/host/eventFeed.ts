/**
 * Sends the events of a run to one host without a gap: a cursor that reads events.jsonl from where the host was, and goes on as it grows.
 * The rules to keep: what is sent was read from the file, so that nobody sees an event that a crash could take back; the next events are read only when
 * the last have left, so that a slow host costs no memory, and a quarter of a second later, so that many short steps cost a host no more than a few long ones.
 */
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import type { RunEvent } from "../../protocol/events.ts";
import { runFiles } from "../files/runFolder.ts";

const chunkBytes = 1 << 16;
/** From one sending to the next; what comes after a silence goes at once. */
const restMs = 250;

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
  /** Ends a rest; set while there is one. */
  #wake: (() => void) | null = null;
  #hurried = false;
  #buffer = Buffer.allocUnsafe(chunkBytes);

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

  /** As {@link pump}, without rests from now on: the run ends. */
  finish(): Promise<void> {
    this.#hurried = true;
    this.#wake?.();
    return this.pump();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#pumping?.catch(() => undefined);
    await this.#handle?.close();
    this.#handle = null;
  }

  async #run(): Promise<void> {
    try {
      this.#handle ??= await open(this.#file, "r");
      while (this.#again && !this.#closed) {
        this.#again = false;
        if (await this.#sendGrowth(this.#handle)) await this.#rest();
      }
    } finally {
      // At once after the look at `#again`: a call in between would be lost.
      this.#pumping = null;
    }
  }

  #rest(): Promise<void> | null {
    if (this.#hurried || this.#closed) return null;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, restMs);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }

  /** Whether anything was sent. */
  async #sendGrowth(handle: FileHandle): Promise<boolean> {
    for (let sent = false; ; ) {
      const { bytesRead } = await handle.read(this.#buffer, 0, this.#buffer.length, this.#position);
      // Only whole lines count: half of one may be taken back when the disk is full.
      const end = this.#buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
      if (this.#closed || (end === 0 && bytesRead < this.#buffer.length)) return sent;
      if (end === 0) this.#buffer = Buffer.allocUnsafe(2 * this.#buffer.length);
      this.#position += end;
      if (await this.#sendNew(this.#buffer.toString("utf8", 0, end))) sent = true;
      if (end > 0 && bytesRead < this.#buffer.length) return sent; // the file's end, as far as whoever calls knows of it
    }
  }

  async #sendNew(lines: string): Promise<boolean> {
    const events = lines
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as RunEvent)
      .filter(({ sequence }) => sequence > this.#sent);
    if (events.length === 0) return false;
    await this.#send(events);
    this.#sent = (events.at(-1) as RunEvent).sequence;
    return true;
  }
}
