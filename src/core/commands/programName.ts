/** How a person calls this program again: `sparse-tuner` where it is installed under that name, else node and the file that runs. */
import path from "node:path";

export function programName(script: string = process.argv[1] ?? "", folder: string = process.cwd()): string {
  const name = path.basename(script);
  if (!/\.[cm]?[jt]s$/.test(name)) return "sparse-tuner";
  const relative = path.relative(folder, script);
  return `node ${shellWord(relative.startsWith("..") ? script : relative)}`;
}

/** A path as one word of a shell, as short as the working folder allows. */
export function shownPath(place: string, folder: string = process.cwd()): string {
  const relative = path.relative(folder, place);
  return shellWord(relative === "" ? "." : relative.startsWith("..") ? place : relative);
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./\\-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
