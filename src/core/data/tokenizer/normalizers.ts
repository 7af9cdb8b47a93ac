/**
 * The normalizers of a tokenizer.json: what is done to text before it is cut. Each is one function from string to string.
 * The rule to keep: character by character what the Rust library does, whose white space and case mapping are Unicode's, not JavaScript's.
 */
import { compilePattern, whiteSpace } from "./patterns.ts";
import { type Component, invalidTokenizer, parseComponent, unsupportedTokenizer } from "./tokenizerFile.ts";

/** `continued`: the text goes on where other text of the same section stopped, so that nothing is put before it. */
export type Normalize = (text: string, continued: boolean) => string;

const leadingSpace = new RegExp(`^${whiteSpace}+`, "u");
const trailingSpace = new RegExp(`${whiteSpace}+$`, "u");

/** Throws UserError `tokenizer/unsupported` for a type not listed here. */
export function buildNormalizer(component: Component | null, path: string): Normalize {
  if (component === null) return (text) => text;
  switch (component.type) {
    case "Sequence": {
      if (!Array.isArray(component.normalizers)) throw invalidTokenizer(path, "a normalizer Sequence has no list");
      const steps = component.normalizers.map((step) => buildNormalizer(parseComponent(step, "normalizer", path), path));
      return (text, continued) => steps.reduce((done, step) => step(done, continued), text);
    }
    case "Prepend": {
      const prefix = component.prepend;
      if (typeof prefix !== "string") throw invalidTokenizer(path, "the normalizer Prepend has no text");
      return (text, continued) => (continued || text === "" ? text : prefix + text);
    }
    case "Replace": {
      const pattern = compilePattern(component.pattern, "the normalizer Replace", path);
      const content = component.content;
      if (typeof content !== "string") throw invalidTokenizer(path, "the normalizer Replace has no content");
      return (text) => text.replaceAll(pattern, () => content);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = component.type;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      // One character at a time: a whole string's lower case depends on neighbours (the Greek final sigma).
      return (text) => Array.from(text, (character) => character.toLowerCase()).join("");
    case "Strip": {
      const left = component.strip_left === true;
      const right = component.strip_right === true;
      return (text, continued) => {
        const kept = left && !continued ? text.replace(leadingSpace, "") : text;
        return right ? kept.replace(trailingSpace, "") : kept;
      };
    }
    default:
      throw unsupportedTokenizer(path, `the normalizer ${component.type}`);
  }
}
