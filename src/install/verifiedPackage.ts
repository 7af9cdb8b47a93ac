/**
 * One package of an npm registry onto the disk: fetched, or read from a file, and its hash compared. It unpacks nothing. Plain Node: neither npm nor a shell.
 * The rule to keep: the hash is one that came with the product; nothing that a registry answers can change it.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { UserError } from "../protocol/userError.ts";
import { download, shown } from "./download.ts";
import type { ProxySettings } from "./proxy.ts";

export interface PinnedPackage {
  name: string;
  version: string;
  /** Of the packed file, as npm writes it: `sha512-` and base64. */
  integrity: string;
}

export type PackageSource = { kind: "registry"; registry: string; proxy: ProxySettings; idleMs?: number } | { kind: "file"; file: string };

/** A file that is being written. `finish` has it on the disk. */
export interface Sink {
  write(piece: Buffer): Promise<void>;
  finish(): Promise<void>;
  close(): Promise<void>;
}

export interface FetchOptions {
  pinned: PinnedPackage;
  source: PackageSource;
  signal: AbortSignal;
  /** `totalBytes` is null where it is not known. */
  onProgress?(doneBytes: number, totalBytes: number | null): void;
  /** How the file is written; tests put a full disk here. */
  openSink?(file: string, mode: number): Promise<Sink>;
}

/** The largest package has 55 MB. */
const maxPackageBytes = 256 << 20;

/** Writes the packed file. Throws UserError `package/…` or `download/…`, an error of the system, or an AbortError. */
export async function fetchPackage(packed: string, { pinned, source, signal, onProgress, openSink = openFile }: FetchOptions): Promise<void> {
  const { totalBytes, pieces } = await packageOf(source, pinned, signal);
  const hash = createHash("sha512");
  let doneBytes = 0;
  const sink = await openSink(packed, 0o600);
  try {
    onProgress?.(doneBytes, totalBytes);
    for await (const piece of pieces) {
      signal.throwIfAborted();
      hash.update(piece);
      await sink.write(piece);
      doneBytes += piece.length;
      onProgress?.(doneBytes, totalBytes);
    }
    await sink.finish();
  } finally {
    await sink.close();
  }
  if (`sha512-${hash.digest("base64")}` === pinned.integrity) return;
  const from = source.kind === "file" ? source.file : shown(addressOf(source.registry, pinned));
  throw new UserError(
    "package/wrong-hash",
    `${from} is not ${pinned.name} ${pinned.version}: its ${doneBytes} bytes have another hash. Nothing was unpacked.`,
    source.kind === "file"
      ? "Choose the package of that name and version."
      : "Correct the registry's address (the setting sparseTuner.registry, or --registry), or look at what the proxy does.",
    { badInput: false },
  );
}

async function packageOf(source: PackageSource, pinned: PinnedPackage, signal: AbortSignal) {
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
  return new UserError("package/cannot-read", `${file} cannot be read: ${message}.`, "Choose another file.", { badInput: false });
}

function addressOf(registry: string, pinned: PinnedPackage): URL {
  const address = URL.canParse(registry) ? packageAddress(registry, pinned) : null;
  if (address && ["http:", "https:"].includes(address.protocol)) return address;
  throw new UserError(
    "package/bad-registry",
    "The address of the package registry is no http or https address.",
    "Correct the setting sparseTuner.registry, or --registry.",
  );
}

/** Where a registry keeps the packed file. Throws a TypeError where the address is none. */
export function packageAddress(registry: string, { name, version }: Omit<PinnedPackage, "integrity">): URL {
  const file = `${name.slice(name.indexOf("/") + 1)}-${version}.tgz`;
  return new URL(`${name}/-/${file}`, registry.endsWith("/") ? registry : `${registry}/`);
}

/** A new file; what is there already is an error. */
export async function openFile(file: string, mode: number): Promise<Sink> {
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
