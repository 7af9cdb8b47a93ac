/**
 * The run file's schema as an editor asks for it: which keys may stand in a mapping, and what a key is, takes and defaults to. Plain data; the words that
 * people read are made by who shows it.
 * The rule to keep: everything comes out of runSchema.ts; only what a path completes to is said here, since a schema does not know files.
 */
import { runSchema } from "../../protocol/runSchema.ts";

/** One form that a value may have. */
export type ValueForm =
  | { kind: "words"; words: string[] }
  | { kind: "number"; whole: boolean; from?: number; to?: number; above?: number; below?: number }
  | { kind: "text" | "list" | "section" | "boolean" | "null" };

export interface KeyInfo {
  /** Joined by dots. */
  path: string;
  /** The path, told apart from the same key of another method: `method[lora].rank`. */
  id: string;
  name: string;
  /** English. */
  description: string;
  /** Left out where the key must be given. */
  defaultValue?: unknown;
  forms: ValueForm[];
}

/** What a key's text names, beside the words of the schema. */
export interface FileChoice {
  folders: boolean;
  /** Endings of files, with the dot. */
  files: readonly string[];
}

const dataFiles = { folders: false, files: [".jsonl", ".json", ".csv", ".txt"] };
const fileChoices: Record<string, FileChoice> = {
  model: { folders: true, files: [] },
  output: { folders: true, files: [] },
  "data.train": dataFiles,
  "data.eval": dataFiles,
  "data.template": { folders: false, files: [".jinja"] },
  "method.selection": { folders: false, files: [".json"] },
};

/** Endings of the matrices' names in every family that is supported; `targets` takes any. */
const usualTargets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/** The JSON Schema keywords that matter to an editor. */
interface Schema {
  type?: string;
  /** Of a mapping with any keys. */
  patternProperties?: Record<string, Schema>;
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  items?: Schema | Schema[];
  properties?: Record<string, Schema>;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** The keys that the mapping at a path may hold, in the schema's order; null where no mapping belongs. `values` are the file's: they say which method it is. */
export function keysOf(path: readonly string[], values: unknown): KeyInfo[] | null {
  const properties = propertiesOf(schemaAt(path, values), valueAt(values, path));
  return properties && Object.entries(properties).map(([name, schema]) => infoOf([...path, name], schema, values));
}

/** What is known of a key; null for an unknown one. A step that is a number is a list's item. Of a mapping with any keys, every key is known. */
export function keyAt(path: readonly (string | number)[], values: unknown): KeyInfo | null {
  const last = path.at(-1);
  if (typeof last === "number") return itemOf(keyAt(path.slice(0, -1), values));
  const steps = path.filter((step): step is string => typeof step === "string");
  if (steps.length < path.length) return null;
  const known = keysOf(steps.slice(0, -1), values)?.find(({ name }) => name === last);
  if (known) return known;
  const any = anyKeyOf(schemaAt(steps.slice(0, -1), values));
  return any && last !== undefined ? infoOf(steps, any, values) : null;
}

export function fileChoiceOf(key: KeyInfo): FileChoice | null {
  return Object.hasOwn(fileChoices, key.path) ? fileChoices[key.path] : null;
}

/** An item of a list, as far as more is known of it than of the list. */
function itemOf(list: KeyInfo | null): KeyInfo | null {
  if (list?.path !== "method.targets") return null;
  const { path, id, name, description } = list;
  return { path, id, name, description, defaultValue: "auto", forms: [{ kind: "words", words: usualTargets }] };
}

function schemaAt(path: readonly string[], values: unknown): Schema | undefined {
  return path.reduce<Schema | undefined>((schema, key, depth) => {
    const properties = propertiesOf(schema, valueAt(values, path.slice(0, depth)));
    return properties && Object.hasOwn(properties, key) ? properties[key] : (anyKeyOf(schema) ?? undefined);
  }, runSchema as Schema);
}

/** Of mappings told apart by `name` those of the one that is named, else of the first; its `name` may be any of them. Of a mapping or null the mapping's. */
function propertiesOf(schema: Schema | undefined, value: unknown): Record<string, Schema> | null {
  const branches = schema?.anyOf?.filter(({ properties }) => properties?.name) ?? [];
  const any = anyKeyOf(schema);
  if (any) return Object.fromEntries(usualTargets.map((name) => [name, any]));
  if (branches.length === 0) return schema?.properties ?? schema?.anyOf?.find(({ properties }) => properties)?.properties ?? null;
  const { properties } = branches.find((branch) => branch.properties?.name.const === (value as { name?: unknown } | null)?.name) ?? branches[0];
  return { ...properties, name: { enum: branches.map((branch) => branch.properties?.name.const), description: schema?.description } };
}

/** What any key of a mapping holds whose keys are free: the ranks of matrices. Null for any other mapping. */
function anyKeyOf(schema: Schema | undefined): Schema | null {
  const pattern = Object.values(schema?.patternProperties ?? {})[0];
  return pattern ? { description: schema?.description, ...pattern } : null;
}

function infoOf(path: readonly string[], schema: Schema, values: unknown): KeyInfo {
  const id = path.join(".").replace(/^method\.(?!name$)/, `method[${methodOf(values)}].`);
  const info: KeyInfo = { path: path.join("."), id, name: path.at(-1) ?? "", description: schema.description ?? "", forms: formsOf(schema) };
  return "default" in schema ? { ...info, defaultValue: schema.default } : info;
}

/** The method whose keys are meant: the one that is named, else the first. */
function methodOf(values: unknown): string {
  const names = runSchema.properties.method.anyOf.map(({ properties }) => properties.name.const);
  return names.find((name) => name === valueAt(values, ["method", "name"])) ?? names[0];
}

function formsOf(schema: Schema): ValueForm[] {
  if (schema.anyOf) {
    const forms = schema.anyOf.flatMap(formsOf);
    return forms.filter(({ kind }, i) => kind !== "section" || forms.findIndex((other) => other.kind === kind) === i);
  }
  if ("const" in schema) return [{ kind: "words", words: [String(schema.const)] }];
  if (schema.enum) return [{ kind: "words", words: schema.enum.map(String) }];
  switch (schema.type) {
    case "integer":
    case "number": {
      const { minimum: from, maximum: to, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
      return [{ kind: "number", whole: schema.type === "integer", from, to, above, below }];
    }
    case "object":
      return [{ kind: "section" }];
    case "array":
      return [{ kind: "list" }];
    case "boolean":
      return [{ kind: "boolean" }];
    case "null":
      return [{ kind: "null" }];
    default:
      return [{ kind: "text" }];
  }
}

function valueAt(values: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === "object" && at !== null && Object.hasOwn(at, key) ? (at as Record<string, unknown>)[key] : null),
    values,
  );
}
