/**
 * The decoders of a tokenizer.json: how the texts of tokens become one text again.
 * The rule to keep: bytes that are no UTF-8 become U+FFFD as the Rust library writes it: one per byte in ByteFallback, one per maximal
 * wrong sequence in ByteLevel.
 */
import { byteCharacters } from "./bytePairs.ts";
import { compilePattern } from "./patterns.ts";
import { type Component, invalidTokenizer, parseComponent, unsupportedTokenizer } from "./tokenizerFile.ts";

/** Texts of tokens in, texts out; the result is joined. */
export type Decode = (tokens: string[]) => string[];

const byteOfCharacter = new Map(byteCharacters.map((character, byte) => [character, byte]));
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const strictUtf8 = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Throws UserError `tokenizer/unsupported` for a type not listed here. Without a decoder tokens are joined by spaces. */
export function buildDecoder(component: Component | null, path: string): Decode {
  if (component === null) return (tokens) => [tokens.join(" ")];
  switch (component.type) {
    case "Sequence": {
      if (!Array.isArray(component.decoders)) throw invalidTokenizer(path, "a decoder Sequence has no list");
      const steps = component.decoders.map((step) => buildDecoder(parseComponent(step, "decoder", path), path));
      return (tokens) => steps.reduce((done, step) => step(done), tokens);
    }
    case "ByteLevel":
      return (tokens) => [utf8.decode(Uint8Array.from(tokens.flatMap(toBytes)))];
    case "ByteFallback":
      return decodeFallback;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Replace": {
      const pattern = compilePattern(component.pattern, "the decoder Replace", path);
      const content = component.content;
      if (typeof content !== "string") throw invalidTokenizer(path, "the decoder Replace has no content");
      return (tokens) => tokens.map((token) => token.replaceAll(pattern, () => content));
    }
    case "Strip":
      return buildStrip(component, path);
    case "Metaspace": {
      const mark = component.replacement;
      if (typeof mark !== "string" || mark === "") throw invalidTokenizer(path, "the decoder Metaspace has no replacement character");
      const prefixed = (component.prepend_scheme ?? (component.add_prefix_space === false ? "never" : "always")) !== "never";
      return (tokens) => tokens.map((token, index) => token.replaceAll(mark, index === 0 && prefixed ? "" : " "));
    }
    default:
      throw unsupportedTokenizer(path, `the decoder ${component.type}`);
  }
}

/** Bytes of a byte-level token; a token with any other character, an added one, gives its own UTF-8. */
function toBytes(token: string): number[] {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) return Array.from(Buffer.from(token, "utf8"));
    bytes.push(byte);
  }
  return bytes;
}

function decodeFallback(tokens: string[]): string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length === 0) return;
    try {
      texts.push(strictUtf8.decode(Uint8Array.from(bytes)));
    } catch {
      texts.push(...bytes.map(() => "\ufffd"));
    }
    bytes = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (hex === null) {
      flush();
      texts.push(token);
    } else bytes.push(Number.parseInt(hex[1], 16));
  }
  flush();
  return texts;
}

/** Cuts up to `start` and `stop` copies of one character from the ends. */
function buildStrip(component: Component, path: string): Decode {
  const { content, start = 0, stop = 0 } = component;
  if (typeof content !== "string" || typeof start !== "number" || typeof stop !== "number")
    throw invalidTokenizer(path, "the decoder Strip is incomplete");
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let first = 0;
      while (first < start && characters[first] === content) first++;
      let end = characters.length;
      while (end > first && characters.length - end < stop && characters[end - 1] === content) end--;
      return characters.slice(first, end).join("");
    });
}
