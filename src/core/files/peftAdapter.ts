/**
 * LoRA and DoRA adapters in the layout of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`. Written so that every PEFT from 0.10 on
 * loads them; read from any that keeps to what this program computes.
 * The rules to keep: what a file asks for and we do not compute is refused by its name, never left out; a key that is not known is tolerated and said;
 * a pickle is never opened.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { type Matrix, matricesOf, rankOf } from "../methods/targets.ts";
import { type ModelConfig, projections } from "../model/config.ts";
import { jsonText, writeNewFile } from "./durableFile.ts";
import { createFolder } from "./newFolder.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { entryOf, safetensorsBytes, safetensorsChunks, type TensorEntry } from "./safetensorsWriter.ts";
import { readFloats, requireTensors, type StoredAdapter } from "./storedAdapter.ts";
import { type JsonValue, quote } from "./strictJson.ts";
import { insideFolder, readJson } from "./weightFiles.ts";

export const peftFiles = { config: "adapter_config.json", tensors: "adapter_model.safetensors", pickle: "adapter_model.bin" } as const;

type LoraConfig = Extract<AdapterConfig, { name: "lora" | "dora" }>;
type Json = { [key: string]: JsonValue };

const prefix = "base_model.model.";

/** Our parameters and PEFT's names of them within a module; the magnitude has no `.weight`. */
const parts = { lora_A: "lora_A.weight", lora_B: "lora_B.weight", lora_magnitude_vector: "lora_magnitude_vector" } as const;
type Part = keyof typeof parts;

function peftName(parameter: string): string {
  const at = parameter.lastIndexOf(".");
  return `${prefix}${parameter.slice(0, at + 1)}${parts[parameter.slice(at + 1) as Part]}`;
}

// ---------------------------------------------------------------------------------------------------------------- writing

/** What PEFT's configuration says of an adapter beside what is the same for all. */
export interface PeftSettings {
  baseName: string;
  rank: number;
  alpha: number;
  dropout: number;
  targets: readonly string[];
  /** By whole name. */
  ranks: Readonly<Record<string, number>>;
  rankStabilized: boolean;
  dora: boolean;
}

/** Every key that all versions of PEFT since 0.10 know, and no other: older ones refuse what they do not know. Keys in order. */
function peftConfig({ baseName, rank, alpha, dropout, targets, ranks, rankStabilized, dora }: PeftSettings): object {
  return {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: baseName,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: dropout,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    rank_pattern: ranks,
    revision: null,
    target_modules: targets,
    task_type: "CAUSAL_LM",
    use_dora: dora,
    use_rslora: rankStabilized,
  };
}

/** Writes a LoRA or DoRA adapter into the new folder `to`. */
export async function writePeftAdapter(to: string, adapter: StoredAdapter, baseName: string): Promise<void> {
  const config = adapter.config as LoraConfig;
  const entries = [...adapter.shapes].map(([name, shape]) => entryOf(peftName(name), "F32", shape, () => adapter.read(name)));
  const { rank, alpha, dropout, rankStabilized } = config;
  await writePeftFolder(to, entries, {
    baseName,
    rank,
    alpha,
    dropout,
    targets: config.targets === "auto" ? projections : config.targets,
    ranks: otherRanks(adapter.shapes, rank),
    rankStabilized,
    dora: config.name === "dora",
  });
}

/** PEFT takes the first pattern that fits, wherever it stands; whole names leave it no choice. */
function otherRanks(shapes: ReadonlyMap<string, readonly number[]>, rank: number): Record<string, number> {
  const down = [...shapes].filter(([name, shape]) => name.endsWith(".lora_A") && shape[0] !== rank);
  return Object.fromEntries(down.map(([name, shape]) => [name.slice(0, -".lora_A".length), shape[0]]));
}

/** Writes tensors under PEFT's names with their configuration into the new folder `to`. */
export async function writePeftFolder(to: string, entries: readonly TensorEntry[], settings: PeftSettings): Promise<void> {
  const metadata = { format: "pt" };
  await createFolder(to, safetensorsBytes(entries, metadata) + (1 << 16), async (folder) => {
    await writeNewFile(path.join(folder, peftFiles.tensors), safetensorsChunks(entries, metadata));
    await writeNewFile(path.join(folder, peftFiles.config), [Buffer.from(jsonText(peftConfig(settings)))]);
  });
}

/** The tensors of one module's low-rank product, down (r, in) and up (out, r). */
export function peftEntries(
  module: string,
  shape: readonly [number, number],
  rank: number,
  values: () => Promise<{ down: Float32Array; up: Float32Array }>,
): TensorEntry[] {
  return [
    entryOf(peftName(`${module}.lora_A`), "F32", [rank, shape[1]], async () => (await values()).down),
    entryOf(peftName(`${module}.lora_B`), "F32", [shape[0], rank], async () => (await values()).up),
  ];
}

// ---------------------------------------------------------------------------------------------------------------- reading

/** Opens an adapter that PEFT (or we) wrote, for a model of this shape. Throws UserError `adapter/…` or `safetensors/…`. */
export async function openPeftAdapter(folder: string, model: ModelConfig): Promise<StoredAdapter> {
  const names = await readdir(folder);
  if (!names.includes(peftFiles.tensors)) {
    const found = names.includes(peftFiles.pickle) ? ` Its ${peftFiles.pickle} is a pickle, which could run code and is never opened.` : "";
    throw new UserError(
      names.includes(peftFiles.pickle) ? "adapter/pickle" : "adapter/no-adapter",
      `${folder} has no ${peftFiles.tensors}.${found}`,
      "Save the adapter again with safe_serialization=True.",
    );
  }
  if (!names.includes(peftFiles.config))
    throw new UserError("adapter/no-description", `${folder} has no ${peftFiles.config}.`, "Copy that file too, or save the adapter again.");
  const file = path.join(folder, peftFiles.config);
  const json = await readJson(await insideFolder(folder, peftFiles.config), file);
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw invalid(file, "it is no JSON object");
  const notices = checkConfig(json, file);
  const tensors = await openSafetensors(await insideFolder(folder, peftFiles.tensors));
  try {
    return adapterOf(json, file, tensors, model, notices);
  } catch (error) {
    await tensors.close();
    throw error;
  }
}

function invalid(file: string, reason: string): UserError {
  return new UserError("adapter/invalid", `${file}: ${reason}.`, "Save the adapter again with PEFT.");
}

function unsupported(file: string, what: string): UserError {
  return new UserError(
    "adapter/unsupported",
    `${file}: ${what}, which this program does not compute.`,
    "Merge the adapter into its base with PEFT (merge_and_unload), and use the merged model.",
  );
}

/** Keys that we compute by, and keys that change nothing of what an adapter that is trained computes. */
const understood = new Set([
  "peft_type",
  "r",
  "lora_alpha",
  "lora_dropout",
  "use_dora",
  "use_rslora",
  "rank_pattern",
  "alpha_pattern",
  "target_modules",
]);
const harmless = new Set(
  [
    ["task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version", "runtime_config"],
    ["layers_to_transform", "layers_pattern", "exclude_modules", "megatron_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"],
    ["eva_config", "corda_config", "loftq_config", "lora_ga_config"],
  ].flat(),
);
/** Keys that change what is computed, by the value they may have. */
const fixed: Record<string, readonly JsonValue[]> = {
  bias: ["none"],
  fan_in_fan_out: [false],
  modules_to_save: [null],
  lora_bias: [false],
  trainable_token_indices: [null],
  target_parameters: [null],
  layer_replication: [null],
  alora_invocation_tokens: [null],
  arrow_config: [null],
  use_qalora: [false],
  use_bdlora: [null, false],
  velora_config: [null],
  kasa_config: [null],
  monteclora_config: [null],
  // Starts that change the base's own weights would need that changed base.
  init_lora_weights: [true, false, "gaussian", "eva", "orthogonal"],
};

/** Refuses what would be computed otherwise; sentences about keys that are not known. */
function checkConfig(json: Json, file: string): string[] {
  if (json.peft_type !== "LORA") throw unsupported(file, `peft_type is ${shown(json.peft_type)}`);
  for (const [key, allowed] of Object.entries(fixed)) {
    const value = json[key];
    if (value !== undefined && !isNothing(value) && !allowed.includes(value)) throw unsupported(file, `${key} is ${shown(value)}`);
  }
  const unknown = Object.keys(json).filter((key) => !understood.has(key) && !harmless.has(key) && !(key in fixed) && !isNothing(json[key]));
  return unknown.map((key) => `${file} has ${quote(key)} (${shown(json[key])}), which this program does not know: it is taken to change nothing.`);
}

/** Null, false, and what is empty. */
function isNothing(value: JsonValue): boolean {
  return value === null || value === false || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
}

function shown(value: JsonValue | undefined): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** The adapter as a run file would ask for it, and where its values are. */
function adapterOf(json: Json, file: string, tensors: SafetensorsFile, model: ModelConfig, notices: string[]): StoredAdapter {
  const rank = numberOf(json, "r", file, (r) => Number.isInteger(r) && r >= 1 && r <= 65536);
  const alpha = numberOf(json, "lora_alpha", file, (value) => value > 0 && value <= 1e6);
  const dropout = json.lora_dropout === undefined ? 0 : numberOf(json, "lora_dropout", file, (value) => value >= 0 && value < 1);
  const dora = json.use_dora === true;
  const modules = modulesOf(tensors, model, dora);
  const all = matricesOf(model);
  const kinds = new Set(modules.map(({ projection }) => projection));
  const everywhere = all.filter(({ projection }) => kinds.has(projection)).length === modules.length;
  const ranks = Object.fromEntries(
    modules.map((matrix) => [matrix.name, downOf(tensors, matrix).shape[0]] as const).filter(([, own]) => own !== rank),
  );
  const config: LoraConfig = {
    ...{ rank, alpha, dropout, ranks, rankStabilized: json.use_rslora === true },
    targets: everywhere ? projections.filter((projection) => kinds.has(projection)) : modules.map(({ name }) => name),
    ...(dora ? { name: "dora", normGradient: "detached" } : { name: "lora" }),
  };
  const shapes = new Map(modules.flatMap((matrix) => shapesOf(matrix, rankOf(config, matrix), dora)));
  requireTensors(
    tensors,
    [...shapes].map(([name, shape]) => ({ name: peftName(name), shape })),
  );
  const alphas = new Map(modules.map(({ name }) => [name, alphaOf(name, json, file) ?? alpha]));
  const read = async (name: string) => {
    const values = await readFloats(tensors, peftName(name));
    // Another alpha for some modules has no key in a run file: it goes into B.
    const factor = (alphas.get(name.slice(0, name.lastIndexOf("."))) as number) / alpha;
    return factor !== 1 && name.endsWith(".lora_B") ? values.map((value) => value * factor) : values;
  };
  return { config, precision: null, shapes, read, notices, close: () => tensors.close() };
}

function numberOf(json: Json, key: string, file: string, fits: (value: number) => boolean): number {
  const value = json[key];
  if (typeof value !== "number" || !fits(value)) throw invalid(file, `${key} is ${shown(value)}`);
  return value;
}

/** The matrices the file adapts, in our order. Throws UserError for a tensor of a module, or of a kind, that we do not adapt. */
function modulesOf(tensors: SafetensorsFile, model: ModelConfig, dora: boolean): Matrix[] {
  const all = new Map(matricesOf(model).map((matrix) => [matrix.name, matrix]));
  const kinds: string[] = dora ? Object.values(parts) : [parts.lora_A, parts.lora_B];
  const found = new Set<string>();
  for (const name of tensors.header.tensors.keys()) {
    const kind = Object.values(parts).find((part) => name.endsWith(`.${part}`));
    const module = kind && name.startsWith(prefix) ? name.slice(prefix.length, -kind.length - 1) : null;
    if (!kind || module === null || !all.has(module)) throw unsupported(tensors.path, `it has the tensor ${quote(name)}`);
    if (!kinds.includes(kind)) throw invalid(tensors.path, `it has the magnitude ${quote(name)}, but use_dora is not true`);
    found.add(module);
  }
  if (found.size === 0) throw invalid(tensors.path, "it has no adapter");
  return [...all.values()].filter(({ name }) => found.has(name));
}

/** The entry of a module's A; its first dimension is the rank. */
function downOf(tensors: SafetensorsFile, { name }: Matrix): { shape: readonly number[] } {
  const down = peftName(`${name}.lora_A`);
  const info = tensors.header.tensors.get(down);
  if (!info)
    throw new UserError("adapter/missing-tensor", `${tensors.path}: the tensor ${quote(down)} is missing.`, "Export or download the adapter again.");
  if (info.shape.length !== 2 || info.shape[0] < 1) throw invalid(tensors.path, `${quote(down)} is no matrix`);
  return info;
}

function shapesOf({ name, weight }: Matrix, rank: number, dora: boolean): [string, readonly number[]][] {
  const [out, width] = weight.shape;
  const lowRank: [string, readonly number[]][] = [
    [`${name}.lora_A`, [rank, width]],
    [`${name}.lora_B`, [out, rank]],
  ];
  return dora ? [...lowRank, [`${name}.lora_magnitude_vector`, [out]]] : lowRank;
}

/** Alpha of a module where `alpha_pattern` has one: PEFT's keys are patterns for the end of a name, of which the first that fits counts. */
function alphaOf(module: string, json: Json, file: string): number | null {
  const patterns = json.alpha_pattern ?? {};
  if (typeof patterns !== "object" || Array.isArray(patterns)) throw invalid(file, "alpha_pattern is no mapping");
  for (const [pattern, alpha] of Object.entries(patterns)) {
    const name = pattern.replace(/^\^/, "");
    if (!/^[A-Za-z0-9_.]+$/.test(name)) throw unsupported(file, `alpha_pattern has the regular expression ${quote(pattern)}`);
    if (typeof alpha !== "number" || !(alpha > 0)) throw invalid(file, `alpha_pattern ${quote(pattern)} is ${shown(alpha)}`);
    if (module === name || (name === pattern && module.endsWith(`.${name}`))) return alpha;
  }
  return null;
}
