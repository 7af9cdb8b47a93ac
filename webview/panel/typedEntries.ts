/**
 * What is typed into a field of the form, by the kind of its key: how a value reads there, what an entry changes in the run file, and what is said of one
 * that is no value. No DOM.
 * The rule to keep: what is shown of a value, entered again, changes nothing.
 */
import type { FormView } from "../../src/protocol/panelProtocol.ts";
import { t } from "../strings.ts";
import { type FormChange, numberEntry, numbersEntry, pathEntry, ranksEntry, ranksText, valueAt, valueText } from "./formEdits.ts";
import type { Field } from "./formFields.ts";

/** Changes of the run file, and what the key holds after them; undefined where its default comes back. */
export interface Entry {
  changes: FormChange[];
  value: unknown;
}

/** The key that is taken out when a field goes back to its default: the field's own, or the mapping that stands for it. */
export function keyOf({ path, entry }: Pick<Field, "path" | "entry">): string {
  return entry.kind === "number" && entry.section ? entry.section : path;
}

/** A value as its field shows it. */
export function shownText({ entry }: Pick<Field, "entry">, value: unknown): string {
  if (entry.kind === "numbers" && Array.isArray(value)) return value.map(valueText).join(", ");
  if (entry.kind === "ranks") return ranksText(value);
  return valueText(value);
}

/** A value to compare with another one of the same field: the order of names means nothing. */
export function comparable({ entry }: Pick<Field, "entry">, value: unknown): unknown {
  if (entry.kind !== "ranks" || typeof value !== "object" || value === null) return value;
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** What a text means for the run file; null when it is no value of the field's kind, which is then not written. */
export function entryOf(field: Field, text: string, form: Pick<FormView, "values" | "given">): Entry | null {
  const { path, entry, hasDefault } = field;
  if (entry.kind === "ranks") {
    const made = ranksEntry(path, text, valueAt(form.values, path));
    return made && { changes: made.changes, value: Object.keys(made.ranks).length > 0 ? made.ranks : undefined };
  }
  const changes =
    entry.kind === "number"
      ? numberEntry(path, text, entry, form.given)
      : entry.kind === "numbers"
        ? numbersEntry(path, text)
        : pathEntry(path, text, hasDefault);
  return changes && { changes, value: changes.at(-1)?.value };
}

/** Why an entry was not written. */
export function entryProblem({ entry }: Pick<Field, "entry">): string {
  if (entry.kind === "ranks") return t("Write it like q_proj: 8, v_proj: 32. The run file stays as it is.");
  if (entry.kind === "numbers") return t("These are no whole numbers with commas between: the run file stays as it is.");
  return entry.kind === "number" && entry.integer
    ? t("This is no whole number: the run file stays as it is.")
    : t("This is no number: the run file stays as it is.");
}
