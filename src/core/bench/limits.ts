/** Figures beside the limit of the machine at that time, and what repeats of them say. It measures nothing itself. */
import { median } from "./syntheticTraining.ts";

/** One figure of the bench beside its limit. */
export interface BenchRow {
  name: string;
  value: number;
  unit: "GFLOP/s" | "tokens/s";
  /** What the machine allows at best, in the same unit. */
  limit: number;
  ratio: number;
  /** This speed over the peer's; null where there is none. */
  peerRatio: number | null;
}

/** A figure and its share of the limit at that time. */
export interface Pair {
  value: number;
  ratio: number;
}

/** Takes a figure with the limit before and after it, so that what else runs on the machine disturbs both alike. */
export async function besideLimit(limit: () => number, figure: () => Promise<number>): Promise<Pair> {
  const before = limit();
  const value = await figure();
  return { value, ratio: (2 * value) / (before + limit()) };
}

/** The median value and the median ratio; the limit is what their quotient says. */
export function medians(pairs: readonly Pair[]): Pick<BenchRow, "value" | "limit" | "ratio"> {
  const [value, ratio] = [median(pairs.map((pair) => pair.value)), median(pairs.map((pair) => pair.ratio))];
  return { value, limit: value / ratio, ratio };
}
