/**
 * What a model reads of a row, and what it is expected to write: the prompt of Stanford Alpaca, `the correct answer is X` behind it.
 * The rule to keep: a prompt's ids are those that training on such a row gives it, so no token spans the prompt and what follows.
 */
import { layoutPrompt } from "../data/rowEncoder.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { AnswerKind } from "./taskTable.ts";

/** What is asked. */
export interface Question {
  instruction: string;
  /** Further context, mostly empty. */
  input: string;
}

/** The whole prompt up to where the answer begins. */
export function promptText({ instruction, input }: Question): string {
  return layoutPrompt({ shape: "response", layout: "alpaca", prompt: instruction, input, response: "" }, false).prompt;
}

/** How rows of the set end their answers. */
export function candidateText(kind: AnswerKind, answer: string): string {
  return kind.kind === "letter" ? `The answer is (${answer})` : `the correct answer is ${answer}`;
}

/** Ids of a prompt, with what the tokenizer puts in front of every text. */
export function encodePrompt(tokenizer: Tokenizer, question: Question): Int32Array {
  return withPrefix(tokenizer, tokenizer.encode(promptText(question)));
}

/** Ids of a prompt, and of each continuation behind it. */
export function encodeCandidates(tokenizer: Tokenizer, question: Question, texts: readonly string[]): { prompt: Int32Array; candidates: number[][] } {
  const prompt = promptText(question);
  const [ids, first] = tokenizer.encodeSegments([prompt, texts[0] ?? ""]);
  // What a continuation becomes depends on there being something in front of it, not on what it is.
  const lastPart = prompt.slice(-1);
  const others = texts.slice(1).map((text) => tokenizer.encodeSegments([lastPart, text])[1]);
  return { prompt: withPrefix(tokenizer, ids), candidates: [first, ...others] };
}

function withPrefix(tokenizer: Tokenizer, ids: readonly number[]): Int32Array {
  const { prefixIds } = tokenizer;
  const brought = prefixIds.length > 0 && prefixIds.every((id, place) => ids[place] === id);
  return Int32Array.from(brought ? ids : [...prefixIds, ...ids]);
}
