/**
 * Device memory as the memory chart stacks it: for every sample the bytes of a class on top of those of the classes below. Whole bytes, never scaled:
 * the topmost line is the sum to the byte. It draws nothing.
 */
import { type BytesByClass, type MemoryClass, memoryClasses } from "../../src/protocol/memory.ts";

/** From the bottom of the stack: what stays for the whole run lies lowest. */
export const stackOrder: readonly MemoryClass[] = memoryClasses;

/** A table of what memory events reported, one row an event. */
export interface MemorySamples {
  readonly length: number;
  column(name: "step" | "peakBytes" | "processBytes" | MemoryClass): ArrayLike<number>;
}

/** Columns for a plot: the steps, the upper edge of each class, the peak, the process's memory. */
export interface MemoryStack {
  steps: Float64Array;
  /** One per class of `stackOrder`; the last is the total. */
  edges: Float64Array[];
  peak: Float64Array;
  process: Float64Array;
  length: number;
}

/**
 * Stacks all samples. An event comes when the peak has moved and every few steps, so at `lastStep`, after the last event, the ledger still is what that
 * one said; the process's memory is not known there.
 */
export function stackMemory(samples: MemorySamples, lastStep: number): MemoryStack {
  const held = samples.length > 0 && lastStep > samples.column("step")[samples.length - 1] ? 1 : 0;
  const length = samples.length + held;
  const column = (name: Parameters<MemorySamples["column"]>[0], after: (last: number) => number) => {
    const values = new Float64Array(length);
    values.set(samples.column(name));
    if (held) values[length - 1] = after(values[length - 2]);
    return values;
  };
  const same = (last: number) => last;
  const edges: Float64Array[] = [];
  for (const [level, memoryClass] of stackOrder.entries()) {
    const edge = column(memoryClass, same);
    for (let i = 0; level > 0 && i < length; i++) edge[i] += edges[level - 1][i];
    edges.push(edge);
  }
  const [steps, peak, process] = [column("step", () => lastStep), column("peakBytes", same), column("processBytes", () => Number.NaN)];
  return { steps, edges, peak, process, length };
}

/** A row of edges, from the top of the stack down, as the bytes of each class. */
export function unstacked(edgesFromTop: readonly (number | null)[]): (number | null)[] {
  return edgesFromTop.map((edge, i) => (edge === null ? null : edge - (edgesFromTop[i + 1] ?? 0)));
}

/** The bytes of a sample by class; the newest for −1. Null when there is none. */
export function bytesAt(samples: MemorySamples, row: number): BytesByClass | null {
  const index = row < 0 ? samples.length + row : row;
  if (index < 0 || index >= samples.length) return null;
  return Object.fromEntries(memoryClasses.map((memoryClass) => [memoryClass, samples.column(memoryClass)[index]])) as BytesByClass;
}

/** The top of the chart: the highest of what is to be seen, with a little air. What is not a number is not seen. */
export function scaleTopBytes(...seen: readonly ArrayLike<number>[]): number {
  let top = 1;
  for (const column of seen) for (let i = 0; i < column.length; i++) if (column[i] > top) top = column[i];
  return top * 1.06;
}
