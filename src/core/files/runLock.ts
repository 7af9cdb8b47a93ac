/**
 * run.lock: which process works on a run. A second one is refused while the first lives; the lock of a dead one is taken over.
 * A process is known by host, id and start time, so that another program that got the same id later is not mistaken for it.
 * The rule to keep: the lock file appears with its whole content at once, and is only removed by the process whose nonce is in it.
 */
import { randomUUID } from "node:crypto";
import { link, open, readFile, rm, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { processStartMark } from "../../protocol/liveRun.ts";
import { UserError } from "../../protocol/userError.ts";
import { temporaryName, writeError, writeNewFile } from "./durableFile.ts";
import { runFiles } from "./runFolder.ts";

/** Content of run.lock. */
export interface LockHolder {
  pid: number;
  host: string;
  /** Identifies the process among all that ever had this id on this boot; null where the system does not tell. */
  processStart: string | null;
  /** When the lock was taken, milliseconds since 1970. */
  timeMs: number;
  nonce: string;
}

/** A lock that is held. */
export interface RunLock {
  readonly holder: LockHolder;
  /** Gives the lock back; nothing happens when it is no longer ours. */
  release(): Promise<void>;
}

/** Others may be taking a stale lock over at the same time: so often, and so long in between, it is looked again. */
const takeoverAttempts = 200;
const takeoverWaitMs = 10;
/** Looking at a lock and removing it takes far less. */
const guardMs = 10_000;

/** Takes the lock of a run. Throws UserError `run/locked` while another process has it. */
export async function lockRun(folder: string): Promise<RunLock> {
  const file = path.join(folder, runFiles.lock);
  const holder: LockHolder = {
    pid: process.pid,
    host: os.hostname(),
    processStart: await processStart(process.pid),
    timeMs: Date.now(),
    nonce: randomUUID(),
  };
  for (let attempt = 0; attempt < takeoverAttempts; attempt++) {
    if (await createLock(folder, file, holder)) return { holder, release: () => release(file, holder) };
    const other = await readLock(file);
    if (other && (await isAlive(other))) throw locked(folder, other);
    await removeStale(file);
  }
  throw new UserError("run/locked", `${folder}: other processes keep taking ${runFiles.lock}.`, "Wait a moment and try again.", { badInput: false });
}

function locked(folder: string, { pid, host }: LockHolder): UserError {
  const where = host === os.hostname() ? `process ${pid}` : `process ${pid} on ${host}`;
  return new UserError("run/locked", `${folder} is in use by ${where}.`, `Stop that run first, or remove ${runFiles.lock} if that process is gone.`, {
    badInput: false,
  });
}

/** Who works on a run now; null when nobody does. */
export async function lockHolder(folder: string): Promise<LockHolder | null> {
  const holder = await readLock(path.join(folder, runFiles.lock));
  return holder && (await isAlive(holder)) ? holder : null;
}

/** Puts the lock there if there is none: written beside and linked, so that nobody sees half of it. */
async function createLock(folder: string, file: string, holder: LockHolder): Promise<boolean> {
  const text = Buffer.from(`${JSON.stringify(holder)}\n`);
  const temporary = path.join(folder, temporaryName());
  try {
    await writeNewFile(temporary, [text]);
    await link(temporary, file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    // Who has just taken the lock clears away what killed processes left, and took this for it.
    if (code === "ENOENT" && (await stat(folder).catch(() => null))) return false;
    if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "ENOSYS") return createWithoutLinks(file, text);
    throw await writeError(error, runFiles.lock, folder, text.length);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** For file systems without hard links. A reader may see an empty lock for an instant and takes it for a stale one that has no owner. */
async function createWithoutLinks(file: string, text: Buffer): Promise<boolean> {
  try {
    const handle = await open(file, "wx");
    await handle.writeFile(text);
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Removes a stale lock. Only who holds the guard file removes one, and looks again first: a lock that was taken meanwhile is never touched.
 * A guard that a killed process left is removed when it is old.
 */
async function removeStale(file: string): Promise<void> {
  const guard = `${file}.takeover`;
  try {
    await (await open(guard, "wx")).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const status = await stat(guard).catch(() => null);
    if (status && Date.now() - status.mtimeMs > guardMs) await rm(guard, { force: true });
    else await delay(takeoverWaitMs);
    return;
  }
  try {
    const now = await readLock(file);
    if (now !== undefined && !(now && (await isAlive(now)))) await rm(file, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

async function release(file: string, holder: LockHolder): Promise<void> {
  const now = await readLock(file);
  if (now?.nonce === holder.nonce) await rm(file, { force: true });
}

/** The content of a lock file; null when it cannot be understood, undefined when there is none. */
async function readLock(file: string): Promise<LockHolder | null | undefined> {
  try {
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? undefined : ""));
    if (text === undefined) return undefined;
    const holder = JSON.parse(text) as LockHolder;
    return Number.isInteger(holder.pid) && holder.pid > 0 && typeof holder.host === "string" && typeof holder.nonce === "string" ? holder : null;
  } catch {
    return null;
  }
}

/** Whether the holder may still be running. On another host this cannot be seen, and it counts as running. */
export async function isAlive(holder: Pick<LockHolder, "pid" | "host" | "processStart">): Promise<boolean> {
  if (holder.host !== os.hostname()) return true;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const start = await processStart(holder.pid);
  return start === null || holder.processStart === null || start === holder.processStart;
}

/** Boot and start tick of a process on Linux; null elsewhere, where the id alone has to do. */
export async function processStart(pid: number): Promise<string | null> {
  try {
    return processStartMark(await readFile("/proc/sys/kernel/random/boot_id", "utf8"), await readFile(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return null;
  }
}
