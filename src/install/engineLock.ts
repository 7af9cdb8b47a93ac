/**
 * Which packages are an installed TensorFlow engine: npm's lock of @tensorflow/tfjs-node-gpu, with the hash of each, compiled in.
 * The rule to keep: it pins the version that package.json names as its optional peer, and no registry; a test compares them.
 */

import pinned from "./tensorflowLock.json" with { type: "json" };
import type { PinnedPackage } from "./verifiedPackage.ts";

/** What is read of a package-lock.json; npm reads the rest of it. */
export interface EngineLock {
  name: string;
  version: string;
  lockfileVersion: number;
  requires: boolean;
  /** By place in the tree; the empty one is the tree's own. */
  packages: Record<string, LockedPackage>;
}

interface LockedPackage {
  version?: string;
  integrity?: string;
  hasInstallScript?: boolean;
  bin?: Record<string, string>;
  dependencies?: Record<string, string>;
}

export const engineLock: EngineLock = pinned;
export const enginePackage = "@tensorflow/tfjs-node-gpu";
export const engineVersion = engineLock.packages[`node_modules/${enginePackage}`].version as string;

/** A package of the tree and its place, e.g. `node_modules/a/node_modules/@b/c`. */
export interface PlacedPackage extends PinnedPackage {
  place: string;
  hasInstallScript: boolean;
  /** Its programs: file by name. */
  bin: Record<string, string>;
}

/** The packages of a lock. Throws when one has no hash. */
export function packagesOf({ packages }: EngineLock): PlacedPackage[] {
  return Object.entries(packages)
    .filter(([place]) => place !== "")
    .map(([place, { version, integrity, hasInstallScript = false, bin = {} }]) => {
      if (!version || !integrity?.startsWith("sha512-")) throw new Error(`${place} is not pinned`);
      return { place, name: place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length), version, integrity, hasInstallScript, bin };
    });
}
