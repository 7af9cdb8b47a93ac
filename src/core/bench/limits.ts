/** Figures beside the limit of the machine at that time, and what repeats of them say. It measures nothing itself. */
import { median } from "./syntheticTraining.ts";

/** One figure of the bench beside its limit. */
export interface BenchRow {
  name: string;
  value: number;
  unit: "GFLOP/s" | "tokens/s";
  /** What the machine allows at best, in the same unit, and the value's share of it; null where nobody knows, as on a card. */
  limit: number | null;
  ratio: number | null;
  /** This speed over the peer's; null where there is none. */
  peerRatio: number | null;
}

/** A figure and its share of the limit at that time. */
export interface Pair {
  value: number;
  ratio: number | null;
}

/** Takes a figure with the limit, where there is one, before and after it, so that what else runs on the machine disturbs both alike. */
export async function besideLimit(limit: (() => number) | null, figure: () => Promise<number>): Promise<Pair> {
  if (!limit) return { value: await figure(), ratio: null };
  const before = limit();
  const value = await figure();
  return { value, ratio: (2 * value) / (before + limit()) };
}

/** The median value and the median ratio; the limit is what their quotient says. */
export function medians(pairs: readonly Pair[]): Pick<BenchRow, "value" | "limit" | "ratio"> {
  const value = median(pairs.map((pair) => pair.value));
  const ratios = pairs.flatMap(({ ratio }) => ratio ?? []);
  if (ratios.length === 0) return { value, limit: null, ratio: null };
  const ratio = median(ratios);
  return { value, limit: value / ratio, ratio };
}
