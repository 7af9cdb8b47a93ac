/**
 * How answers are read: the right one from a row, the model's from what it wrote, and whether the two agree. Pure text.
 * The rule to keep: these are the rules that published figures were made with, fragile as some are; they know nothing of a model.
 */
import type { AnswerKind } from "./taskTable.ts";

/** Numbers this near are the same answer. */
const tolerance = 1e-3;
const number = /-?\d+\.?\d*/g;

/** The right answer of a row in the form that answers are compared in, or why the row has none. */
export function readRightAnswer(kind: AnswerKind, value: unknown): { answer: string } | { problem: string } {
  if (typeof value !== "string" && typeof value !== "number") return { problem: "its answer is not text" };
  // A worked answer of GSM8K ends with its number behind four hashes.
  const text = String(value).split("####").at(-1)?.trim() ?? "";
  const shown = JSON.stringify(text.slice(0, 40));
  switch (kind.kind) {
    case "choice":
      return kind.answers.includes(text) ? { answer: text } : { problem: `its answer ${shown} is none of ${kind.answers.join(", ")}` };
    case "letter":
      return /^[A-E]$/i.test(text) ? { answer: text.toUpperCase() } : { problem: `its answer ${shown} is no letter from A to E` };
    case "number":
      return toNumber(text) === null ? { problem: `its answer ${shown} is not a number` } : { answer: text };
  }
}

/** The answer in what a model wrote, or null: the first of a choice's words, the first capital A to E, the last number. */
export function extractAnswer(kind: AnswerKind, text: string): string | null {
  switch (kind.kind) {
    case "choice":
      return new RegExp(kind.answers.join("|")).exec(text)?.[0] ?? null;
    case "letter":
      return /[A-E]/.exec(text)?.[0] ?? null;
    case "number":
      return text.replaceAll(",", "").match(number)?.at(-1) ?? null;
  }
}

export function isCorrect(kind: AnswerKind, extracted: string | null, right: string): boolean {
  if (extracted === null) return false;
  if (kind.kind !== "number") return extracted === right;
  const [a, b] = [toNumber(extracted), toNumber(right)];
  // The tolerance itself still counts: 0.001 apart is not told from it in binary.
  return a !== null && b !== null && Math.abs(a - b) <= tolerance + 1e-12 * Math.abs(b);
}

function toNumber(text: string): number | null {
  const plain = text.replaceAll(",", "");
  const value = plain === "" ? Number.NaN : Number(plain);
  return Number.isFinite(value) ? value : null;
}

/** The answers a question offers, in its own order: what stands behind "Answer format:", or the lettered choices; all of the task's where it says nothing. */
export function offeredAnswers(kind: AnswerKind, question: string): readonly string[] {
  if (kind.kind === "number") return [];
  if (kind.kind === "letter") return unique([...question.matchAll(/\(([A-E])\)/g)].map(([, letter]) => letter)) ?? ["A", "B", "C", "D", "E"];
  const format = /Answer format:\s*(\S+)\s*$/.exec(question)?.[1].split("/") ?? [];
  return unique(format.filter((answer) => kind.answers.includes(answer))) ?? kind.answers;
}

/** Each once; null when there are fewer than two, which is no choice. */
function unique(found: readonly string[]): string[] | null {
  const each = [...new Set(found)];
  return each.length > 1 ? each : null;
}
