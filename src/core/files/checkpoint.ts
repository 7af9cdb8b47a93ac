/**
 * Checkpoints of a run: `checkpoints/step-<N>/` with the caller's files and `manifest.json` (size and SHA-256 of each). It does not know what a
 * checkpoint means; `checkpointing.ts` of the trainer does.
 * The rules to keep: a folder is called `step-<N>` only when all of it is on the disk; there is no pointer to the latest one, the newest valid one is
 * found by looking; what is damaged is set aside under another name, never deleted; a kill at any moment leaves the older ones valid.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { jsonText, requireFreeBytes, syncFolder, temporaryName, temporaryPrefix, type WrittenFile, writeError, writeNewFile } from "./durableFile.ts";
import { sha256OfFile } from "./fileHash.ts";
import { safetensorsBytes, safetensorsChunks, type TensorEntry } from "./safetensorsWriter.ts";

/** What one file of a checkpoint holds. */
export type CheckpointContent = { tensors: readonly TensorEntry[]; metadata?: Readonly<Record<string, string>> } | { json: unknown };

/** A complete checkpoint on disk. */
export interface Checkpoint {
  step: number;
  folder: string;
  /** By file name, without the manifest. */
  files: ReadonlyMap<string, WrittenFile>;
}

/** A checkpoint that failed its check. */
export interface DamagedCheckpoint {
  step: number;
  /** Where it lies now. */
  folder: string;
  reason: string;
}

const manifestName = "manifest.json";
const replacedPrefix = ".replaced-";

/** `<run>/checkpoints`. */
export function checkpointsFolder(runFolder: string): string {
  return path.join(runFolder, "checkpoints");
}

/** Bytes a checkpoint of these contents takes on disk, its manifest included. */
export function checkpointBytes(contents: Readonly<Record<string, CheckpointContent>>): number {
  let bytes = 4096;
  for (const content of Object.values(contents))
    bytes += "json" in content ? Buffer.byteLength(jsonText(content.json)) : safetensorsBytes(content.tensors, content.metadata ?? {});
  return bytes;
}

/**
 * Saves a checkpoint and removes the oldest ones beyond `keep` (≥ 1). Returns its folder.
 * Throws UserError `run/disk-full` or `run/cannot-write`; the older checkpoints are untouched then, and nothing half-written stays.
 */
export async function saveCheckpoint(
  runFolder: string,
  step: number,
  contents: Readonly<Record<string, CheckpointContent>>,
  { keep }: { keep: number },
): Promise<string> {
  const parent = checkpointsFolder(runFolder);
  const temporary = path.join(parent, temporaryName());
  const neededBytes = checkpointBytes(contents);
  const what = `the checkpoint of step ${step}`;
  try {
    await mkdir(parent, { recursive: true });
    await requireFreeBytes(what, parent, neededBytes);
    await mkdir(temporary);
    await writeContents(temporary, step, contents);
    const folder = await putInPlace(parent, temporary, step);
    await prune(parent, Math.max(1, keep));
    return folder;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw error instanceof UserError ? error : await writeError(error, what, parent, neededBytes);
  }
}

async function writeContents(folder: string, step: number, contents: Readonly<Record<string, CheckpointContent>>): Promise<void> {
  const files: Record<string, WrittenFile> = {};
  for (const name of Object.keys(contents).sort()) {
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name) || name === manifestName) throw new Error(`not a name for a file of a checkpoint: ${name}`);
    const content = contents[name];
    const chunks = "json" in content ? [Buffer.from(jsonText(content.json))] : safetensorsChunks(content.tensors, content.metadata ?? {});
    files[name] = await writeNewFile(path.join(folder, name), chunks);
  }
  await writeNewFile(path.join(folder, manifestName), [Buffer.from(manifestText({ format: "sparse-tuner-checkpoint", version: 1, step, files }))]);
  await syncFolder(folder);
}

interface Manifest {
  format: "sparse-tuner-checkpoint";
  version: 1;
  step: number;
  files: Record<string, WrittenFile>;
}

/** The manifest with the hash of its own content, so that no bit of it can change unseen. */
function manifestText(manifest: Manifest): string {
  return jsonText({ ...manifest, sha256: createHash("sha256").update(jsonText(manifest)).digest("hex") });
}

/** Renames the finished folder to `step-<N>`. One that stands there already is moved aside first and brought back by the sweep if a kill comes in between. */
async function putInPlace(parent: string, temporary: string, step: number): Promise<string> {
  const folder = path.join(parent, `step-${step}`);
  const aside = path.join(parent, `${replacedPrefix}${path.basename(folder)}`);
  if (await exists(folder)) {
    await rm(aside, { recursive: true, force: true });
    await rename(folder, aside);
  }
  await rename(temporary, folder);
  await syncFolder(parent);
  await rm(aside, { recursive: true, force: true });
  return folder;
}

async function exists(place: string): Promise<boolean> {
  return (await stat(place).catch(() => null)) !== null;
}

/** Removes the oldest checkpoints beyond `keep` (≥ 1) that a kill after a save left. Only for the process that holds the run's lock. */
export async function pruneCheckpoints(runFolder: string, { keep }: { keep: number }): Promise<void> {
  await prune(checkpointsFolder(runFolder), Math.max(1, keep));
}

/** Removes all but the newest `keep`. Each leaves its name first: a kill while its files go must not leave a `step-<N>` with half of them. */
async function prune(parent: string, keep: number): Promise<void> {
  const steps = await stepsIn(parent);
  for (const step of steps.slice(keep)) {
    const leaving = path.join(parent, temporaryName());
    await rename(path.join(parent, `step-${step}`), leaving);
    await rm(leaving, { recursive: true, force: true });
  }
}

/** Steps of the folders called `step-<N>`, newest first. */
async function stepsIn(parent: string): Promise<number[]> {
  const names = await readdir(parent).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const steps = names.flatMap((name) => (/^step-(0|[1-9]\d{0,14})$/.test(name) ? [Number(name.slice(5))] : []));
  return steps.sort((a, b) => b - a);
}

/** Removes what a killed process left unfinished. Only for the process that holds the run's lock. */
export async function sweepCheckpoints(runFolder: string): Promise<void> {
  const parent = checkpointsFolder(runFolder);
  const names = await readdir(parent).catch(() => [] as string[]);
  for (const name of names) {
    const place = path.join(parent, name);
    if (name.startsWith(temporaryPrefix)) await rm(place, { recursive: true, force: true });
    if (!name.startsWith(replacedPrefix)) continue;
    const original = path.join(parent, name.slice(replacedPrefix.length));
    if (await exists(original)) await rm(place, { recursive: true, force: true });
    else await rename(place, original);
  }
}

/**
 * The newest checkpoint whose every file has the size and hash its manifest says, or null. Damaged ones on the way are named with the reason and,
 * unless `readOnly`, set aside as `step-<N>.damaged`. Without `readOnly` (only for the process that holds the lock) unfinished ones are swept first.
 */
export async function findCheckpoint(
  runFolder: string,
  { readOnly = false }: { readOnly?: boolean } = {},
): Promise<{ checkpoint: Checkpoint | null; damaged: DamagedCheckpoint[] }> {
  if (!readOnly) await sweepCheckpoints(runFolder);
  const parent = checkpointsFolder(runFolder);
  const damaged: DamagedCheckpoint[] = [];
  for (const step of await stepsIn(parent)) {
    const folder = path.join(parent, `step-${step}`);
    const result = await verifyCheckpoint(folder, step);
    if (typeof result !== "string") return { checkpoint: result, damaged };
    damaged.push({ step, folder: readOnly ? folder : await setAside(folder), reason: result });
  }
  return { checkpoint: null, damaged };
}

async function setAside(folder: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const name = attempt === 1 ? `${folder}.damaged` : `${folder}.damaged-${attempt}`;
    if (await exists(name)) continue;
    await rename(folder, name);
    return name;
  }
}

/** Steps of the folders that are called checkpoints, newest first; what is in them has not been looked at. */
export function checkpointSteps(runFolder: string): Promise<number[]> {
  return stepsIn(checkpointsFolder(runFolder));
}

/** The checkpoint when all of it is as written, else the reason why not. Without `content` only names and sizes are compared, not every byte. */
export async function verifyCheckpoint(folder: string, step: number, { content = true }: { content?: boolean } = {}): Promise<Checkpoint | string> {
  try {
    const manifest = readManifest(await readFile(path.join(folder, manifestName), "utf8"));
    if (!manifest) return `${manifestName} is damaged`;
    if (manifest.step !== step) return `${manifestName} is that of step ${manifest.step}`;
    for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
      const file = path.join(folder, name);
      const { size } = await stat(file);
      if (size !== bytes) return `${name} has ${size} bytes instead of ${bytes}`;
      if (content && (await sha256OfFile(file)) !== sha256) return `the content of ${name} has changed`;
    }
    return { step, folder, files: new Map(Object.entries(manifest.files)) };
  } catch (error) {
    const { code, path: place } = error as NodeJS.ErrnoException;
    const name = place ? path.basename(place) : folder;
    if (code === "ENOENT") return `${name} is missing`;
    // Other failures, such as too many open files, say nothing about the checkpoint.
    if (code === "EIO" || code === "EISDIR" || code === "ENOTDIR") return `${name} cannot be read (${code})`;
    throw error;
  }
}

function readManifest(text: string): Manifest | null {
  try {
    const { sha256: _hash, ...manifest } = JSON.parse(text);
    const known = manifest.format === "sparse-tuner-checkpoint" && manifest.version === 1;
    return known && manifestText(manifest) === text ? manifest : null;
  } catch {
    return null;
  }
}
