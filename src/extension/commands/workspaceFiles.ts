/**
 * Looks through folders for run files, model folders and data files. Plain Node without VS Code; nothing is watched, and nothing but names is read.
 * The rule to keep: the walk is bounded in depth and entries, so that a workspace of any size costs the same; links are not followed.
 */
import type { Dirent } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { runFileEndings } from "../contributions.ts";

const maxDepth = 5;
const maxFolders = 2000;
const skipped = new Set(["node_modules", "__pycache__", "venv"]);

/** What lies under some folders. Paths are absolute, in the order of the walk: near the root first. */
export interface FoundFiles {
  runFiles: string[];
  modelFolders: string[];
  dataFiles: string[];
}

export async function findFiles(roots: readonly string[]): Promise<FoundFiles> {
  const found: FoundFiles = { runFiles: [], modelFolders: [], dataFiles: [] };
  let level = roots.map((root) => path.resolve(root));
  let folders = 0;
  for (let depth = 0; depth < maxDepth && level.length > 0; depth++) {
    const next: string[] = [];
    for (const folder of level) {
      if (++folders > maxFolders) return found;
      next.push(...sort(folder, await entriesOf(folder), found));
    }
    level = next;
  }
  return found;
}

/** Puts a folder's files where they belong, and returns the folders to look into. */
function sort(folder: string, entries: readonly Dirent[], found: FoundFiles): string[] {
  const names = entries.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map(({ name }) => name);
  if (isModel(names)) {
    found.modelFolders.push(folder);
    return [];
  }
  for (const name of names) {
    if (runFileEndings.some((ending) => name.endsWith(ending))) found.runFiles.push(path.join(folder, name));
    else if (isData(name)) found.dataFiles.push(path.join(folder, name));
  }
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith(".") && !skipped.has(entry.name))
    .map(({ name }) => path.join(folder, name));
}

function isModel(names: readonly string[]): boolean {
  return names.includes("config.json") && names.some((name) => name.endsWith(".safetensors") || name === "model.safetensors.index.json");
}

/** By its name; what is in it is found out by the preview. JSON and text are only data where no tool's own file goes by that name. */
function isData(name: string): boolean {
  if (/\.(jsonl|csv)$/i.test(name)) return true;
  return (
    /\.(json|txt)$/i.test(name) &&
    !/^(\..*|package.*|tsconfig.*|.*config|.*schema|.*lock|composer|requirements.*|readme.*|licen[cs]e.*|notice.*|cmakelists)\.(json|txt)$/i.test(
      name,
    )
  );
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.sort((a, b) => a.name.localeCompare(b.name));
}

/** Where the Hugging Face tools keep what they loaded, by their own rules. */
export function huggingFaceCache(env: NodeJS.ProcessEnv, home: string): string {
  if (env.HF_HUB_CACHE) return env.HF_HUB_CACHE;
  const base = env.HF_HOME ?? path.join(env.XDG_CACHE_HOME ?? path.join(home, ".cache"), "huggingface");
  return path.join(base, "hub");
}

export interface CachedModel {
  /** `owner/name`. */
  name: string;
  /** Of the revision that `main` names, else of the last one. */
  folder: string;
}

/** Models of a Hugging Face cache that have weights to train. */
export async function cachedModels(cache: string): Promise<CachedModel[]> {
  const found: CachedModel[] = [];
  for (const { name } of await entriesOf(cache)) {
    if (!name.startsWith("models--")) continue;
    const snapshots = path.join(cache, name, "snapshots");
    const revisions = (await entriesOf(snapshots)).map((entry) => entry.name);
    const main = (await readFile(path.join(cache, name, "refs", "main"), "utf8").catch(() => "")).trim();
    const revision = revisions.includes(main) ? main : revisions.at(-1);
    if (!revision) continue;
    const folder = path.join(snapshots, revision);
    if (isModel((await entriesOf(folder)).map((entry) => entry.name)))
      found.push({ name: name.slice("models--".length).replaceAll("--", "/"), folder });
  }
  return found;
}
