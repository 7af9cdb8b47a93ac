/**
 * What tokenizer_config.json adds to tokenizer.json: which tokens begin, end and pad a text, added tokens the other file lacks, the chat template.
 * The rule to keep: as in transformers, tokens named here are matched as a whole; ids are never invented.
 */
import { addToken, invalidTokenizer, isObject, type TokenizerFile } from "./tokenizerFile.ts";

export interface TokenizerSettings {
  bosTokenId: number | null;
  eosTokenId: number | null;
  padTokenId: number | null;
  unkTokenId: number | null;
  /** Texts of the tokens that tokenizer_config.json names, empty where it names none. */
  namedTokens: { bos_token: string; eos_token: string; pad_token: string; unk_token: string };
  chatTemplate: string | null;
  notices: string[];
  hash: string;
}

/** Completes `file.addedTokens` in place and returns the rest. `template`: the text of chat_template.jinja, which goes before the config's. */
export function applyTokenizerConfig(file: TokenizerFile, config: unknown, template: string | null, hash: string, path: string): TokenizerSettings {
  if (!isObject(config)) throw invalidTokenizer(path, "the top level is not an object");
  const notices: string[] = [];
  addConfiguredTokens(file, config, path);
  const named = (field: string): number | null => findNamedToken(file, config, field, notices, path);
  const bosTokenId = named("bos_token");
  const eosTokenId = named("eos_token");
  const padTokenId = named("pad_token");
  const unkTokenId = file.model.unknownToken === null ? named("unk_token") : (file.model.vocabulary.get(file.model.unknownToken) ?? null);
  const text = (field: string): string => tokenText(config[field]) ?? "";
  const namedTokens = { bos_token: text("bos_token"), eos_token: text("eos_token"), pad_token: text("pad_token"), unk_token: text("unk_token") };
  return {
    bosTokenId,
    eosTokenId,
    padTokenId,
    unkTokenId,
    namedTokens,
    chatTemplate: template ?? findTemplate(config, notices, path),
    notices,
    hash,
  };
}

function addConfiguredTokens(file: TokenizerFile, config: Record<string, unknown>, path: string): void {
  if (!isObject(config.added_tokens_decoder)) return;
  const known = new Set(file.addedTokens.map(({ content }) => content));
  const entries = Object.entries(config.added_tokens_decoder).sort(([a], [b]) => Number(a) - Number(b));
  for (const [id, token] of entries) {
    if (!isObject(token)) throw invalidTokenizer(path, `added_tokens_decoder.${id} is no object`);
    if (!known.has(String(token.content))) addToken(file.addedTokens, { ...token, id: Number(id) }, file.model, path);
  }
}

/** A token is named as a string or as {content}. */
function tokenText(value: unknown): string | null {
  const content = isObject(value) ? value.content : value;
  return typeof content === "string" && content !== "" ? content : null;
}

/** The id of a named token; a vocabulary entry so named is matched as a whole from now on. */
function findNamedToken(file: TokenizerFile, config: Record<string, unknown>, field: string, notices: string[], path: string): number | null {
  const content = tokenText(config[field]);
  if (content === null) return null;
  const added = file.addedTokens.find((token) => token.content === content);
  if (added !== undefined) return added.id;
  const id = file.model.vocabulary.get(content);
  if (id === undefined) {
    notices.push(`The ${field} ${JSON.stringify(content)} of ${path} is not in the vocabulary and is not used.`);
    return null;
  }
  addToken(file.addedTokens, { id, content, special: true }, file.model, path);
  return id;
}

function findTemplate(config: Record<string, unknown>, notices: string[], path: string): string | null {
  const { chat_template: template } = config;
  if (typeof template === "string") return template;
  if (!Array.isArray(template)) return null;
  const named = template.filter(isObject);
  const chosen = named.find(({ name }) => name === "default") ?? named[0];
  if (named.length > 1) notices.push(`${path} has ${named.length} chat templates; ${JSON.stringify(chosen.name)} is used.`);
  return typeof chosen?.template === "string" ? chosen.template : null;
}
