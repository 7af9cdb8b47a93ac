/**
 * The graphics card's figures for hosts that look at them, and those that the event log keeps. What reads them is the card monitor, which runs only while
 * somebody looks.
 * The rules to keep: latest wins, once a second at most; the log gets a reading at a step boundary, every ten seconds at most or when the card's memory was
 * fuller than ever; the run waits for none of this.
 */
import type { CardReading, CardReport } from "../../protocol/cardReading.ts";
import { CardMonitor, hasCardToWatch } from "../devices/cardMonitor/cardMonitor.ts";

/** A host that looks. */
export interface CardSink {
  onCard(report: CardReport): void;
}

/** What reads the card. */
export interface CardReader {
  start(): void;
  stop(): Promise<void>;
}

const sendMs = 1000;
const keepMs = 10_000;
/** A peak counts when it is higher by this share of the card: so many peaks at most are kept of a run. */
const peaksOfCard = 256;

export class CardFeed {
  readonly #openReader: (device: string, onReport: (report: CardReport) => void) => CardReader;
  readonly #sinks = new Set<CardSink>();
  #reader: CardReader | null = null;
  #keep: ((reading: CardReading) => void) | null = null;
  #latest: CardReport | null = null;
  #sentMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;
  /** Waits for the next step boundary. */
  #toKeep: CardReading | null = null;
  #keptMs = Number.NEGATIVE_INFINITY;
  #peakBytes = 0;

  constructor(openReader: (device: string, onReport: (report: CardReport) => void) => CardReader = (...given) => new CardMonitor(...given)) {
    this.#openReader = openReader;
  }

  /** The run's device is known: the figures of a card can be watched. `keep` writes a reading to the event log. */
  onOpen(device: string, keep: (reading: CardReading) => void): void {
    if (!hasCardToWatch(device)) return;
    this.#keep = keep;
    void this.#reader?.stop(); // of a device that was lost and opened again
    this.#reader = this.#openReader(device, (report) => this.#take(report));
    if (this.#sinks.size > 0) this.#reader.start();
  }

  watch(sink: CardSink, on: boolean): void {
    if (on) {
      this.#sinks.add(sink);
      if (this.#latest) sink.onCard(this.#latest);
      this.#reader?.start();
    } else if (this.#sinks.delete(sink) && this.#sinks.size === 0) this.#rest();
  }

  /** The run stands between two steps: what is to be kept is written. */
  atBoundary(): void {
    const reading = this.#toKeep;
    if (!reading) return;
    this.#toKeep = null;
    this.#keptMs = performance.now();
    this.#peakBytes = Math.max(this.#peakBytes, reading.usedBytes ?? 0);
    this.#keep?.(reading);
  }

  /** The run has ended, and its event log with it. */
  end(): void {
    this.#sinks.clear();
    this.#rest();
    this.#reader = null;
    this.#keep = null;
  }

  #rest(): void {
    void this.#reader?.stop();
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#latest = null;
    this.#toKeep = null;
  }

  #take(report: CardReport): void {
    if (this.#sinks.size === 0) return;
    this.#latest = report;
    if (report.reading) this.#consider(report.reading);
    const waitMs = this.#sentMs + sendMs - performance.now();
    if (waitMs <= 0) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), waitMs).unref();
  }

  #send(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#sentMs = performance.now();
    if (this.#latest) for (const sink of this.#sinks) sink.onCard(this.#latest);
  }

  /** Of the readings between two boundaries the fullest counts. */
  #consider(reading: CardReading): void {
    const used = reading.usedBytes ?? 0;
    const isPeak = used - this.#peakBytes > (reading.totalBytes ?? used) / peaksOfCard;
    if (!isPeak && performance.now() - this.#keptMs < keepMs) return;
    if (!this.#toKeep || used >= (this.#toKeep.usedBytes ?? 0)) this.#toKeep = reading;
  }
}
