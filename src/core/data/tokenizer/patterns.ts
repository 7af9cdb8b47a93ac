/**
 * Regular expressions of a tokenizer.json: Oniguruma's syntax, translated to JavaScript's by @huggingface/tokenizers, checked and kept from running away.
 * It does not cut text itself. The rule to keep: an expression that cannot be translated, or that needs more than 200 ms on a few thousand
 * awkward characters, is refused before any text is read.
 */
import * as library from "@huggingface/tokenizers";
import { withinTime } from "../withinTime.ts";
import { invalidTokenizer, isObject, unsupportedTokenizer } from "./tokenizerFile.ts";

/** The characters Unicode calls white space; JavaScript's \s lacks U+0085 and adds U+FEFF. */
export const whiteSpace = "\\p{White_Space}";

/** Exported by the library, left out of its types. */
const { SplitPreTokenizer } = library as unknown as { SplitPreTokenizer: new (config: object) => { pattern: unknown } };

const probeLimitMs = 200;
const probeTexts = ["a", " ", "1", "\n", "'", "!", "é", "中", "ab1 ", " \n", "a'", "1a"].map((unit) => unit.repeat(Math.ceil(3000 / unit.length)));
/** A component's `pattern`, {"String": …} or {"Regex": …}, as a global Unicode expression. */
export function compilePattern(pattern: unknown, component: string, path: string): RegExp {
  if (isObject(pattern) && typeof pattern.String === "string" && pattern.String !== "") {
    return new RegExp(pattern.String.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu");
  }
  if (!isObject(pattern) || typeof pattern.Regex !== "string") throw invalidTokenizer(path, `${component} has no pattern`);
  const compiled = translate(pattern.Regex, component, path);
  for (const text of probeTexts) {
    // With a tail that cannot match, an expression that backtracks badly shows it.
    if (withinTime(probeLimitMs, () => `${text}\u0000`.match(compiled)?.length ?? 0) === null) {
      throw unsupportedTokenizer(path, `a regular expression that runs away (in ${component}: ${shorten(pattern.Regex)})`);
    }
  }
  return compiled;
}

function translate(source: string, component: string, path: string): RegExp {
  const plain = source.replace(/\(\?i:((?:[A-Za-z'’|]|\[[A-Za-z]+\])*)\)/g, (_, body: string) => `(?:${ignoreCase(body)})`);
  if (/\(\?[a-z-]*i/.test(plain) || /\(\?i:[^)]*(?:ss|st|f[fil])/i.test(source))
    throw unsupportedTokenizer(path, `a case-insensitive expression (in ${component}: ${shorten(source)})`);
  try {
    const compiled = new SplitPreTokenizer({ type: "Split", pattern: { Regex: plain }, behavior: "Isolated", invert: false }).pattern;
    if (compiled instanceof RegExp) return compiled;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw unsupportedTokenizer(path, `a regular expression that has no JavaScript form (in ${component}: ${shorten(source)})`);
}

/** Letters in both cases as Oniguruma folds them; the long s and the Kelvin sign are an s and a k to it, ligatures of two letters are not handled. */
function ignoreCase(body: string): string {
  return body.replace(/\[([A-Za-z]+)\]|[A-Za-z]/g, (letters, inClass: string | undefined) => {
    const folded = Array.from(inClass ?? letters, (letter) => {
      const lower = letter.toLowerCase();
      return lower + lower.toUpperCase() + (lower === "s" ? "\u017f" : lower === "k" ? "\u212a" : "");
    });
    return `[${folded.join("")}]`;
  });
}

function shorten(source: string): string {
  return source.length > 80 ? `${source.slice(0, 77)}…` : source;
}
