/**
 * Adapters of the methods that only this program applies as they were trained: LoRS, SPP, SQFT. A folder with `adapter.safetensors`, f32 parameters under
 * the method's own names, and `sparse-tuner-adapter.json`, which says what the numbers mean. LoRA and DoRA have PEFT's layout (peftAdapter.ts).
 * The rules to keep: without that description, on another base, or with a tensor missing it is refused, because an unmasked or unscaled adapter is
 * another model; no time, path or run id is written, so that equal runs give equal files.
 */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import Type, { type Static } from "typebox";
import { Value } from "typebox/value";
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import { runSchema } from "../../protocol/runSchema.ts";
import { UserError } from "../../protocol/userError.ts";
import { adapterShapes } from "../adapterParameters.ts";
import { jsonText, writeNewFile } from "./durableFile.ts";
import { hashFile } from "./fileHash.ts";
import type { ModelFolder } from "./modelFolder.ts";
import { createFolder } from "./newFolder.ts";
import { openPeftAdapter, peftFiles, writePeftAdapter } from "./peftAdapter.ts";
import { openSafetensors } from "./safetensors.ts";
import { entryOf, safetensorsBytes, safetensorsChunks } from "./safetensorsWriter.ts";
import { readFloats, requireTensors, type StoredAdapter } from "./storedAdapter.ts";
import { insideFolder, readJson } from "./weightFiles.ts";

export const adapterFiles = { description: "sparse-tuner-adapter.json", tensors: "adapter.safetensors" } as const;

const format = "sparse-tuner-adapter";

const descriptionSchema = Type.Object({
  format: Type.Literal(format),
  version: Type.Literal(1),
  /** As in a run file, every key present. */
  method: runSchema.properties.method,
  /** Which entries of a weight the adapter may change; null where the method needs no mask. */
  mask: Type.Union([Type.Literal("base != 0"), Type.Null()]),
  /** The factor s of the method's formula. */
  scaling: Type.Number(),
  /** Name of the base's folder, for people. */
  base: Type.String(),
  /** {@link hashOfWeights} of the base. */
  baseSha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
  precision: Type.Enum(["f32", "bf16"]),
});
type Description = Static<typeof descriptionSchema>;

/** Whether a path is a folder with an adapter of either layout, be it whole or not. */
export async function isAdapterFolder(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => [] as string[]);
  return [...Object.values(adapterFiles), ...Object.values(peftFiles)].some((name) => names.includes(name));
}

/** SHA-256 in hex over the names and contents of all weight files; each file's is remembered by size and time. */
export async function hashOfWeights(folder: ModelFolder): Promise<string> {
  const hash = createHash("sha256");
  for (const name of folder.files.keys()) hash.update(`${name} ${await hashFile(path.join(folder.path, name))}\n`);
  return hash.digest("hex");
}

/** Opens an adapter of either layout for the model it is given. Throws UserError `adapter/…` or `safetensors/…`. */
export async function openAdapter(folder: string, base: ModelFolder): Promise<StoredAdapter> {
  const names = await readdir(folder);
  if (names.includes(adapterFiles.description)) return openOwnAdapter(folder, base);
  if (names.includes(adapterFiles.tensors))
    throw new UserError(
      "adapter/no-description",
      `${folder} has no ${adapterFiles.description}: without it nobody knows the adapter's method, mask, scaling and base.`,
      "Copy that file too, or export the adapter again.",
    );
  return openPeftAdapter(folder, base.config);
}

async function openOwnAdapter(folder: string, base: ModelFolder): Promise<StoredAdapter> {
  const file = path.join(folder, adapterFiles.description);
  const description = readDescription(await readJson(await insideFolder(folder, adapterFiles.description), file), file);
  if ((await hashOfWeights(base)) !== description.baseSha256)
    throw new UserError(
      "adapter/wrong-base",
      `${folder} belongs to a model called ${JSON.stringify(description.base)}; the weights of ${base.path} are others.`,
      "Give the very model that it was trained on.",
    );
  const config = description.method as AdapterConfig;
  const shapes = adapterShapes(config, base.config);
  const tensors = await openSafetensors(await insideFolder(folder, adapterFiles.tensors));
  try {
    requireTensors(
      tensors,
      [...shapes].map(([name, shape]) => ({ name, shape })),
    );
    const unknown = [...tensors.header.tensors.keys()].find((name) => !shapes.has(name));
    if (unknown !== undefined) throw invalid(file, `the tensor ${JSON.stringify(unknown.slice(0, 120))} is none of the method's`);
  } catch (error) {
    await tensors.close();
    throw error;
  }
  return { config, precision: description.precision, shapes, read: (name) => readFloats(tensors, name), notices: [], close: () => tensors.close() };
}

function invalid(file: string, reason: string): UserError {
  return new UserError("adapter/invalid", `${file}: ${reason}.`, "Export the adapter again.");
}

/** Checks the description against itself: mask and scaling must be those that the method's settings give. */
function readDescription(value: unknown, file: string): Description {
  const { format: named, version } = (value ?? {}) as Partial<Description>;
  if (named !== format) throw invalid(file, "it does not describe an adapter of this program");
  if (version !== 1) throw invalid(file, `it has version ${JSON.stringify(version)?.slice(0, 20)}; this program reads version 1`);
  if (!Value.Check(descriptionSchema, value)) {
    const [error] = Value.Errors(descriptionSchema, value);
    throw invalid(file, `it is incomplete${error ? ` (${error.instancePath || "/"} ${error.message})` : ""}`);
  }
  const { method, mask, scaling } = value;
  if (!isOwn(method)) throw invalid(file, `an adapter of ${method.name} has another format`);
  if (mask !== maskOf(method)) throw invalid(file, `its mask is not that of ${method.name}`);
  if (scaling !== scalingOf(method)) throw invalid(file, `its scaling ${scaling} is not what its method gives (${scalingOf(method)})`);
  return value;
}

type OwnConfig = Extract<AdapterConfig, { name: "lors" | "spp" | "sqft" }>;

function isOwn(method: { name: string }): method is OwnConfig {
  return method.name === "lors" || method.name === "spp" || method.name === "sqft";
}

/** SPP multiplies, so that zeros stay without a mask. */
function maskOf({ name }: OwnConfig): Description["mask"] {
  return name === "spp" ? null : "base != 0";
}

function scalingOf(method: OwnConfig): number {
  if (method.name === "spp") return method.scaling;
  return method.alpha / (method.name === "lors" ? Math.sqrt(method.rank) : method.rank);
}

/** Writes an adapter into the new folder `to`: PEFT's layout for LoRA and DoRA, our own for the others. Throws UserError; nothing half-written stays. */
export async function writeAdapter(to: string, adapter: StoredAdapter, base: ModelFolder): Promise<void> {
  const { config, precision, shapes } = adapter;
  if (!isOwn(config)) return writePeftAdapter(to, adapter, path.basename(base.path));
  const description: Description = {
    format,
    version: 1,
    method: config,
    mask: maskOf(config),
    scaling: scalingOf(config),
    base: path.basename(base.path),
    baseSha256: await hashOfWeights(base),
    precision: precision ?? "f32",
  };
  const entries = [...shapes].map(([name, shape]) => entryOf(name, "F32", shape, () => adapter.read(name)));
  const metadata = { format, version: "1" };
  await createFolder(to, safetensorsBytes(entries, metadata) + (1 << 16), async (folder) => {
    await writeNewFile(path.join(folder, adapterFiles.tensors), safetensorsChunks(entries, metadata));
    await writeNewFile(path.join(folder, adapterFiles.description), [Buffer.from(jsonText(description))]);
  });
}
