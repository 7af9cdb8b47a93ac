/** The text of a new run file. Pure; what it says is what New Run asked for and the few keys that people change first. */
import path from "node:path";
import { stringify } from "yaml";
import { type MethodConfig, runSchema } from "../../protocol/runSchema.ts";

export type MethodName = MethodConfig["name"];

export interface Budget {
  key: "ratio" | "blocks";
  value: number;
}

export interface NewRun {
  /** Absolute. */
  model: string;
  data: string;
  method: MethodName;
  /** Of smt. */
  budget: Budget;
  /** Rank of adapters, groups of spp; null for the default. */
  size: number | null;
  /** The base is pruned, and full fine-tuning shall leave its zeros. */
  keepZeros: boolean;
}

/** A method's keys with their defaults, as the schema has them. */
export function defaultsOf(method: MethodName): Record<string, unknown> {
  const branch = runSchema.properties.method.anyOf.find(({ properties }) => properties.name.const === method);
  const properties = (branch?.properties ?? {}) as Record<string, { default?: unknown }>;
  return Object.fromEntries(Object.entries(properties).map(([key, schema]) => [key, schema.default]));
}

/** The key that says how much a method with adapters trains; null for the others. */
export function sizeKey(method: MethodName): "rank" | "groups" | null {
  if (method === "smt" || method === "full") return null;
  return method === "spp" ? "groups" : "rank";
}

/** `folder` is where the file will lie: paths below it are written relative to it, so that the folder can be carried elsewhere. */
export function runFileText(run: NewRun, folder: string, comment: string, lineEnd: string): string {
  const { model, data } = run;
  const content = {
    model: pathIn(folder, model),
    data: { train: pathIn(folder, data) },
    method: methodOf(run),
    train: { steps: 500, batchSize: 4, sequenceLength: 512, learningRate: 1e-4, precision: "bf16" },
  };
  return `# ${comment}\n${stringify(content, { lineWidth: 0 })}`.replaceAll("\n", lineEnd);
}

function methodOf({ method, budget, size, keepZeros }: NewRun): Record<string, unknown> {
  if (method === "smt") return { name: method, [budget.key]: budget.value };
  if (method === "full") return keepZeros ? { name: method, sparse: "keep" } : { name: method };
  const { rank, alpha, groups } = defaultsOf(method);
  if (method === "spp") return { name: method, groups: size ?? groups };
  if (size === null || size === rank) return { name: method, rank };
  // As strong as the default: alpha grows with the rank.
  return { name: method, rank: size, alpha: (Number(alpha) / Number(rank)) * size };
}

function pathIn(folder: string, file: string): string {
  const relative = path.relative(folder, file);
  if (relative === "" || relative.startsWith("..") || path.isAbsolute(relative)) return file;
  return `./${relative.replaceAll(path.sep, "/")}`;
}
