/**
 * The folder beside an installation in which a new one is made, so that what is half there is never mistaken for one. It knows nothing of what is installed.
 * The rule to keep: one folder an attempt; those of attempts that were killed go when a day old, so that nobody's work is taken away.
 */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import path from "node:path";

/** An installation does not take so long: what is older was left behind by a process that was killed. */
const staleMs = 24 * 3600_000;
const prefix = ".installing-";

/** Removes what killed attempts left in a folder that is there. */
export async function removeStale(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const there = await stat(path.join(folder, name)).catch(() => null);
    if (there && Date.now() - there.mtimeMs > staleMs) await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** A fresh one in a folder that is there. */
export function makeStaging(folder: string): Promise<string> {
  return mkdtemp(path.join(folder, prefix));
}

/** Removes it, as far as the system lets go of it; null: none was made. */
export async function removeStaging(staging: string | null): Promise<void> {
  // On Windows what was just running or loaded is held for a moment.
  if (staging) await rm(staging, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => undefined);
}
