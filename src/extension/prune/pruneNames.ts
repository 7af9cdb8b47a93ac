/** A pruning's method in words, and its pattern in a folder's name. Pure. */
import { type PruningMethod, percentOf } from "../../protocol/pruning.ts";

/** `2of4` for 2:4, `50` for 0.5: what every file system takes. */
export function patternName(pattern: string): string {
  return pattern.includes(":") ? pattern.replace(":", "of") : String(percentOf(pattern));
}

/** As its authors write it. */
export function methodTitle(method: PruningMethod): string {
  const titles: Record<PruningMethod, string> = { magnitude: "magnitude", wanda: "Wanda", sparsegpt: "SparseGPT", ria: "RIA" };
  return titles[method];
}
