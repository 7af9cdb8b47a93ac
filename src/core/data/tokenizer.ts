/**
 * Text to token ids and back, from a model folder's tokenizer.json and tokenizer_config.json.
 * It cuts no documents and knows no roles. The rule to keep: ids are those of the Rust tokenizers library, for every tokenizer that is not
 * refused by name; `truncation` and `padding` of the file are ignored, as transformers does.
 * Regular expressions come from @huggingface/tokenizers; its merging and decoding do not serve, for they differ from Rust's on unknown
 * characters, on added tokens that are normalised, and on broken UTF-8.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { AddedTokenFinder } from "./tokenizer/addedTokens.ts";
import { BytePairs } from "./tokenizer/bytePairs.ts";
import { buildDecoder, type Decode } from "./tokenizer/decoders.ts";
import { buildNormalizer, type Normalize } from "./tokenizer/normalizers.ts";
import { parsePostProcessor } from "./tokenizer/postProcessor.ts";
import { buildPreTokenizer, type PreTokenize } from "./tokenizer/preTokenizers.ts";
import { applyTokenizerConfig, type TokenizerSettings } from "./tokenizer/tokenizerConfig.ts";
import { invalidTokenizer, parseTokenizerFile, type TokenizerFile } from "./tokenizer/tokenizerFile.ts";

const loneSurrogate = /\p{Surrogate}/gu;

export interface EncodeOptions {
  /** Add what the post-processor adds, usually BOS. Default false. */
  addSpecialTokens?: boolean;
}

export class Tokenizer {
  /** One more than the highest id. */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly padTokenId: number | null;
  readonly unkTokenId: number | null;
  /** Texts of those tokens as a chat template uses them. */
  readonly namedTokens: TokenizerSettings["namedTokens"];
  /** Contents of all special added tokens. */
  readonly specialTexts: readonly string[];
  /** Jinja source of the model's own chat template. */
  readonly chatTemplate: string | null;
  /** sha256 over the files read, hexadecimal. */
  readonly hash: string;
  /** What a person should know of these files, one sentence each. */
  readonly notices: readonly string[];
  /** Ids that `encode` puts before and after a text with `addSpecialTokens`. */
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
  readonly #texts: string[] = [];
  readonly #specialIds: Set<number>;
  readonly #rawFinder: AddedTokenFinder;
  readonly #normalizedFinder: AddedTokenFinder;
  readonly #normalize: Normalize;
  readonly #preTokenize: PreTokenize;
  readonly #bytePairs: BytePairs;
  readonly #decode: Decode;

  /** `path` names the file in errors. Throws UserError `tokenizer/…`. */
  constructor(file: TokenizerFile, settings: TokenizerSettings, path: string) {
    this.#normalize = buildNormalizer(file.normalizer, path);
    this.#preTokenize = buildPreTokenizer(file.preTokenizer, path);
    this.#decode = buildDecoder(file.decoder, path);
    this.#bytePairs = new BytePairs(file.model, this.#preTokenize.byteLevel);
    const { prefixIds, suffixIds } = parsePostProcessor(file.postProcessor, path);
    this.prefixIds = prefixIds;
    this.suffixIds = suffixIds;
    const added = file.addedTokens.map((token) => ({ token, text: token.normalized ? this.#normalize(token.content, false) : token.content }));
    this.#rawFinder = new AddedTokenFinder(added.filter(({ token }) => !token.normalized));
    this.#normalizedFinder = new AddedTokenFinder(added.filter(({ token }) => token.normalized));
    this.#specialIds = new Set(file.addedTokens.filter(({ special }) => special).map(({ id }) => id));
    for (const [text, id] of file.model.vocabulary) this.#texts[id] = text;
    // The library decodes a normalised added token to its normalised text.
    for (const { token, text } of added) this.#texts[token.id] = text;
    this.vocabSize = this.#texts.length;
    this.bosTokenId = settings.bosTokenId;
    this.eosTokenId = settings.eosTokenId;
    this.padTokenId = settings.padTokenId;
    this.unkTokenId = settings.unkTokenId;
    this.namedTokens = settings.namedTokens;
    this.specialTexts = file.addedTokens.filter(({ special }) => special).map(({ content }) => content);
    this.chatTemplate = settings.chatTemplate;
    this.notices = settings.notices;
    this.hash = settings.hash;
  }

  /** Ids of a text. Lone surrogates are read as U+FFFD. */
  encode(text: string, { addSpecialTokens = false }: EncodeOptions = {}): number[] {
    const [ids] = this.encodeSegments([text]);
    return addSpecialTokens ? [...this.prefixIds, ...ids, ...this.suffixIds] : ids;
  }

  /**
   * Ids of texts that follow each other, with no token across two of them. Added tokens are found in the joined text; a text that goes on
   * where the last one stopped gets no prefix space of its own, so the ids are those of a model that continues the earlier text.
   */
  encodeSegments(segments: readonly string[]): number[][] {
    const joined = segments.join("").replace(loneSurrogate, "\ufffd");
    const ids: number[][] = segments.map(() => []);
    let segment = 0;
    let segmentEnd = segments[0]?.length ?? 0;
    const advanceTo = (place: number): void => {
      while (place >= segmentEnd && segment + 1 < segments.length) segmentEnd += segments[++segment].length;
    };
    for (const { start, end, token } of this.#rawFinder.find(joined)) {
      advanceTo(start);
      if (token !== null) {
        ids[segment].push(token.id);
        continue;
      }
      for (let place = start; place < end; ) {
        advanceTo(place);
        const stop = Math.min(end, segmentEnd);
        this.#encodePlain(joined.slice(place, stop), place === 0, place > start, ids[segment]);
        place = stop;
      }
    }
    return ids;
  }

  #encodePlain(text: string, first: boolean, continued: boolean, out: number[]): void {
    const normalized = this.#normalize(text, continued);
    for (const { start, end, token } of this.#normalizedFinder.find(normalized)) {
      if (token !== null) {
        out.push(token.id);
        continue;
      }
      const place = { first: first && start === 0, continued: continued && start === 0 };
      for (const piece of this.#preTokenize.cut(normalized.slice(start, end), place)) this.#bytePairs.encode(piece, out);
    }
  }

  /** Text of ids; unknown ids give nothing. `skipSpecial` leaves out every special added token. Spaces are not tidied. */
  decode(ids: Iterable<number>, { skipSpecial = false }: { skipSpecial?: boolean } = {}): string {
    const texts: string[] = [];
    for (const id of ids) {
      const text = this.#texts[id];
      if (text !== undefined && !(skipSpecial && this.#specialIds.has(id))) texts.push(text);
    }
    return this.#decode(texts).join("");
  }

  /** The vocabulary's own text of an id, e.g. `▁upon` or `Ġthe`; undefined for an id that is not in it. */
  tokenText(id: number): string | undefined {
    return this.#texts[id];
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }
}

/**
 * Opens the tokenizer of a model folder. Throws UserError `tokenizer/missing`, `tokenizer/invalid` or `tokenizer/unsupported`.
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  const path = join(folder, "tokenizer.json");
  const bytes = await readOptional(path);
  if (bytes === null) throw await missing(folder, path);
  const configPath = join(folder, "tokenizer_config.json");
  const configBytes = await readOptional(configPath);
  const templateBytes = await readOptional(join(folder, "chat_template.jinja"));
  const hash = createHash("sha256");
  for (const part of [bytes, configBytes, templateBytes]) hash.update(String(part?.length ?? -1)).update(part ?? "");
  const file = parseTokenizerFile(parseJson(bytes, path), path);
  const config = configBytes === null ? {} : parseJson(configBytes, configPath);
  const template = templateBytes === null ? null : new TextDecoder().decode(templateBytes);
  return new Tokenizer(file, applyTokenizerConfig(file, config, template, hash.digest("hex"), configPath), path);
}

function parseJson(bytes: Uint8Array, path: string): unknown {
  if (Buffer.from(bytes.subarray(0, 40)).toString("latin1").startsWith("version https://git-lfs")) {
    throw invalidTokenizer(path, "it is a Git LFS pointer, not the file itself (run `git lfs pull`)");
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalidTokenizer(path, error instanceof Error ? error.message : "it is no JSON", error);
  }
}

async function readOptional(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return null;
    throw new UserError(
      "tokenizer/unreadable",
      `${path} cannot be read (${error instanceof Error ? error.message : error}).`,
      "Check the file's permissions.",
      {
        cause: error,
      },
    );
  }
}

async function missing(folder: string, path: string): Promise<UserError> {
  for (const other of ["tokenizer.model", "qwen.tiktoken", "tiktoken.model", "vocab.json"]) {
    if ((await readOptional(join(folder, other))) === null) continue;
    return new UserError(
      "tokenizer/missing",
      `${folder} has ${other}, but no tokenizer.json.`,
      "Convert it once with transformers: AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER).",
    );
  }
  return new UserError("tokenizer/missing", `There is no ${path}.`, "Point `model` at a Hugging Face folder that contains tokenizer.json.");
}
