/**
 * What the form asks of the run file: the smallest set of changes that a person's entry means, and when a file's value may replace what stands in a
 * control. No DOM, no messages.
 * The rules to keep: keys that exclude each other change in one edit, so that one undo takes it back; nothing that is no value of its kind is written.
 */
import type { FormView, FromPanel } from "../../src/protocol/panelProtocol.ts";
import { type BudgetKey, budgetKeys, projections } from "./formFields.ts";

export type FormChange = Extract<FromPanel, { kind: "edit" }>["changes"][number];

/** The value at a path such as `train.steps`; undefined where there is none. */
export function valueAt(values: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    return (value as Record<string, unknown>)[key];
  }, values);
}

/** A value as a field shows it. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Sets a key. */
export function setKey(path: string, value: FormChange["value"]): FormChange {
  return { path: path.split("."), value };
}

/** Takes a key out, so that its default holds. */
export function removeKey(path: string): FormChange {
  return { path: path.split(".") };
}

/** What an entry of a number means; null when it is no number of that kind, which is then not written. */
export function numberEntry(
  path: string,
  text: string,
  kind: { integer: boolean; emptyIsNull: boolean; section?: string },
  given: readonly string[],
): FormChange[] | null {
  const trimmed = text.trim();
  if (trimmed === "") return [kind.emptyIsNull ? setKey(path, null) : removeKey(kind.section ?? path)];
  const number = parseNumber(trimmed);
  if (number === null || (kind.integer && !Number.isSafeInteger(number))) return null;
  return [...rivals(path, given), setKey(path, number)];
}

/** A decimal number in the usual spellings, `1e-4` among them. */
export function parseNumber(text: string): number | null {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return null;
  const number = Number(text);
  return Number.isFinite(number) ? number : null;
}

/** What an entry of a path means: an empty one that has a default takes the key out. */
export function pathEntry(path: string, text: string, hasDefault: boolean): FormChange[] {
  return [text.trim() === "" && hasDefault ? removeKey(path) : setKey(path, text.trim())];
}

/** What an entry of whole numbers with commas between means; an empty one takes the key out. Null when it is none. */
export function numbersEntry(path: string, text: string): FormChange[] | null {
  if (text.trim() === "") return [removeKey(path)];
  const numbers = text.split(",").map((part) => parseNumber(part.trim()));
  return numbers.every((number): number is number => number !== null && Number.isSafeInteger(number)) ? [setKey(path, numbers)] : null;
}

/** A mapping of names to ranks as its field shows it. */
export function ranksText(value: unknown): string {
  return rankEntries(value)
    .map(([name, rank]) => `${name}: ${valueText(rank)}`)
    .join(", ");
}

/** What an entry such as `q_proj: 8, v_proj: 32` means for the mapping that is there: one change for each name that differs. Null when it is none. */
export function ranksEntry(path: string, text: string, value: unknown): { changes: FormChange[]; ranks: Record<string, number> } | null {
  const ranks = new Map<string, number>();
  for (const part of text.trim() === "" ? [] : text.split(",")) {
    const [, name, number] = /^\s*([^\s:,]{1,100})\s*:\s*(\d+)\s*$/.exec(part) ?? [];
    const rank = Number(number);
    if (name === undefined || ranks.has(name) || !Number.isSafeInteger(rank)) return null;
    ranks.set(name, rank);
  }
  const wanted = Object.fromEntries(ranks);
  if (ranks.size === 0) return { changes: [removeKey(path)], ranks: wanted };
  const before = new Map(rankEntries(value));
  const key = (name: string) => [...path.split("."), name];
  const set = [...ranks].filter(([name, rank]) => before.get(name) !== rank).map(([name, rank]): FormChange => ({ path: key(name), value: rank }));
  const gone = [...before.keys()].filter((name) => !ranks.has(name)).map((name): FormChange => ({ path: key(name) }));
  return { changes: [...set, ...gone], ranks: wanted };
}

function rankEntries(value: unknown): [string, unknown][] {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
}

/** Which of the budget's keys is in force. */
export function budgetKeyOf(form: Pick<FormView, "values" | "given">): BudgetKey {
  const given = budgetKeys.find((key) => form.given.includes(`method.${key}`) && (valueAt(form.values, `method.${key}`) ?? null) !== null);
  return given ?? budgetKeys.find((key) => (valueAt(form.values, `method.${key}`) ?? null) !== null) ?? "ratio";
}

/** The projections that are named, and what else `method.targets` names. `auto` is all projections. */
export function chosenTargets(value: unknown): { projections: string[]; others: string[] } {
  if (!Array.isArray(value)) return { projections: [...projections], others: [] };
  const names = value.map(String);
  const known = (name: string) => (projections as readonly string[]).includes(name);
  return { projections: projections.filter((name) => names.includes(name)), others: names.filter((name) => !known(name)) };
}

/** One projection more or less; null when none would be left. All of them are `auto`. */
export function targetsEntry(value: unknown, projection: string, chosen: boolean): FormChange[] | null {
  const before = chosenTargets(value);
  const names = projections.filter((name) => (name === projection ? chosen : before.projections.includes(name)));
  if (names.length + before.others.length === 0) return null;
  const all = names.length === projections.length && before.others.length === 0;
  return [setKey("method.targets", all ? "auto" : [...names, ...before.others])];
}

/** Keys in the file that exclude this one. */
function rivals(path: string, given: readonly string[]): FormChange[] {
  const groups = [["train.steps", "train.epochs"], budgetKeys.map((key) => `method.${key}`)];
  const group = groups.find((paths) => paths.includes(path)) ?? [];
  return group.filter((other) => other !== path && given.includes(other)).map(removeKey);
}

/** An edit's answer is late after this; what the file says then is news. */
export const answerMs = 2000;

/**
 * Keeps a file's answers from fighting a person's typing: the form comes back after every edit, and may come back with an older state when edits follow
 * quickly. Values are compared as JSON.
 */
export class EntrySync {
  #file = "";
  #sent: { value: string; atMs: number }[] = [];

  /** A value was sent to the file. */
  sent(value: unknown, nowMs: number): void {
    this.#sent.push({ value: JSON.stringify(value ?? null), atMs: nowMs });
  }

  /** What comes next from the file belongs into the control, whatever it is. */
  forget(): void {
    this.#file = "";
    this.#sent = [];
  }

  /** Whether what the file now says belongs into the control. */
  accepts(value: unknown, focused: boolean, nowMs: number): boolean {
    const text = JSON.stringify(value ?? null);
    this.#sent = this.#sent.filter(({ atMs }) => nowMs - atMs < answerMs);
    const answered = this.#sent.findIndex((entry) => entry.value === text);
    if (text !== this.#file && answered < 0) {
      this.#file = text;
      this.#sent = [];
      return true;
    }
    this.#file = text;
    if (answered >= 0) this.#sent.splice(0, answered + 1);
    return !focused && this.#sent.length === 0;
  }
}
