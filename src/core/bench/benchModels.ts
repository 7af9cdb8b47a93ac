/** The random Llamas that the bench trains, and the work it gives them. They are written once into the user's cache folder. */
import { existsSync } from "node:fs";
import path from "node:path";
import { assetPath } from "../assets.ts";
import { userCacheFolder } from "../files/fileHash.ts";
import { initModel } from "../files/initModel.ts";
import { pruneModel } from "../pruning/prune.ts";

/** By their parameters: the batch of a step. */
export const benchModels = {
  "134M": { batchSize: 2, sequenceLength: 256 },
  "1.2B": { batchSize: 8, sequenceLength: 1024 },
} as const;
export type BenchModelName = keyof typeof benchModels;
/** What the weights are stored as. */
const dtypes = { "134M": "F32", "1.2B": "BF16" } as const;

export const benchConfig = (name: BenchModelName) => assetPath(`media/bench/config-${name}.json`);

/** The folder of a model; `say` hears that it is written. */
export async function benchModel(name: BenchModelName, say: (text: string) => void): Promise<string> {
  const folder = path.join(userCacheFolder(), `bench-${name}`);
  if (existsSync(path.join(folder, "model.safetensors"))) return folder;
  say(`writing a random model of ${name} parameters to ${folder} (once)`);
  await initModel(benchConfig(name), folder, { dtype: dtypes[name], seed: 1 });
  return folder;
}

/** The folder of its copy pruned 2:4 by magnitude, beside it. */
export async function prunedBenchModel(model: string, say: (text: string) => void): Promise<string> {
  const to = `${model}-2to4`;
  if (existsSync(path.join(to, "model.safetensors"))) return to;
  say(`writing its copy pruned 2:4 to ${to} (once)`);
  const options = { model, method: "magnitude", pattern: "2:4", calibration: null, to, device: "cpu", threads: "auto" } as const;
  await pruneModel(options, () => {}, new AbortController().signal);
  return to;
}
