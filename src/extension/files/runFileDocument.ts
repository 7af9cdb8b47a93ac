/**
 * A run file's text as a form shows it, and a form's changes as changes of the text. Plain text in, plain data out: no editor, no file.
 * The rules to keep: a change of the form changes nothing else of the file, neither a value nor a byte; what cannot be changed so is refused, and the
 * person changes the text.
 */
import { isDeepStrictEqual } from "node:util";
import { isScalar, isSeq } from "yaml";
import type { FormView, FromPanel } from "../../protocol/panelProtocol.ts";
import { checkRunFile, type RunFileProblem, readableValues } from "../../protocol/runConfig.ts";
import { runSchema } from "../../protocol/runSchema.ts";
import { UserError } from "../../protocol/userError.ts";
import { type TextChange, TextPieces } from "./textPieces.ts";
import { insertItem, nodeAt, parseYaml, removeEntry, setItem, setKey, type YamlText, type YamlValue } from "./yamlEdits.ts";
import type { ScalarValue } from "./yamlScalars.ts";

export type { TextChange } from "./textPieces.ts";

export type FormEdit = Extract<FromPanel, { kind: "edit" }>["changes"][number];

/** Lists longer than this are written anew instead of item by item. */
const mostItemEdits = 50;

/** All errors at once, in the order of the file. */
export function runFileProblems(text: string): RunFileProblem[] {
  return checkRunFile(text, "/").problems;
}

/** What the form shows of a run file, right or wrong; `messageOf` says a problem in the language of who looks. */
export function formView(text: string, file: string, editable: boolean, messageOf: (problem: RunFileProblem) => string): FormView {
  const problems = runFileProblems(text).map((problem) => ({ path: problem.path, message: messageOf(problem), line: problem.line }));
  const value = valuesOf(text);
  return { file, editable, values: readableValues(value), given: pathsIn(value), problems };
}

/** Changes that set or remove keys. Throws a UserError where the file has syntax errors or the change would change more than was asked. */
export function editRunFile(text: string, changes: FormEdit[]): TextChange[] {
  refuseBrokenText(text);
  const pieces = new TextPieces(text);
  for (const change of withConsequences(text, changes)) applyOne(pieces, change);
  return pieces.changes();
}

/** The file's values; nothing of a text that is no YAML at all. */
function valuesOf(text: string): unknown {
  try {
    return parseYaml(text).document.toJS({ maxAliasCount: 100 });
  } catch {
    return null;
  }
}

function pathsIn(value: unknown, prefix = ""): string[] {
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([key, child]) => [prefix + key, ...pathsIn(child, `${prefix}${key}.`)]);
}

function refuseBrokenText(text: string): void {
  const broken = checkRunFile(text, "/").problems.find(({ words }) => words.kind === "notYaml");
  if (!broken) return;
  const sentence = `The run file ${broken.message} (line ${broken.line}), so the form cannot change it.`;
  throw new UserError("runFile/broken", sentence, "Correct this line in the text; the form follows.");
}

/** A method has a name, and the keys of another method are none of its own: what else must change for a change of `method` to hold. */
function withConsequences(text: string, changes: FormEdit[]): FormEdit[] {
  const method = (valuesOf(text) as { method?: unknown } | null)?.method;
  const present = isRecord(method) ? method : {};
  const result: FormEdit[] = [];
  for (const { path, value } of changes) {
    if (path[0] !== "method" || path.length === 1) result.push({ path, value });
    else if (path[1] === "name") result.push(...renaming(present, value ?? "smt"));
    else {
      const named = "name" in present || result.some((change) => change.path.join(".") === "method.name");
      if (value !== undefined && !named) result.push({ path: ["method", "name"], value: "smt" });
      result.push({ path, value });
    }
  }
  return result;
}

/**
 * A key stays where it means the same in both methods, with the same default; the old method's other keys go, so that the new one's defaults hold. Keys that
 * nobody knows stay, and stay reported.
 */
function renaming(present: Record<string, unknown>, name: NonNullable<FormEdit["value"]>): FormEdit[] {
  const keysOf = (method: unknown): Record<string, unknown> =>
    runSchema.properties.method.anyOf.find(({ properties }) => properties.name.const === method)?.properties ?? {};
  const [before, after] = [keysOf(present.name ?? "smt"), keysOf(name)];
  if (Object.keys(after).length === 0) return [{ path: ["method", "name"], value: name }];
  const stale = Object.keys(before).filter((key) => key !== "name" && key in present && !isDeepStrictEqual(before[key], after[key]));
  return [{ path: ["method", "name"], value: name }, ...stale.map((key) => ({ path: ["method", key] }))];
}

/** Makes one change and looks at what it did: nothing else may have changed. */
function applyOne(pieces: TextPieces, { path, value }: FormEdit): void {
  const before = parseYaml(pieces.text);
  const old = before.document.toJS({ maxAliasCount: 100 });
  const node = nodeAt(before, path);
  if (value === undefined ? !hasPath(old, path) : hasPath(old, path) && isDeepStrictEqual(valueAt(old, path), value)) return;
  if (value === undefined) pieces.apply(removeEntry(before, path));
  else if (Array.isArray(value) && isShortList(node, value)) setList(pieces, path, value);
  else {
    const changes = setKey(before, path, value as YamlValue);
    if (!changes) throw notChanged(path, "what stands around it is no mapping");
    pieces.apply(changes);
  }
  const after = parseYaml(pieces.text);
  if (after.document.errors.length + after.document.warnings.length > 0)
    throw notChanged(path, "the file is written in a way that the form cannot follow");
  const expected = value === undefined ? without(old, path) : withValue(old, path, value);
  const got = after.document.toJS({ maxAliasCount: 100 });
  const whole = value === undefined || isDeepStrictEqual(valueAt(got, path), value);
  if (!whole || !sameButForEmpty(expected, got)) throw notChanged(path, "other keys would change with it, as with anchors and aliases");
}

function notChanged(path: readonly string[], reason: string): UserError {
  return new UserError("runFile/not-changed", `The form cannot change ${path.join(".")}: ${reason}.`, "Change it in the text of the run file.");
}

/** A list whose items can be changed one by one, so that the comments between them stay. */
function isShortList(node: unknown, values: readonly unknown[]): boolean {
  if (!isSeq(node) || node.items.length === 0 || values.length === 0) return false;
  return node.items.length + values.length <= mostItemEdits && node.items.every((item) => isScalar(item) && item.value !== null && !item.anchor);
}

/** Changes the items between the first and the last difference. */
function setList(pieces: TextPieces, path: readonly string[], values: readonly ScalarValue[]): void {
  const listOf = (yaml: YamlText) => nodeAt(yaml, path) as Parameters<typeof setItem>[1];
  const old = listOf(parseYaml(pieces.text)).items.map((item) => (isScalar(item) ? item.value : undefined));
  let head = 0;
  while (head < old.length && head < values.length && old[head] === values[head]) head++;
  let tail = 0;
  while (tail < old.length - head && tail < values.length - head && old.at(-1 - tail) === values.at(-1 - tail)) tail++;
  const step = (make: (yaml: YamlText) => TextChange[]) => pieces.apply(make(parseYaml(pieces.text)));
  const [oldEnd, newEnd] = [old.length - tail, values.length - tail];
  for (let index = head; index < Math.min(oldEnd, newEnd); index++) step((yaml) => setItem(yaml, listOf(yaml), index, values[index]));
  // An item goes behind another one, so one that belongs in front of all first takes the place of the first.
  for (let index = oldEnd; index < newEnd; index++) {
    if (index > 0) step((yaml) => insertItem(yaml, listOf(yaml), index, values[index]));
    else {
      step((yaml) => insertItem(yaml, listOf(yaml), 1, old[0] as ScalarValue));
      step((yaml) => setItem(yaml, listOf(yaml), 0, values[0]));
    }
  }
  for (let index = oldEnd - 1; index >= newEnd; index--) step((yaml) => removeEntry(yaml, [...path, index]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function hasPath(value: unknown, path: readonly string[]): boolean {
  const parent = valueAt(value, path.slice(0, -1));
  return isRecord(parent) && Object.hasOwn(parent, path.at(-1) as string);
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, key) => (isRecord(at) && Object.hasOwn(at, key) ? at[key] : undefined), value);
}

function withValue(value: unknown, [key, ...rest]: readonly string[], set: unknown): unknown {
  const entries = isRecord(value) ? Object.entries(value) : [];
  const own = isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  const changed: [string, unknown] = [key, rest.length === 0 ? set : withValue(own, rest, set)];
  return Object.fromEntries([...entries.filter(([name]) => name !== key), changed]);
}

function without(value: unknown, [key, ...rest]: readonly string[]): unknown {
  if (!isRecord(value) || !Object.hasOwn(value, key)) return value;
  const others = Object.entries(value).filter(([name]) => name !== key);
  return Object.fromEntries(rest.length === 0 ? others : [...others, [key, without(value[key], rest)]]);
}

/** Equal, where an emptied mapping may also be written as nothing or be gone: it means the same in a run file. */
function sameButForEmpty(expected: unknown, got: unknown): boolean {
  if (isVoid(expected)) return isVoid(got) || got === null || got === undefined;
  if (!isRecord(expected) || !isRecord(got)) return isDeepStrictEqual(expected, got);
  const keys = new Set([...Object.keys(expected), ...Object.keys(got)]);
  return [...keys].every((key) => (Object.hasOwn(expected, key) || !Object.hasOwn(got, key)) && sameButForEmpty(expected[key], got[key]));
}

function isVoid(value: unknown): boolean {
  return isRecord(value) && Object.values(value).every(isVoid);
}
