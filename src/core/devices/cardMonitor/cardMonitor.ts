/**
 * Watches the graphics card that a run computes on, while somebody looks: NVIDIA's by a streaming nvidia-smi, AMD's by the driver's files, Apple's by the
 * machine's memory. It tells what it reads and keeps nothing.
 * The rules to keep: one process at most at any time, none when it is stopped; a tool that dies or hangs is started again a few times and then left; a
 * figure that is not told is null.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { CardReading, CardReport } from "../../../protocol/cardReading.ts";
import { computesOnCard } from "../../../protocol/memory.ts";
import { readAmdCards } from "./amdSysfs.ts";
import { askMs, listCards, listProcesses, namedIn, noTool, readingOf, unifiedMemory } from "./machineCards.ts";
import { parseCardLine, type SmiCard, type SmiProcess, streamArguments } from "./nvidiaSmi.ts";
import { findNvidiaSmi, streamLines, toolVariable } from "./tool.ts";

export interface MonitorTimes {
  /** From look to look where nothing streams. */
  everyMs: number;
  /** A look at all cards may take so long. */
  askMs: number;
  /** A stream without a line that can be read for so long hangs. */
  silentMs: number;
  /** Our own share is asked for so often: the stream rests meanwhile. */
  ownEveryMs: number;
  /** Before the first restart; each further one waits twice as long. */
  restartMs: number;
}

export const usualTimes: MonitorTimes = { everyMs: 1000, askMs, silentMs: 5000, ownEveryMs: 20_000, restartMs: 1000 };

/** So often within the window a tool may die before it is left alone. */
const maxDeaths = 4;
const deathWindowMs = 600_000;

/** Whether a device, told by its description, computes on a card that is worth a look. */
export function hasCardToWatch(device: string): boolean {
  return Boolean(process.env[toolVariable]) || computesOnCard(device);
}

export class CardMonitor {
  readonly #device: string;
  readonly #onReport: (report: CardReport) => void;
  readonly #times: MonitorTimes;
  readonly #deaths: number[] = [];
  /** Aborted when it is stopped; null while it rests. */
  #watching: AbortController | null = null;
  #done: Promise<void> = Promise.resolve();

  /** `device` is the description of the run's device; `onReport` is told of every reading. */
  constructor(device: string, onReport: (report: CardReport) => void, times: Partial<MonitorTimes> = {}) {
    this.#device = device;
    this.#onReport = onReport;
    this.#times = { ...usualTimes, ...times };
  }

  start(): void {
    if (this.#watching) return;
    const watching = new AbortController();
    this.#watching = watching;
    // What was stopped has to have ended: there is never a second process.
    this.#done = this.#done.then(() => this.#watch(watching.signal)).catch((error: unknown) => this.#tell(watching.signal, String(error)));
  }

  /** Resolves when its process has gone. */
  async stop(): Promise<void> {
    this.#watching?.abort();
    this.#watching = null;
    await this.#done;
  }

  #tell(signal: AbortSignal, what: CardReading | string): void {
    if (signal.aborted) return;
    this.#onReport(typeof what === "string" ? { reading: null, problem: what.slice(0, 1000) } : { reading: what, problem: "" });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    if (process.env[toolVariable] || /nvidia/i.test(this.#device) || (/^tensorflow\b/.test(this.#device) && computesOnCard(this.#device)))
      return this.#watchNvidia(signal);
    if (process.platform === "darwin") return this.#poll(signal, async () => unifiedMemory(process.memoryUsage.rss()));
    if (/\bamd\b/i.test(this.#device) && process.platform === "linux")
      return this.#poll(signal, async () => (await readAmdCards())[0] ?? "The amdgpu driver tells no figures under /sys/class/drm.");
    this.#tell(signal, `The figures of this device cannot be read: ${this.#device}.`);
  }

  async #poll(signal: AbortSignal, look: () => Promise<CardReading | string>): Promise<void> {
    while (!signal.aborted) {
      this.#tell(signal, await look());
      await this.#rest(this.#times.everyMs, signal);
    }
  }

  async #watchNvidia(signal: AbortSignal): Promise<void> {
    const tool = findNvidiaSmi();
    if (!tool) return this.#tell(signal, noTool);
    while (!signal.aborted) {
      const problem = await this.#followNvidia(tool, signal);
      if (signal.aborted) return;
      const waitMs = this.#died();
      if (waitMs === null) return this.#tell(signal, `${problem} It is not started again.`);
      this.#tell(signal, `${problem} It is started again.`);
      await this.#rest(waitMs, signal);
    }
  }

  /** Counts a death; returns how long to wait, or null when there were too many. */
  #died(): number | null {
    const now = performance.now();
    this.#deaths.push(now);
    while (now - this.#deaths[0] > deathWindowMs) this.#deaths.shift();
    return this.#deaths.length >= maxDeaths ? null : this.#times.restartMs * 2 ** (this.#deaths.length - 1);
  }

  /** Looks which card it is, then follows its figures until the tool fails; returns why. */
  async #followNvidia(tool: string, signal: AbortSignal): Promise<string> {
    const { askMs: timeoutMs } = this.#times;
    const listed = await listCards(tool, timeoutMs, signal);
    if ("problem" in listed) return listed.problem;
    while (!signal.aborted) {
      const own = await listProcesses(tool, process.pid, timeoutMs, signal);
      if (signal.aborted) break;
      const ended = await this.#stream(tool, choose(listed.cards, own, this.#device), signal);
      if (ended !== null) return `nvidia-smi ${ended}.`;
    }
    return "";
  }

  /** Streams one card's figures. Null when it was ended to ask for our share again, else why it ended. */
  async #stream(tool: string, choice: Choice, signal: AbortSignal): Promise<string | null> {
    const { silentMs, ownEveryMs } = this.#times;
    const resting = "rests";
    const stream = streamLines(tool, streamArguments, (line) => {
      const card = parseCardLine(line);
      if (!card) return;
      silence.refresh();
      if (card.index === choice.card.index) this.#tell(signal, readingOf(card, choice.all, choice.by, choice.ownBytes));
    });
    const silence = setTimeout(() => stream.stop(`printed nothing that can be read for ${silentMs / 1000} s`), silentMs).unref();
    // Where the driver does not tell our share, asking again would only interrupt.
    const again = choice.ownBytes === null ? undefined : setTimeout(() => stream.stop(resting), ownEveryMs).unref();
    const stop = () => stream.stop(resting);
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    const reason = await stream.ended;
    signal.removeEventListener("abort", stop);
    clearTimeout(silence);
    clearTimeout(again);
    return reason === resting ? null : reason;
  }

  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

interface Choice {
  card: SmiCard;
  all: readonly SmiCard[];
  by: CardReading["chosenBy"];
  /** Our process's on it, where the driver tells. */
  ownBytes: number | null;
}

/** The card that our process is on; else the one that the device is named after; else the first. */
export function choose(cards: readonly SmiCard[], own: readonly SmiProcess[], device: string): Choice {
  const mine = cards.find(({ uuid }) => own.some((process) => process.uuid === uuid));
  if (mine) {
    const bytes = own.filter(({ uuid }) => uuid === mine.uuid).map(({ usedBytes }) => usedBytes);
    const ownBytes = bytes.includes(null) ? null : bytes.reduce<number>((sum, part) => sum + (part ?? 0), 0);
    return { card: mine, all: cards, by: "process", ownBytes };
  }
  const named = namedIn(cards, device);
  if (named.length === 1) return { card: named[0], all: cards, by: "name", ownBytes: null };
  return { card: named[0] ?? cards[0], all: cards, by: "guess", ownBytes: null };
}
