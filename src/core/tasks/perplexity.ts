/**
 * Perplexity of a text as papers on pruning measure it: all of it joined and tokenised at once, cut into windows of T tokens without overlap, the rest at
 * the end dropped, exp of the mean NLL. Each window stands alone: its first token is given, not predicted.
 * It differs on purpose from the loss that `evaluate --data` measures, which never joins two rows.
 */
import { UserError } from "../../protocol/userError.ts";
import { identifyFile, readRows } from "../data/datasets.ts";
import { Documents, markOf } from "../data/documents.ts";
import { checkSequenceLength, padTokenId } from "../data/loadData.ts";
import { placedBatches } from "../data/packing.ts";
import type { KnownModel, OpenModel } from "../inference.ts";
import { runBatch } from "../model/llama.ts";
import { withPositions } from "./evaluateTask.ts";

/** Papers use 2048, or the model's positions where they are fewer. */
const usualSequenceLength = 2048;
const tokensPerBatch = 2048;

export interface PerplexityResult {
  perplexity: number;
  /** Mean NLL in nats. */
  loss: number;
  /** Tokens predicted: windows · (T − 1). */
  tokens: number;
  windows: number;
  sequenceLength: number;
  /** Tokens at the end that fill no window. */
  droppedTokens: number;
}

export interface PerplexityOptions {
  onProgress(done: number, of: number): void;
  signal?: AbortSignal;
}

/** A text as windows of T tokens each. */
export interface TextWindows {
  documents: Documents;
  sequenceLength: number;
  droppedTokens: number;
}

/**
 * Reads plain text, or rows of {text}, which are joined by an empty line. `sequenceLength` is T; null for 2048, or the model's positions where they are
 * fewer. Throws UserError `data/…` or `perplexity/…` for a text that cannot be read or fills no window.
 */
export async function textWindows({ model, tokenizer }: KnownModel, file: string, sequenceLength: number | null): Promise<TextWindows> {
  const T = sequenceLength ?? Math.min(usualSequenceLength, model.config.maxPositions);
  checkSequenceLength(T, model.config, "--sequence-length");
  const ids = [...tokenizer.prefixIds, ...tokenizer.encode(await joinedText(file))];
  const windows = Math.floor(ids.length / T);
  if (windows === 0)
    throw new UserError(
      "perplexity/too-short",
      `${file} has ${ids.length} tokens, less than one window of ${T}.`,
      "Give a longer text, or a shorter --sequence-length.",
    );
  const documents = new Documents();
  const marks = new Array(T).fill(markOf("text", true));
  for (let window = 0; window < windows; window++) documents.add({ ids: ids.slice(window * T, (window + 1) * T), marks, line: 1 });
  return { documents, sequenceLength: T, droppedTokens: ids.length - windows * T };
}

/** Throws UserError `evaluate/not-finite`. */
export async function perplexity(
  open: OpenModel,
  { documents, sequenceLength: T, droppedTokens }: TextWindows,
  { onProgress, signal }: PerplexityOptions,
): Promise<PerplexityResult> {
  const { model, tokenizer } = open;
  const windows = documents.count;
  open.method.beginBatch?.(null);
  const lossSum = await withPositions(model, T, async (long) => {
    const layout = { batchSize: Math.max(1, Math.floor(tokensPerBatch / T)), sequenceLength: T, padTokenId: padTokenId(tokenizer, model.config) };
    let sum = 0;
    let done = 0;
    for (const { batch, placements } of placedBatches(documents, layout)) {
      signal?.throwIfAborted();
      sum += await runBatch(long, open.method, batch, null);
      done += placements.length;
      onProgress(done, windows);
    }
    return sum;
  });
  const tokens = windows * (T - 1);
  const loss = lossSum / tokens;
  return { perplexity: perplexityOf(loss), loss, tokens, windows, sequenceLength: T, droppedTokens };
}

/** exp of a mean NLL in nats. Throws UserError `evaluate/not-finite` where it is no number: nothing was measured then. */
export function perplexityOf(loss: number): number {
  const result = Math.exp(loss);
  if (Number.isFinite(result)) return result;
  throw new UserError(
    "evaluate/not-finite",
    `The model computes NaN or infinity: its mean loss is ${loss}.`,
    "Evaluate an earlier checkpoint, or look whether training diverged.",
    { badInput: false },
  );
}

async function joinedText(file: string): Promise<string> {
  const kind = await identifyFile(file);
  const texts: string[] = [];
  for await (const row of readRows(file, kind)) {
    const text = "problem" in row ? row.problem : (row.value as { text?: unknown } | null)?.text;
    if ("problem" in row || typeof text !== "string")
      throw new UserError(
        "perplexity/no-text",
        `Line ${row.line} of ${file} has no text${"problem" in row ? `: ${row.problem}` : ""}.`,
        "Give a plain text file, or rows with a field text.",
      );
    texts.push(text);
  }
  return texts.join(kind === "text" ? "" : "\n\n");
}
