/**
 * Writes a complete Hugging Face folder from a base model and the weights that changed: what was not touched is copied from the base's file bytes,
 * configuration and tokenizer files as they are. Sharded stays sharded. In a dtype that is asked for all weights are stored, and config.json says so, for
 * loaders bring every weight to the one dtype it names. Which weights changed, and how, is the caller's business.
 * The rule to keep: the folder loads in transformers as it is, and a tied model has its weights under `model.embed_tokens.weight`.
 */
import { copyFile, readdir, stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import type { FileDType } from "../devices/device.ts";
import { mergedBytes, mergedFloats } from "./deltaApply.ts";
import { type Chunks, jsonText, untilAborted, writeNewFile } from "./durableFile.ts";
import { headName, type ModelFolder } from "./modelFolder.ts";
import { createFolder } from "./newFolder.ts";
import type { SafetensorsFile } from "./safetensors.ts";
import { safetensorsBytes, safetensorsChunks, type TensorEntry, tensorBytes } from "./safetensorsWriter.ts";
import type { Delta } from "./smtDelta.ts";
import { allFinite, decodeFloats, encodeFloats, storedElementBytes } from "./storedFloats.ts";
import { indexFile, insideFolder } from "./weightFiles.ts";

/** The new content of a weight: its values as f32 in order, or its bytes in the base's dtype. */
export type WeightOverride = { floats: () => AsyncIterable<Float32Array> | Iterable<Float32Array> } | { bytes: () => Chunks };

export interface MergedExportOptions {
  /** When it ends the export, nothing stays behind. */
  signal?: AbortSignal;
  /** Further files of the folder, by name. */
  texts?: Readonly<Record<string, string>>;
  /** What all weights are stored as, whatever the base stores them as; overrides are then floats. Null: as the base. */
  dtype?: FileDType | null;
}

/** As a Hugging Face configuration spells it. */
const dtypeNames: Record<FileDType, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Files that go with the weights. */
const companions =
  /^(config\.json|generation_config\.json|tokenizer.*\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template.*|(LICENSE|NOTICE|USE_POLICY).*)$/i;

const configFile = "config.json";
const copyBytes = 8 << 20;

/**
 * Exports `base` with `overrides` (by canonical name) into the new folder `to`.
 * Throws UserError `export/not-empty`, `run/disk-full`, `export/not-finite` (a value that NaN, infinity or F16's range spoils).
 */
export async function exportMerged(
  base: ModelFolder,
  overrides: ReadonlyMap<string, WeightOverride>,
  to: string,
  { signal, texts: given = {}, dtype = null }: MergedExportOptions = {},
): Promise<void> {
  for (const name of overrides.keys()) base.tensor(name);
  const metadata = { format: "pt" };
  const shards = new Map([...base.files.keys()].sort().map((file) => [file, shardEntries(base, file, overrides, dtype)]));
  const texts = dtype === null ? given : { ...given, [configFile]: configIn(dtype, base.rawConfig) };
  let neededBytes = 1 << 20;
  for (const entries of shards.values()) neededBytes += safetensorsBytes(entries, metadata);
  const companionFiles = (await companionsOf(base)).filter((name) => !Object.hasOwn(texts, name));
  for (const name of companionFiles) neededBytes += (await stat(path.join(base.path, name))).size;
  await createFolder(to, neededBytes, async (folder) => {
    for (const [file, entries] of shards) await writeNewFile(path.join(folder, file), untilAborted(safetensorsChunks(entries, metadata), signal));
    if (base.sharded) await writeNewFile(path.join(folder, indexFile), [Buffer.from(jsonText(shardIndex(shards)))]);
    for (const [name, text] of Object.entries(texts)) await writeNewFile(path.join(folder, name), [Buffer.from(text)]);
    for (const name of companionFiles) await copyFile(await insideFolder(base.path, name), path.join(folder, name));
  });
}

/** The overrides that put a delta's trained blocks into the base, rounded to its dtype, or unrounded for an export in another one. */
export function deltaOverrides(base: ModelFolder, delta: Delta, unrounded = false): Map<string, WeightOverride> {
  const overrideOf = (weight: string): WeightOverride =>
    unrounded ? { floats: () => mergedFloats(base, delta, weight) } : { bytes: () => mergedBytes(base, delta, weight) };
  return new Map([...delta.matrices.keys()].map((weight) => [weight, overrideOf(weight)]));
}

/** The configuration with another dtype; older ones, and older loaders, know it as torch_dtype. */
function configIn(dtype: FileDType, rawConfig: Readonly<Record<string, unknown>>): string {
  const known = ["dtype", "torch_dtype"].filter((key) => Object.hasOwn(rawConfig, key));
  const keys = known.length > 0 ? known : ["torch_dtype"];
  return jsonText({ ...rawConfig, ...Object.fromEntries(keys.map((key) => [key, dtypeNames[dtype]])) });
}

async function companionsOf(base: ModelFolder): Promise<string[]> {
  const names = (await readdir(base.path)).filter((name) => companions.test(name)).sort();
  const files: string[] = [];
  for (const name of names) if ((await stat(await insideFolder(base.path, name))).isFile()) files.push(name);
  return files;
}

/** The tensors of one file of the base under their canonical names; rotary tables and the second copy of a tied head are left out. */
function shardEntries(base: ModelFolder, fileName: string, overrides: ReadonlyMap<string, WeightOverride>, wanted: FileDType | null): TensorEntry[] {
  const file = base.files.get(fileName) as SafetensorsFile;
  const canonical = new Map([...base.tensors.values()].filter((tensor) => tensor.file === fileName).map((tensor) => [tensor.storedName, tensor]));
  const entries: TensorEntry[] = [];
  for (const [storedName, { dtype, shape }] of file.header.tensors) {
    const tensor = canonical.get(storedName);
    const dropped = storedName.endsWith(".rotary_emb.inv_freq") || (base.config.tiedEmbeddings && storedName === headName);
    if (!tensor && dropped) continue;
    const name = tensor?.name ?? storedName;
    const override = tensor && overrides.get(name);
    if (tensor && override) entries.push(overriddenEntry(name, shape, tensor.dtype, override, wanted));
    else if (wanted && wanted !== dtype && isFileDType(dtype))
      entries.push({ name, dtype: wanted, shape, chunks: () => encoded(name, wanted, decoded(file, storedName, dtype, shape)) });
    else entries.push({ name, dtype, shape, chunks: () => copied(file, storedName, tensorBytes({ dtype, shape })) });
  }
  return entries;
}

async function* copied(file: SafetensorsFile, storedName: string, bytes: number): AsyncGenerator<Uint8Array> {
  for (let begin = 0; begin < bytes; begin += copyBytes) yield await file.readBytes(storedName, begin, Math.min(bytes, begin + copyBytes));
}

function isFileDType(dtype: string): dtype is FileDType {
  return Object.hasOwn(storedElementBytes, dtype);
}

async function* decoded(file: SafetensorsFile, storedName: string, dtype: FileDType, shape: readonly number[]): AsyncGenerator<Float32Array> {
  for await (const bytes of copied(file, storedName, tensorBytes({ dtype, shape }))) yield decodeFloats(bytes, dtype);
}

function overriddenEntry(
  name: string,
  shape: readonly number[],
  baseDType: FileDType,
  override: WeightOverride,
  wanted: FileDType | null,
): TensorEntry {
  if ("bytes" in override) {
    if (wanted && wanted !== baseDType) throw new Error(`${name} is given as bytes of ${baseDType}, not ${wanted}`);
    return { name, dtype: baseDType, shape, chunks: override.bytes };
  }
  const dtype = wanted ?? baseDType;
  return { name, dtype, shape, chunks: () => encoded(name, dtype, override.floats()) };
}

async function* encoded(name: string, dtype: FileDType, floats: AsyncIterable<Float32Array> | Iterable<Float32Array>): AsyncGenerator<Uint8Array> {
  for await (const values of floats) {
    const bytes = encodeFloats(values, dtype);
    if (!allFinite(bytes, dtype)) {
      throw new UserError("export/not-finite", `${name} has a value that ${dtype} cannot hold.`, "Use an earlier checkpoint.", { badInput: false });
    }
    yield bytes;
  }
}

function shardIndex(shards: ReadonlyMap<string, readonly TensorEntry[]>): unknown {
  const places: [string, string][] = [];
  let totalBytes = 0;
  for (const [file, entries] of shards) {
    for (const entry of entries) {
      places.push([entry.name, file]);
      totalBytes += tensorBytes(entry);
    }
  }
  places.sort(([a], [b]) => (a < b ? -1 : 1));
  return { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(places) };
}
