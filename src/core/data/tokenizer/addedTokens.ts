/**
 * Finds added tokens in text: at every place the longest one that starts there, before anything else is done to the text.
 * It knows nothing of merges. The rule to keep: what Rust's Aho–Corasick (leftmost, longest) and its single-word and strip rules find.
 */
import { whiteSpace } from "./patterns.ts";
import type { AddedToken } from "./tokenizerFile.ts";

/** A stretch of text: an added token, or text between. */
export interface Section {
  start: number;
  end: number;
  token: AddedToken | null;
}

const wordCharacter = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const startsWithWord = new RegExp(`^${wordCharacter}`, "u");
const endsWithWord = new RegExp(`${wordCharacter}$`, "u");
const spaceAtStart = new RegExp(`^${whiteSpace}*`, "u");
const spaceAtEnd = new RegExp(`${whiteSpace}*$`, "u");

export class AddedTokenFinder {
  readonly #tokenOfText: Map<string, AddedToken>;
  readonly #pattern: RegExp | null;

  /** `tokens` by the text they are found by. */
  constructor(tokens: ReadonlyArray<{ text: string; token: AddedToken }>) {
    const found = tokens.filter(({ text }) => text !== "");
    this.#tokenOfText = new Map(found.map(({ text, token }) => [text, token]));
    // Alternatives in order of length make the first match the longest.
    const texts = [...this.#tokenOfText.keys()].sort((a, b) => b.length - a.length);
    this.#pattern = texts.length === 0 ? null : new RegExp(texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"), "gu");
  }

  /** Sections covering all of `text`, none empty. */
  find(text: string): Section[] {
    const sections: Section[] = [];
    let done = 0;
    for (const found of this.#pattern === null ? [] : text.matchAll(this.#pattern)) {
      const token = this.#tokenOfText.get(found[0]) as AddedToken;
      let start = found.index;
      let end = start + found[0].length;
      if (token.singleWord && (endsWithWord.test(text.slice(0, start)) || startsWithWord.test(text.slice(end)))) continue;
      if (token.stripLeft) start = Math.max(done, text.slice(0, start).search(spaceAtEnd));
      if (token.stripRight) end += spaceAtStart.exec(text.slice(end))?.[0].length ?? 0;
      if (start > done) sections.push({ start: done, end: start, token: null });
      sections.push({ start, end, token });
      done = end;
    }
    if (done < text.length) sections.push({ start: done, end: text.length, token: null });
    return sections;
  }
}
