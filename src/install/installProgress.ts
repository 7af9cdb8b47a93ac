/**
 * How far an installation is, by what lies on the disk: neither npm nor the package's script tells it. It changes nothing.
 */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { enginePackage, type PlacedPackage } from "./engineLock.ts";
import type { EngineProgress } from "./installTensorflow.ts";

export interface WatchOptions {
  /** Holds node_modules. */
  fresh: string;
  packages: readonly PlacedPackage[];
  /** So long without a change is too long. */
  idleMs: number;
  onProgress?(progress: EngineProgress): void;
  onIdle(): void;
}

const everyMs = 500;

/** Looks until the function that it returns is called. */
export function watchProgress({ fresh, packages, idleMs, onProgress, onIdle }: WatchOptions): () => void {
  const own = path.join(fresh, "node_modules", enginePackage);
  let last = "";
  let changedMs = performance.now();
  const look = () => {
    const here = packages.filter(({ place }) => bytesIn(path.join(fresh, ...place.split("/"), "package.json")) > 0).length;
    const libraryBytes = bytesIn(path.join(own, "deps")) + bytesIn(path.join(own, "lib"));
    // A package that is being fetched lies beside them.
    const partBytes = libraryBytes === 0 && here < packages.length ? bytesIn(fresh, false) : 0;
    const state = `${here} ${libraryBytes} ${partBytes}`;
    if (state !== last) {
      last = state;
      changedMs = performance.now();
      onProgress?.(
        libraryBytes > 0 ? { phase: "library", done: libraryBytes, total: null } : { phase: "packages", done: here, total: packages.length },
      );
    } else if (performance.now() - changedMs > idleMs) onIdle();
  };
  look();
  const timer = setInterval(look, Math.min(everyMs, idleMs));
  return () => clearInterval(timer);
}

/** Bytes of a file, or of the files in a folder; 0 where nothing is. What vanishes while it is looked at counts as gone. */
function bytesIn(place: string, deep = true): number {
  try {
    const entry = statSync(place);
    if (!entry.isDirectory()) return entry.size;
    const children = readdirSync(place, { withFileTypes: true }).filter((child) => deep || child.isFile());
    return children.reduce((sum, child) => sum + bytesIn(path.join(place, child.name)), 0);
  } catch {
    return 0;
  }
}
