/**
 * SHA-256 of files, remembered by real path, size, inode and times in the user's cache folder, so that a model of many gigabytes is hashed once.
 * The rule to keep: a remembered hash is used only when nothing the file system says about the file has changed since, and a file that was
 * changed within the clock's last ticks is not remembered.
 */
import { createHash, type Hash } from "node:crypto";
import { mkdir, open, readFile, realpath, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { replaceFile } from "./durableFile.ts";

const chunkBytes = 4 << 20;

/** Where remembered things lie: `$XDG_CACHE_HOME/sparse-tuner`, `~/.cache/…`, `~/Library/Caches/…` or `%LOCALAPPDATA%\…`. */
export function userCacheFolder(): string {
  const home = os.homedir();
  const named = process.platform === "win32" ? process.env.LOCALAPPDATA : process.env.XDG_CACHE_HOME;
  if (named && path.isAbsolute(named)) return path.join(named, "sparse-tuner");
  if (process.platform === "win32") return path.join(home, "AppData", "Local", "sparse-tuner");
  return process.platform === "darwin" ? path.join(home, "Library", "Caches", "sparse-tuner") : path.join(home, ".cache", "sparse-tuner");
}

/** SHA-256 of all bytes of a file, in hex, read now. */
export async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  await hashRange(hash, file, 0, Number.POSITIVE_INFINITY);
  return hash.digest("hex");
}

/** Feeds bytes [begin, end) of a file, or what there is of them, to a hash; returns how many there were. */
export async function hashRange(hash: Hash, file: string, begin: number, end: number): Promise<number> {
  const handle = await open(file, "r");
  try {
    const buffers = [Buffer.allocUnsafeSlow(chunkBytes), Buffer.allocUnsafeSlow(chunkBytes)];
    let position = begin;
    const readInto = (buffer: Buffer, at: number) => handle.read(buffer, 0, Math.max(0, Math.min(chunkBytes, end - at)), at);
    let pending = readInto(buffers[0], position);
    for (let turn = 0; ; turn++) {
      const { bytesRead } = await pending;
      if (bytesRead === 0) return position - begin;
      position += bytesRead;
      // The next piece is read while this one is hashed.
      pending = readInto(buffers[(turn + 1) % 2], position);
      pending.catch(() => undefined);
      hash.update(buffers[turn % 2].subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}

/** Everything that changes when a file does. */
async function identityOf(file: string): Promise<{ identity: string; changedMs: number }> {
  const { size, mtimeNs, ctimeNs, ino, dev, mtimeMs, ctimeMs } = await stat(file, { bigint: true });
  return { identity: [size, mtimeNs, ctimeNs, ino, dev].join(":"), changedMs: Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs) };
}

/**
 * SHA-256 of a file in hex, from memory when it has not changed. A cache that cannot be read or written is passed over: it only saves time.
 */
export async function hashFile(file: string, cacheFolder = userCacheFolder()): Promise<string> {
  const real = await realpath(file);
  const record = path.join(cacheFolder, "hashes", `${createHash("sha256").update(real).digest("hex")}.json`);
  const before = await identityOf(real);
  const remembered = await readRecord(record);
  if (remembered?.identity === before.identity) return remembered.sha256;
  const startedMs = Date.now();
  const sha256 = await sha256OfFile(real);
  const after = await identityOf(real);
  // Two writes within one tick of the file system's clock look like one.
  const settled = before.identity === after.identity && startedMs - after.changedMs > 2000;
  if (settled) await writeRecord(record, { identity: after.identity, sha256 });
  return sha256;
}

interface HashRecord {
  identity: string;
  sha256: string;
}

async function readRecord(record: string): Promise<HashRecord | null> {
  try {
    const { identity, sha256 } = JSON.parse(await readFile(record, "utf8"));
    return typeof identity === "string" && /^[0-9a-f]{64}$/.test(sha256) ? { identity, sha256 } : null;
  } catch {
    return null;
  }
}

async function writeRecord(record: string, content: HashRecord): Promise<void> {
  try {
    await mkdir(path.dirname(record), { recursive: true });
    await replaceFile(record, [Buffer.from(JSON.stringify(content))]);
  } catch {
    // Not remembered: the next call hashes again.
  }
}
