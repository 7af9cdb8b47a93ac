/**
 * Finds the core that works on a run folder, for hosts. Reads the user's register of live runs and asks the operating system; imports no VS Code.
 * The rule to keep: run.lock lies in a workspace and can be anybody's forgery. It may say that a run is busy, never which process or socket to use.
 */
import { execFile } from "node:child_process";
import { lstat, readdir, readFile, realpath } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import {
  type LiveComparisonRecord,
  type LiveRunRecord,
  liveComparisonsFolder,
  liveRunsFolder,
  parseLiveComparisonRecord,
  parseLiveRunRecord,
  processStartMark,
} from "../protocol/liveRun.ts";
import type { LockHolder } from "../protocol/panelProtocol.ts";
import { openSocket } from "./coreRpc.ts";

export const lockName = "run.lock";
/** A socket of this machine answers, or refuses, at once. */
const listeningMs = 2000;

export type LiveRun =
  /** A core of this user works on it. */
  | { kind: "live"; record: LiveRunRecord }
  /** Its lock names another machine, so that nothing can be seen from here. */
  | { kind: "elsewhere"; host: string; pid: number }
  /**
   * Its lock names a process here that is in no register. Not `alive`: the run was interrupted and can be resumed. `alive`: a command line works on it,
   * or the lock is forged; the run cannot be started before the lock is gone.
   */
  | { kind: "unregistered"; pid: number; alive: boolean }
  | { kind: "none" };

/** Who works on a run folder. `records` are of the register, where it was just read. */
export async function findLiveRun(runFolder: string, records?: readonly LiveRunRecord[]): Promise<LiveRun> {
  const folder = await realpath(runFolder).catch(() => path.resolve(runFolder));
  const ofFolder = (records ?? (await liveRuns())).filter((live) => live.runFolder === folder).sort((a, b) => b.startedMs - a.startedMs);
  for (const record of ofFolder) if (!(await isDisproved(record))) return { kind: "live", record };
  const lock = await readLock(folder);
  if (!lock) return { kind: "none" };
  if (lock.host !== os.hostname()) return { kind: "elsewhere", host: lock.host, pid: lock.pid };
  return { kind: "unregistered", pid: lock.pid, alive: await isAlive(lock) };
}

/** Whom the lock names, where it keeps a run from being started; null where it does not. */
export function holderOf(found: LiveRun, runFolder: string): LockHolder | null {
  const file = path.join(runFolder, lockName);
  if (found.kind === "elsewhere") return { pid: found.pid, host: found.host, here: false, file };
  return found.kind === "unregistered" && found.alive ? { pid: found.pid, host: os.hostname(), here: true, file } : null;
}

/** All cores of this user that are alive on this machine. */
export function liveRuns(): Promise<LiveRunRecord[]> {
  return recordsIn(registerFolder(), parseLiveRunRecord);
}

/** All processes of this user that work on a comparison on this machine. */
export function liveComparisons(): Promise<LiveComparisonRecord[]> {
  return recordsIn(comparisonsRegister(), parseLiveComparisonRecord);
}

async function recordsIn<R extends LiveComparisonRecord>(folder: string, parse: (text: string) => R | null): Promise<R[]> {
  if (!(await isPrivate(folder))) return [];
  const records: R[] = [];
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".json")) continue;
    const record = parse(await readFile(path.join(folder, name), "utf8").catch(() => ""));
    if (record && record.host === os.hostname() && (await isAlive(record))) records.push(record);
  }
  return records;
}

/** Ends a core that does not answer. Only a process that the register and the operating system agree on is signalled; false when there is none. */
export async function killLiveRun(runFolder: string): Promise<boolean> {
  const found = await findLiveRun(runFolder);
  if (found.kind !== "live" || !(await isStartedAs(found.record))) return false;
  process.kill(found.record.pid, "SIGKILL");
  return true;
}

/** Whether the process of a record still runs, and is the one that wrote it. */
export async function isAlive({ pid, processStart }: Pick<LiveRunRecord, "pid" | "processStart">): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return processStart === null || (await startOf(pid)) === processStart;
}

/**
 * Whether the process was started as the record's core. Where the system tells when a process began, {@link isAlive} knows it; elsewhere the id alone
 * could be another program's by now, and the nonce on its command line decides.
 */
async function isStartedAs({ pid, processStart, nonce }: LiveRunRecord): Promise<boolean> {
  return processStart !== null || (await commandLineOf(pid)).includes(nonce);
}

/** Nonces of records whose process is another program: it can never become theirs again. */
const disproved = new Set<string>();

/**
 * Whether the process of a record is another program that got its id, after a restart of the machine for example. Only where the system does not tell when
 * a process began, and nobody listens at the record's socket; what the system does not say disproves nothing.
 */
async function isDisproved(record: LiveRunRecord): Promise<boolean> {
  const { pid, processStart, nonce, socket } = record;
  if (processStart !== null || disproved.has(nonce) || (await isListening(socket))) return disproved.has(nonce);
  const commandLine = await commandLineOf(pid);
  if (commandLine !== "" && !commandLine.includes(nonce)) disproved.add(nonce);
  return disproved.has(nonce);
}

/** A core that hangs, or is held, is still listened for by the system. */
function isListening(file: string): Promise<boolean> {
  return openSocket(file, listeningMs).then(
    (socket) => {
      socket.destroy();
      return true;
    },
    () => false,
  );
}

/** Empty when the system does not say. */
function commandLineOf(pid: number): Promise<string> {
  const query = `(Get-CimInstance Win32_Process -Filter "ProcessId=${pid}").CommandLine`;
  const [program, ...given] =
    process.platform === "win32"
      ? [
          path.join(process.env.SystemRoot ?? "C:\\Windows", "System32", "WindowsPowerShell", "v1.0", "powershell.exe"),
          "-NoProfile",
          "-Command",
          query,
        ]
      : ["/bin/ps", "-ww", "-o", "args=", "-p", String(pid)];
  return new Promise((resolve) => execFile(program, given, { timeout: 10_000, windowsHide: true }, (error, stdout) => resolve(error ? "" : stdout)));
}

async function startOf(pid: number): Promise<string | null> {
  try {
    const [boot, stat] = await Promise.all([readFile("/proc/sys/kernel/random/boot_id", "utf8"), readFile(`/proc/${pid}/stat`, "utf8")]);
    return processStartMark(boot, stat);
  } catch {
    return null;
  }
}

/** Whether others than this user could have written there. An absent folder holds nothing. */
async function isPrivate(folder: string): Promise<boolean> {
  const status = await lstat(folder).catch(() => null);
  if (!status?.isDirectory()) return false;
  return process.platform === "win32" || (status.uid === process.getuid?.() && (status.mode & 0o077) === 0);
}

/** Folder of this user's register; it exists once a core was started. */
export function registerFolder(): string {
  return liveRunsFolder({ platform: process.platform, env: process.env, home: os.homedir() });
}

/** Where processes that work on comparisons are entered. */
export function comparisonsRegister(): string {
  return liveComparisonsFolder({ platform: process.platform, env: process.env, home: os.homedir() });
}

async function readLock(folder: string): Promise<{ pid: number; host: string; processStart: string | null } | null> {
  try {
    const { pid, host, processStart } = JSON.parse(await readFile(path.join(folder, lockName), "utf8"));
    if (!Number.isInteger(pid) || pid <= 0 || typeof host !== "string") return null;
    return { pid, host: host.slice(0, 300), processStart: typeof processStart === "string" ? processStart : null };
  } catch {
    return null;
  }
}
