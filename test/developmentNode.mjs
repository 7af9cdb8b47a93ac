/**
 * Finds the Node 24 that the tests and scripts in TypeScript need, on whatever Node ≥ 20 the package manager runs. Called as a program,
 * `node test/developmentNode.mjs FILE [arguments]`, it runs the file with it. Plain JavaScript for that reason.
 */
import { spawnSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { nodeVersionProblem } from "../build.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** This process's own Node when it is new enough, else the one that `npm ci` installed for this platform. Throws a sentence when there is neither. */
export function developmentNode() {
  const problem = nodeVersionProblem();
  if (problem) throw new Error(problem);
  if (nodeVersionProblem(process.versions.node, 24) === null) return process.execPath;
  const system = process.platform === "win32" ? "win" : process.platform;
  for (const name of [`node-${system}-${process.arch}`, `node-bin-${system}-${process.arch}`]) {
    for (const binary of ["bin/node", "bin/node.exe"]) {
      const candidate = path.join(root, "node_modules", name, binary);
      if (existsSync(candidate)) return candidate;
    }
  }
  throw new Error("This needs Node 24, which `npm ci` installs: run `npm ci --include=optional`, or use Node 24 or newer yourself.");
}

if (process.argv[1] && fileURLToPath(import.meta.url) === realpathSync(process.argv[1])) {
  try {
    process.exitCode = spawnSync(developmentNode(), process.argv.slice(2), { stdio: "inherit" }).status ?? 1;
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
