/**
 * Starts a core for a run folder and hands it over to itself: detached, output to a file, no tie to this process. Plain Node, no VS Code.
 * The rules to keep: what is started is an absolute path that does not lie in a workspace; a run that is alive is never started a second time.
 */
import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { open, readFile, realpath } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Type from "typebox";
import { Value } from "typebox/value";
import type { LiveRunRecord } from "../protocol/liveRun.ts";
import { UserError } from "../protocol/userError.ts";
import { findLiveRun, liveRuns } from "./liveRuns.ts";

const oldestNode = 20;
const probeMs = 5000;
/** A model's header is read, its data are tokenized and its memory is planned before a core answers. */
export const startMs = 600_000;

/**
 * How a Node was found. `installed`: a runtime that this extension has installed; see runtime/installRuntime.ts. `electron`: VS Code's own program in the role
 * of Node, for which devices beyond the cpu are no choice.
 */
export type NodeKind = "configured" | "path" | "server" | "installed" | "electron";

export interface FoundNode {
  node: string;
  kind: NodeKind;
  /** What came before it and is no Node to be used, each with the reason. */
  passedOver?: readonly string[];
}

/** Where to look for Node. */
export interface NodeSearch {
  /** The setting; null looks on the PATH, then at what runs this process. */
  configured: string | null;
  /** Folders whose programs are never started. */
  workspaceFolders: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** Runtimes that were installed, the best first. */
  installed?: readonly string[];
  /** What runs this process: a plain Node (VS Code's server), or Electron (the desktop). */
  host?: { program: string; electron: boolean };
}

/** Found before, by what was asked. */
const foundNodes = new Map<string, Promise<FoundNode>>();

/**
 * Absolute path of a Node ≥ 20: the configured one, else that of the PATH, else the server's, else an installed one, else Electron. Looked for once in the lifetime of this
 * process, and again when it has gone. Throws UserError `node/not-usable` for the configured one, `node/not-found` when there is none.
 */
export async function findNode(search: NodeSearch): Promise<FoundNode> {
  const { configured, workspaceFolders, env = process.env, installed = [], host = thisHost() } = search;
  const key = JSON.stringify([configured, workspaceFolders, pathOf(env), installed, host]);
  const known = foundNodes.get(key);
  if (known && existsSync((await known).node)) return known;
  // Of those that saw that it has gone, one looks.
  const looked = foundNodes.get(key);
  if (looked && looked !== known) return looked;
  const looking = lookForNode({ configured, workspaceFolders, env, installed, host });
  foundNodes.set(key, looking);
  looking.catch(() => foundNodes.delete(key));
  return looking;
}

function thisHost(): { program: string; electron: boolean } {
  return { program: process.execPath, electron: process.versions.electron !== undefined };
}

function pathOf(env: NodeJS.ProcessEnv): string {
  return env.PATH ?? env.Path ?? "";
}

async function lookForNode({ configured, workspaceFolders, env, installed, host }: Required<NodeSearch>): Promise<FoundNode> {
  if (configured !== null) {
    const problem = !path.isAbsolute(configured) ? "it is no absolute path" : await nodeProblem(configured, workspaceFolders);
    if (problem === null) return { node: configured, kind: "configured" };
    throw new UserError(
      "node/not-usable",
      `${configured} cannot run the core: ${problem}.`,
      "Correct the setting sparseTuner.nodePath, or clear it to look on the PATH.",
    );
  }
  const tried: string[] = [];
  for (const candidate of candidates(env, installed, host)) {
    const problem = await nodeProblem(candidate.node, workspaceFolders, candidate.kind);
    if (problem === null) return tried.length === 0 ? candidate : { ...candidate, passedOver: tried };
    tried.push(`${candidate.node}: ${problem}`);
  }
  const found = tried.length === 0 ? "" : ` (${tried.join("; ")})`;
  throw new UserError(
    "node/not-found",
    `No Node.js ${oldestNode} or newer was found on the PATH${found}.`,
    "Give the command Install Runtime, install Node.js, or name one in the setting sparseTuner.nodePath.",
  );
}

/** From the likeliest to the last resort. */
function* candidates(env: NodeJS.ProcessEnv, installed: readonly string[], host: { program: string; electron: boolean }): Generator<FoundNode> {
  for (const folder of pathOf(env).split(path.delimiter)) {
    // A relative entry means another program in every folder.
    const node = path.join(folder, process.platform === "win32" ? "node.exe" : "node");
    if (path.isAbsolute(folder) && existsSync(node)) yield { node, kind: "path" };
  }
  if (!host.electron) yield { node: host.program, kind: "server" };
  for (const node of installed) yield { node, kind: "installed" };
  if (host.electron) yield { node: host.program, kind: "electron" };
}

/** Why a file is no Node that may be used; null when it is one. */
export async function nodeProblem(file: string, workspaceFolders: readonly string[], kind: NodeKind = "path"): Promise<string | null> {
  const real = await realpath(file).catch(() => null);
  if (real === null) return "it does not exist";
  for (const folder of workspaceFolders) {
    const workspace = await realpath(folder).catch(() => path.resolve(folder));
    if ([file, real].some((place) => isInside(place, workspace))) return "it lies in the workspace";
  }
  return answerProblem(file, { env: environmentFor(kind) });
}

/** Why a program does not answer as a Node that is new enough; null when it does. One that does not answer in time is killed. */
export async function answerProblem(
  file: string,
  { env, timeoutMs = probeMs, signal }: { env?: Record<string, string>; timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<string | null> {
  const version = await nodeVersion(file, { env: programEnvironment({ env }), timeout: timeoutMs, signal });
  if (version === null) return "it does not answer as Node does";
  return Number(version.split(".")[0]) >= oldestNode ? null : `it is version ${version}`;
}

/** What a program of that kind needs in its environment to be a Node. */
export function environmentFor(kind: NodeKind): Record<string, string> {
  return kind === "electron" ? { ELECTRON_RUN_AS_NODE: "1" } : {};
}

function isInside(file: string, folder: string): boolean {
  const relative = path.relative(folder, file);
  return relative === "" || (!relative.startsWith("..") && !path.isAbsolute(relative));
}

function nodeVersion(file: string, given: { env: NodeJS.ProcessEnv; timeout: number; signal?: AbortSignal }): Promise<string | null> {
  return new Promise((resolve) => {
    const script = "process.stdout.write('node ' + process.versions.node)";
    const options = { ...given, killSignal: "SIGKILL", windowsHide: true, maxBuffer: 1 << 16 } as const;
    execFile(file, ["-e", script], options, (error, stdout) => resolve(error ? null : (/^node (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? null)));
  });
}

/** This process's environment without what would change another Node: options, Electron's and VS Code's own. */
export function coreEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^(NODE_|ELECTRON_|VSCODE_)/i.test(name)));
}

/** What starts a core: an absolute Node and the absolute path of core.js. */
export interface CoreProgram {
  node: string;
  core: string;
  /** What the Node needs in its environment; see {@link environmentFor}. */
  env?: Record<string, string>;
  /** How the Node was found, and what was not, to be said where it matters. */
  kind?: NodeKind;
  passedOver?: readonly string[];
}

/** The program that a found Node and core.js make; `variables` are what it shall find besides. */
export function coreProgram({ node, kind, passedOver }: FoundNode, core: string, variables: Record<string, string> = {}): CoreProgram {
  return { node, core, kind, env: { ...environmentFor(kind), ...variables }, passedOver };
}

/** The whole environment a program is started with. */
export function programEnvironment({ env }: Pick<CoreProgram, "env">): NodeJS.ProcessEnv {
  return { ...coreEnvironment(), ...env };
}

/** Checks a run file and makes its run folder. Throws the UserError that the core refuses it with. */
export async function createRun({ node, core, env }: CoreProgram, runFile: string): Promise<string> {
  const options = { cwd: path.dirname(runFile), windowsHide: true, env: programEnvironment({ env }), timeout: startMs, maxBuffer: 1 << 24 };
  const [stdout, stderr] = await new Promise<[string, string]>((resolve) =>
    execFile(node, [core, "--create", runFile], options, (_error, out, err) => resolve([out, err])),
  );
  const answer = lastJson(stdout);
  if (Value.Check(Type.Object({ runFolder: Type.String() }), answer)) return answer.runFolder;
  throw startError(answer, stderr || stdout);
}

export interface StartOptions extends CoreProgram {
  runFolder: string;
  resume: boolean;
  acceptChanges?: boolean;
  /** The setting keepRunning as false: saved and stopped after so long without a host. */
  stopWhenAloneMs?: number | null;
  recordFrames?: boolean;
  timeoutMs?: number;
}

/** Starts a core, or finds the one that is alive; resolves when it can be connected to. Throws UserError. */
export async function startCore(options: StartOptions): Promise<{ record: LiveRunRecord; started: boolean }> {
  const live = await findLiveRun(options.runFolder);
  if (live.kind === "live") return { record: live.record, started: false };
  if (live.kind === "elsewhere")
    throw new UserError(
      "run/elsewhere",
      `${options.runFolder} is in use by process ${live.pid} on ${live.host}.`,
      `Stop the run there, or give the command Remove Lock if that machine is gone.`,
      { badInput: false },
    );
  const nonce = randomUUID();
  const log = await openLog(options.runFolder);
  const { size } = await log.stat();
  const child = spawn(options.node, coreArguments(options, nonce), {
    cwd: options.runFolder,
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    env: programEnvironment(options),
    windowsHide: true,
  });
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(`it ended with ${signal ?? `code ${code}`}`));
  });
  child.unref();
  await log.close();
  return { record: await registered(nonce, ended, path.join(options.runFolder, logName), size, options.timeoutMs ?? startMs), started: true };
}

function coreArguments({ core, runFolder, resume, acceptChanges, stopWhenAloneMs, recordFrames }: StartOptions, nonce: string): string[] {
  const given = [core, path.resolve(runFolder), "--nonce", nonce];
  if (resume) given.push("--resume");
  if (acceptChanges) given.push("--accept-changes");
  if (stopWhenAloneMs != null) given.push("--stop-when-alone", String(stopWhenAloneMs));
  if (recordFrames) given.push("--record-frames");
  return given;
}

export const logName = "log.txt";

/** A run folder may come from anywhere: a link in the log's place is not followed. */
export async function openLog(runFolder: string) {
  const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW } = constants;
  try {
    return await open(path.join(runFolder, logName), O_APPEND | O_CREAT | O_WRONLY | (O_NOFOLLOW ?? 0), 0o644);
  } catch (error) {
    throw new UserError(
      "run/cannot-write",
      `${path.join(runFolder, logName)} cannot be written: ${(error as Error).message}.`,
      "Check the run folder and its permissions.",
      { badInput: false },
    );
  }
}

/** Waits until the register has the core; throws what it ended with before that. */
async function registered(nonce: string, ended: Promise<string>, logFile: string, logStart: number, timeoutMs: number): Promise<LiveRunRecord> {
  const deadline = performance.now() + timeoutMs;
  let end: string | null = null;
  void ended.then((how) => {
    end = how;
  });
  while (performance.now() < deadline) {
    const record = (await liveRuns()).find((live) => live.nonce === nonce);
    if (record) return record;
    if (end !== null) {
      const said = (await readFile(logFile)).subarray(logStart).toString("utf8");
      throw startError(lastJson(said), said || end);
    }
    await Promise.race([ended, delay(50)]);
  }
  throw new UserError("core/slow-start", `The core has not answered for ${Math.round(timeoutMs / 1000)} s.`, `Look into ${logFile}.`, {
    badInput: false,
  });
}

/** The last line that is JSON. */
export function lastJson(text: string): unknown {
  for (const line of text.trim().split("\n").reverse()) {
    try {
      return JSON.parse(line);
    } catch {
      // another line of a trace
    }
  }
  return null;
}

const failedSchema = Type.Object({ failed: Type.Object({ code: Type.String(), message: Type.String(), action: Type.String() }) });

/** What the core refused with, or the end of what it said. */
export function startError(answer: unknown, said: string): UserError {
  if (Value.Check(failedSchema, answer)) return new UserError(answer.failed.code, answer.failed.message, answer.failed.action, { badInput: false });
  return new UserError("core/start-failed", `The core could not be started: ${said.trim().slice(-500)}`, "Look into the log.", { badInput: false });
}
