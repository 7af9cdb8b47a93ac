/**
 * The schema of a run file or a comparison as an editor asks for it: which keys may stand in a mapping, and what a key is, takes and defaults to. Plain data;
 * the words that people read are made by who shows it.
 * The rule to keep: everything comes out of the schema; only what a path completes to is said here, since a schema does not know files.
 */

/** One form that a value may have. */
export type ValueForm =
  | { kind: "words"; words: string[] }
  | { kind: "number"; whole: boolean; from?: number; to?: number; above?: number; below?: number }
  /** `sections`: its items are mappings told apart by `name`. */
  | { kind: "list"; sections: boolean }
  | { kind: "text" | "section" | "boolean" | "null" };

export interface KeyInfo {
  /** Joined by dots, without the indices of lists. */
  path: string;
  /** What it goes by in tables of texts and files, the most particular first: `method[lora].rank`, `method.rank`. */
  names: string[];
  name: string;
  /** English. */
  description: string;
  /** Left out where the key must be given. */
  defaultValue?: unknown;
  forms: ValueForm[];
}

/** A step of a path: a key, or the index of a list's item. */
export type Step = string | number;

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
  "task.data": { folders: true, files: [".json", ".jsonl"] },
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

/** What is at a path. */
interface Place {
  schema: Schema | undefined;
  /** Joined by dots; with the name of each mapping that is told apart by one in brackets. */
  path: string;
  id: string;
  /** Of the mapping whose keys are free that it is an entry of. */
  entryOf: string[] | null;
}

export class FileSchema {
  readonly #root: Schema;
  readonly #names: (id: string, path: string) => string[];

  /** `names`: what a key goes by in tables, of its id (`method[lora].rank`) and its path. */
  constructor(root: object, names: (id: string, path: string) => string[] = (id, path) => [id, path]) {
    this.#root = root as Schema;
    this.#names = names;
  }

  /** The keys that the mapping at a path may hold, in the schema's order; null where no mapping belongs. `values` are the file's: they say which method it is. */
  keysOf(path: readonly Step[], values: unknown): KeyInfo[] | null {
    const properties = propertiesOf(this.#at(path, values).schema, valueAt(values, path));
    return properties && Object.keys(properties).map((name) => this.#infoOf([...path, name], values));
  }

  /** What is known of a key, or of a list's item as far as more is known of it than of the list; null for an unknown one. */
  keyAt(path: readonly Step[], values: unknown): KeyInfo | null {
    if (path.length === 0) return null;
    if (typeof path.at(-1) === "number") return itemOf(this.keyAt(path.slice(0, -1), values));
    return this.#at(path, values).schema ? this.#infoOf(path, values) : null;
  }

  #at(path: readonly Step[], values: unknown): Place {
    let place: Place = { schema: this.#root, path: "", id: "", entryOf: null };
    for (const [depth, step] of path.entries()) place = this.#below(place, step, valueAt(values, path.slice(0, depth)));
    return place;
  }

  #below({ schema, path, id }: Place, step: Step, value: unknown): Place {
    if (typeof step === "number") return { schema: itemSchemaOf(schema), path, id, entryOf: null };
    const properties = propertiesOf(schema, value);
    const known = properties && Object.hasOwn(properties, step) && !anyKeyOf(schema) ? properties[step] : null;
    const branch = step === "name" ? "" : branchName(schema, value);
    const join = (parent: string) => (parent === "" ? step : `${parent}.${step}`);
    const entryOf = known ? null : this.#names(id, path);
    return { schema: known ?? anyKeyOf(schema) ?? undefined, path: join(path), id: join(id + branch), entryOf };
  }

  #infoOf(path: readonly Step[], values: unknown): KeyInfo {
    const { schema = {}, path: joined, id, entryOf } = this.#at(path, values);
    const names = [...this.#names(id, joined), ...(entryOf ?? [])];
    const info: KeyInfo = { path: joined, names, name: String(path.at(-1)), description: schema.description ?? "", forms: formsOf(schema) };
    return "default" in schema ? { ...info, defaultValue: schema.default } : info;
  }
}

/** Null for a key whose text names no file. */
export function fileChoiceOf({ names }: KeyInfo): FileChoice | null {
  const known = names.find((name) => Object.hasOwn(fileChoices, name));
  return known === undefined ? null : fileChoices[known];
}

function itemOf(list: KeyInfo | null): KeyInfo | null {
  if (!list?.names.includes("method.targets")) return null;
  return { ...list, defaultValue: "auto", forms: [{ kind: "words", words: usualTargets }] };
}

function itemSchemaOf(schema: Schema | undefined): Schema | undefined {
  const list = [schema, ...(schema?.anyOf ?? [])].find((form) => form?.items);
  return Array.isArray(list?.items) ? list.items[0] : list?.items;
}

/** Of mappings told apart by the constant of their key `name`, all. */
function branchesOf(schema: Schema | undefined): Schema[] {
  return schema?.anyOf?.filter(({ properties }) => properties?.name && "const" in properties.name) ?? [];
}

/** The one that is named, else the first. */
function branchOf(branches: readonly Schema[], value: unknown): Schema {
  return branches.find((branch) => branch.properties?.name.const === (value as { name?: unknown } | null)?.name) ?? branches[0];
}

function branchName(schema: Schema | undefined, value: unknown): string {
  const branches = branchesOf(schema);
  return branches.length === 0 ? "" : `[${branchOf(branches, value).properties?.name.const}]`;
}

/** Keys of a mapping, of a named one among several; its `name` may be that of any of them. Of a mapping or null the mapping's. */
function propertiesOf(schema: Schema | undefined, value: unknown): Record<string, Schema> | null {
  const branches = branchesOf(schema);
  const any = anyKeyOf(schema);
  if (any) return Object.fromEntries(usualTargets.map((name) => [name, any]));
  if (branches.length === 0) return schema?.properties ?? schema?.anyOf?.find(({ properties }) => properties)?.properties ?? null;
  const name = { enum: branches.map((branch) => branch.properties?.name.const), description: schema?.description };
  return { ...branchOf(branches, value).properties, name };
}

/** What any key of a mapping holds whose keys are free: the ranks of matrices. Null for any other mapping. */
function anyKeyOf(schema: Schema | undefined): Schema | null {
  const pattern = Object.values(schema?.patternProperties ?? {})[0];
  return pattern ? { description: schema?.description, ...pattern } : null;
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
      return [{ kind: "list", sections: branchesOf(itemSchemaOf(schema)).length > 0 }];
    case "boolean":
      return [{ kind: "boolean" }];
    case "null":
      return [{ kind: "null" }];
    default:
      return [{ kind: "text" }];
  }
}

function valueAt(values: unknown, path: readonly Step[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === "object" && at !== null && Object.hasOwn(at, key) ? (at as Record<Step, unknown>)[key] : null),
    values,
  );
}
