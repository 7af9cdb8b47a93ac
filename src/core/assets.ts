/** Where the files that come with the product lie, seen from the sources and from the bundle alike. */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));

/** A path under the product's top folder, e.g. `media/demo`. */
export function assetPath(relative: string): string {
  // The bundle stands in dist/, one folder deep; this file two folders deep.
  const candidates = [path.resolve(here, "..", relative), path.resolve(here, "../..", relative)];
  return candidates.find((candidate) => existsSync(candidate)) ?? candidates[0];
}
