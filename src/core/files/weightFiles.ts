/**
 * Finds and opens the weight files of a model folder: model.safetensors, or the shards its index names, and checks that index and shards agree name by
 * name. What the tensors mean is modelFolder.ts's business.
 * The rule to keep: no file outside the folder is opened, except the blobs of a Hugging Face cache that a snapshot's links lead to.
 */
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { decodeUtf8, JsonRefused, type JsonValue, parseStrictJson, quote } from "./strictJson.ts";

export const singleFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";
/** A config.json or an index above this is none: the largest published index has a few MB. */
const maxJsonBytes = 64 << 20;

/** Reads a JSON text strictly; `shown` is named in errors. */
export async function readJson(file: string, shown: string): Promise<JsonValue> {
  const status = await stat(file).catch(() => null);
  if (!status?.isFile()) throw new UserError("model/missing-file", `${shown} is ${status ? "no file" : "missing"}.`, "Check the path.");
  const { size } = status;
  if (size > maxJsonBytes)
    throw new UserError("model/bad-json", `${shown}: it has ${size} bytes, too many for such a file.`, "Download the file again.");
  try {
    return parseStrictJson(decodeUtf8(await readFile(file)));
  } catch (error) {
    if (error instanceof JsonRefused) throw new UserError("model/bad-json", `${shown}: ${error.message}.`, "Download the file again.");
    throw error;
  }
}

/**
 * The real path of a file of the folder. A link may lead elsewhere within the folder, or, from a snapshot of a Hugging Face cache
 * (`<repository>/snapshots/<revision>/…`), into `<repository>/blobs`. Throws UserError `model/link-outside`.
 */
export async function insideFolder(folder: string, name: string): Promise<string> {
  const file = path.join(folder, name);
  const real = await realpath(file).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === "ELOOP" ? "its links lead in a circle" : `it cannot be opened (${error.code})`;
    throw new UserError("model/missing-file", `${file}: ${reason}.`, "Download the model again.", { cause: error });
  });
  const root = await realpath(folder);
  const allowed = [root];
  const parts = root.split(path.sep);
  const snapshots = parts.lastIndexOf("snapshots");
  if (snapshots > 0 && snapshots < parts.length - 1) allowed.push([...parts.slice(0, snapshots), "blobs"].join(path.sep));
  if (allowed.some((place) => real.startsWith(place + path.sep))) return real;
  throw new UserError("model/link-outside", `${file} is a link to ${real}, outside the model's folder.`, "Copy the file into the folder.");
}

/** Opens the weight files into `files`; the shard of every name from the index, or null for a single file. */
export async function openWeightFiles(folder: string, files: Map<string, SafetensorsFile>): Promise<Map<string, string> | null> {
  const names = await readdir(folder);
  if (names.includes(singleFile)) {
    files.set(singleFile, await openSafetensors(await insideFolder(folder, singleFile)));
    return null;
  }
  if (!names.includes(indexFile)) throw noWeights(folder, names);
  const index = await readIndex(folder);
  const shards = [...new Set(index.values())].sort();
  const missing = shards.find((shard) => !names.includes(shard));
  if (missing) {
    throw new UserError("model/missing-shard", `${folder}: ${indexFile} names ${quote(missing)}, which is not there.`, "Download the missing file.");
  }
  const extra = names.find((name) => /^model-\d+-of-\d+\.safetensors$/.test(name) && !shards.includes(name));
  if (extra) {
    throw new UserError(
      "model/extra-shard",
      `${folder}: ${extra} is not named by ${indexFile}.`,
      "Remove the file, or download the index that belongs to it.",
    );
  }
  for (const shard of shards) files.set(shard, await openSafetensors(await insideFolder(folder, shard)));
  return index;
}

function noWeights(folder: string, names: string[]): UserError {
  const pickle = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name) && !/^(training_args|optimizer|scheduler)/.test(name));
  const other = pickle ?? names.find((name) => /\.(gguf|onnx|h5|msgpack|safetensors)$/.test(name));
  const found = pickle ? ` ${pickle} is a pickle, which could run code and is never opened.` : other ? ` It has ${other}.` : "";
  return new UserError("model/no-weights", `${folder} has no ${singleFile} and no ${indexFile}.${found}`, "Get the safetensors files of the model.");
}

async function readIndex(folder: string): Promise<Map<string, string>> {
  const file = path.join(folder, indexFile);
  const fail = (code: string, reason: string) => new UserError(code, `${file}: ${reason}.`, "Download the index again.");
  const json = await readJson(await insideFolder(folder, indexFile), file);
  const map = typeof json === "object" && json !== null && !Array.isArray(json) ? json.weight_map : null;
  if (typeof map !== "object" || map === null || Array.isArray(map)) throw fail("model/bad-index", "it has no weight_map");
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string") throw fail("model/bad-index", `weight_map has no file name for ${quote(name)}`);
    if (shard !== path.posix.basename(shard) || shard !== path.win32.basename(shard) || shard === "" || shard.includes("\0")) {
      throw fail("model/bad-shard-name", `${quote(shard)} is not the plain name of a file in the folder`);
    }
    if (!shard.endsWith(".safetensors")) throw fail("model/bad-shard-name", `${quote(shard)} is not a safetensors file`);
  }
  if (Object.keys(map).length === 0) throw fail("model/bad-index", "its weight_map is empty");
  return new Map(Object.entries(map) as [string, string][]);
}

/** Where a tensor is stored. */
export interface Located {
  file: string;
  storedName: string;
}

/** The file of every stored tensor; index and shards must agree, name by name. */
export function locate(folder: string, files: Map<string, SafetensorsFile>, index: Map<string, string> | null): Map<string, Located> {
  const stored = new Map<string, Located>();
  for (const [file, { header }] of files) {
    for (const storedName of header.tensors.keys()) {
      const other = stored.get(storedName);
      if (other) throw disagreement(folder, `${quote(storedName)} is in both ${other.file} and ${file}`);
      const named = index?.get(storedName);
      if (index && named !== file) {
        throw disagreement(folder, `${file} has ${quote(storedName)}, which ${indexFile} ${named ? `places in ${quote(named)}` : "does not name"}`);
      }
      stored.set(storedName, { file, storedName });
    }
  }
  for (const [name, file] of index ?? []) {
    if (!stored.has(name)) throw disagreement(folder, `${indexFile} places ${quote(name)} in ${file}, which does not have it`);
  }
  return stored;
}

function disagreement(folder: string, reason: string): UserError {
  return new UserError(
    "model/index-mismatch",
    `${folder}: ${reason}.`,
    "Download the shards and the index again; they belong to different versions.",
  );
}
