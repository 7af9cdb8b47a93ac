/**
 * Keeps heavy development tools (the VS Code server of the end-to-end tests, a cross compiler) out of node_modules: installs npm packages into a cache
 * folder of the user when something first needs them. No install script runs and nothing is compiled. Plain JavaScript, because `npm run package` needs it.
 * The rules to keep: a folder counts only when its installation came to its end; two processes never install one folder at once; what fails says so in a sentence.
 */
import { spawn } from "node:child_process";
import { lstat, mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Where the tools lie: SPARSE_TUNER_CACHE, or .cache/sparse-tuner in the home folder. */
export function cacheFolder(env = process.env) {
  return path.resolve(env.SPARSE_TUNER_CACHE || path.join(os.homedir(), ".cache", "sparse-tuner"));
}

/**
 * The folder that holds the packages in its node_modules, installed if need be.
 * @param {object} tool
 * @param {string} tool.name  of the folder under the cache folder; holds the version
 * @param {string} tool.title  what a person reads: "VS Code server 1.100.3"
 * @param {Record<string, string>} tool.packages  exact versions by name
 * @param {number} tool.diskMegabytes  about what it takes on the disk
 * @param {(folder: string) => Promise<void>} [tool.finish]  what remains to be done after npm; may be done again after an interruption
 * @param {string} [tool.revision]  raised when `finish` does something else than before
 * @param {(line: string) => void} [tool.log]
 * @returns {Promise<string>}
 */
export async function cachedTool({ name, title, packages, diskMegabytes, finish = async () => {}, revision = "1", log = console.error }) {
  const folder = path.join(cacheFolder(), name);
  const stamp = path.join(folder, "installed.json");
  const wanted = JSON.stringify({ packages, revision });
  const isInstalled = async () => (await readFile(stamp, "utf8").catch(() => "")) === wanted;
  if (await isInstalled()) return folder;
  await mkdir(folder, { recursive: true });
  const unlock = await lock(`${folder}.lock`, () => log(`Waiting for another process that installs ${title} …`));
  try {
    if (await isInstalled()) return folder;
    log(`Installing ${title} into ${folder} (about ${diskMegabytes} MB on the disk) …`);
    const stopProgress = reportProgress(folder, log);
    try {
      await writeFile(path.join(folder, "package.json"), JSON.stringify({ private: true, dependencies: packages }));
      await npmInstall(folder, title);
      await finish(folder);
    } finally {
      stopProgress();
    }
    await writeFile(stamp, wanted);
    log(`Installed ${title}.`);
    return folder;
  } finally {
    await unlock();
  }
}

/** Installs what the package.json of a folder names. What was downloaded before an interruption is in npm's own cache. */
export async function npmInstall(folder, title) {
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--omit=dev", "--include=optional"];
  const network = ["--prefer-offline", "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"];
  const [command, ...before] = npmCommand();
  const child = spawn(command, [...before, "install", ...options, ...network], {
    cwd: folder,
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(package|lifecycle)_|NODE_OPTIONS$|NODE_TEST)/.test(name))),
    stdio: ["ignore", "pipe", "pipe"],
    shell: command.endsWith(".cmd"),
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  const code = await new Promise((resolve) => child.on("close", resolve).on("error", (error) => resolve(error.message)));
  if (code !== 0) throw new Error(installProblem(title, said, code));
}

/** npm as it runs this process, else the one of the PATH. */
function npmCommand() {
  const running = process.env.npm_execpath ?? "";
  if (/^npm(-cli)?\.c?js$/.test(path.basename(running))) return [process.execPath, running];
  return [process.platform === "win32" ? "npm.cmd" : "npm"];
}

function installProblem(title, said, code) {
  const unreachable = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT)\b/.exec(
    said,
  )?.[1];
  if (unreachable)
    return `${title} could not be downloaded because npm's registry does not answer (${unreachable}): connect to a network and run the same command again, which goes on from what it has.`;
  const line = said.split("\n").find((text) => /^npm (error|ERR!)/.test(text));
  return `${title} could not be installed: npm ended with ${code}${line ? ` (${line.trim()})` : ""}.`;
}

/** Says now and then how much has arrived; returns what ends that. */
function reportProgress(folder, log) {
  const started = Date.now();
  let going = true;
  const timer = setInterval(async () => {
    const megabytes = Math.round((await folderBytes(folder)) / 1e6);
    if (going) log(`  ${megabytes} MB after ${Math.round((Date.now() - started) / 1000)} s`);
  }, 5000);
  return () => {
    going = false;
    clearInterval(timer);
  };
}

async function folderBytes(folder) {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => [])) {
    if (entry.isFile()) bytes += (await lstat(path.join(entry.parentPath ?? entry.path, entry.name)).catch(() => ({ size: 0 }))).size;
  }
  return bytes;
}

/** Takes a lock file that holds this process's id; one of a process that is gone does not count. */
async function lock(file, onWait) {
  for (let waits = 0; ; waits++) {
    const handle = await open(file, "wx").catch((error) => {
      if (error.code !== "EEXIST") throw error;
      return null;
    });
    if (handle) {
      await handle.writeFile(String(process.pid));
      await handle.close();
      return () => rm(file, { force: true });
    }
    const owner = Number(await readFile(file, "utf8").catch(() => "0"));
    // An empty file is a lock that is just being taken, unless it stays so.
    if (owner > 0 ? !isAlive(owner) : waits > 20) await rm(file, { force: true });
    else if (waits === 0) onWait();
    await delay(250);
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
