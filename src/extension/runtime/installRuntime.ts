/**
 * Installs the pinned Node into a folder of the extension: fetched or read from a file, its hash compared, one file of it unpacked, tried, and put in place by
 * one rename. Plain Node: neither npm nor a shell, no VS Code.
 * The rules to keep: nothing is unpacked whose hash is not the compiled one; what was not finished leaves nothing behind; what is in place was tried here.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { UserError } from "../../protocol/userError.ts";
import { answerProblem } from "../startCore.ts";
import { download, shown } from "./download.ts";
import type { ProxySettings } from "./proxy.ts";
import { packageAddress, type RuntimePackage } from "./runtimePackages.ts";
import { ArchiveError, extractFile } from "./tarFile.ts";

/** The largest package has 55 MB and a program of 130 MB. */
const maxPackageBytes = 256 << 20;
const maxProgramBytes = 512 << 20;
const neededBytes = 200 << 20;
/** A fresh program is read by virus scanners before it runs for the first time. */
const tryMs = 60_000;
/** An installation does not take so long: what is older was left behind by a process that was killed. */
const staleMs = 24 * 3600_000;

export type RuntimeSource = { kind: "registry"; registry: string; proxy: ProxySettings; idleMs?: number } | { kind: "file"; file: string };

export interface InstallProgress {
  phase: "download" | "unpack" | "try";
  doneBytes: number;
  /** Null where it is not known. */
  totalBytes: number | null;
}

/** A file that is being written. `finish` has it on the disk. */
export interface Sink {
  write(piece: Buffer): Promise<void>;
  finish(): Promise<void>;
  close(): Promise<void>;
}

export interface InstallOptions {
  /** Where runtimes are kept; made when it is missing. */
  folder: string;
  pinned: RuntimePackage;
  source: RuntimeSource;
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
    staging = await mkdtemp(path.join(folder, ".installing-"));
    const packed = path.join(staging, "package.tgz");
    await fetchPackage(packed, options);
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
    // On Windows a program that was just running is held for a moment.
    if (staging) await rm(staging, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => undefined);
  }
}

async function removeStale(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(".installing-")) continue;
    const there = await stat(path.join(folder, name)).catch(() => null);
    if (there && Date.now() - there.mtimeMs > staleMs) await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Before anything is fetched. Where the system does not say, writing will. */
async function refuseFullDisk(folder: string): Promise<void> {
  const room = await statfs(folder).catch(() => null);
  if (room && room.bavail * room.bsize < neededBytes) throw diskFull(folder);
}

/** Writes the package and compares its hash. */
async function fetchPackage(packed: string, { pinned, source, signal, onProgress, openSink = openFile }: InstallOptions): Promise<void> {
  const { totalBytes, pieces } = await packageOf(source, pinned, signal);
  const hash = createHash("sha512");
  let doneBytes = 0;
  const sink = await openSink(packed, 0o600);
  try {
    onProgress?.({ phase: "download", doneBytes, totalBytes });
    for await (const piece of pieces) {
      signal.throwIfAborted();
      hash.update(piece);
      await sink.write(piece);
      doneBytes += piece.length;
      onProgress?.({ phase: "download", doneBytes, totalBytes });
    }
    await sink.finish();
  } finally {
    await sink.close();
  }
  if (`sha512-${hash.digest("base64")}` === pinned.integrity) return;
  const from = source.kind === "file" ? source.file : shown(addressOf(source.registry, pinned));
  throw new UserError(
    "runtime/wrong-hash",
    `${from} is not ${pinned.name} ${pinned.version}: its ${doneBytes} bytes have another hash. Nothing was unpacked.`,
    source.kind === "file"
      ? "Choose the package of that name and version."
      : "Correct the setting sparseTuner.registry, or look at what the proxy does.",
    { badInput: false },
  );
}

async function packageOf(source: RuntimeSource, pinned: RuntimePackage, signal: AbortSignal) {
  if (source.kind === "registry")
    return download(addressOf(source.registry, pinned), { proxy: source.proxy, idleMs: source.idleMs, signal, maxBytes: maxPackageBytes });
  const { size } = await stat(source.file).catch((error: Error) => Promise.reject(unreadable(source.file, error)));
  if (size > maxPackageBytes) throw unreadable(source.file, new Error(`it has ${size} bytes`));
  return { totalBytes: size, pieces: readPieces(source.file) };
}

async function* readPieces(file: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(file, { highWaterMark: 1 << 18 });
  } catch (error) {
    throw unreadable(file, error as Error);
  }
}

function unreadable(file: string, { message }: Error): UserError {
  return new UserError("runtime/cannot-read", `${file} cannot be read: ${message}.`, "Choose another file.", { badInput: false });
}

function addressOf(registry: string, pinned: RuntimePackage): URL {
  const address = URL.canParse(registry) ? packageAddress(registry, pinned) : null;
  if (address && ["http:", "https:"].includes(address.protocol)) return address;
  throw new UserError(
    "runtime/bad-registry",
    "The address of the package registry is no http or https address.",
    "Correct the setting sparseTuner.registry.",
  );
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

async function openFile(file: string, mode: number): Promise<Sink> {
  const handle = await open(file, "wx", mode);
  return {
    async write(piece) {
      for (let at = 0; at < piece.length; ) at += (await handle.write(piece, at)).bytesWritten;
    },
    async finish() {
      // The mode at creation is what the umask leaves of it.
      await handle.chmod(mode);
      await handle.sync();
    },
    close: () => handle.close(),
  };
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
