/**
 * What a model is calibrated on: windows of exactly so many tokens, drawn at random without overlap from a file's documents, one after the other.
 * The same file, seed and numbers give the same windows. Reading and encoding is the data readers' and the tokenizer's; prompts count like answers.
 */
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { type LoadedDocuments, listed, loadDocuments } from "../data/loadDocuments.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { ModelConfig } from "../model/config.ts";
import { Random } from "../random.ts";

export interface CalibrationOptions {
  file: string;
  /** Windows, and tokens of each. */
  samples: number;
  sequenceLength: number;
  seed: number;
}

export interface Calibration {
  /** (samples · sequenceLength) ids, window after window. */
  ids: Int32Array;
  samples: number;
  sequenceLength: number;
  notes: string[];
}

/** A file is read no further than to so many times the tokens that are drawn: a shard of a web corpus takes minutes to encode. */
const tokensLookedAt = 16;
const windowStream = 0x63616c69;

/** Draws the windows. Throws UserError `prune/too-little-text` with what is missing, and those of the data readers. */
export async function readCalibration(options: CalibrationOptions, tokenizer: Tokenizer, config: ModelConfig): Promise<Calibration> {
  const { file, samples, sequenceLength, seed } = options;
  const needed = samples * sequenceLength;
  const loaded = await loadDocuments(
    file,
    { format: "auto", template: "auto", trainOnPrompt: true, sequenceLength, maxRows: null, maxTokens: tokensLookedAt * needed },
    tokenizer,
    config,
  );
  const available = loaded.documents.tokenCount;
  if (available < needed) throw tooLittle(options, available);
  const ids = new Int32Array(needed);
  const starts = drawStarts(available, options, seed);
  const stream = streamOf(loaded);
  starts.forEach((start, window) => {
    ids.set(stream.subarray(start, start + sequenceLength), window * sequenceLength);
  });
  return { ids, samples, sequenceLength, notes: notesOf(file, loaded) };
}

/** Where windows begin in a stream of `available` tokens: in order, not touching each other's tokens, every arrangement as likely as any other. */
export function drawStarts(
  available: number,
  { samples, sequenceLength }: Pick<CalibrationOptions, "samples" | "sequenceLength">,
  seed: number,
): number[] {
  const random = new Random(seed, windowStream);
  const spare = available - samples * sequenceLength;
  const gaps = Array.from({ length: samples }, () => Math.floor(random.uniform() * (spare + 1)));
  return gaps.sort((a, b) => a - b).map((gap, window) => gap + window * sequenceLength);
}

function streamOf({ documents }: LoadedDocuments): Int32Array {
  const stream = new Int32Array(documents.tokenCount);
  for (let document = 0, at = 0; document < documents.count; document++) {
    const tokens = documents.tokensOf(document);
    stream.set(tokens, at);
    at += tokens.length;
  }
  return stream;
}

function tooLittle({ file, samples, sequenceLength }: CalibrationOptions, available: number): UserError {
  const needed = samples * sequenceLength;
  const possible = Math.floor(available / sequenceLength);
  const message = `${file} has ${available} tokens, but ${samples} windows of ${sequenceLength} need ${needed}: ${needed - available} are missing.`;
  const less = possible > 0 ? `${possible} windows: --samples ${possible}` : "a smaller --sequence-length";
  return new UserError("prune/too-little-text", message, `Give more text, or ask for ${less}.`);
}

function notesOf(file: string, { badRows, skipped }: LoadedDocuments): string[] {
  if (badRows === 0) return [];
  return [`${badRows} of the rows of ${path.basename(file)} left out (${listed(skipped.bad.slice(0, 1))}).`];
}
