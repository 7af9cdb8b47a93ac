/**
 * The pre-tokenizers of a tokenizer.json: how text is cut into pieces that merges never cross.
 * They do not look at the vocabulary. Byte-level mapping is not done here: {@link PreTokenize.byteLevel} tells the model to read pieces as bytes.
 */
import { compilePattern, whiteSpace } from "./patterns.ts";
import { type Component, invalidTokenizer, parseComponent, unsupportedTokenizer } from "./tokenizerFile.ts";

/** Where a text stands in the whole input. */
export interface Place {
  /** At the very start of the input. */
  first: boolean;
  /** It goes on where other text of the same section stopped. */
  continued: boolean;
}

type Stage = (piece: string, place: Place) => string[];

export interface PreTokenize {
  /** Non-empty pieces in order. */
  cut(text: string, place: Place): string[];
  /** Pieces are sequences of UTF-8 bytes to the model. */
  readonly byteLevel: boolean;
}

/** GPT-2's expression, with Unicode's white space; compiled into the Rust library's ByteLevel. */
const byteLevelPattern = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${whiteSpace}\\p{L}\\p{N}]+|${whiteSpace}+(?!\\P{White_Space})|${whiteSpace}+`,
  "gu",
);
const digit = /\p{N}/gu;
const digits = /\p{N}+/gu;

/** Throws UserError `tokenizer/unsupported` for a type or an order that is not listed here. */
export function buildPreTokenizer(component: Component | null, path: string): PreTokenize {
  const components = flatten(component, path);
  const byteLevel = components.some(({ type }) => type === "ByteLevel");
  if (byteLevel && components.at(-1)?.type !== "ByteLevel") throw unsupportedTokenizer(path, "a pre-tokenizer behind ByteLevel");
  const stages = components.map((stage) => buildStage(stage, path));
  return {
    byteLevel,
    cut(text, place) {
      let pieces = [text];
      for (const stage of stages) {
        pieces = pieces.flatMap((piece, index) => (index === 0 ? stage(piece, place) : stage(piece, { first: false, continued: false })));
      }
      return pieces.filter((piece) => piece !== "");
    },
  };
}

function flatten(component: Component | null, path: string): Component[] {
  if (component === null) return [];
  if (component.type !== "Sequence") return [component];
  if (!Array.isArray(component.pretokenizers)) throw invalidTokenizer(path, "a pre_tokenizer Sequence has no list");
  return component.pretokenizers.flatMap((entry) => flatten(parseComponent(entry, "pre_tokenizer", path), path));
}

function buildStage(component: Component, path: string): Stage {
  switch (component.type) {
    case "ByteLevel": {
      const addSpace = component.add_prefix_space !== false;
      const cut = component.use_regex === false ? (text: string) => [text] : (text: string) => isolate(text, byteLevelPattern);
      return (piece, { continued }) => cut(addSpace && !continued && !piece.startsWith(" ") ? ` ${piece}` : piece);
    }
    case "Split": {
      const pattern = compilePattern(component.pattern, "the pre-tokenizer Split", path);
      const behavior = component.behavior;
      if (behavior === "Isolated") return (piece) => isolate(piece, pattern);
      const invert = component.invert === true;
      const join = joins.get(String(behavior));
      if (join === undefined) throw unsupportedTokenizer(path, `the split behavior ${JSON.stringify(behavior)}`);
      return (piece) => join(matches(piece, pattern, invert));
    }
    case "Digits":
      return component.individual_digits === true ? (piece) => isolate(piece, digit) : (piece) => isolate(piece, digits);
    case "Metaspace":
      return buildMetaspace(component, path);
    default:
      throw unsupportedTokenizer(path, `the pre-tokenizer ${component.type}`);
  }
}

function buildMetaspace(component: Component, path: string): Stage {
  const mark = component.replacement;
  if (typeof mark !== "string" || Array.from(mark).length !== 1)
    throw invalidTokenizer(path, "the pre-tokenizer Metaspace has no replacement character");
  const scheme = component.prepend_scheme ?? (component.add_prefix_space === false ? "never" : "always");
  if (scheme !== "always" && scheme !== "first" && scheme !== "never")
    throw invalidTokenizer(path, `Metaspace has the prepend_scheme ${String(scheme)}`);
  const splits = component.split !== false;
  const escaped = `\\u{${mark.codePointAt(0)?.toString(16)}}`;
  const words = new RegExp(`${escaped}?[^${escaped}]+|${escaped}`, "gu");
  return (piece, { first, continued }) => {
    let text = piece.replaceAll(" ", () => mark);
    const prefixed = scheme === "always" || (scheme === "first" && first);
    if (prefixed && !continued && !text.startsWith(mark)) text = mark + text;
    return splits ? (text.match(words) ?? []) : [text];
  };
}

/** Cuts around every match; matches and what lies between are pieces of their own. */
function isolate(text: string, pattern: RegExp): string[] {
  const found: string[] = text.match(pattern) ?? [];
  let length = 0;
  for (const piece of found) length += piece.length;
  // The usual expressions leave nothing between their matches.
  return length === text.length ? found : matches(text, pattern, false).map(({ text: piece }) => piece);
}

interface Cut {
  text: string;
  match: boolean;
}

function matches(text: string, pattern: RegExp, invert: boolean): Cut[] {
  const cuts: Cut[] = [];
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > end) cuts.push({ text: text.slice(end, found.index), match: invert });
    cuts.push({ text: found[0], match: !invert });
    end = found.index + found[0].length;
  }
  if (end < text.length) cuts.push({ text: text.slice(end), match: invert });
  return cuts;
}

/** What becomes of the matches; the names are the file's. */
const joins = new Map<string, (cuts: Cut[]) => string[]>([
  ["Removed", (cuts) => cuts.filter(({ match }) => !match).map(({ text }) => text)],
  [
    "Contiguous",
    (cuts) =>
      glue(
        cuts,
        (cut, previous) => cut.match === previous,
        (held, text) => held + text,
      ),
  ],
  [
    "MergedWithPrevious",
    (cuts) =>
      glue(
        cuts,
        (cut, previous) => cut.match && !previous,
        (held, text) => held + text,
      ),
  ],
  [
    "MergedWithNext",
    (cuts) =>
      glue(
        cuts.toReversed(),
        (cut, previous) => cut.match && !previous,
        (held, text) => text + held,
      ).reverse(),
  ],
]);

function glue(cuts: readonly Cut[], sticks: (cut: Cut, previous: boolean) => boolean, join: (held: string, text: string) => string): string[] {
  const pieces: string[] = [];
  let previous = false;
  for (const cut of cuts) {
    const last = pieces.length - 1;
    if (last >= 0 && sticks(cut, previous)) pieces[last] = join(pieces[last], cut.text);
    else pieces.push(cut.text);
    previous = cut.match;
  }
  return pieces;
}
