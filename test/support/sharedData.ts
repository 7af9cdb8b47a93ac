/**
 * Finds large test data that is not part of the repository: folders of `../shared/data` beside the checkout. Tests that need it skip without it,
 * with the words "not run: no shared data", so that the run names them.
 */
import { existsSync } from "node:fs";
import path from "node:path";

/** The folder (or file) of that name, or null when this machine does not have it. */
export function sharedData(name: string): string | null {
  const folder = path.resolve(import.meta.dirname, "../../../shared/data", name);
  return existsSync(folder) ? folder : null;
}
