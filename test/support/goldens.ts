/** Reads golden tensors and compares with them. */
import path from "node:path";
import { openSafetensors } from "../../src/core/files/safetensors.ts";
import { sharedData } from "./sharedData.ts";

async function readBytes(file: string, name: string, dtype: string): Promise<ArrayBuffer> {
  const opened = await openSafetensors(file);
  const info = opened.info(name);
  if (info.dtype !== dtype) throw new Error(`${file}: ${name} is ${info.dtype}, not ${dtype}`);
  const bytes = await opened.readBytes(name);
  await opened.close();
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
}

export async function readF32(file: string, name: string): Promise<Float32Array> {
  return new Float32Array(await readBytes(file, name, "F32"));
}

export async function readI32(file: string, name: string): Promise<Int32Array> {
  return new Int32Array(await readBytes(file, name, "I32"));
}

/** ‖a − b‖ / ‖b‖ in f64; NaN when either holds one, which no bound accepts. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length}`);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}

/** What PyTorch gave in full, too large for the repository: gradients of the forward batch, and weights after 20 AdamW steps. */
export const wholeGoldens = {
  gradient: { file: "story_grads.safetensors", prefix: "grad." },
  final: { file: "story_adamw20_final.safetensors", prefix: "" },
} as const;

/** Samples of the same that are part of the repository. */
export const goldenSamples = new URL("../fixtures/golden-torch/story_samples.safetensors", import.meta.url).pathname;

/** A short tensor whole; of a longer one every 23rd entry, which in the end meets every column of a matrix. */
export function sampleOf(values: ArrayLike<number>): Float32Array {
  const stride = values.length <= 256 ? 1 : 23;
  return Float32Array.from({ length: Math.ceil(values.length / stride) }, (_, i) => values[i * stride]);
}

/** Relative L2 of a tensor against PyTorch's: of the sample, and of the whole where that is at hand, the larger one. `name` is the model's own. */
export async function distanceFromGolden(kind: keyof typeof wholeGoldens, name: string, values: ArrayLike<number>): Promise<number> {
  const stored = name === "model.embed_tokens.weight" ? "lm_head.weight" : name;
  const sampled = relativeL2(sampleOf(values), await readF32(goldenSamples, `${kind}.${stored}`));
  const folder = sharedData("golden-torch");
  if (!folder) return sampled;
  const { file, prefix } = wholeGoldens[kind];
  return Math.max(sampled, relativeL2(values, await readF32(path.join(folder, file), `${prefix}${stored}`)));
}
