/**
 * JSON for files whose content is not trusted: a pass over the text that refuses what `JSON.parse` lets through without a word, namely a key given
 * twice (the last would win), `__proto__`, nesting without end, lone surrogates, and, on request, numbers that are no plain integers.
 * It does not decide what is valid JSON: `JSON.parse` does, and runs first.
 */

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** Why a text was refused; the reader of the file turns it into a sentence that names the file. */
export class JsonRefused extends Error {}

export interface StrictJsonOptions {
  /** Deepest nesting allowed. */
  maxDepth?: number;
  /** Refuse fractions, exponents, minus signs and whole numbers above 2⁶⁴ − 1. Numbers above 2⁵³ come back rounded: check with `Number.isSafeInteger`. */
  unsignedIntegersOnly?: boolean;
}

const largestUint64 = 18446744073709551615n;

/** Decodes bytes that must be UTF-8 throughout; a byte order mark stays in the text, where the grammar refuses it. Throws {@link JsonRefused}. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new JsonRefused("it is not valid UTF-8");
  }
}

/** Parses `text`; throws {@link JsonRefused} with the reason. */
export function parseStrictJson(text: string, options: StrictJsonOptions = {}): JsonValue {
  let value: JsonValue;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new JsonRefused(`it is not valid JSON (${clip((error as Error).message)})`);
  }
  scan(text, options.maxDepth ?? 64, options.unsignedIntegersOnly ?? false);
  return value;
}

/** Walks text known to be valid JSON, token by token. */
function scan(text: string, maxDepth: number, integersOnly: boolean): void {
  /** The keys seen in each open object; null for an open array. */
  const open: (Set<string> | null)[] = [];
  let expectKey = false;
  for (let at = 0; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      const end = endOfString(text, at);
      const inner = text.slice(at + 1, end - 1);
      const escaped = inner.includes("\\");
      const string: string = escaped ? JSON.parse(text.slice(at, end)) : inner;
      // Decoded UTF-8 holds whole pairs only: a half one can but come from an escape.
      if (escaped && /\p{Surrogate}/u.test(string)) throw new JsonRefused(`a string holds half a surrogate pair${lineOf(text, at)}`);
      if (expectKey) addKey(open[open.length - 1], string, text, at);
      expectKey = false;
      at = end;
    } else if (code === 0x7b || code === 0x5b) {
      if (open.length === maxDepth) throw new JsonRefused(`it nests deeper than ${maxDepth} levels${lineOf(text, at)}`);
      open.push(code === 0x7b ? new Set() : null);
      expectKey = code === 0x7b;
      at++;
    } else if (code === 0x7d || code === 0x5d) {
      open.pop();
      expectKey = false;
      at++;
    } else if (code === 0x2c) {
      expectKey = open[open.length - 1] !== null;
      at++;
    } else if (integersOnly && (code === 0x2d || (code >= 0x30 && code <= 0x39))) {
      at = endOfInteger(text, at);
    } else {
      at++;
    }
  }
}

function addKey(keys: Set<string> | null, key: string, text: string, at: number): void {
  if (key === "__proto__") throw new JsonRefused(`it has a key "__proto__"${lineOf(text, at)}`);
  if (keys?.has(key)) throw new JsonRefused(`the key ${quote(key)} is given twice${lineOf(text, at)}`);
  keys?.add(key);
}

function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x5c) at++;
    else if (code === 0x22) return at + 1;
  }
}

function endOfInteger(text: string, start: number): number {
  let end = start;
  while (end < text.length && "+-.0123456789eE".includes(text[end])) end++;
  const lexeme = text.slice(start, end);
  if (!/^\d+$/.test(lexeme) || (lexeme.length >= 20 && BigInt(lexeme) > largestUint64)) {
    throw new JsonRefused(`${clip(lexeme)} is not a whole number from 0 to 2^64-1${lineOf(text, start)}`);
  }
  return end;
}

function lineOf(text: string, at: number): string {
  let line = 1;
  for (let i = 0; i < at; i++) if (text.charCodeAt(i) === 0x0a) line++;
  return line === 1 ? "" : ` (line ${line})`;
}

function clip(text: string): string {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

/** A name from a file, made safe to print: quoted, escaped, at most 120 characters. */
export function quote(name: string): string {
  return JSON.stringify(clip(name));
}
