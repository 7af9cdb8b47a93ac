/**
 * Fills plain data with a TypeBox schema's defaults, checks it, and says what is wrong in words a person can act on: all problems at once, each with
 * its path, unknown keys with a guess. It covers the schema forms that runSchema.ts and selection.ts use; TypeBox's own check has the last word there.
 * It exists because a schema library reports a union by every branch that failed, and fills a union's defaults only where the rest is right.
 */
import type { TSchema } from "typebox";
import { nearest } from "./spelling.ts";

/** `atKey`: the problem lies with the key itself, not with its value. `guess`: what was probably meant, as the message says it. */
export interface Problem {
  path: (string | number)[];
  message: string;
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
  const problem = (message: string): Problem[] => [{ path, message }];
  if (schema.anyOf) return checkUnion(schema.anyOf, value, path, root);
  if ("const" in schema) return value === schema.const ? [] : problem(`must be ${describe(schema)}, not ${show(value)}`);
  if (schema.enum) return schema.enum.includes(value) ? [] : [misspelt(path, describe(schema), value, schema.enum)];
  switch (schema.type) {
    case "object":
      return isObject(value) ? checkObject(schema, value, path, root) : problem(`must be a mapping of keys, not ${show(value)}`);
    case "array":
      return Array.isArray(value) ? checkArray(schema, value, path, root) : problem(`must be a list, not ${show(value)}`);
    case "number":
    case "integer":
      return isNumber(schema, value) && inBounds(schema, value) ? [] : problem(`must be ${describe(schema)}, not ${show(value)}`);
    case "string":
      if (typeof value !== "string") return problem(`must be text, not ${show(value)}`);
      if (value.length < (schema.minLength ?? 0)) return problem("must not be empty");
      return !schema.pattern || new RegExp(schema.pattern).test(value) ? [] : problem(`must be ${describe(schema)}, not ${show(value)}`);
    case "boolean":
      return typeof value === "boolean" ? [] : problem(`must be true or false, not ${show(value)}`);
    case "null":
      return value === null ? [] : problem(`must be null, not ${show(value)}`);
    default:
      throw new Error(`schemaProblems does not know the schema ${JSON.stringify(schema)}`);
  }
}

/** A union of mappings is told apart by the constant of its key `name`; any other union is described as a whole. */
function checkUnion(branches: Schema[], value: unknown, path: (string | number)[], root: Schema): Problem[] {
  if (isUnionByName({ anyOf: branches })) {
    const names = branches.map((branch) => branch.properties?.name?.const);
    if (!isObject(value)) return [{ path, message: `must be a mapping with the key name (${list(names)}), not ${show(value)}` }];
    const branch = branchByName({ anyOf: branches }, value);
    if (branch) return check(branch, value, path, root);
    if (!("name" in value)) return [{ path, message: `needs the key name: ${list(names)}` }];
    return [misspelt([...path, "name"], list(names), value.name, names)];
  }
  const results = branches.map((branch) => check(branch, value, path, root));
  if (results.some((problems) => problems.length === 0)) return [];
  // A list or mapping of the right kind is wrong inside: say where.
  const inner = results.find((problems) => problems.every((problem) => problem.path.length > path.length));
  if (inner) return inner;
  const words = branches.flatMap((branch) => branch.enum ?? ("const" in branch ? [branch.const] : []));
  return [misspelt(path, branches.map(describe).join(" or "), value, words)];
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
  for (const key of schema.required ?? []) if (!Object.hasOwn(value, key)) problems.push({ path: [...path, key], message: "is missing" });
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
    return [{ path, message: `must be a list of ${schema.items.length} entries, not ${value.length}` }];
  if (value.length < (schema.minItems ?? 0)) return [{ path, message: "must not be an empty list" }];
  if (value.length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) return [{ path, message: `must not have more than ${schema.maxItems} entries` }];
  if (schema.uniqueItems && new Set(value).size < value.length) return [{ path, message: "must not name anything twice" }];
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
function describe(schema: Schema): string {
  if ("const" in schema) return String(schema.const);
  if (schema.enum) return list(schema.enum);
  if (schema.type === "null") return "null";
  if (schema.type === "array") return "a list";
  if (schema.type === "object") return "a mapping";
  if (schema.type === "boolean") return "true or false";
  if (schema.type === "string") return schema.pattern ? `text that ends in ${schema.pattern.replace(/[\\$]/g, "")}` : "text";
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const lower = minimum !== undefined ? `from ${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "";
  const link = minimum !== undefined ? "to" : exclusiveMinimum !== undefined ? "and" : "";
  const upper =
    maximum !== undefined
      ? `${link === "to" ? link : `${link} at most`} ${maximum}`
      : exclusiveMaximum !== undefined
        ? `${link} below ${exclusiveMaximum}`
        : "";
  return [schema.type === "integer" ? "a whole number" : "a number", lower, upper.trim()].filter(Boolean).join(" ");
}

function list(values: unknown[]): string {
  const words = values.map(String);
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/** A value as it stands in a sentence, cut where it is long. */
function show(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "number" || value === undefined) return String(value);
  if (isObject(value)) return "a mapping";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** A value that is none of the words that are allowed, with the one that was probably meant. */
function misspelt(path: (string | number)[], allowed: string, value: unknown, words: readonly unknown[]): Problem {
  const guess = typeof value === "string" ? nearest(value, words.map(String)) : null;
  return withGuess({ path, message: `must be ${allowed}, not ${show(value)}` }, guess);
}

/** The key that was meant: one beside it, one that another name allows here, or one of the same name in another section. */
function unknownKey(key: string, parent: (string | number)[], properties: Record<string, Schema>, root: Schema): Problem {
  const problem = { path: [...parent, key], message: "is not a known key", atKey: true };
  const near = nearest(key, Object.keys(properties));
  if (near !== null) return withGuess(problem, near);
  const elsewhere = paths(root).find((candidate) => candidate.split(".").at(-1) === key) ?? null;
  if (elsewhere !== [...parent, key].join(".")) return withGuess(problem, elsewhere);
  return { ...problem, message: `is not a known key where ${[...parent, "name"].join(".")} is ${properties.name?.const}` };
}

function withGuess(problem: Problem, guess: string | null): Problem {
  return guess === null ? problem : { ...problem, message: `${problem.message}; did you mean ${guess}?`, guess };
}

function paths(schema: Schema, prefix = ""): string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, child]) => [prefix + key, ...paths(child, `${prefix}${key}.`)]);
  return [...own, ...(schema.anyOf ?? []).flatMap((branch) => paths(branch, prefix))];
}
