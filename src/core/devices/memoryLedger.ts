/**
 * Counts the bytes a device holds, by class, and remembers the peak. Every allocation of every device passes here, `meta`'s too,
 * so that a plan and a measured peak are the same sum. It does not allocate and it knows no tensor.
 * The rule to keep: an element counts what it occupies on that device, which is not what its type says on every one.
 */
import { type BytesByClass, type MemoryClass, memoryClasses } from "../../protocol/memory.ts";
import { bytesPerElement, type ElementBytes } from "./device.ts";

/** The most bytes held at once since some moment, and what they served then. */
export interface MemoryPeak {
  readonly bytes: number;
  readonly bytesByClass: BytesByClass;
}

export class MemoryLedger {
  /** What an element occupies on the device. */
  readonly elementBytes: ElementBytes;
  readonly #bytes = emptyBytes();
  #live = 0;
  #peak: MemoryPeak = { bytes: 0, bytesByClass: emptyBytes() };
  readonly #watched: { peak: MemoryPeak }[] = [];

  constructor(elementBytes: ElementBytes = bytesPerElement) {
    this.elementBytes = elementBytes;
  }

  add(memoryClass: MemoryClass, bytes: number): void {
    this.#bytes[memoryClass] += bytes;
    this.#live += bytes;
    if (this.#live > this.#peak.bytes) this.#peak = this.#now();
    for (const watch of this.#watched) if (this.#live > watch.peak.bytes) watch.peak = this.#now();
  }

  remove(memoryClass: MemoryClass, bytes: number): void {
    this.#bytes[memoryClass] -= bytes;
    this.#live -= bytes;
    if (this.#bytes[memoryClass] < 0) throw new Error(`ledger: more ${memoryClass} bytes freed than allocated`);
  }

  /** Bytes held now. */
  get liveBytes(): number {
    return this.#live;
  }
  get bytesByClass(): BytesByClass {
    return { ...this.#bytes };
  }
  /** The most bytes ever held at once, and what they served at that moment. */
  get peakBytes(): number {
    return this.#peak.bytes;
  }
  get peakBytesByClass(): BytesByClass {
    return { ...this.#peak.bytesByClass };
  }
  /** Starts a new peak from what is held now. */
  resetPeak(): void {
    this.#peak = this.#now();
  }
  /** A second peak that starts from what is held now, for a phase of a run; the first goes on. `peak` is always up to date. */
  watch(): { readonly peak: MemoryPeak } {
    const watch = { peak: this.#now() };
    this.#watched.push(watch);
    return watch;
  }

  #now(): MemoryPeak {
    return { bytes: this.#live, bytesByClass: { ...this.#bytes } };
  }
}

function emptyBytes(): BytesByClass {
  return Object.fromEntries(memoryClasses.map((memoryClass) => [memoryClass, 0])) as BytesByClass;
}
