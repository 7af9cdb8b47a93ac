/**
 * The card's memory: buffers by size, kept for reuse when a tensor is freed, and a tensor larger than a kernel may bind as several of them.
 * The rules to keep: a buffer is as long as whole 32-bit words of its tensor, at least one; used and kept buffers together are never more than the used ones
 * were at their peak, which the ledger counts, so that reuse costs the card nothing.
 */
import { UserError } from "../../../protocol/userError.ts";
import { bytesPerElement, type DType } from "../device.ts";
import type { Commands } from "./commands.ts";
import type { Gpu } from "./gpu.ts";

/** Storage of a tensor: elements [at, at + size) of buffers of one dtype, whose elements follow one another. */
export interface GpuData {
  /** One, unless the tensor that holds the memory is larger than a kernel may bind at once. */
  parts: readonly GPUBuffer[];
  /** Bytes of each part but the last, a power of two; of no meaning where there is one part. */
  partBytes: number;
  at: number;
  size: number;
}

const usage = 0x0004 | 0x0008 | 0x0080; // COPY_SRC | COPY_DST | STORAGE
/** Kernels index with 32 bits. */
const mostElements = 2 ** 32 - 1;

export class Buffers {
  readonly #device: GPUDevice;
  readonly #bindingBytes: number;
  readonly #partBytes: number;
  readonly #commands: Commands;
  readonly #used = new Set<GPUBuffer>();
  /** Freed buffers, oldest first, and the same by size. */
  readonly #kept = new Set<GPUBuffer>();
  readonly #keptBySize = new Map<number, GPUBuffer[]>();
  #usedBytes = 0;
  #keptBytes = 0;
  #peakBytes = 0;

  constructor({ device, bindingBytes }: Pick<Gpu, "device" | "bindingBytes">, commands: Commands) {
    this.#device = device;
    this.#bindingBytes = bindingBytes;
    this.#partBytes = 2 ** Math.floor(Math.log2(bindingBytes));
    this.#commands = commands;
  }

  /** What the card holds for tensors that are there and for those to come. */
  get heldBytes(): number {
    return this.#usedBytes + this.#keptBytes;
  }

  create(size: number, dtype: DType): GpuData {
    const bytes = Math.max(4, Math.ceil((size * bytesPerElement[dtype]) / 4) * 4);
    if (size > mostElements) throw tooLarge(bytes);
    const length = bytes <= this.#bindingBytes ? bytes : this.#partBytes;
    const parts: GPUBuffer[] = [];
    for (let begin = 0; begin < bytes; begin += length) parts.push(this.#take(Math.min(length, bytes - begin)));
    return { parts, partBytes: this.#partBytes, at: 0, size };
  }

  #take(bytes: number): GPUBuffer {
    this.#usedBytes += bytes;
    const reused = this.#keptBySize.get(bytes)?.pop();
    if (reused) {
      this.#kept.delete(reused);
      this.#keptBytes -= bytes;
      this.#used.add(reused);
      return reused;
    }
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
    // What was recorded may use a buffer that is given back, and would be lost with the submission that a buffer which cannot be had is used in.
    this.#commands.submit();
    this.#destroyKept(this.#peakBytes - this.#usedBytes);
    this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({ size: bytes, usage });
    const heldBytes = this.heldBytes - bytes;
    this.#commands.watch(this.#device.popErrorScope().then((error) => (error ? outOfMemory(bytes, heldBytes) : null)));
    this.#used.add(buffer);
    return buffer;
  }

  release({ parts }: GpuData): void {
    for (const buffer of parts) {
      this.#used.delete(buffer);
      this.#usedBytes -= buffer.size;
      this.#kept.add(buffer);
      this.#keptBytes += buffer.size;
      const same = this.#keptBySize.get(buffer.size);
      if (same) same.push(buffer);
      else this.#keptBySize.set(buffer.size, [buffer]);
    }
  }

  /** Gives back what was kept longest, until so many bytes are kept at most. */
  #destroyKept(mostBytes: number): void {
    for (const buffer of this.#kept) {
      if (this.#keptBytes <= mostBytes) return;
      this.#kept.delete(buffer);
      this.#keptBytes -= buffer.size;
      const same = this.#keptBySize.get(buffer.size) as GPUBuffer[];
      same.splice(same.indexOf(buffer), 1);
      buffer.destroy();
    }
  }

  /** Destroys all, used or kept. */
  close(): void {
    for (const buffer of [...this.#used, ...this.#kept]) buffer.destroy();
    this.#used.clear();
    this.#kept.clear();
    this.#keptBySize.clear();
  }
}

/** The parts in which elements [first, first + count) of a tensor lie, and its element 0 counted from the first of them: below zero it is taken modulo 2³². */
export function partsOf(
  { parts, partBytes, at, size }: GpuData,
  dtype: DType,
  first = 0,
  count = size,
): { buffers: readonly GPUBuffer[]; at: number } {
  if (parts.length === 1) return { buffers: parts, at };
  const elements = partBytes / bytesPerElement[dtype];
  const start = Math.min(parts.length - 1, Math.floor((at + first) / elements));
  const end = Math.max(start + 1, Math.ceil((at + first + count) / elements));
  return { buffers: parts.slice(start, end), at: (at - start * elements) >>> 0 };
}

/** Where bytes [first, first + count) of a storage lie: `from` is how many of them come before. */
export function* spansOf({ parts, partBytes }: GpuData, first: number, count: number): Generator<SpanOfBytes> {
  if (parts.length === 1) {
    yield { buffer: parts[0], offset: first, from: 0, bytes: count };
    return;
  }
  for (let from = 0; from < count; ) {
    const offset = (first + from) % partBytes;
    const bytes = Math.min(partBytes - offset, count - from);
    yield { buffer: parts[Math.floor((first + from) / partBytes)], offset, from, bytes };
    from += bytes;
  }
}

export interface SpanOfBytes {
  buffer: GPUBuffer;
  offset: number;
  from: number;
  bytes: number;
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;
const whatToLower = "Lower train.batchSize or train.sequenceLength, or use device: cpu.";

function tooLarge(bytes: number): UserError {
  return new UserError(
    "device/out-of-memory",
    `A tensor of ${mebibytes(bytes)} has more elements than the graphics card's kernels can count.`,
    whatToLower,
    { badInput: false },
  );
}

function outOfMemory(bytes: number, heldBytes: number): UserError {
  return new UserError(
    "device/out-of-memory",
    `The graphics card has no ${mebibytes(bytes)} left beside the ${mebibytes(heldBytes)} that are held.`,
    whatToLower,
    { badInput: false },
  );
}

/** A kernel whose tensors lie in more buffers than the driver lets it have. */
export function tooManyParts(kernel: string, bytes: number, parts: number, most: number): UserError {
  return new UserError(
    "device/out-of-memory",
    `${kernel}: a tensor of ${mebibytes(bytes)} makes it need ${parts} buffers; the graphics card's driver allows ${most} at once.`,
    whatToLower,
    { badInput: false },
  );
}
