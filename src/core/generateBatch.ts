/**
 * Continues several prompts at once, greedily, with one key/value cache: what `generate` gives for each alone at temperature 0.
 * Prompts are padded on the left, so that all of them end, and go on, at the same position of the cache; each counts its own positions from 0.
 */
import type { Tensor } from "./devices/device.ts";
import { likeliest, openCache } from "./generate.ts";
import type { TuningMethod } from "./methods/method.ts";
import { type Inputs, type Llama, runLogitsAt } from "./model/llama.ts";
import { ropeTables } from "./model/rope.ts";

export interface BatchGenerateOptions {
  /** At most so many new tokens, for each prompt. */
  tokens: readonly number[];
  /** Tokens that end a text; they are not returned. */
  stopIds: readonly number[];
  /** Fills what has no meaning; any id of the vocabulary. */
  padTokenId: number;
  signal?: AbortSignal;
}

/** New token ids behind each prompt (at least one token each). */
export async function generateBatch(
  model: Llama,
  method: TuningMethod,
  prompts: readonly Int32Array[],
  { tokens, stopIds, padTokenId, signal }: BatchGenerateOptions,
): Promise<number[][]> {
  const { device, config } = model;
  const longest = Math.max(...prompts.map(({ length }) => length));
  const most = Math.max(...tokens);
  const rope = ropeTables(device, config, longest + most);
  const cache = openCache(model, longest + most, prompts.length);
  const written: number[][] = prompts.map(() => []);
  const going = new Set(prompts.keys());
  const free = () => {
    for (const tensor of [rope.cos, rope.sin, ...cache.layers.flatMap(({ k, v }): Tensor[] => [k, v])]) device.free(tensor);
  };
  try {
    let inputs = padded(prompts, longest, padTokenId);
    for (let step = 0; step < most && going.size > 0; step++) {
      signal?.throwIfAborted();
      const last = Int32Array.from(prompts, (_, sequence) => (sequence + 1) * inputs.sequenceLength - 1);
      const tensor = await runLogitsAt({ ...model, rope }, method, inputs, last, cache);
      const logits = (await device.read(tensor)) as Float32Array;
      device.free(tensor);
      for (const sequence of [...going]) {
        const id = likeliest(logits.subarray(sequence * config.vocabSize, (sequence + 1) * config.vocabSize));
        if (stopIds.includes(id)) going.delete(sequence);
        else if (written[sequence].push(id) >= tokens[sequence]) going.delete(sequence);
      }
      inputs = nextInputs(prompts, written, longest, step, padTokenId);
    }
    return written;
  } finally {
    free();
  }
}

/** The prompts, each at the end of its row; padding is a document of its own. */
function padded(prompts: readonly Int32Array[], longest: number, padTokenId: number): Inputs {
  const size = prompts.length * longest;
  const inputs = new Int32Array(size).fill(padTokenId);
  const positions = new Int32Array(size);
  const documentStart = new Int32Array(size);
  for (const [sequence, prompt] of prompts.entries()) {
    const padding = longest - prompt.length;
    const row = sequence * longest;
    inputs.set(prompt, row + padding);
    for (let place = 0; place < longest; place++) positions[row + place] = place < padding ? place : place - padding;
    documentStart.fill(padding, row + padding, row + longest);
  }
  return { batchSize: prompts.length, sequenceLength: longest, inputs, positions, documentStart };
}

/** The token that each sequence wrote last. One that has ended goes on with padding, which nobody reads. */
function nextInputs(prompts: readonly Int32Array[], written: readonly number[][], longest: number, step: number, padTokenId: number): Inputs {
  return {
    batchSize: prompts.length,
    sequenceLength: 1,
    inputs: Int32Array.from(written, (ids) => ids[step] ?? padTokenId),
    positions: Int32Array.from(prompts, ({ length }) => length + step),
    documentStart: Int32Array.from(prompts, ({ length }) => longest - length),
  };
}
