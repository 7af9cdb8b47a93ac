/** `sparse-tuner generate`, and the service's: continues a prompt with a model or a run. An empty prompt starts from BOS. */
import { UserError } from "../../protocol/userError.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { generate as continueIds } from "../generate.ts";
import { type KnownModel, type OpenModel, openModel } from "../inference.ts";
import { printNotes } from "./notes.ts";
import type { GenerateOptions, Waiting } from "./options.ts";

/** What was generated. */
export interface Generated {
  text: string;
  ids: number[];
}

/**
 * Continues a prompt; `onStart` is told that the prompt was accepted, `onText` gets the text as it comes, in pieces of whole characters.
 * Throws UserError when the prompt leaves no room.
 */
export async function generateText(
  { modelOrRun, base, prompt, tokens, temperature, seed }: Omit<GenerateOptions, "json" | "verbose">,
  { onNotes, onStart, onText, signal }: Waiting & { onStart?(): void; onText(text: string): void },
): Promise<Generated> {
  const prepare = async (known: KnownModel) => promptIds(known, prompt, tokens);
  const opened = await openModel(modelOrRun, { device: "auto", threads: "auto", positions: 1, base, prepare });
  const ids = opened.prepared;
  try {
    onNotes(opened.reasons);
    const generated: number[] = [];
    let shown = "";
    const show = (final: boolean) => {
      const text = continuation(opened.tokenizer, ids, generated);
      // A character may need several tokens: what is not whole yet is shown when it is.
      if (text.endsWith("\ufffd") && !final) return;
      if (text.length > shown.length) onText(text.slice(shown.length));
      shown = text;
    };
    onStart?.();
    const onToken = (id: number) => {
      signal?.throwIfAborted();
      generated.push(id);
      show(false);
    };
    await continueIds(opened.model, ids, { tokens, temperature, seed, stopIds: stopIds(opened), method: opened.method, onToken });
    signal?.throwIfAborted();
    show(true);
    return { text: continuation(opened.tokenizer, ids, generated), ids: generated };
  } finally {
    opened.close();
  }
}

/** Prints the continuation as it comes, or {text, ids} of the new tokens. */
export async function generate({ json, ...asked }: GenerateOptions): Promise<number> {
  const print = (text: string) => void (json || process.stdout.write(text));
  const generated = await generateText(asked, { onNotes: printNotes, onStart: () => print(asked.prompt), onText: print });
  process.stdout.write(json ? `${JSON.stringify(generated)}\n` : "\n");
  return 0;
}

/** What the generated ids add to the prompt's text. Decoded together with it: alone, a first token would lose its space. */
export function continuation(tokenizer: Pick<Tokenizer, "decode">, prompt: Int32Array, generated: readonly number[]): string {
  const [before, all] = [tokenizer.decode(prompt), tokenizer.decode([...prompt, ...generated])];
  return all.startsWith(before) ? all.slice(before.length) : tokenizer.decode(generated);
}

/** Ids of a prompt with what the tokenizer puts in front of it; BOS alone for an empty one. Throws UserError when it leaves no room. */
export function promptIds({ model, tokenizer }: Pick<KnownModel, "model" | "tokenizer">, prompt: string, tokens: number): Int32Array {
  const encoded = Int32Array.from(tokenizer.encode(prompt, { addSpecialTokens: true }));
  const bos = tokenizer.bosTokenId ?? model.config.bosTokenId;
  if (encoded.length === 0 && bos === null)
    throw new UserError("generate/no-start", "The prompt is empty and the tokenizer has no token to start from.", "Give a prompt.");
  const ids = prompt === "" && bos !== null ? Int32Array.of(bos) : encoded;
  const outside = ids.find((id) => id >= model.config.vocabSize);
  if (outside !== undefined)
    throw new UserError(
      "generate/token-outside-vocabulary",
      `The prompt gives the token id ${outside}, but the model has only ${model.config.vocabSize} tokens.`,
      "Use the tokenizer that belongs to the model.",
    );
  const room = model.config.maxPositions - ids.length;
  if (tokens > room) {
    const action =
      room > 0 ? `Ask for at most ${room} tokens, or shorten the prompt.` : `Shorten the prompt to less than ${model.config.maxPositions} tokens.`;
    throw new UserError(
      "generate/too-long",
      `The prompt has ${ids.length} token${ids.length === 1 ? "" : "s"}, ${tokens} more are asked for, and the model has ${model.config.maxPositions} positions.`,
      action,
    );
  }
  return ids;
}

/** Tokens that end a text: the configuration's and the tokenizer's. */
export function stopIds({ model, tokenizer }: Pick<OpenModel, "model" | "tokenizer">): number[] {
  return [...new Set([...model.config.eosTokenIds, ...(tokenizer.eosTokenId === null ? [] : [tokenizer.eosTokenId])])];
}
