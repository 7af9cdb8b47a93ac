/**
 * The graphics card beside the ledger: its lines over the steps, and its figures for the table. Every one is the driver's own and says so; the card's
 * memory in use is that of all processes.
 * The rule to keep: where nobody looked, or the driver did not tell, there is a gap and no line.
 */
import type { CardReading } from "../../src/protocol/cardReading.ts";
import { t } from "../strings.ts";
import type { MemoryStack } from "./memoryStack.ts";
import type { MemoryFigure } from "./memoryTable.ts";
import type { PanelState } from "./store.ts";

/** Readings in the event log are ten seconds apart while somebody looks: further apart, nobody did. */
const gapMs = 30_000;

/** The card's bytes over the steps of a stack; NaN where they are not known. */
export interface CardLines {
  used: Float64Array;
  own: Float64Array;
  total: Float64Array;
}

type Samples = PanelState["cards"];

/**
 * The stack with the steps of the card's readings put between its own, and the card's lines over them. `live` is what the card tells now, at the last step.
 * The ledger's values hold between its events, so a step in between shows those of the event before.
 */
export function withCardLines(stack: MemoryStack, cards: Samples, live: CardReading | null): { stack: MemoryStack; lines: CardLines } {
  const lastStep = stack.length > 0 ? stack.steps[stack.length - 1] : 0;
  const readings = readingsOf(cards, live, lastStep);
  if (readings.length === 0) return { stack, lines: linesOver(stack.steps, readings) };
  const known = readings.filter(({ step }) => stack.length > 0 && step >= stack.steps[0]);
  const steps = Float64Array.from([...new Set([...stack.steps.subarray(0, stack.length), ...known.map(({ step }) => step)])].sort((a, b) => a - b));
  const own = sourceRows(stack.steps.subarray(0, stack.length), steps);
  const held = (values: Float64Array) => Float64Array.from(own, (row) => values[row]);
  const merged: MemoryStack = {
    steps,
    edges: stack.edges.map(held),
    peak: held(stack.peak),
    process: held(stack.process),
    length: steps.length,
  };
  return { stack: merged, lines: linesOver(steps, readings) };
}

interface Reading {
  step: number;
  timeMs: number;
  used: number;
  own: number;
  total: number;
}

function readingsOf(cards: Samples, live: CardReading | null, lastStep: number): Reading[] {
  const orNaN = (bytes: number | null) => bytes ?? Number.NaN;
  const at = (step: number, timeMs: number, { usedBytes, ownBytes, totalBytes }: CardReading): Reading => {
    return { step, timeMs, used: orNaN(usedBytes), own: orNaN(ownBytes), total: orNaN(totalBytes) };
  };
  const readings = cards.map((event) => at(event.step, event.timeMs, event));
  return live ? [...readings, at(Math.max(lastStep, cards.at(-1)?.step ?? 0), Date.now(), live)] : readings;
}

/** For each step the row of the last one of `from` that is not after it. */
function sourceRows(from: ArrayLike<number>, steps: Float64Array): number[] {
  let row = 0;
  return Array.from(steps, (step) => {
    while (row + 1 < from.length && from[row + 1] <= step) row++;
    return row;
  });
}

function linesOver(steps: Float64Array, readings: readonly Reading[]): CardLines {
  const lines = { used: new Float64Array(steps.length), own: new Float64Array(steps.length), total: new Float64Array(steps.length) };
  let next = 0;
  for (const [row, step] of steps.entries()) {
    while (next < readings.length && readings[next].step <= step) next++;
    const reading = known(readings[next - 1], readings[next], step) ? readings[next - 1] : null;
    lines.used[row] = reading?.used ?? Number.NaN;
    lines.own[row] = reading?.own ?? Number.NaN;
    lines.total[row] = reading?.total ?? Number.NaN;
  }
  return lines;
}

/** Whether a reading still counts at a step: its own, or one before the next reading when somebody looked all the while. */
function known(reading: Reading | undefined, next: Reading | undefined, step: number): boolean {
  if (!reading) return false;
  return reading.step === step || (next !== undefined && next.timeMs - reading.timeMs <= gapMs);
}

/** A line where it is to be scaled to: one that is far above the rest would press that flat. */
export function nearTo(line: Float64Array, bytes: number): ArrayLike<number> {
  return line.every((value) => !(value > 2 * bytes)) ? line : [];
}

/** What the source is called. */
export function sourceName(source: CardReading["source"]): string {
  return source === "unifiedMemory" ? t("operating system") : source;
}

/** Rows of the table: what the card tells now, and the most that was in use. */
export function cardFigures({ card, cards }: Pick<PanelState, "card" | "cards">): MemoryFigure[] {
  const figures: MemoryFigure[] = [];
  const reading = card?.reading;
  if (reading) {
    const source = sourceName(reading.source);
    const add = (name: string, label: string, bytes: number | null) => figures.push({ name, label, bytes });
    add("cardUsed", t("graphics card, in use by all processes ({0})", source), reading.usedBytes);
    add("cardOwn", t("graphics card, in use by this run ({0})", source), reading.ownBytes);
    add("cardTotal", t("graphics card, total ({0})", source), reading.totalBytes);
    const busy = reading.utilisation === null ? null : `${Math.round(reading.utilisation * 100)} %`;
    figures.push({ name: "cardBusy", label: t("graphics card, busy ({0})", source), bytes: null, text: busy });
    const heat = reading.temperatureC === null ? null : `${Math.round(reading.temperatureC)} °C`;
    figures.push({ name: "cardTemperature", label: t("graphics card, temperature ({0})", source), bytes: null, text: heat });
  }
  const highest = highestUsed(cards, reading?.usedBytes ?? null);
  const source = (reading ?? cards.at(-1))?.source;
  if (highest !== null && source)
    figures.push({ name: "cardHighest", label: t("graphics card, most in use seen ({0})", sourceName(source)), bytes: highest });
  return figures;
}

function highestUsed(cards: Samples, now: number | null): number | null {
  let highest = now;
  for (const { usedBytes } of cards) if (usedBytes !== null && usedBytes > (highest ?? -1)) highest = usedBytes;
  return highest;
}

/** Which card it is, or why there are no figures; empty where there is nothing to say. */
export function cardSentence({ card, cards: kept }: Pick<PanelState, "card" | "cards">): string {
  if (card && !card.reading) return `${t("No figures of the graphics card: {0}", card.problem)} ${t("Doctor says what to do.")}`;
  const known = card?.reading ?? kept.at(-1);
  if (!known) return "";
  const { name, index, cards, chosenBy } = known;
  if (cards === 1) return t("Graphics card: {0}", name);
  if (chosenBy === "guess") return t("Graphics card {0} of {1}: {2}; which one computes is not told, this is the first", index + 1, cards, name);
  return t("Graphics card {0} of {1}: {2}", index + 1, cards, name);
}
