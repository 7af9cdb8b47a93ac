/**
 * The graphics cards of this machine, looked at once: for Doctor, for the plan's comparison with what is free, and for the monitor to know its card.
 * The rule to keep: a look has a time limit, and what is missing is said with what was probed.
 */
import os from "node:os";
import type { CardReading } from "../../../protocol/cardReading.ts";
import { readAmdCards } from "./amdSysfs.ts";
import { cardArguments, parseCardLine, parseProcesses, processArguments, type SmiCard, type SmiProcess } from "./nvidiaSmi.ts";
import { ask, findNvidiaSmi, toolVariable } from "./tool.ts";

/** A driver that wakes its card takes a second or two. */
export const askMs = 5000;

/** What was found, or why nothing was, with a remedy. */
export type MachineCards = { cards: CardReading[] } | { cards: []; problem: string; fix: string };

export const noTool = "nvidia-smi was found neither on the PATH nor where drivers put it.";
const noToolFix =
  "With an NVIDIA card install its driver, which brings nvidia-smi, and have it on the PATH; without a graphics card there is nothing to mend, and without the figures runs work all the same.";

/** Looks at every card whose driver tells its figures. */
export async function readMachineCards(timeoutMs = askMs): Promise<MachineCards> {
  if (process.platform === "darwin" && !process.env[toolVariable]) return { cards: [unifiedMemory(null)] };
  const tool = findNvidiaSmi();
  const amd = process.env[toolVariable] ? [] : await readAmdCards();
  if (!tool) return amd.length > 0 ? { cards: amd } : { cards: [], problem: noTool, fix: noToolFix };
  const listed = await listCards(tool, timeoutMs);
  if ("cards" in listed) return { cards: [...listed.cards.map((card) => readingOf(card, listed.cards, "guess", null)), ...amd] };
  if (amd.length > 0) return { cards: amd };
  const fix = "Run nvidia-smi in a terminal and mend what it says: often the driver was updated and the machine wants a restart.";
  return { cards: [], problem: listed.problem, fix };
}

/** All cards that nvidia-smi lists, in its order. */
export async function listCards(tool: string, timeoutMs: number, signal?: AbortSignal): Promise<{ cards: SmiCard[] } | { problem: string }> {
  const answer = await ask(tool, cardArguments, timeoutMs, signal);
  if ("problem" in answer) return answer;
  const cards = answer.lines.map(parseCardLine).filter((card) => card !== null);
  return cards.length > 0
    ? { cards }
    : { problem: `nvidia-smi lists no card that can be read: ${(answer.lines[0] ?? "it printed nothing").slice(0, 200)}.` };
}

/** What the driver tells of a process, in its own order; empty where it tells nothing. */
export async function listProcesses(tool: string, pid: number, timeoutMs: number, signal?: AbortSignal): Promise<SmiProcess[]> {
  const answer = await ask(tool, processArguments, timeoutMs, signal);
  if ("problem" in answer) return [];
  return parseProcesses(answer.lines.join("\n")).filter((found) => found.pid === pid);
}

/** A card of nvidia-smi as everybody else knows it. */
export function readingOf(card: SmiCard, all: readonly SmiCard[], chosenBy: CardReading["chosenBy"], ownBytes: number | null): CardReading {
  const { uuid: _, ...figures } = card;
  return { ...figures, cards: all.length, chosenBy: all.length === 1 ? "only" : chosenBy, ownBytes, source: "nvidia-smi" };
}

/** Where the card computes in the machine's memory, that memory is what there is to tell. */
export function unifiedMemory(ownBytes: number | null): CardReading {
  return {
    name: os.cpus()[0]?.model.trim().slice(0, 200) || "unified memory",
    index: 0,
    cards: 1,
    chosenBy: "only",
    totalBytes: os.totalmem(),
    usedBytes: os.totalmem() - os.freemem(),
    ownBytes,
    utilisation: null,
    temperatureC: null,
    source: "unifiedMemory",
  };
}

/** What a card has free. */
export interface CardRoom {
  card: CardReading;
  freeBytes: number;
  /** Cards that the device may compute on, as far as is known: where there are several, this one has least room. */
  among: number;
}

/**
 * What is free on the card that a device computes on, which its description names where it is known; or why nobody tells. Of several that it may be, the one
 * with least room counts: what fits there fits.
 */
export function roomFor(found: MachineCards, device: string | null): CardRoom | { problem: string } {
  const cards = cardsOf(found.cards, device);
  if (cards.length === 0) {
    const foreign = device !== null && sourceOf(device) === null;
    return { problem: !foreign && "problem" in found ? found.problem : `No driver's tool tells the memory of ${device ?? "a card"}.` };
  }
  const rooms: CardRoom[] = [];
  for (const card of cards) {
    if (card.totalBytes === null || card.usedBytes === null) return { problem: `${card.source} does not tell the memory of ${card.name}.` };
    rooms.push({ card, freeBytes: card.totalBytes - card.usedBytes, among: cards.length });
  }
  return rooms.reduce((least, room) => (room.freeBytes < least.freeBytes ? room : least));
}

/** Those that a device of this description may compute on. */
function cardsOf(all: readonly CardReading[], device: string | null): readonly CardReading[] {
  if (device === null) return all;
  const named = namedIn(all, device);
  // A tool that is named by the environment speaks for every device.
  if (named.length > 0 || process.env[toolVariable]) return named.length > 0 ? named : all;
  return all.filter(({ source }) => source === sourceOf(device));
}

/** The cards that a device's description names. One name may be the beginning of another: the longest is meant. */
export function namedIn<Card extends { name: string }>(cards: readonly Card[], device: string): Card[] {
  const named = cards.filter(({ name }) => device.includes(name));
  const longest = Math.max(...named.map(({ name }) => name.length));
  return named.filter(({ name }) => name.length === longest);
}

/** Who tells the figures of a device's card, by the vendor that its description names. */
function sourceOf(device: string): CardReading["source"] | null {
  if (/nvidia|^tensorflow\b/i.test(device)) return "nvidia-smi"; // libtensorflow is built for these alone
  return /\bamd\b|radeon/i.test(device) ? "amdgpu" : null;
}
