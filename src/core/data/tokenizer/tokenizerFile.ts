/**
 * Reads and checks a Hugging Face tokenizer.json: the vocabulary, the merges and the list of added tokens, before anything is built from them.
 * It builds no tokenizer. The rule to keep: what cannot be reproduced id for id is refused by its name, never approximated.
 * Source: the file format of huggingface/tokenizers; ids of added tokens are given as its Rust library gives them.
 */
import { UserError } from "../../../protocol/userError.ts";

/** A component of the file (normalizer, pre-tokenizer, post-processor, decoder), still as JSON. */
export type Component = Record<string, unknown> & { type: string };

/** A token matched as a whole before the model sees the text. */
export interface AddedToken {
  id: number;
  content: string;
  singleWord: boolean;
  stripLeft: boolean;
  stripRight: boolean;
  /** Matched in the normalised text, by its own normalised content. */
  normalized: boolean;
  special: boolean;
}

/** A byte-pair model as the file states it. */
export interface BytePairFile {
  /** Token text to id. */
  vocabulary: Map<string, number>;
  /** (left id, right id, merged id) of merge i at 3 i; earlier merges go first. */
  merges: Int32Array;
  unknownToken: string | null;
  fuseUnknown: boolean;
  byteFallback: boolean;
  /** A whole piece that stands in the vocabulary is taken without merging. */
  ignoreMerges: boolean;
}

export interface TokenizerFile {
  model: BytePairFile;
  addedTokens: AddedToken[];
  normalizer: Component | null;
  preTokenizer: Component | null;
  postProcessor: Component | null;
  decoder: Component | null;
}

/** Ids beyond this are taken for damage; the largest vocabularies in use have 262 144 tokens. */
const largestId = 4_194_304;

export function invalidTokenizer(path: string, what: string, cause?: unknown): UserError {
  return new UserError("tokenizer/invalid", `${path} is not a usable tokenizer: ${what}.`, "Copy the file again from where the model came from.", {
    cause,
  });
}

/** A component this program cannot reproduce exactly. */
export function unsupportedTokenizer(path: string, component: string): UserError {
  return new UserError(
    "tokenizer/unsupported",
    `${path} uses ${component}, which this program cannot reproduce token for token.`,
    "Use a model whose tokenizer.json is a byte-pair (BPE) tokenizer of the Llama, Mistral or Qwen kind.",
  );
}

/** Checks parsed JSON. Throws UserError `tokenizer/invalid` or `tokenizer/unsupported`, naming the field or component. */
export function parseTokenizerFile(json: unknown, path: string): TokenizerFile {
  if (!isObject(json)) throw invalidTokenizer(path, "the top level is not an object");
  if (json.version !== undefined && json.version !== "1.0")
    throw unsupportedTokenizer(path, `tokenizer file version ${JSON.stringify(json.version)}`);
  const model = parseModel(json.model, path);
  return {
    model,
    addedTokens: parseAddedTokens(json.added_tokens ?? [], model, path),
    normalizer: parseComponent(json.normalizer, "normalizer", path),
    preTokenizer: parseComponent(json.pre_tokenizer, "pre_tokenizer", path),
    postProcessor: parseComponent(json.post_processor, "post_processor", path),
    decoder: parseComponent(json.decoder, "decoder", path),
  };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A nested component, checked for its `type` only. */
export function parseComponent(value: unknown, field: string, path: string): Component | null {
  if (value === null || value === undefined) return null;
  if (!isObject(value) || typeof value.type !== "string") throw invalidTokenizer(path, `${field} has no type`);
  return value as Component;
}

function parseModel(value: unknown, path: string): BytePairFile {
  if (!isObject(value)) throw invalidTokenizer(path, "there is no model");
  const type = value.type ?? (Array.isArray(value.merges) ? "BPE" : "without a type");
  if (type !== "BPE") throw unsupportedTokenizer(path, `the tokenizer model ${String(type)}`);
  for (const field of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (value[field]) throw unsupportedTokenizer(path, `the BPE setting ${field}`);
  }
  if (value.dropout) throw unsupportedTokenizer(path, "BPE dropout");
  const vocabulary = parseVocabulary(value.vocab, path);
  const unknownToken = value.unk_token ?? null;
  if (unknownToken !== null && (typeof unknownToken !== "string" || !vocabulary.has(unknownToken))) {
    throw invalidTokenizer(path, `the unk_token ${JSON.stringify(unknownToken)} is not in the vocabulary`);
  }
  return {
    vocabulary,
    merges: parseMerges(value.merges, vocabulary, path),
    unknownToken,
    fuseUnknown: value.fuse_unk === true,
    byteFallback: value.byte_fallback === true,
    ignoreMerges: value.ignore_merges === true,
  };
}

function parseVocabulary(value: unknown, path: string): Map<string, number> {
  if (!isObject(value)) throw invalidTokenizer(path, "model.vocab is missing or no object");
  const vocabulary = new Map<string, number>();
  const tokenOfId = new Map<number, string>();
  for (const [token, id] of Object.entries(value)) {
    if (!isId(id)) throw invalidTokenizer(path, `the token ${JSON.stringify(token)} has the id ${JSON.stringify(id)}`);
    const other = tokenOfId.get(id);
    if (other !== undefined) throw invalidTokenizer(path, `the tokens ${JSON.stringify(other)} and ${JSON.stringify(token)} share the id ${id}`);
    tokenOfId.set(id, token);
    vocabulary.set(token, id);
  }
  if (vocabulary.size === 0) throw invalidTokenizer(path, "the vocabulary is empty");
  return vocabulary;
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < largestId;
}

function parseMerges(value: unknown, vocabulary: Map<string, number>, path: string): Int32Array {
  if (!Array.isArray(value)) throw invalidTokenizer(path, "model.merges is missing");
  const merges = new Int32Array(value.length * 3);
  for (let rank = 0; rank < value.length; rank++) {
    const merge: unknown = value[rank];
    const parts: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== "string" || typeof right !== "string")
      throw invalidTokenizer(path, `merge ${rank} is not a pair of tokens`);
    for (const [offset, token] of [left, right, left + right].entries()) {
      const id = vocabulary.get(token);
      if (id === undefined) throw invalidTokenizer(path, `merge ${rank} uses ${JSON.stringify(token)}, which is not in the vocabulary`);
      merges[rank * 3 + offset] = id;
    }
  }
  return merges;
}

function parseAddedTokens(value: unknown, model: BytePairFile, path: string): AddedToken[] {
  if (!Array.isArray(value)) throw invalidTokenizer(path, "added_tokens is no list");
  const tokens: AddedToken[] = [];
  for (const entry of value) addToken(tokens, entry, model, path);
  return tokens;
}

/**
 * Appends one entry of `added_tokens`. Its stated id must be the one the Rust library would give it: the vocabulary's for a known text,
 * else the next free one; anything else would silently shift ids.
 */
export function addToken(tokens: AddedToken[], entry: unknown, model: BytePairFile, path: string): void {
  if (!isObject(entry) || typeof entry.content !== "string" || !isId(entry.id))
    throw invalidTokenizer(path, "an added token has no id or no content");
  const { content, id } = entry;
  if (content === "") return;
  const known = tokens.find((token) => token.content === content);
  const highest = tokens.reduce((max, token) => Math.max(max, token.id), -1);
  const next = Math.max(model.vocabulary.size, highest + 1);
  const expected = known?.id ?? model.vocabulary.get(content) ?? next;
  if (id !== expected) throw invalidTokenizer(path, `the added token ${JSON.stringify(content)} states the id ${id}, but its place is ${expected}`);
  if (known !== undefined) tokens.splice(tokens.indexOf(known), 1);
  const special = entry.special === true;
  tokens.push({
    id,
    content,
    singleWord: entry.single_word === true,
    stripLeft: entry.lstrip === true,
    stripRight: entry.rstrip === true,
    normalized: typeof entry.normalized === "boolean" ? entry.normalized : !special,
    special,
  });
}
