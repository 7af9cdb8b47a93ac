/**
 * Finds the user's npm, to be run by a Node that was already chosen. It starts nothing.
 * The rule to keep: what is found is an absolute path outside of every workspace.
 */
import { existsSync, realpathSync } from "node:fs";
import path from "node:path";

export interface NpmProgram {
  program: string;
  args: readonly string[];
}

export interface NpmSearch {
  /** The Node that shall run it. */
  node: string;
  env?: NodeJS.ProcessEnv;
  /** Folders whose programs are never started. */
  workspaceFolders?: readonly string[];
}

/** The first npm of the PATH; null when there is none. */
export function findNpm({ node, env = process.env, workspaceFolders = [] }: NpmSearch): NpmProgram | null {
  for (const folder of (env.PATH ?? env.Path ?? "").split(path.delimiter)) {
    // A relative entry means another program in every folder.
    if (!path.isAbsolute(folder)) continue;
    const found = process.platform === "win32" ? besideCommand(folder, node) : atName(path.join(folder, "npm"), node);
    if (found && ![...found.args, found.program].some((file) => workspaceFolders.some((workspace) => isInside(file, workspace)))) return found;
  }
  return null;
}

/** Windows' npm.cmd needs a shell; its script lies beside it. */
function besideCommand(folder: string, node: string): NpmProgram | null {
  const script = path.join(folder, "node_modules", "npm", "bin", "npm-cli.js");
  return existsSync(path.join(folder, "npm.cmd")) && existsSync(script) ? { program: node, args: [script] } : null;
}

/** A link to npm's script, or a program of a version manager, which finds the Node on the PATH. */
function atName(file: string, node: string): NpmProgram | null {
  if (!existsSync(file)) return null;
  const real = realpathSync(file);
  return real.endsWith(".js") ? { program: node, args: [real] } : { program: file, args: [] };
}

function isInside(file: string, folder: string): boolean {
  const real = (place: string) => (existsSync(place) ? realpathSync(place) : path.resolve(place));
  const relative = path.relative(real(folder), real(file));
  return !relative.startsWith("..") && !path.isAbsolute(relative);
}
