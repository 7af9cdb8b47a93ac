/**
 * The memory that a run's tensors will lie in: a graphics card's, the machine's, or what of it an engine's addresses reach. It opens no device.
 * The rule to keep: a plan is compared with the memory its device computes in and with no other; what drivers do not tell is not guessed.
 */
import os from "node:os";
import type { CardReading } from "../protocol/cardReading.ts";
import { mostFree, readMachineCards } from "./devices/cardMonitor/machineCards.ts";
import type { MemoryPlace } from "./devices/open.ts";
import { formatBytes } from "./terminal/format.ts";

export interface DeviceMemory {
  kind: "card" | "machine" | "engine";
  freeBytes: number;
  totalBytes: number;
  /** More than this is refused: what a card has free, because nobody gives it back; else all there is, because the system does. */
  mostBytes: number;
  /** The end of a sentence that begins with what is needed. */
  text: string;
}

const inMachine: MemoryPlace = { memory: "machine" };

/** The memory of a place; that of a card without figures is left to the machine's. */
export async function memoryOf({ memory, limitBytes = Number.POSITIVE_INFINITY }: MemoryPlace = inMachine): Promise<DeviceMemory> {
  const most = memory === "card" ? mostFree((await readMachineCards()).cards) : null;
  if (most) return cardMemory(most.card, most.freeBytes);
  const totalBytes = Math.min(os.totalmem(), limitBytes);
  const freeBytes = Math.min(os.freemem(), limitBytes);
  return limitBytes < os.totalmem()
    ? { kind: "engine", freeBytes, totalBytes, mostBytes: totalBytes, text: `of memory; the device's engine reaches ${formatBytes(totalBytes)}` }
    : { kind: "machine", freeBytes, totalBytes, mostBytes: totalBytes, text: `of memory; this machine has ${formatBytes(totalBytes)}` };
}

function cardMemory({ name, totalBytes, source }: CardReading, freeBytes: number): DeviceMemory {
  const total = totalBytes ?? 0;
  const text = `of the graphics card's memory; ${name} has ${formatBytes(freeBytes)} free of ${formatBytes(total)} (${source})`;
  return { kind: "card", freeBytes, totalBytes: total, mostBytes: freeBytes, text };
}
