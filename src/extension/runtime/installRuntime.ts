/**
 * Installs the pinned Node into a folder of the extension: fetched or read from a file, its hash compared, one file of it unpacked, tried, and put in place by
 * one rename. Plain Node: neither npm nor a shell, no VS Code.
 * The rules to keep: nothing is unpacked whose hash is not the compiled one; what was not finished leaves nothing behind; what is in place was tried here.
 */
import { createReadStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { makeStaging, removeStaging, removeStale } from "../../install/staging.ts";
import { ArchiveError, extractFile } from "../../install/tarFile.ts";
import { fetchPackage, openFile, type PackageSource, type Sink } from "../../install/verifiedPackage.ts";
import { UserError } from "../../protocol/userError.ts";
import { answerProblem } from "../startCore.ts";
import type { RuntimePackage } from "./runtimePackages.ts";

/** The largest program has 130 MB. */
const maxProgramBytes = 512 << 20;
const neededBytes = 200 << 20;
/** A fresh program is read by virus scanners before it runs for the first time. */
const tryMs = 60_000;

export interface InstallProgress {
  phase: "download" | "unpack" | "try";
  doneBytes: number;
  /** Null where it is not known. */
  totalBytes: number | null;
}

export interface InstallOptions {
  /** Where runtimes are kept; made when it is missing. */
  folder: string;
  pinned: RuntimePackage;
  source: PackageSource;
  signal: AbortSignal;
  onProgress?(progress: InstallProgress): void;
  /** How files are written; tests put a full disk here. */
  openSink?(file: string, mode: number): Promise<Sink>;
  tryMs?: number;
}

/** Installations by their folder: who asks while one runs gets its outcome. */
const running = new Map<string, Promise<string>>();

/** The path of the installed program. Throws UserError, or an AbortError when `signal` gives up. */
export async function installRuntime(options: InstallOptions): Promise<string> {
  options.signal.throwIfAborted();
  const other = running.get(options.folder);
  if (other) return unlessAborted(other, options.signal);
  const installing = install(options).finally(() => running.delete(options.folder));
  running.set(options.folder, installing);
  return installing;
}

/** Who only waits may give up without ending what others wait for. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Programs that are in place: the pinned one, then others of that platform, newest first. */
export async function installedRuntimes(folder: string, pinned: RuntimePackage | null): Promise<string[]> {
  if (!pinned) return [];
  const names = await readdir(folder).catch(() => []);
  const versions = names.filter((name) => name.startsWith(`${pinned.name}-`)).map((name) => name.slice(pinned.name.length + 1));
  const compare = (a: string, b: string) => b.localeCompare(a, "en", { numeric: true });
  const wanted = (version: string) => (version === pinned.version ? 0 : 1);
  return versions.sort((a, b) => wanted(a) - wanted(b) || compare(a, b)).map((version) => programFile(folder, { ...pinned, version }));
}

function programFile(folder: string, { name, version, program }: RuntimePackage): string {
  return path.join(folder, `${name}-${version}`, path.posix.basename(program));
}

async function install(options: InstallOptions): Promise<string> {
  const { folder, pinned, signal, onProgress } = options;
  let staging: string | null = null;
  try {
    await mkdir(folder, { recursive: true });
    await removeStale(folder);
    await refuseFullDisk(folder);
    staging = await makeStaging(folder);
    const packed = path.join(staging, "package.tgz");
    await fetchPackage(packed, { ...options, onProgress: (doneBytes, totalBytes) => onProgress?.({ phase: "download", doneBytes, totalBytes }) });
    const fresh = path.join(staging, "fresh");
    await mkdir(fresh);
    const program = path.join(fresh, path.posix.basename(pinned.program));
    await unpack(packed, program, options);
    onProgress?.({ phase: "try", doneBytes: 0, totalBytes: null });
    await tryProgram(program, options);
    signal.throwIfAborted();
    return await putInPlace(fresh, staging, options);
  } catch (error) {
    throw asUserError(error, folder, signal);
  } finally {
    await removeStaging(staging);
  }
}

/** Before anything is fetched. Where the system does not say, writing will. */
async function refuseFullDisk(folder: string): Promise<void> {
  const room = await statfs(folder).catch(() => null);
  if (room && room.bavail * room.bsize < neededBytes) throw diskFull(folder);
}

/** Takes the program out of the package; a package is a folder `package` in a tar archive. */
async function unpack(packed: string, program: string, { pinned, signal, onProgress, openSink = openFile }: InstallOptions): Promise<void> {
  const sink = await openSink(program, 0o755);
  const gunzip = createGunzip({ chunkSize: 1 << 18 });
  let doneBytes = 0;
  // Ends early on purpose, when the program has been taken; a damaged archive is told by who reads.
  const reading = pipeline(createReadStream(packed, { highWaterMark: 1 << 18 }), gunzip).catch(() => undefined);
  try {
    await extractFile(gunzip as AsyncIterable<Buffer>, `package/${pinned.program}`, maxProgramBytes, async (piece, totalBytes) => {
      signal.throwIfAborted();
      await sink.write(piece);
      doneBytes += piece.length;
      onProgress?.({ phase: "unpack", doneBytes, totalBytes });
    });
    await sink.finish();
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (error instanceof ArchiveError || code.startsWith("Z_")) throw badArchive(pinned, message);
    throw error;
  } finally {
    gunzip.destroy();
    await reading;
    await sink.close();
  }
}

function badArchive({ name, version }: RuntimePackage, problem: string): UserError {
  return new UserError("runtime/bad-archive", `${name} ${version} cannot be unpacked: ${problem}.`, "Install Node.js 20 or newer yourself.", {
    badInput: false,
  });
}

async function tryProgram(program: string, { pinned, signal, tryMs: timeoutMs = tryMs }: InstallOptions): Promise<void> {
  const problem = await answerProblem(program, { timeoutMs, signal });
  signal.throwIfAborted();
  if (problem === null) return;
  throw new UserError(
    "runtime/does-not-run",
    `${pinned.name} ${pinned.version} does not run on this machine: ${problem}.`,
    "Install Node.js 20 or newer from your system's packages; it is found on the PATH, or named in the setting sparseTuner.nodePath.",
    { badInput: false },
  );
}

/** One rename; what was there goes, and so do other versions. A program that still runs keeps its file as long as the system lets it. */
async function putInPlace(fresh: string, staging: string, { folder, pinned }: InstallOptions): Promise<string> {
  const program = programFile(folder, pinned);
  const place = path.dirname(program);
  await rename(place, path.join(staging, "before")).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(fresh, place).catch(async (error: NodeJS.ErrnoException) => {
    // Another window was faster, with the same bytes.
    if (!["EEXIST", "ENOTEMPTY", "EPERM"].includes(error.code ?? "") || !(await stat(program).catch(() => null))) throw error;
  });
  for (const name of await readdir(folder))
    if (name.startsWith(`${pinned.name}-`) && name !== path.basename(place))
      await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  return program;
}

function diskFull(folder: string): UserError {
  return new UserError(
    "runtime/disk-full",
    `The disk of ${folder} has no room for the runtime.`,
    `Free ${neededBytes >> 20} MiB there, and try again.`,
    {
      badInput: false,
    },
  );
}

function asUserError(error: unknown, folder: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  const { code, message } = error as NodeJS.ErrnoException;
  // Of the system's own: EACCES, EROFS; ERR_… is a bug.
  if (error instanceof UserError || !/^E[A-Z0-9]+$/.test(code ?? "")) return error;
  if (["ENOSPC", "EDQUOT"].includes(code as string)) return diskFull(folder);
  return new UserError("runtime/cannot-write", `The runtime cannot be written into ${folder}: ${message}.`, "Check the folder and its permissions.", {
    badInput: false,
    cause: error,
  });
}
