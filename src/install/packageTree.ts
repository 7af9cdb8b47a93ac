/**
 * Lays out the packages of a lock as npm would, without npm: each fetched, its hash compared, unpacked where the lock places it. It runs no script.
 * The rule to keep: nothing is unpacked whose hash is not the lock's, and nothing is written outside of its package.
 */
import { createReadStream } from "node:fs";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { UserError } from "../protocol/userError.ts";
import type { PlacedPackage } from "./engineLock.ts";
import { ArchiveError, extractPackage } from "./tarFile.ts";
import { fetchPackage, type PackageSource } from "./verifiedPackage.ts";

export interface TreeOptions {
  /** Where node_modules is made. */
  folder: string;
  packages: readonly PlacedPackage[];
  source: Extract<PackageSource, { kind: "registry" }>;
  signal: AbortSignal;
}

/** As many connections as npm's cautious half. */
const atOnce = 6;
/** The largest has 140 MB. */
const maxUnpackedBytes = 1 << 30;

/** Throws UserError, or an AbortError; what else was being fetched has then ended. */
export async function layOutPackages({ folder, packages, source, signal }: TreeOptions): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const waiting = [...packages.entries()];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [index, pinned] = next;
      const packed = path.join(folder, `.package-${index}.tgz`);
      await fetchPackage(packed, { pinned, source, signal: either });
      await unpack(packed, path.join(folder, ...pinned.place.split("/")), pinned, either);
      await rm(packed);
    }
  };
  // The first failure is the one that is told; the others are its consequence.
  let first: { error: unknown } | null = null;
  const fail = (error: unknown) => {
    first ??= { error };
    failed.abort();
  };
  await Promise.all(Array.from({ length: atOnce }, () => worker().catch(fail)));
  signal.throwIfAborted();
  if (first) throw (first as { error: unknown }).error;
}

async function unpack(packed: string, place: string, { name, version }: PlacedPackage, signal: AbortSignal): Promise<void> {
  const gunzip = createGunzip({ chunkSize: 1 << 18 });
  // A damaged archive is told by who reads.
  const reading = pipeline(createReadStream(packed, { highWaterMark: 1 << 18 }), gunzip).catch(() => undefined);
  try {
    await mkdir(place, { recursive: true });
    await extractPackage(gunzip as AsyncIterable<Buffer>, maxUnpackedBytes, async (parts, content) => {
      signal.throwIfAborted();
      const file = path.join(place, ...parts);
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, content);
    });
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (!(error instanceof ArchiveError) && !code.startsWith("Z_")) throw error;
    throw new UserError("package/bad-archive", `${name} ${version} cannot be unpacked: ${message}.`, "Try again, or use another registry.", {
      badInput: false,
    });
  } finally {
    gunzip.destroy();
    await reading;
  }
}

/** A command `name` in a folder for the PATH that runs `program` with `args` before its own. */
export async function writeCommand(folder: string, name: string, program: string, args: readonly string[] = []): Promise<void> {
  await mkdir(folder, { recursive: true });
  if (process.platform === "win32") {
    const quoted = [program, ...args].map((word) => `"${word.replaceAll("%", "%%")}"`);
    await writeFile(path.join(folder, `${name}.cmd`), `@${quoted.join(" ")} %*\r\n`);
    return;
  }
  const quoted = [program, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  await writeFile(path.join(folder, name), `#!/bin/sh\nexec ${quoted.join(" ")} "$@"\n`);
  await chmod(path.join(folder, name), 0o755);
}
