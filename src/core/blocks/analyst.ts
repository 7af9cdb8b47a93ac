/**
 * Finds the statistics of blocks in a thread beside this one, so that neither a training step nor another answer waits for singular values. What they are
 * is analysis.ts's business.
 * The rules to keep: one block at a time; the thread goes when it is asked nothing, and never keeps a process alive; every promise ends.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { Analysis } from "../../protocol/coreProtocol.ts";

/** A thread that is asked nothing for so long is ended. */
const idleMs = 10_000;

/** What the thread is asked: the statistics of a block (rows, columns), row-major f32. */
export interface Question {
  id: number;
  values: Float32Array;
  rows: number;
  columns: number;
}
/** What it answers to the question of that id, and how long it computed. */
export interface Found {
  id: number;
  analysis: Analysis;
  analysisMs: number;
}

interface Waiting {
  resolve(found: Omit<Found, "id">): void;
  reject(error: Error): void;
}

/** The thread's program: beside the bundle, or in source form. */
function program(): string {
  const bundled = fileURLToPath(new URL("./analysis.js", import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL("./analysisMain.ts", import.meta.url));
}

/** Asks the thread, which it starts when it is first needed. */
export class Analyst {
  #worker: Worker | null = null;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #timer: NodeJS.Timeout | null = null;

  /** Statistics of a whole block, row-major; of one that is too large (null) null, of none (undefined) nothing. */
  async analyze(
    whole: Float32Array | null | undefined,
    { blockRows, blockColumns }: { blockRows: number; blockColumns: number },
  ): Promise<{ analysis?: Analysis | null; analysisMs?: number }> {
    if (whole === undefined) return {};
    if (whole === null) return { analysis: null };
    return this.#ask(whole, blockRows, blockColumns);
  }

  #ask(values: Float32Array, rows: number, columns: number): Promise<Omit<Found, "id">> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#worker ??= this.#start();
    const id = ++this.#asked;
    const question: Question = { id, values, rows, columns };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker?.postMessage(question);
    });
  }

  #start(): Worker {
    const worker = new Worker(program());
    worker.on("message", ({ id, ...found }: Found) => {
      this.#waiting.get(id)?.resolve(found);
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#timer = setTimeout(() => this.#rest(), idleMs).unref();
    });
    let reason = new Error("the thread that analyses blocks has ended");
    worker.on("error", (error) => {
      reason = error instanceof Error ? error : new Error(String(error));
    });
    worker.on("exit", () => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      for (const [id, { reject }] of this.#waiting) {
        this.#waiting.delete(id);
        reject(reason);
      }
    });
    worker.unref(); // after the listeners: listening for messages refs it again
    return worker;
  }

  #rest(): void {
    void this.#worker?.terminate();
    this.#worker = null;
  }
}
