/**
 * Counts the bytes a device holds, by class, and remembers the peak. Every allocation of every device passes here, `meta`'s too,
 * so that a plan and a measured peak are the same sum. It does not allocate and it knows no tensor.
 * The rule to keep: an element counts what it occupies on that device, which is not what its type says on every one; and where ops make tensors of their own
 * on the way, room for them is counted as workspace as long as there are tensors.
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
  /** What its ops may hold beside their tensors, in parts of the largest one there is. */
  readonly largestTensors: number;
  /** How many tensors there are of each number of bytes. */
  readonly #sizes = new Map<number, number>();
  #largest = 0;
  readonly #bytes = emptyBytes();
  #live = 0;
  #peak: MemoryPeak = { bytes: 0, bytesByClass: emptyBytes() };
  readonly #watched: { peak: MemoryPeak }[] = [];

  constructor(elementBytes: ElementBytes = bytesPerElement, largestTensors = 0) {
    this.elementBytes = elementBytes;
    this.largestTensors = largestTensors;
  }

  /** Counts a tensor, and the room that ops need beside it if it is the largest. */
  addTensor(memoryClass: MemoryClass, bytes: number): void {
    this.#sizes.set(bytes, (this.#sizes.get(bytes) ?? 0) + 1);
    this.#roomFor(Math.max(this.#largest, bytes));
    this.add(memoryClass, bytes);
  }

  removeTensor(memoryClass: MemoryClass, bytes: number): void {
    this.remove(memoryClass, bytes);
    const left = (this.#sizes.get(bytes) ?? 0) - 1;
    if (left > 0) this.#sizes.set(bytes, left);
    else this.#sizes.delete(bytes);
    if (bytes === this.#largest && left <= 0) this.#roomFor([...this.#sizes.keys()].reduce((most, each) => Math.max(most, each), 0));
  }

  /** What would be held with a tensor of so many bytes more. */
  bytesWith(bytes: number): number {
    return this.#live + bytes + this.largestTensors * Math.max(0, bytes - this.#largest);
  }

  #roomFor(largest: number): void {
    const more = this.largestTensors * (largest - this.#largest);
    this.#largest = largest;
    if (more > 0) this.add("workspace", more);
    else if (more < 0) this.remove("workspace", -more);
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
