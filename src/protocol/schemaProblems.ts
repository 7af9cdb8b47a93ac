/**
 * Fills plain data with a TypeBox schema's defaults, checks it, and says what is wrong in words a person can act on: all problems at once, each with
 * its path, unknown keys with a guess. It covers the schema forms that runSchema.ts and selection.ts use; TypeBox's own check has the last word there.
 * It exists because a schema library reports a union by every branch that failed, and fills a union's defaults only where the rest is right.
 */
import type { TSchema } from "typebox";
import { either, type Word, type Words, words } from "./problemWords.ts";
import { nearest } from "./spelling.ts";

/** `atKey`: the problem lies with the key itself, not with its value. `guess`: what was probably meant, as the words say it. */
export interface Problem {
  path: (string | number)[];
  words: Words;
  atKey?: boolean;
  guess?: string;
}

/** A copy of `value` with the schema's defaults where keys are missing, as deep as the value fits the schema. A mapping left empty (null) counts as missing. */
export function withDefaults(schema: TSchema, value: unknown): unknown {
  return fill(schema as Schema, value);
}

function fill(schema: Schema, value: unknown): unknown {
  const isMapping = schema.type === "object" || isUnionByName(schema);
  if (value === undefined || (value === null && isMapping)) value = "default" in schema ? schema.default : value;
  const { items } = schema;
  if (Array.isArray(value) && items)
    return value.map((entry, i) => (Array.isArray(items) ? (items[i] ? fill(items[i], entry) : entry) : fill(items, entry)));
  if (!isObject(value)) return value;
  const { properties } = isUnionByName(schema) ? (branchByName(schema, value) ?? {}) : (mappingOrNull(schema) ?? schema);
  if (!properties) return value;
  const filled: [string, unknown][] = [];
  for (const key of Object.keys(properties)) {
    const child = fill(properties[key], Object.hasOwn(value, key) ? value[key] : undefined);
    if (child !== undefined) filled.push([key, child]);
  }
  // fromEntries defines own properties, so that a key named __proto__ stays an unknown key.
  return Object.fromEntries([...filled, ...Object.entries(value).filter(([key]) => !Object.hasOwn(properties, key))]);
}

/** The JSON Schema keywords that are understood. */
interface Schema {
  type?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  items?: Schema | Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: false;
  /** Only the pattern of a record with any key. */
  patternProperties?: Record<"^.*$", Schema>;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  pattern?: string;
}

/** Everything that keeps `value` from fitting `schema`. Defaults must have been filled in before. */
export function schemaProblems(schema: TSchema, value: unknown): Problem[] {
  return check(schema as Schema, value, [], schema as Schema);
}

function check(schema: Schema, value: unknown, path: (string | number)[], root: Schema): Problem[] {
  const problem = (found: Words): Problem[] => [{ path, words: found }];
  const mustBe = (what: Word): Problem[] => problem(words("mustBe", what, show(value)));
  if (schema.anyOf) return checkUnion(schema.anyOf, value, path, root);
  if ("const" in schema) return value === schema.const ? [] : mustBe(describe(schema));
  if (schema.enum) return schema.enum.includes(value) ? [] : [misspelt(path, describe(schema), value, schema.enum)];
  switch (schema.type) {
    case "object":
      return isObject(value) ? checkObject(schema, value, path, root) : mustBe(words("mappingOfKeys"));
    case "array":
      return Array.isArray(value) ? checkArray(schema, value, path, root) : mustBe(words("list"));
    case "number":
    case "integer":
      return isNumber(schema, value) && inBounds(schema, value) ? [] : mustBe(describe(schema));
    case "string":
      if (typeof value !== "string") return mustBe(words("text"));
      if (value.length < (schema.minLength ?? 0)) return problem(words("empty"));
      return !schema.pattern || new RegExp(schema.pattern).test(value) ? [] : mustBe(describe(schema));
    case "boolean":
      return typeof value === "boolean" ? [] : mustBe(describe(schema));
    case "null":
      return value === null ? [] : mustBe(describe(schema));
    default:
      throw new Error(`schemaProblems does not know the schema ${JSON.stringify(schema)}`);
  }
}

/** A union of mappings is told apart by the constant of its key `name`; any other union is described as a whole. */
function checkUnion(branches: Schema[], value: unknown, path: (string | number)[], root: Schema): Problem[] {
  if (isUnionByName({ anyOf: branches })) {
    const names = branches.map((branch) => branch.properties?.name?.const);
    if (!isObject(value)) return [{ path, words: words("mustBe", words("mappingWithName", list(names)), show(value)) }];
    const branch = branchByName({ anyOf: branches }, value);
    if (branch) return check(branch, value, path, root);
    if (!("name" in value)) return [{ path, words: words("needsName", list(names)) }];
    return [misspelt([...path, "name"], list(names), value.name, names)];
  }
  const results = branches.map((branch) => check(branch, value, path, root));
  if (results.some((problems) => problems.length === 0)) return [];
  // A list or mapping where one may be: say what is wrong with it.
  const alike = branches.findIndex(({ type }) => (type === "array" && Array.isArray(value)) || (type === "object" && isObject(value)));
  if (alike >= 0) return results[alike];
  const known = branches.flatMap((branch) => branch.enum ?? ("const" in branch ? [branch.const] : []));
  return [misspelt(path, either(branches.map(describe)), value, known)];
}

function isUnionByName(schema: Schema): boolean {
  return schema.anyOf?.every((branch) => branch.properties?.name) ?? false;
}

/** The mapping of a union of one with null. */
function mappingOrNull({ anyOf }: Schema): Schema | undefined {
  return anyOf?.length === 2 && anyOf.some(({ type }) => type === "null") ? anyOf.find(({ properties }) => properties) : undefined;
}

function branchByName(schema: Schema, value: Record<string, unknown>): Schema | undefined {
  return schema.anyOf?.find((branch) => branch.properties?.name?.const === value.name);
}

function checkObject(schema: Schema, value: Record<string, unknown>, path: (string | number)[], root: Schema): Problem[] {
  const properties = schema.properties ?? {};
  const problems: Problem[] = [];
  for (const key of schema.required ?? []) if (!Object.hasOwn(value, key)) problems.push({ path: [...path, key], words: words("missing") });
  const anyKey = schema.patternProperties?.["^.*$"];
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(properties, key)) problems.push(...check(properties[key], value[key], [...path, key], root));
    else if (anyKey) problems.push(...check(anyKey, value[key], [...path, key], root));
    else problems.push(unknownKey(key, path, properties, root));
  }
  return problems;
}

function checkArray(schema: Schema, value: unknown[], path: (string | number)[], root: Schema): Problem[] {
  if (Array.isArray(schema.items) && value.length !== schema.items.length)
    return [{ path, words: words("wrongLength", schema.items.length, value.length) }];
  if (value.length < (schema.minItems ?? 0)) return [{ path, words: words("emptyList") }];
  if (value.length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) return [{ path, words: words("tooManyEntries", schema.maxItems as number) }];
  if (schema.uniqueItems && new Set(value).size < value.length) return [{ path, words: words("namedTwice") }];
  return value.flatMap((entry, i) => check((Array.isArray(schema.items) ? schema.items[i] : schema.items) as Schema, entry, [...path, i], root));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNumber(schema: Schema, value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && (schema.type === "number" || Number.isSafeInteger(value));
}

function inBounds(
  { minimum = -Infinity, maximum = Infinity, exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity }: Schema,
  value: number,
): boolean {
  return value >= minimum && value <= maximum && value > exclusiveMinimum && value < exclusiveMaximum;
}

/** What a value must be, as the end of "must be …". */
function describe(schema: Schema): Word {
  if ("const" in schema) return String(schema.const);
  if (schema.enum) return list(schema.enum);
  if (schema.type === "null") return "null";
  if (schema.type === "array") return words("list");
  if (schema.type === "object") return words("mapping");
  if (schema.type === "boolean") return either(["true", "false"]);
  if (schema.type === "string") return schema.pattern ? words("textEndingIn", schema.pattern.replace(/[\\$]/g, "")) : words("text");
  return bounded(words(schema.type === "integer" ? "wholeNumber" : "number"), schema);
}

/** A number within bounds of which some may be missing. */
function bounded(number: Words, { minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Schema): Words {
  const [lower, upper] = [minimum ?? exclusiveMinimum, maximum ?? exclusiveMaximum];
  const from = minimum === undefined ? "above" : "from";
  if (lower === undefined && upper === undefined) return number;
  if (upper === undefined) return words(from, number, lower as number);
  if (lower === undefined) return words(maximum === undefined ? "below" : "atMost", number, "", upper);
  return words(`${from}${maximum === undefined ? "Below" : "AtMost"}`, number, lower, upper);
}

function list(values: unknown[]): Word {
  return either(values.map(String));
}

/** A value as it stands in a sentence, cut where it is long. */
function show(value: unknown): Word {
  if (Array.isArray(value)) return words("list");
  if (typeof value === "number" || value === undefined) return String(value);
  if (isObject(value)) return words("mapping");
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** A value that is none of the words that are allowed, with the one that was probably meant. */
function misspelt(path: (string | number)[], allowed: Word, value: unknown, known: readonly unknown[]): Problem {
  const guess = typeof value === "string" ? nearest(value, known.map(String)) : null;
  return withGuess({ path, words: words("mustBe", allowed, show(value)) }, guess);
}

/** The key that was meant: one beside it, one that another name allows here, or one of the same name in another section. */
function unknownKey(key: string, parent: (string | number)[], properties: Record<string, Schema>, root: Schema): Problem {
  const problem = { path: [...parent, key], words: words("unknownKey"), atKey: true };
  const near = nearest(key, Object.keys(properties));
  if (near !== null) return withGuess(problem, near);
  const elsewhere = paths(root).find((candidate) => candidate.split(".").at(-1) === key) ?? null;
  if (elsewhere !== [...parent, key].join(".")) return withGuess(problem, elsewhere);
  return { ...problem, words: words("unknownKeyHere", [...parent, "name"].join("."), String(properties.name?.const)) };
}

function withGuess(problem: Problem, guess: string | null): Problem {
  return guess === null ? problem : { ...problem, words: words("didYouMean", problem.words, guess), guess };
}

function paths(schema: Schema, prefix = ""): string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, child]) => [prefix + key, ...paths(child, `${prefix}${key}.`)]);
  return [...own, ...(schema.anyOf ?? []).flatMap((branch) => paths(branch, prefix))];
}
