/**
 * Lets a model write its answers, greedily, many prompts at a time. It reads no answer: that is answers.ts's business.
 * The rule to keep: what a prompt gets does not depend on which prompts it is written beside.
 */
import type { Tokenizer } from "../data/tokenizer.ts";
import { generateBatch } from "../generateBatch.ts";
import type { TuningMethod } from "../methods/method.ts";
import type { Llama } from "../model/llama.ts";

export interface GenerationOptions {
  /** New tokens at most; a prompt near the model's last position gets as many as there is room for. */
  tokens: number;
  batchSize: number;
  stopIds: readonly number[];
  padTokenId: number;
  /** Called after every batch with the number of prompts done. */
  onProgress(done: number, of: number): void;
  signal?: AbortSignal;
}

/** What the model writes behind each prompt, without special tokens. Every prompt must leave room for a token. */
export async function scoreByGeneration(
  model: Llama,
  method: TuningMethod,
  tokenizer: Pick<Tokenizer, "decode">,
  prompts: readonly Int32Array[],
  { tokens, batchSize, stopIds, padTokenId, onProgress, signal }: GenerationOptions,
): Promise<string[]> {
  const texts: string[] = new Array(prompts.length).fill("");
  // Prompts of about one length share a batch, so that little of it is padding; the longest first, so that memory runs out at once or not at all.
  const order = [...prompts.keys()].sort((a, b) => prompts[b].length - prompts[a].length || a - b);
  for (let first = 0; first < order.length; first += batchSize) {
    const chosen = order.slice(first, first + batchSize);
    const own = chosen.map((index) => prompts[index]);
    const room = own.map(({ length }) => Math.min(tokens, model.config.maxPositions - length));
    const written = await generateBatch(model, method, own, { tokens: room, stopIds, padTokenId, signal });
    for (const [i, index] of chosen.entries()) texts[index] = tokenizer.decode(written[i], { skipSpecial: true });
    onProgress(first + chosen.length, order.length);
  }
  return texts;
}
