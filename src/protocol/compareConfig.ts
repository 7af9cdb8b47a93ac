/**
 * Reads and writes the files of comparisons: YAML text in, a complete `CompareConfig` out, or all that is wrong with it, each with its place. The schema is
 * compareSchema.ts; here are what it cannot say, and what configuration each run of a comparison has.
 * It opens no file.
 */
import path from "node:path";
import { Value } from "typebox/value";
import { stringify } from "yaml";
import { type CompareConfig, compareSchema, type LabelledMethod, type VariedTrain } from "./compareSchema.ts";
import { words } from "./problemWords.ts";
import { exclusions, fillDependentDefaults, isSelectionFile, withAbsolutePaths } from "./runConfig.ts";
import type { MethodConfig, RunConfig } from "./runSchema.ts";
import { type Problem, schemaProblems, withDefaults } from "./schemaProblems.ts";
import { UserError } from "./userError.ts";
import { type CheckedFile, type FileProblem, problemText, readYamlFile } from "./yamlFile.ts";

export type { CompareConfig, LabelledMethod } from "./compareSchema.ts";

/** All errors of a comparison's file at once. */
export class CompareFileError extends UserError {
  readonly problems: readonly FileProblem[];

  constructor(file: string, problems: readonly FileProblem[]) {
    super("config/invalid", problemText(file, "comparison", problems), "Correct the file; `sparse-tuner compare --help` shows every key.");
    this.problems = problems;
  }
}

/** The comparison of a file, defaults filled in and paths absolute (relative ones count from the file's folder). Throws {@link CompareFileError}. */
export function parseCompareFile(text: string, file: string): CompareConfig {
  const result = checkCompareFile(text, file);
  if (!result.config) throw new CompareFileError(file, result.problems);
  return result.config;
}

/** As {@link parseCompareFile}, for editors: problems instead of an exception. */
export function checkCompareFile(text: string, file: string): CheckedFile<CompareConfig> {
  const { config, problems } = readYamlFile(text, checkValue);
  return { config: config && inFolder(config, path.dirname(path.resolve(file))), problems };
}

/** A comparison as the text of a file, which {@link parseCompareFile} reads back unchanged. */
export function stringifyCompareConfig(config: CompareConfig): string {
  return stringify(config, { lineWidth: 0 });
}

/** The configuration of one run. `method` is one of the comparison's, at a budget. */
export function configOfRun(config: CompareConfig, method: MethodConfig, varied: VariedTrain, output: string): RunConfig {
  const { model, data, train, evaluate, checkpoint, device, threads } = config;
  return structuredClone({ model, data, method, train: { ...train, ...varied }, evaluate, checkpoint, device, threads, output });
}

const names: Record<MethodConfig["name"], string> = {
  smt: "SMT",
  full: "Full",
  lors: "LoRS",
  lora: "LoRA",
  dora: "DoRA",
  spp: "SPP",
  sqft: "SQFT",
};

/** What a method is called where nothing else was said. */
export function labelOf({ label, name }: Pick<LabelledMethod, "label" | "name">): string {
  return label ?? names[name] ?? name;
}

/** The method of an entry, as a run file has it. */
export function methodOf({ label: _label, ...method }: LabelledMethod): MethodConfig {
  return method as MethodConfig;
}

function checkValue(value: unknown): { config: CompareConfig | null; problems: Problem[] } {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return { config: null, problems: [{ path: [], words: words("mappingWithKeys", "model, data", "methods") }] };
  const config = withDefaults(compareSchema, value) as CompareConfig;
  const problems = [...schemaProblems(compareSchema, config).map(ofVariedKey), ...contradictions(config)];
  if (problems.length > 0) return { config: null, problems };
  fillDependentDefaults({ train: config.train as RunConfig["train"] });
  if (config.budgets.length === 0) for (const method of config.methods) fillDependentDefaults({ method });
  if (!Value.Check(compareSchema, config)) throw new Error("schemaProblems accepts what the schema refuses");
  return { config, problems: [] };
}

/** Keys of a run file that a comparison varies are known, and stand elsewhere. */
function ofVariedKey(problem: Problem): Problem {
  const key = problem.path.join(".");
  if (key === "train.learningRate") return { ...problem, words: words("searchedKey", "learningRates"), guess: undefined };
  if (key === "train.seed") return { ...problem, words: words("variedKey", "seeds"), guess: undefined };
  if (key === "method") return { ...problem, words: words("runFileKey", "methods"), guess: "methods" };
  return problem;
}

/** Keys that contradict each other. Runs on values that may not fit the schema, so that all errors are seen at once. */
function contradictions(config: Partial<CompareConfig>): Problem[] {
  const methods = Array.isArray(config.methods) ? config.methods : [];
  const rates = Array.isArray(config.learningRates) ? config.learningRates.filter((rate) => typeof rate === "number") : [];
  const lowest = rates.length > 0 ? Math.min(...rates) : undefined;
  const train = { ...config.train, learningRate: lowest } as RunConfig["train"];
  const problems = exclusions({ train }).map((problem) =>
    problem.path.at(-1) === "minLearningRate" ? { ...problem, words: words("notAboveLowest", "learningRates", lowest ?? "") } : problem,
  );
  if (config.criterion === "accuracy" && (config.task ?? null) === null) problems.push({ path: ["criterion"], words: words("needsTask") });
  const first = new Map<string, number>();
  for (const [index, method] of methods.entries()) {
    if (typeof method !== "object" || method === null) continue;
    for (const problem of exclusions({ method })) problems.push({ ...problem, path: ["methods", index, ...problem.path.slice(1)] });
    if (config.budgets?.length) problems.push(...besideBudgets(method).map((found) => ({ ...found, path: ["methods", index, ...found.path] })));
    const name = labelOf(method).toLowerCase();
    const known = first.get(name);
    if (known === undefined) first.set(name, index);
    else problems.push({ path: ["methods", index], words: words("sameLabel", labelOf(method), `methods[${known}]`) });
  }
  return problems;
}

/** Keys that say how much is trained, which budgets say too. */
function besideBudgets(method: Partial<LabelledMethod>): Problem[] {
  const problem = (key: string) => ({ path: [key], words: words("exclusive", "budgets"), atKey: true });
  if (method.name === "smt") {
    const given = (["ratio", "blocks", "trainableParameters"] as const).filter((key) => (method[key] ?? null) !== null);
    const file = typeof method.selection === "string" && isSelectionFile(method.selection);
    return [...given, ...(file ? ["selection"] : [])].map(problem);
  }
  if ((method.name === "lora" || method.name === "dora") && Object.keys(method.ranks ?? {}).length > 0) return [problem("ranks")];
  if (method.name === "sqft" && (method.neuralSearch ?? null) !== null) return [problem("neuralSearch")];
  return [];
}

/** Relative paths count from `folder`. */
function inFolder(config: CompareConfig, folder: string): CompareConfig {
  const { methods, ...others } = config;
  const located = methods.map((method) => withAbsolutePaths({ ...structuredClone(others), method } as unknown as RunConfig, folder));
  const [{ model, data, output }] = located;
  return {
    ...config,
    model,
    data: { ...config.data, ...data, eval: data.eval as string },
    task: config.task && { ...config.task, data: path.resolve(folder, config.task.data) },
    output,
    methods: located.map(({ method }) => method as LabelledMethod),
  };
}
