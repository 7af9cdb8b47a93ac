/**
 * The memory that a run's tensors will lie in: a graphics card's, the machine's, or what of it an engine's addresses reach. It opens no device.
 * The rule to keep: a plan is compared with the memory its device computes in and with no other; what drivers do not tell is not guessed.
 */
import os from "node:os";
import { type CardRoom, readMachineCards, roomFor } from "./devices/cardMonitor/machineCards.ts";
import type { MemoryPlace } from "./devices/open.ts";
import { formatBytes } from "./terminal/format.ts";

export interface DeviceMemory {
  kind: "card" | "machine" | "engine" | "unknown";
  /** Null where nobody tells. */
  freeBytes: number | null;
  totalBytes: number | null;
  /** More than this is refused: what a card has free, because nobody gives it back; else all there is, because the system does. */
  mostBytes: number;
  /** The end of a sentence that begins with what is needed. */
  text: string;
  /** The card, and by whose word; null where the memory is no card's. */
  card: string | null;
  /** Why it is not known what is free, a sentence; null where it is. */
  problem: string | null;
}

const inMachine: MemoryPlace = { memory: "machine" };

/** The memory of a place. A card that computes in the machine's own memory has that. */
export async function memoryOf({
  memory,
  limitBytes = Number.POSITIVE_INFINITY,
  device = null,
  problem = null,
}: MemoryPlace = inMachine): Promise<DeviceMemory> {
  if (problem !== null) return unknownMemory(problem);
  if (memory === "card") {
    const found = await readMachineCards();
    if (!found.cards.some(({ source }) => source === "unifiedMemory")) {
      const room = roomFor(found, device);
      return "problem" in room ? unknownMemory(room.problem) : cardMemory(room);
    }
  }
  const totalBytes = Math.min(os.totalmem(), limitBytes);
  const known = { freeBytes: Math.min(os.freemem(), limitBytes), totalBytes, mostBytes: totalBytes, card: null, problem: null };
  return limitBytes < os.totalmem()
    ? { kind: "engine", ...known, text: `of memory; the device's engine reaches ${formatBytes(totalBytes)}` }
    : { kind: "machine", ...known, text: `of memory; this machine has ${formatBytes(totalBytes)}` };
}

function cardMemory({ card: { name, totalBytes, source }, freeBytes, among }: CardRoom): DeviceMemory {
  const guessed = among > 1 ? `; which of ${among} cards computes is not known, and this one has least room` : "";
  const text = `of the graphics card's memory; ${name} has ${formatBytes(freeBytes)} free of ${formatBytes(totalBytes ?? 0)} (${source})${guessed}`;
  return { kind: "card", freeBytes, totalBytes, mostBytes: freeBytes, text, card: `${name} (${source})${guessed}`, problem: null };
}

function unknownMemory(reason: string): DeviceMemory {
  const problem = `The card's free memory is not known: ${reason}`;
  const text = "of the graphics card's memory, of which it is not known what is free";
  return { kind: "unknown", freeBytes: null, totalBytes: null, mostBytes: Number.POSITIVE_INFINITY, text, card: null, problem };
}
