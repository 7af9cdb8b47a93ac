/**
 * In which order channels should stand before n of every m neighbours go, so that what scores high is spread over the groups and more of it stays: the
 * channel permutation of RIA (Zhang et al., ICLR 2024). First columns are dealt by their sums of scores like cards, to and fro; then, slot by slot, the
 * columns in a slot are assigned to the groups anew, which can only keep more. Pure; what carries the order through a model is permuteModel.ts.
 * The rules to keep: never an order that keeps less than the one that was there; no array of a whole matrix.
 */
import type { SparsityPattern } from "../devices/device.ts";
import { greatestAssignment } from "./assignment.ts";

export interface Channels {
  count: number;
  /** They change places within so many neighbours, a whole number of groups. */
  span: number;
  /** Calls body with rows of scores, `count` to a row, until it has seen all; each time the same ones. */
  forEachScores(body: (scores: Float32Array) => void): Promise<void>;
}

export interface Permutation {
  /** order[i]: where what stands at i now stood before. */
  order: Int32Array;
  /** Sums of the scores that stay: as it was, after the deal, after each round of assignments. */
  retained: number[];
}

/** Groups among which a slot's columns are assigned together; the work grows with its square. */
const groupsTogether = 256;

/** Finds an order. `rounds` of assignments, each over all slots. */
export async function findOrder(channels: Channels, pattern: Extract<SparsityPattern, { kind: "groups" }>, rounds = 1): Promise<Permutation> {
  const { count, span } = channels;
  const { of } = pattern;
  const asItWas = Int32Array.from({ length: count }, (_, i) => i);
  const sums = new Float64Array(count);
  const before = new SlotExchange(asItWas, 0, channels, pattern);
  await channels.forEachScores((scores) => {
    for (let i = 0; i < scores.length; i++) sums[i % count] += scores[i];
    before.add(scores, false);
  });
  const order = deal(sums, span, of);
  const retained = [before.retained];
  for (let round = 0; round < rounds; round++)
    for (let slot = 0; slot < of; slot++) {
      const exchange = new SlotExchange(order, slot, channels, pattern);
      await channels.forEachScores((scores) => exchange.add(scores, true));
      if (round + slot === 0) retained.push(exchange.retained);
      exchange.assign();
      if (slot === of - 1) retained.push(exchange.retained);
    }
  return { order: (retained.at(-1) as number) > retained[0] ? order : asItWas, retained };
}

/** Columns by falling sum, a quarter of them to each slot of four, every second quarter backwards. */
function deal(sums: Float64Array, span: number, of: number): Int32Array {
  const order = new Int32Array(sums.length);
  const groups = span / of;
  for (let start = 0; start < sums.length; start += span) {
    const sorted = Int32Array.from({ length: span }, (_, i) => start + i).sort((a, b) => sums[b] - sums[a] || a - b);
    for (let i = 0; i < span; i++) {
      const [slot, place] = [Math.floor(i / groups), i % groups];
      order[start + (slot % 2 === 0 ? place : groups - 1 - place) * of + slot] = sorted[i];
    }
  }
  return order;
}

/** What it would keep to have each column of a slot in each group, the other columns staying where they are. */
class SlotExchange {
  /** Σ of scores that stay. */
  retained = 0;
  readonly #order: Int32Array;
  readonly #slot: number;
  readonly #count: number;
  readonly #of: number;
  /** The highest scores of a group's other columns: as many as stay. */
  readonly #highest: Float64Array;
  /** Groups that are assigned together: the first one, and (groups, groups) of what column c of the slot adds in group g. */
  readonly #parts: { first: number; groups: number; values: Float64Array }[] = [];

  constructor(order: Int32Array, slot: number, { count, span }: Channels, { zeros, of }: { zeros: number; of: number }) {
    [this.#order, this.#slot, this.#count, this.#of] = [order, slot, count, of];
    this.#highest = new Float64Array(of - zeros);
    for (let start = 0; start < count; start += span)
      for (let first = start / of; first < (start + span) / of; first += groupsTogether) {
        const groups = Math.min(groupsTogether, (start + span) / of - first);
        this.#parts.push({ first, groups, values: new Float64Array(groups * groups) });
      }
  }

  /** Looks at rows of scores; without `exchanging` only for what stays. */
  add(scores: Float32Array, exchanging: boolean): void {
    const own = new Float64Array(groupsTogether);
    for (let row = 0; row < scores.length; row += this.#count)
      for (const { first, groups, values } of this.#parts) {
        for (let c = 0; c < groups; c++) own[c] = scores[row + this.#order[(first + c) * this.#of + this.#slot]];
        for (let g = 0; g < groups; g++) {
          const lowest = this.#othersOf(scores, row, first + g);
          this.retained += Math.max(lowest, own[g]);
          if (!exchanging) continue;
          for (let c = 0, at = g * groups; c < groups; c++, at++) values[at] += own[c] > lowest ? own[c] : lowest;
        }
      }
  }

  /** Counts a group's other scores that stay whatever the slot holds; returns the one that stays only if the slot's is lower. */
  #othersOf(scores: Float32Array, row: number, group: number): number {
    const highest = this.#highest.fill(Number.NEGATIVE_INFINITY);
    const last = highest.length - 1;
    for (let i = 0; i < this.#of; i++) {
      if (i === this.#slot) continue;
      const score = scores[row + this.#order[group * this.#of + i]];
      let at = last;
      if (score <= highest[at]) continue;
      for (; at > 0 && highest[at - 1] < score; at--) highest[at] = highest[at - 1];
      highest[at] = score;
    }
    for (let i = 0; i < last; i++) this.retained += highest[i];
    return highest[last];
  }

  /** Puts the slot's columns into the groups where most stays. */
  assign(): void {
    for (const { first, groups, values } of this.#parts) {
      const chosen = greatestAssignment(values, groups);
      let gain = 0;
      for (let g = 0; g < groups; g++) gain += values[g * groups + chosen[g]] - values[g * groups + g];
      // Rounding alone is no reason to move anything.
      if (gain <= 0) continue;
      this.retained += gain;
      const columns = Array.from(chosen, (c) => this.#order[(first + c) * this.#of + this.#slot]);
      columns.forEach((column, g) => {
        this.#order[(first + g) * this.#of + this.#slot] = column;
      });
    }
  }
}
