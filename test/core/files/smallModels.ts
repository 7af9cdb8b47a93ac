/** Model folders small enough to make in a test: random weights of a given configuration, in one file or in shards, by an own writer of the format. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { weightShapes } from "../../../src/core/model/config.ts";
import { Random } from "../../../src/core/random.ts";

/** A folder that is removed after the test. */
export function temporaryFolder(test: TestContext): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A config.json of a tiny Llama. */
export const tinyConfig = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 40,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: 2,
};

export type RawTensor = { dtype: string; shape: number[]; bytes: Uint8Array };

/** A safetensors file from a header object (or text) and data, without any of the product's code. */
export function rawSafetensors(header: unknown, data: Uint8Array = new Uint8Array()): Buffer {
  const json = Buffer.isBuffer(header) ? header : Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

/** A valid file of these tensors, in this order. */
export function packTensors(tensors: Record<string, RawTensor>, metadata?: Record<string, string>): Buffer {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let position = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [position, position + bytes.length] };
    position += bytes.length;
  }
  return rawSafetensors(header, Buffer.concat(Object.values(tensors).map(({ bytes }) => bytes)));
}

/** Random weights of a configuration. Bytes of F32 and BF16 are normal numbers; F16 small ones. */
export function randomTensors(config: object, dtype: "F32" | "BF16" | "F16" = "F32", seed = 1): Record<string, RawTensor> {
  const random = new Random(seed);
  const tensors: Record<string, RawTensor> = {};
  for (const [name, shape] of weightShapes(parseModelConfig(config, "config.json"))) {
    const elements = shape.reduce((product, n) => product * n, 1);
    const floats = Float32Array.from({ length: elements }, () => random.normal() * 0.02);
    const halves = new Uint16Array(elements);
    if (dtype === "BF16") for (let i = 0; i < elements; i++) halves[i] = new Uint32Array(floats.buffer, 4 * i, 1)[0] >>> 16;
    if (dtype === "F16") for (let i = 0; i < elements; i++) halves[i] = random.nextUint32() & 0xbbff;
    tensors[name] = { dtype, shape, bytes: new Uint8Array(dtype === "F32" ? floats.buffer : halves.buffer) };
  }
  return tensors;
}

export interface SmallModel {
  config?: object;
  tensors?: Record<string, RawTensor>;
  /** Number of shards; 0 for a single file. */
  shards?: number;
}

/** Writes a model folder and returns its path. */
export function writeModel(folder: string, { config = tinyConfig, tensors = randomTensors(config), shards = 0 }: SmallModel = {}): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  if (shards === 0) {
    writeFileSync(path.join(folder, "model.safetensors"), packTensors(tensors, { format: "pt" }));
    return folder;
  }
  const parts: Record<string, RawTensor>[] = Array.from({ length: shards }, () => ({}));
  const weightMap: Record<string, string> = {};
  const shardName = (i: number) => `model-${String(i + 1).padStart(5, "0")}-of-${String(shards).padStart(5, "0")}.safetensors`;
  Object.entries(tensors).forEach(([name, tensor], i) => {
    parts[i % shards][name] = tensor;
    weightMap[name] = shardName(i % shards);
  });
  parts.forEach((part, i) => {
    writeFileSync(path.join(folder, shardName(i)), packTensors(part, { format: "pt" }));
  });
  writeFileSync(path.join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
  return folder;
}
