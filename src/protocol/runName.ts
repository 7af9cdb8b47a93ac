/**
 * What runs and their folders are called: by their run file, in any script. Core and windows share it, so that a window knows a run file's runs by name.
 * The rule to keep: a name from outside becomes one plain part of a path, of at most 160 bytes, on every file system.
 */
import path from "node:path";

/** `tune` for `…/tune.sparse-tuner.yaml`. */
export function runNameOf(file: string): string {
  return path.basename(file).replace(/(\.sparse-tuner)?\.ya?ml$/, "");
}

/** A run's name made safe for a folder: letters and digits of any script, dots and dashes, at most 40 characters, `run` when nothing is left. */
export function safeName(name: string): string {
  const plain = name
    .normalize("NFKC")
    // A mark belongs to the character before it, and goes with it.
    .replace(/[^\p{L}\p{M}\p{N}._-][^\p{L}\p{N}._-]*/gu, "-")
    .replace(/^[.\p{M}-]+/u, "");
  const short = [...plain]
    .slice(0, 40)
    .join("")
    .replace(/[.-]+$/, "");
  return short || "run";
}

/** What stands behind the time in the name of a run's folder; some file systems give names back in another normal form. */
export function nameInFolder(folderName: string): string {
  return folderName.replace(/^\d{8}-\d{6}-(?=.)/, "").normalize("NFKC");
}
