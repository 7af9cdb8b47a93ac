/** A pruning's method and pattern in words: for titles, and for names of folders. Pure. */
import type { PruningMethod } from "../../protocol/pruning.ts";

/** `2of4` for 2:4, `50` for 0.5: what every file system takes. */
export function patternName(pattern: string): string {
  return pattern.includes(":") ? pattern.replace(":", "of") : String(Number((Number(pattern) * 100).toPrecision(6)));
}

/** `2:4`, or `50 %`. */
export function patternText(pattern: string): string {
  return pattern.includes(":") ? pattern : `${patternName(pattern)} %`;
}

/** As its authors write it. */
export function methodTitle(method: PruningMethod): string {
  const titles: Record<PruningMethod, string> = { magnitude: "magnitude", wanda: "Wanda", sparsegpt: "SparseGPT", ria: "RIA" };
  return titles[method];
}
