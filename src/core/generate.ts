/** Continues a prompt, token by token, with a key/value cache. One sequence at a time; sampling by temperature only. */
import { UserError } from "../protocol/userError.ts";
import type { Tensor } from "./devices/device.ts";
import { Frozen } from "./methods/frozen.ts";
import type { TuningMethod } from "./methods/method.ts";
import { type KeyValueCache, type Llama, runLogits } from "./model/llama.ts";
import { ropeTables } from "./model/rope.ts";
import { Random } from "./random.ts";

export interface GenerateOptions {
  /** At most this many new tokens. */
  tokens: number;
  /** 0 takes the likeliest token. */
  temperature: number;
  seed: number;
  /** Tokens that end the text; they are not returned. */
  stopIds: readonly number[];
  /** Runs the linear maps: the adapters of an opened run; by default the weights as they are. */
  method?: TuningMethod;
  /** Called with each new token as it comes. */
  onToken?(id: number): void;
}

/** New token ids after `prompt` (at least one token). The model's rotary tables are replaced for the time by longer ones. */
export async function generate(model: Llama, prompt: Int32Array, options: GenerateOptions): Promise<number[]> {
  const capacity = prompt.length + options.tokens;
  const { device } = model;
  const rope = ropeTables(device, model.config, capacity);
  const cache = openCache(model, capacity);
  const long: Llama = { ...model, rope };
  const method: TuningMethod = options.method ?? new Frozen(device);
  method.beginBatch?.(null);
  const random = new Random(options.seed);
  const ids: number[] = [];
  let input = prompt;
  while (ids.length < options.tokens) {
    const logits = await runLogits(long, method, input, 1, cache);
    const id = sample((await device.read(logits)) as Float32Array, options.temperature, random);
    device.free(logits);
    if (options.stopIds.includes(id)) break;
    ids.push(id);
    options.onToken?.(id);
    input = Int32Array.of(id);
  }
  for (const tensor of [rope.cos, rope.sin, ...cache.layers.flatMap(({ k, v }): Tensor[] => [k, v])]) device.free(tensor);
  return ids;
}

/** An empty cache for so many positions of each sequence; the caller frees its tensors. */
export function openCache(model: Llama, capacity: number, sequences = 1): KeyValueCache {
  const { device, config, precision } = model;
  const allocate = () => device.allocate([sequences * capacity, config.numKeyValueHeads * config.headSize], precision, "activations");
  return { layers: Array.from({ length: config.numLayers }, () => ({ k: allocate(), v: allocate() })), length: 0, capacity };
}

/** The likeliest id, the first of equals. Throws UserError `generate/not-finite` where the model computes no numbers. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  if (Number.isFinite(logits[best])) return best;
  throw new UserError(
    "generate/not-finite",
    "The model computes NaN or infinity instead of the next token's probabilities.",
    "Use an earlier checkpoint, or look whether training diverged.",
    { badInput: false },
  );
}

/** The likeliest id; or one drawn from softmax(logits / temperature). */
function sample(logits: Float32Array, temperature: number, random: Random): number {
  const best = likeliest(logits);
  if (temperature <= 0) return best;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - logits[best]) / temperature));
  let left = random.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i];
    if (left < 0) return i;
  }
  return best;
}
