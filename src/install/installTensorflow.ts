/**
 * Installs @tensorflow/tfjs-node-gpu into a folder: its packages by the user's npm, or fetched by ourselves where there is none; libtensorflow and the binding
 * by the package's own install script, which knows where they are; then tried, and put in place by one rename. Plain Node, no VS Code.
 * The rules to keep: packages are those of the compiled lock, by their hash; what is in place stays until a new one has computed something; what was not
 * finished leaves nothing behind. What the package's script fetches has no published hash, and comes over whatever connection its address says.
 */
import { cp, mkdir, readdir, readFile, rename, statfs, writeFile } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../protocol/userError.ts";
import { engineIn } from "./engineFolder.ts";
import { type EngineLock, engineLock, enginePackage, packagesOf } from "./engineLock.ts";
import { failedProgram } from "./installFailure.ts";
import { watchProgress } from "./installProgress.ts";
import type { NpmProgram } from "./npmProgram.ts";
import { layOutPackages, writeCommand } from "./packageTree.ts";
import { runProgram } from "./programRun.ts";
import { type ProxySettings, proxyVariables } from "./proxy.ts";
import { makeStaging, removeStaging, removeStale } from "./staging.ts";

export interface InstallEngineOptions {
  /** Where installations are kept; made when it is missing. */
  folder: string;
  /** The Node that will run the core: the binding is fetched for it. */
  node: string;
  /** Null: packages are fetched from `registry` without it. */
  npm: NpmProgram | null;
  /** Null: npm's own. */
  registry: string | null;
  proxy: ProxySettings;
  signal: AbortSignal;
  onProgress?(progress: EngineProgress): void;
  /** What npm and the package's script say, for a log. */
  onLine?(line: string): void;
  /** Nothing was written for so long: it hangs. */
  idleMs?: number;
  lock?: EngineLock;
  env?: NodeJS.ProcessEnv;
}

/** `packages`: so many are there; `library`: so many bytes of libtensorflow and the binding; `try`: it computes. */
export interface EngineProgress {
  phase: "packages" | "library" | "try";
  done: number;
  total: number | null;
}

export interface InstalledEngine {
  /** Holds node_modules. */
  folder: string;
  version: string;
  /** Whether it computed on a graphics card. */
  onCard: boolean;
}

/** The packages unpacked and libtensorflow with CUDA's kernels. */
const neededBytes = 2 ** 31;
const idleMsUsual = 600_000;
/** libtensorflow is read for the first time, and looks for a card. */
const tryMs = 180_000;

/** What is then in place. Throws UserError, or an AbortError when `signal` gives up; the installation before is then unchanged. */
export async function installTensorflow(options: InstallEngineOptions): Promise<InstalledEngine> {
  const { folder, signal } = options;
  signal.throwIfAborted();
  let staging: string | null = null;
  try {
    await mkdir(folder, { recursive: true });
    await removeStale(folder);
    const room = await statfs(folder).catch(() => null);
    if (room && room.bavail * room.bsize < neededBytes) throw diskFull(folder);
    staging = await makeStaging(folder);
    const fresh = path.join(staging, "engine");
    await mkdir(fresh);
    await fill(fresh, path.join(staging, "commands"), options);
    const onCard = await tryEngine(fresh, options);
    signal.throwIfAborted();
    const { version } = JSON.parse(await readFile(path.join(fresh, "node_modules", enginePackage, "package.json"), "utf8")) as { version: string };
    await putInPlace(fresh, engineIn(folder), path.join(staging, "before"));
    return { folder: engineIn(folder), version, onCard };
  } catch (error) {
    throw asUserError(error, folder, signal);
  } finally {
    await removeStaging(staging);
  }
}

/** Packages, library and binding, given up when nothing more comes. */
async function fill(fresh: string, commands: string, options: InstallEngineOptions): Promise<void> {
  const { npm, node, lock = engineLock, signal, idleMs = idleMsUsual, onProgress } = options;
  const packages = packagesOf(lock);
  await writeFile(path.join(fresh, "package.json"), JSON.stringify(manifestOf(lock)));
  await writeCommand(commands, "node", node);
  const hanging = new AbortController();
  const stopWatching = watchProgress({ fresh, packages, idleMs, onProgress, onIdle: () => hanging.abort() });
  const either = AbortSignal.any([signal, hanging.signal]);
  try {
    if (npm) await fillByNpm(fresh, commands, npm, { ...options, signal: either });
    else await fillOurselves(fresh, commands, { ...options, signal: either });
    if (process.platform === "win32") await besideBinding(path.join(fresh, "node_modules", enginePackage));
  } catch (error) {
    if (!hanging.signal.aborted || signal.aborted) throw error;
    throw new UserError("tensorflow/hangs", `Nothing came for ${Math.round(idleMs / 1000)} s while ${enginePackage} was installed.`, tryAgain, {
      badInput: false,
    });
  } finally {
    stopWatching();
  }
}

/** npm asks which packages may run their install script: this one and no other. */
function manifestOf(lock: EngineLock) {
  const scripted = packagesOf(lock).filter(({ hasInstallScript }) => hasInstallScript);
  const allowScripts = Object.fromEntries(scripted.map(({ name }) => [name, name === enginePackage]));
  return { name: lock.name, version: lock.version, private: true, dependencies: lock.packages[""].dependencies, allowScripts };
}

const npmArguments = ["ci", "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts=false", "--foreground-scripts"];

async function fillByNpm(fresh: string, commands: string, npm: NpmProgram, options: InstallEngineOptions): Promise<void> {
  const { lock = engineLock, registry, signal, onLine } = options;
  await writeFile(path.join(fresh, "package-lock.json"), JSON.stringify(lock));
  const args = [...npm.args, ...npmArguments, "--prefix", fresh, ...(registry ? ["--registry", registry] : [])];
  const { code, lines } = await runProgram({ program: npm.program, args, cwd: fresh, env: environment(commands, options), signal, onLine });
  if (code !== 0) throw failedProgram("npm", lines);
}

async function fillOurselves(fresh: string, commands: string, options: InstallEngineOptions): Promise<void> {
  const { lock = engineLock, registry, proxy, node, signal, onLine, idleMs } = options;
  if (!registry)
    throw new UserError(
      "tensorflow/no-registry",
      "No npm was found on the PATH, and no package registry is named to fetch @tensorflow/tfjs-node-gpu from.",
      "Name one with --registry or the setting sparseTuner.registry, or install npm.",
    );
  const packages = packagesOf(lock);
  await layOutPackages({ folder: fresh, packages, source: { kind: "registry", registry, proxy, idleMs }, signal });
  // What npm links into node_modules/.bin.
  for (const { place, bin } of packages.filter(({ name, place }) => place === `node_modules/${name}`))
    for (const [name, file] of Object.entries(bin)) await writeCommand(commands, name, node, [path.join(fresh, ...place.split("/"), file)]);
  const own = path.join(fresh, "node_modules", enginePackage);
  const { scripts } = JSON.parse(await readFile(path.join(own, "package.json"), "utf8")) as { scripts: { install: string } };
  const [program, ...args] = scripts.install.split(" ");
  if (program !== "node") throw new Error(`the install script of ${enginePackage} is run by ${program}`);
  const { code, lines } = await runProgram({ program: node, args, cwd: own, env: environment(commands, options), signal, onLine });
  if (code !== 0) throw failedProgram(`The install script of ${enginePackage}`, lines);
}

/** This process's environment without what would change another Node; the chosen Node, the proxy and the mirrors in it. */
function environment(commands: string, { node, proxy, env = process.env }: InstallEngineOptions): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !/^(NODE_OPTIONS|NODE_PATH|ELECTRON_.*|VSCODE_.*|PATH)$/i.test(name));
  const before = [commands, path.dirname(node)].join(path.delimiter);
  const mirror = env.TFJS_NODE_CDN_STORAGE;
  return {
    // The binding's downloader has a variable of its own.
    ...(mirror && { npm_config_tfjs_binding_binary_host_mirror: `${mirror.replace(/\/?$/, "/")}tf-builds/pre-built-binary` }),
    ...Object.fromEntries(kept),
    ...(mirror && { TFJS_NODE_CDN_STORAGE: mirror.replace(/\/?$/, "/") }),
    ...proxyVariables(proxy),
    PATH: [before, env.PATH ?? env.Path ?? ""].join(path.delimiter),
  };
}

/** The package's script puts the library beside a binding of this Node's interface, but there is one of the eighth only. */
async function besideBinding(own: string): Promise<void> {
  for (const name of await readdir(path.join(own, "lib")).catch(() => []))
    await cp(path.join(own, "deps", "lib", "tensorflow.dll"), path.join(own, "lib", name, "tensorflow.dll"), { force: false });
}

/** The first lines give it what its JavaScript calls and Node 23 took away, as the core does. */
const trial = `
const util = require("node:util");
util.isNullOrUndefined ??= (value) => value === null || value === undefined;
util.isArray ??= Array.isArray;
const tf = require(${JSON.stringify(enginePackage)});
tf.ready().then(() => {
  if (tf.getBackend() !== "tensorflow") throw new Error("it computes on " + tf.getBackend());
  const [sum] = tf.matMul(tf.ones([1, 3]), tf.ones([3, 1])).dataSync();
  if (sum !== 3) throw new Error("it computes " + sum + " where 3 is right");
  console.log("\\ntensorflow:" + (tf.backend().isUsingGpuDevice ? "card" : "processor"));
});`;

/** Lets it compute something in a process of its own; returns whether on a card. */
async function tryEngine(fresh: string, { node, signal, onLine, onProgress, env = process.env }: InstallEngineOptions): Promise<boolean> {
  onProgress?.({ phase: "try", done: 0, total: null });
  const limit = AbortSignal.timeout(tryMs);
  const settings = { TF_FORCE_GPU_ALLOW_GROWTH: "true", TF_CPP_MIN_LOG_LEVEL: "2" };
  const kept = Object.fromEntries(Object.entries(env).filter(([name]) => !/^(NODE_|ELECTRON_|VSCODE_)/i.test(name)));
  const { lines } = await runProgram({
    program: node,
    args: ["-e", trial],
    cwd: fresh,
    env: { ...kept, ...settings },
    signal: AbortSignal.any([signal, limit]),
    onLine,
  }).catch((error) => {
    if (signal.aborted || !limit.aborted) throw error;
    return { lines: [`it has not answered for ${tryMs / 1000} s`] };
  });
  const answer = lines.map((line) => /^tensorflow:(card|processor)$/.exec(line)?.[1]).find(Boolean);
  if (!answer) throw failedProgram(`${enginePackage} was installed, but`, lines, "cannot be used");
  return answer === "card";
}

/** Two renames; where the second fails, the first is taken back. */
async function putInPlace(fresh: string, place: string, before: string): Promise<void> {
  const had = await rename(place, before).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw inUse(place, error);
    },
  );
  await rename(fresh, place).catch(async (error) => {
    if (had) await rename(before, place);
    throw error;
  });
}

const tryAgain = "Try again; what was installed before is unchanged.";

function inUse(place: string, error: NodeJS.ErrnoException): UserError {
  return new UserError(
    "tensorflow/in-use",
    `${place} cannot be replaced: ${error.message}.`,
    "Stop the runs that compute with TensorFlow, close other windows, and try again.",
    { badInput: false, cause: error },
  );
}

function diskFull(folder: string): UserError {
  const needed = `${neededBytes / 2 ** 30} GiB`;
  return new UserError("tensorflow/disk-full", `The disk of ${folder} has no room for TensorFlow.`, `Free ${needed} there, and try again.`, {
    badInput: false,
  });
}

function asUserError(error: unknown, folder: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  const { code, message } = error as NodeJS.ErrnoException;
  // Of the system's own: EACCES, EROFS; ERR_… is a bug.
  if (error instanceof UserError || !/^E[A-Z0-9]+$/.test(code ?? "")) return error;
  if (["ENOSPC", "EDQUOT"].includes(code as string)) return diskFull(folder);
  return new UserError(
    "tensorflow/cannot-write",
    `TensorFlow cannot be written into ${folder}: ${message}.`,
    "Check the folder and its permissions.",
    {
      badInput: false,
      cause: error,
    },
  );
}
