/**
 * From a value to one of 256 colours and back to the values that the colour stands for. Both directions read the same table of edges, so that a value is
 * always inside what its colour is read back as. No DOM. The rule to keep: entry i holds edges[i] ≤ value < edges[i + 1], the last one its end too.
 */

export const scaleKinds = ["logarithmic", "linear"] as const;
export type ScaleKind = (typeof scaleKinds)[number];

/** What the values of a mode span. */
export interface ValueRange {
  low: number;
  high: number;
  /** Where a logarithmic scale can begin; what is below shares the first colour. */
  smallestPositive: number;
  /** Values are known only this exactly, because they came as bytes. */
  error: number;
}

export interface ColorScale {
  kind: ScaleKind;
  range: ValueRange;
  /** 257, rising. */
  edges: Float64Array;
  /** All values are one: everything has the first colour. */
  flat: boolean;
}

const colors = 256;
/** Further below the highest value than this, a logarithmic scale does not go. */
const decades = 6;

export function colorScale(kind: ScaleKind, range: ValueRange): ColorScale {
  const { low, high, smallestPositive } = range;
  const flat = !(high > low);
  const edges = new Float64Array(colors + 1);
  const floor = Math.min(high, Math.max(smallestPositive, high * 10 ** -decades));
  const logarithmic = kind === "logarithmic" && floor > 0;
  for (let index = 0; index <= colors; index++)
    edges[index] = logarithmic ? floor * (high / floor) ** (index / colors) : low + ((high - low) * index) / colors;
  edges[0] = low;
  edges[colors] = high;
  return { kind: logarithmic ? "logarithmic" : "linear", range, edges, flat };
}

/** The colour's index for a finite value of the range. */
export function colorIndex({ kind, edges, flat }: ColorScale, value: number): number {
  if (flat) return 0;
  // A guess by formula, then the edges decide.
  const [first, last] = [kind === "logarithmic" ? edges[1] : edges[0], edges[colors]];
  const share = kind === "logarithmic" ? Math.log(value / first) / Math.log(last / first) : (value - first) / (last - first);
  let index = Math.min(colors - 1, Math.max(0, Math.floor(colors * (Number.isFinite(share) ? share : 0))));
  while (index > 0 && value < edges[index]) index--;
  while (index < colors - 1 && value >= edges[index + 1]) index++;
  return index;
}

/** Every value that has this colour, the error of the values included. */
export function valuesOfIndex({ range, edges, flat }: ColorScale, index: number): { low: number; high: number } {
  const [low, high] = flat ? [range.low, range.high] : [edges[index], edges[index + 1]];
  // The values were once f32: their last digit is not held against them.
  const slack = (value: number) => range.error + Math.abs(value) * 2 ** -22;
  return { low: low - slack(low), high: high + slack(high) };
}

/** Values to write beside the legend, at these shares of its length. */
export function legendValues({ range, edges, flat }: ColorScale, shares: readonly number[]): number[] {
  return shares.map((share) => (flat ? range.low : edges[Math.round(share * colors)]));
}
