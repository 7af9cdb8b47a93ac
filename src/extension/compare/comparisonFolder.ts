/**
 * A comparison's folder as this window sees it: its lines, how far it is, whether a process works on it; and starting and stopping one. Plain Node.
 * The rules to keep: the folder may come from anywhere, so every line is checked and nothing in it is started or signalled; a stop is a file that the core
 * looks for; what is started is the core that came with the extension.
 */
import { execFile, spawn } from "node:child_process";
import { constants, type FSWatcher, watch } from "node:fs";
import { open, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Type from "typebox";
import { Value } from "typebox/value";
import {
  type ComparisonLine,
  type ComparisonProgress,
  comparisonFiles,
  parseComparisonLines,
  progressSchema,
} from "../../protocol/compareResults.ts";
import { UserError } from "../../protocol/userError.ts";
import { findLiveRun } from "../liveRuns.ts";
import { type CoreProgram, lastJson, openLog, programEnvironment, startError, startMs } from "../startCore.ts";

/** Results are a line a run; a larger file is none of ours. */
const maxResultBytes = 64 << 20;
const settleMs = 150;
/** Where the system does not tell of changes, they are looked for. */
const lookMs = 2000;

/** What a folder says. */
export interface ComparisonState {
  lines: ComparisonLine[];
  progress: ComparisonProgress | null;
  live: boolean;
}

/** Reads it all; what is damaged or missing is left out. */
export async function readComparison(folder: string): Promise<ComparisonState> {
  const content = await textOf(path.join(folder, comparisonFiles.results), maxResultBytes);
  return { lines: parseComparisonLines(content), ...(await readProgress(folder)) };
}

/** How far it is and whether a process works on it, without its results. */
export async function readProgress(folder: string): Promise<Pick<ComparisonState, "progress" | "live">> {
  const [progress, live] = await Promise.all([textOf(path.join(folder, comparisonFiles.progress), 1 << 20), isLive(folder)]);
  return { progress: progressOf(progress), live };
}

async function textOf(file: string, maxBytes: number): Promise<string> {
  const status = await stat(file).catch(() => null);
  if (!status?.isFile() || status.size > maxBytes) return "";
  return readFile(file, "utf8").catch(() => "");
}

function progressOf(text: string): ComparisonProgress | null {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(progressSchema, value) ? value : null;
  } catch {
    return null;
  }
}

/** A comparison is locked like a run while a process works on it. */
async function isLive(folder: string): Promise<boolean> {
  const found = await findLiveRun(folder);
  return found.kind === "live" || found.kind === "elsewhere" || (found.kind === "unregistered" && found.alive);
}

/** Whether a folder is a comparison's. */
export async function isComparisonFolder(folder: string): Promise<boolean> {
  return (await stat(path.join(folder, comparisonFiles.config)).catch(() => null))?.isFile() ?? false;
}

/** Comparison folders right below some folders, newest first by their names. */
export async function comparisonsUnder(outputs: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const output of new Set(outputs.map((folder) => path.resolve(folder))))
    for (const entry of await readdir(output, { withFileTypes: true }).catch(() => [])) {
      const folder = path.join(output, entry.name);
      if (entry.isDirectory() && (await isComparisonFolder(folder))) found.push(folder);
    }
  return found.sort((a, b) => (path.basename(a) < path.basename(b) ? 1 : -1));
}

/** Tells of changes of a comparison, soon after them, until it is disposed of. */
export function watchComparison(folder: string, changed: () => void): { dispose(): void } {
  let settling: NodeJS.Timeout | null = null;
  let watcher: FSWatcher | null = null;
  const soon = () => {
    settling ??= setTimeout(() => {
      settling = null;
      changed();
    }, settleMs);
  };
  try {
    watcher = watch(folder, { persistent: false }, soon);
    watcher.on("error", () => undefined);
  } catch {
    // It is looked at again and again all the same.
  }
  const looking = setInterval(soon, lookMs).unref();
  return {
    dispose() {
      watcher?.close();
      clearInterval(looking);
      if (settling) clearTimeout(settling);
    },
  };
}

/** Checks a comparison's file and makes its folder. Throws the UserError that the core refuses it with. */
export async function createComparison({ node, core, env }: CoreProgram, file: string): Promise<string> {
  const options = { cwd: path.dirname(file), windowsHide: true, env: programEnvironment({ env }), timeout: startMs, maxBuffer: 1 << 24 };
  const [stdout, stderr] = await new Promise<[string, string]>((resolve) =>
    execFile(node, [core, "--create-comparison", file], options, (error, out, err) => resolve([out, err || (error?.message ?? "")])),
  );
  const answer = lastJson(stdout);
  if (Value.Check(Type.Object({ comparisonFolder: Type.String() }), answer)) return answer.comparisonFolder;
  throw startError(answer, stderr || stdout);
}

/** Starts a core on a comparison and hands it over to itself; resolves when it works. One that is alive is left alone. Throws UserError. */
export async function startComparison({ node, core, env }: CoreProgram, folder: string): Promise<void> {
  if (await isLive(folder)) return;
  await rm(path.join(folder, comparisonFiles.stop), { force: true });
  const log = await openLog(folder);
  const { size } = await log.stat();
  const child = spawn(node, [core, "--compare", path.resolve(folder)], {
    cwd: folder,
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    env: programEnvironment({ env }),
    windowsHide: true,
  });
  let ended: { code: number | null; said: string } | null = null;
  child.once("error", (error) => {
    ended = { code: -1, said: error.message };
  });
  child.once("exit", (code) => {
    ended ??= { code, said: "" };
  });
  child.unref();
  await log.close();
  await working(folder, () => ended, size);
}

async function working(folder: string, ended: () => { code: number | null; said: string } | null, logStart: number): Promise<void> {
  const deadline = performance.now() + startMs;
  const logFile = path.join(folder, comparisonFiles.log);
  while (performance.now() < deadline) {
    if (await isLive(folder)) return;
    const end = ended();
    if (end?.code === 0) return;
    if (end) {
      const said = (await readFile(logFile)).subarray(logStart).toString("utf8");
      throw startError(lastJson(said), end.said || said);
    }
    await delay(50);
  }
  throw new UserError("core/slow-start", `The core has not answered for ${Math.round(startMs / 1000)} s.`, `Look into ${logFile}.`, {
    badInput: false,
  });
}

/** Asks the process on a comparison to stop at its next step. A link in the file's place is left alone, and what it leads to. */
export async function requestStop(folder: string): Promise<void> {
  const { O_CREAT, O_WRONLY, O_NOFOLLOW } = constants;
  const handle = await open(path.join(folder, comparisonFiles.stop), O_CREAT | O_WRONLY | (O_NOFOLLOW ?? 0), 0o644);
  await handle.close();
}

/** Why the last process on a comparison ended, by the last line of its log; empty where it says nothing. */
export async function lastFailure(folder: string): Promise<string> {
  const file = path.join(folder, comparisonFiles.log);
  // A pipe in its place would be waited for without end.
  const isFile = (await stat(file).catch(() => null))?.isFile() ?? false;
  const handle = isFile ? await open(file, "r").catch(() => null) : null;
  if (!handle) return "";
  try {
    const { size } = await handle.stat();
    const buffer = Buffer.alloc(Math.min(size, 64 << 10));
    await handle.read(buffer, 0, buffer.length, Math.max(0, size - buffer.length));
    const answer = lastJson(buffer.toString("utf8").trim().split("\n").at(-1) ?? "");
    const known = Type.Object({ failed: Type.Object({ message: Type.String(), action: Type.String() }) });
    return Value.Check(known, answer) ? `${answer.failed.message} ${answer.failed.action}` : "";
  } finally {
    await handle.close();
  }
}
