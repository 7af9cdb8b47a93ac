/**
 * Memory of the portable device. JavaScript cannot give a buffer back, only forget it, so freed buffers are kept for the next tensor of the same
 * size: a training step asks for the same sizes again and again. The rule to keep: live and kept bytes together never exceed the ledger's peak.
 */
import { freemem } from "node:os";
import { UserError } from "../../../../protocol/userError.ts";
import { bytesPerElement, type DType } from "../../device.ts";
import type { MemoryLedger } from "../../memoryLedger.ts";
import type { FloatData } from "./formats.ts";

export type Data = FloatData | Int32Array;

/** Below this a request is granted without asking the system how much is free. */
const unquestionedBytes = 64 << 20;

function typed(buffer: ArrayBuffer, dtype: DType): Data {
  if (dtype === "bf16") return new Uint16Array(buffer);
  return dtype === "f32" ? new Float32Array(buffer) : new Int32Array(buffer);
}

export class Buffers {
  readonly #ledger: MemoryLedger;
  /** Kept buffers, the longest kept first. */
  #kept: ArrayBuffer[] = [];
  #keptBytes = 0;

  constructor(ledger: MemoryLedger) {
    this.#ledger = ledger;
  }

  /** Throws UserError `device/out-of-memory`, before anything changed, when the memory cannot be had. */
  create(size: number, dtype: DType): Data {
    const bytes = size * bytesPerElement[dtype];
    const index = this.#kept.findIndex((buffer) => buffer.byteLength === bytes);
    if (index >= 0) {
      this.#keptBytes -= bytes;
      return typed(this.#kept.splice(index, 1)[0], dtype);
    }
    const data = typed(allocate(bytes), dtype);
    const bound = Math.max(this.#ledger.peakBytes, this.#ledger.liveBytes + bytes);
    while (this.#ledger.liveBytes + bytes + this.#keptBytes > bound) this.#keptBytes -= (this.#kept.shift() as ArrayBuffer).byteLength;
    return data;
  }

  release(data: Data): void {
    if (data.byteLength === 0) return;
    this.#kept.push(data.buffer as ArrayBuffer);
    this.#keptBytes += data.byteLength;
  }

  forget(): void {
    this.#kept = [];
    this.#keptBytes = 0;
  }
}

function allocate(bytes: number): ArrayBuffer {
  // Linux hands out more than it has and kills the process later; elsewhere freemem does not count memory that would be made free.
  const short = process.platform === "linux" && bytes > unquestionedBytes && bytes > freemem();
  try {
    if (!short) return new ArrayBuffer(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  throw new UserError(
    "device/out-of-memory",
    `The cpu device needs ${mebibytes(bytes)} more memory, and ${mebibytes(freemem())} are free.`,
    "Lower sequenceLength or batchSize, set recompute: layer, or close other programs.",
    { badInput: false },
  );
}

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
