/**
 * Writes single values as YAML: plain where that reads back as the same value, else in double quotes, on one line. It writes no mappings.
 * The rule to keep: what is written here, where it is written, reads back as exactly the value that was given.
 */
import { isScalar, parseDocument } from "yaml";

export type ScalarValue = string | number | boolean | null;

/**
 * A value as text. `flow`: it will stand within `[ ]` or `{ }`, where commas and brackets end it. `like`: the text that it replaces; quotes of a text are
 * kept.
 */
export function yamlScalar(value: ScalarValue, { flow = false, like = "" }: { flow?: boolean; like?: string }): string {
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : numberText(value);
  if (typeof value !== "string") return String(value);
  if (like.startsWith('"')) return quoted(value);
  if (like.startsWith("'") && !notPrintable.test(value)) return `'${value.replaceAll("'", "''")}'`;
  return isPlain(value, flow) ? value : quoted(value);
}

/** A list on one line. */
export function yamlFlow(values: readonly ScalarValue[], like?: string): string {
  return `[${values.map((value) => yamlScalar(value, { flow: true, like })).join(", ")}]`;
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return ".nan";
  if (!Number.isFinite(value)) return value > 0 ? ".inf" : "-.inf";
  return String(value);
}

/** Control characters, other line breaks, halves of characters and the byte order mark. */
const notPrintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\ufeff]/u;

/** JSON's strings are YAML's; what YAML would take for a line break or a mark is escaped as well. */
function quoted(value: string): string {
  return JSON.stringify(value).replace(
    /[\x7f-\x9f\u2028\u2029\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function isPlain(value: string, flow: boolean): boolean {
  if (value === "" || value.trim() !== value || /^["'#]/.test(value) || notPrintable.test(value)) return false;
  const document = parseDocument(flow ? `{ key: ${value} }` : `key: ${value}`, { prettyErrors: false });
  if (document.errors.length + document.warnings.length > 0) return false;
  const node = document.getIn(["key"], true);
  return isScalar(node) && node.type === "PLAIN" && node.value === value && !node.anchor && !node.tag;
}
