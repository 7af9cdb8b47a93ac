/**
 * The card's memory: buffers by size, kept for reuse when a tensor is freed, and the transfers between card and host.
 * The rules to keep: a buffer is as long as whole 32-bit words of its tensor, at least one; what is kept for reuse is bounded, because the ledger does
 * not count it.
 */
import { UserError } from "../../../protocol/userError.ts";
import { bytesPerElement, type DType } from "../device.ts";

/** Storage of a tensor: elements [at, at + size) of a buffer that holds one dtype. */
export interface GpuData {
  buffer: GPUBuffer;
  at: number;
  size: number;
}

/** Freed buffers kept for the next tensor of their size, at most. */
const keptBytes = 256 << 20;
const usage = 0x0004 | 0x0008 | 0x0080; // COPY_SRC | COPY_DST | STORAGE

export class Buffers {
  readonly #device: GPUDevice;
  readonly #free = new Map<number, GPUBuffer[]>();
  #freeBytes = 0;
  readonly #all = new Set<GPUBuffer>();

  readonly #submit: () => void;

  /** `submit` hands over what was recorded, which may use a buffer that is about to be destroyed. */
  constructor(device: GPUDevice, submit: () => void) {
    this.#device = device;
    this.#submit = submit;
  }

  create(size: number, dtype: DType): GpuData {
    const bytes = Math.max(4, Math.ceil((size * bytesPerElement[dtype]) / 4) * 4);
    const reused = this.#free.get(bytes)?.pop();
    if (reused) {
      this.#freeBytes -= bytes;
      return { buffer: reused, at: 0, size };
    }
    const { maxBufferSize, maxStorageBufferBindingSize } = this.#device.limits;
    if (bytes > Math.min(maxBufferSize, maxStorageBufferBindingSize)) throw tooLarge(bytes);
    const buffer = this.#device.createBuffer({ size: bytes, usage });
    this.#all.add(buffer);
    return { buffer, at: 0, size };
  }

  release({ buffer }: GpuData): void {
    if (this.#freeBytes + buffer.size > keptBytes) {
      this.#submit();
      this.#all.delete(buffer);
      buffer.destroy();
      return;
    }
    this.#freeBytes += buffer.size;
    const same = this.#free.get(buffer.size);
    if (same) same.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
  }

  /** Destroys all, used or kept. */
  close(): void {
    for (const buffer of this.#all) buffer.destroy();
    this.#all.clear();
    this.#free.clear();
  }
}

function tooLarge(bytes: number): UserError {
  return new UserError(
    "device/out-of-memory",
    `A tensor of ${(bytes / 2 ** 20).toFixed(0)} MiB is larger than the graphics card's driver allows.`,
    "Lower train.batchSize or train.sequenceLength, or use device: cpu.",
    { badInput: false },
  );
}
