/**
 * Log-likelihoods of candidate answers behind their prompts, many questions at a time. It knows token ids only, no task and no text.
 * The rule to keep: a candidate's score is Σ log p of its own tokens, each given the prompt and the candidate's tokens before it; nothing else counts.
 *
 * Candidates mostly differ in their last tokens. So a question becomes as few documents as there are different beginnings, and a position whose
 * next token differs between candidates is asked for each of them: four answers that differ in one token cost one pass over the prompt.
 */
import { UserError } from "../../protocol/userError.ts";
import { Documents, markOf } from "../data/documents.ts";
import { placedBatches } from "../data/packing.ts";
import type { TuningMethod } from "../methods/method.ts";
import { type Llama, runTokenLosses } from "../model/llama.ts";

/** A prompt and what may stand behind it; no candidate is empty. */
export interface Choices {
  prompt: Int32Array;
  candidates: readonly (readonly number[])[];
}

export interface LogLikelihoodOptions {
  /** So many of the longest documents fit into a batch; shorter ones are packed. */
  batchSize: number;
  padTokenId: number;
  /** Called after every batch with the number of documents done. */
  onProgress(done: number, of: number): void;
  signal?: AbortSignal;
}

/** A document of a question: prompt and the beginning that some of its candidates share. */
interface Beginning {
  question: number;
  tokens: readonly number[];
  /** Tokens asked for behind the prompt and `at` tokens of the beginning. */
  asked: { at: number; token: number }[];
}

/** Where the log-probability of a candidate's token comes from. */
interface Source {
  document: number;
  asked: number;
}

/** Σ log p of every candidate, by question. The model's rotary tables must reach the longest prompt with its candidate. */
export async function scoreByLogLikelihood(
  model: Llama,
  method: TuningMethod,
  questions: readonly Choices[],
  { batchSize, padTokenId, onProgress, signal }: LogLikelihoodOptions,
): Promise<Float64Array[]> {
  const beginnings: Beginning[] = [];
  const sources = questions.map((choices, question) => addQuestion(beginnings, choices, question));
  const documents = Documents.from(
    beginnings.map(({ question, tokens }) => {
      const ids = [...questions[question].prompt, ...tokens];
      return { ids, marks: ids.map(() => markOf("response", true)), line: question + 1 };
    }),
  );
  const logLikelihoods = beginnings.map(({ asked }) => new Float64Array(asked.length));
  let done = 0;
  for (const { batch, placements } of placedBatches(documents, rowOf(documents, batchSize, padTokenId))) {
    signal?.throwIfAborted();
    const asked = placements.flatMap(({ document, row, start }) => {
      const first = row * batch.sequenceLength + start + questions[beginnings[document].question].prompt.length - 1;
      return beginnings[document].asked.map(({ at, token }, index) => ({ document, index, row: first + at, token }));
    });
    const rows = Int32Array.from(asked, ({ row }) => row);
    const losses = await runTokenLosses(
      model,
      method,
      batch,
      rows,
      Int32Array.from(asked, ({ token }) => token),
    );
    if (!losses.every(Number.isFinite)) throw notFinite();
    for (const [i, { document, index }] of asked.entries()) logLikelihoods[document][index] = -losses[i];
    done += placements.length;
    onProgress(done, documents.count);
  }
  const scoreOf = ({ document, asked }: Source) => logLikelihoods[document][asked];
  return sources.map((candidates) => Float64Array.from(candidates, (tokens) => tokens.reduce((sum, token) => sum + scoreOf(token), 0)));
}

/** No candidate is the likeliest then, and every row would count as answered wrongly. */
function notFinite(): UserError {
  return new UserError(
    "task/not-finite",
    "The model computes NaN or infinity instead of the likelihood of an answer.",
    "Evaluate an earlier checkpoint, or look whether training diverged.",
    { badInput: false },
  );
}

/** All documents of a batch stand in one row: what is left over is then less than one document. */
function rowOf(documents: Documents, batchSize: number, padTokenId: number) {
  let longest = 0;
  for (let document = 0; document < documents.count; document++) longest = Math.max(longest, documents.lengthOf(document));
  return { batchSize: 1, sequenceLength: Math.min(batchSize * longest, documents.tokenCount), padTokenId };
}

/** Adds a question's documents; returns, for each candidate, where each of its tokens is asked for. */
function addQuestion(beginnings: Beginning[], { candidates }: Choices, question: number): Source[][] {
  const first = beginnings.length;
  // A candidate's last token is predicted, not read. Longest first: shorter beginnings are found in longer ones.
  const read = candidates.map((candidate) => candidate.slice(0, -1)).sort((a, b) => b.length - a.length);
  for (const tokens of read)
    if (!beginnings.slice(first).some((beginning) => startsWith(beginning.tokens, tokens))) beginnings.push({ question, tokens, asked: [] });
  return candidates.map((candidate) =>
    candidate.map((token, at) => {
      const document = first + beginnings.slice(first).findIndex(({ tokens }) => startsWith(tokens, candidate.slice(0, at)));
      const { asked } = beginnings[document];
      const known = asked.findIndex((entry) => entry.at === at && entry.token === token);
      return { document, asked: known >= 0 ? known : asked.push({ at, token }) - 1 };
    }),
  );
}

function startsWith(tokens: readonly number[], beginning: readonly number[]): boolean {
  return beginning.length <= tokens.length && beginning.every((token, place) => tokens[place] === token);
}
