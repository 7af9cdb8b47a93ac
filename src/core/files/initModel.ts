/**
 * Writes a model with random weights from a config.json alone, for benchmarks and plans that need real bytes: matrices normal(0, initializer_range),
 * norms 1, biases 0. Streamed; a billion parameters take seconds. It has no tokenizer and knows nothing.
 * The rule to keep: the same configuration, dtype and seed give the same file on every machine.
 */
import path from "node:path";
import type { FileDType } from "../devices/device.ts";
import { toBfloat16 } from "../devices/floatFormats.ts";
import { weightShapes } from "../model/config.ts";
import { normalQuantiles, threefry } from "../random.ts";
import { jsonText, writeNewFile } from "./durableFile.ts";
import { readModelConfig } from "./modelFolder.ts";
import { createFolder } from "./newFolder.ts";
import { safetensorsBytes, safetensorsChunks, type TensorEntry } from "./safetensorsWriter.ts";
import { encodeFloats, toFloat16 } from "./storedFloats.ts";
import { singleFile } from "./weightFiles.ts";

export interface InitOptions {
  dtype: FileDType;
  seed: number;
}

const chunkElements = 4 << 20;
const dtypeNames: Record<FileDType, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Writes the folder `to` (new or empty) with config.json and model.safetensors. Throws UserError as reading a config and creating a folder do. */
export async function initModel(configFile: string, to: string, { dtype, seed }: InitOptions): Promise<void> {
  const { config, rawConfig } = await readModelConfig(configFile);
  const range = typeof rawConfig.initializer_range === "number" && rawConfig.initializer_range > 0 ? rawConfig.initializer_range : 0.02;
  const table = normalTable(range, dtype);
  const entries: TensorEntry[] = [...weightShapes(config)].map(([name, shape], stream) => {
    const elements = shape.reduce((product, n) => product * n, 1);
    const constant = name.endsWith(".bias") ? 0 : 1;
    const chunks =
      shape.length === 1 ? () => [encodeFloats(new Float32Array(elements).fill(constant), dtype)] : () => normalChunks(table, elements, seed, stream);
    return { name, dtype, shape, chunks };
  });
  const metadata = { format: "pt" };
  await createFolder(to, safetensorsBytes(entries, metadata) + (1 << 16), async (folder) => {
    const dtypeField = "dtype" in rawConfig ? "dtype" : "torch_dtype";
    await writeNewFile(path.join(folder, "config.json"), [Buffer.from(jsonText({ ...rawConfig, [dtypeField]: dtypeNames[dtype] }))]);
    await writeNewFile(path.join(folder, singleFile), safetensorsChunks(entries, metadata));
  });
}

/** 65536 normals in storage format, equally likely: one look-up with 16 random bits draws one. */
function normalTable(range: number, dtype: FileDType): Float32Array | Uint16Array {
  const values = Float32Array.from(normalQuantiles(65536), (z) => z * range);
  return dtype === "F32" ? values : Uint16Array.from(values, dtype === "BF16" ? toBfloat16 : toFloat16);
}

/** The bytes of one tensor: elements 4i…4i+3 come from block i of the tensor's own random stream. */
function* normalChunks(table: Float32Array | Uint16Array, elements: number, seed: number, stream: number): Generator<Uint8Array> {
  const key = new Uint32Array(2);
  const words = new Uint32Array(2);
  threefry(key, stream, 0, seed >>> 0, Math.floor(seed / 4294967296));
  for (let first = 0; first < elements; first += chunkElements) {
    const count = Math.min(chunkElements, elements - first);
    const padded = Math.ceil(count / 4) * 4;
    const chunk = table instanceof Float32Array ? new Float32Array(padded) : new Uint16Array(padded);
    for (let i = 0; i < padded; i += 4) {
      threefry(words, (first + i) / 4, 0, key[0], key[1]);
      const low = words[0];
      const high = words[1];
      chunk[i] = table[low & 0xffff];
      chunk[i + 1] = table[low >>> 16];
      chunk[i + 2] = table[high & 0xffff];
      chunk[i + 3] = table[high >>> 16];
    }
    yield new Uint8Array(chunk.buffer, 0, count * chunk.BYTES_PER_ELEMENT);
  }
}
