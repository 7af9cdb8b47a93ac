/**
 * Reads and writes run files: YAML text in, a complete `RunConfig` out, or all that is wrong with it, each with its place in the file.
 * The schema is runSchema.ts; here are what a schema cannot say (keys that exclude each other), defaults that depend on other keys, and paths.
 * It opens no file: whether a path exists is found out by who uses it.
 */
import path from "node:path";
import { Value } from "typebox/value";
import { stringify } from "yaml";
import { words } from "./problemWords.ts";
import { type MethodConfig, type RunConfig, runSchema, type SmtConfig, selectionScopes } from "./runSchema.ts";
import { type Problem, schemaProblems, withDefaults } from "./schemaProblems.ts";
import { UserError } from "./userError.ts";
import { type FileProblem, problemText, readYamlFile } from "./yamlFile.ts";

export type { AdapterConfig, DataConfig, MethodConfig, RunConfig, SmtConfig, TrainConfig } from "./runSchema.ts";

const defaultRatio = 0.0084;
const defaultSteps = 500;

export type RunFileProblem = FileProblem;

/** All errors of a run file at once. */
export class RunFileError extends UserError {
  readonly problems: readonly RunFileProblem[];

  constructor(file: string, problems: readonly RunFileProblem[]) {
    const action = "Correct the run file; completion in the editor and `sparse-tuner train --help` show every key.";
    super("config/invalid", problemText(file, "run file", problems), action);
    this.problems = problems;
  }
}

/** The run file's configuration, defaults filled in and paths absolute (relative ones count from the file's folder). Throws {@link RunFileError}. */
export function parseRunFile(text: string, file: string): RunConfig {
  const result = checkRunFile(text, file);
  if (!result.config) throw new RunFileError(file, result.problems);
  return result.config;
}

/** As {@link parseRunFile}, for editors: problems instead of an exception. */
export function checkRunFile(text: string, file: string): { config: RunConfig | null; problems: RunFileProblem[] } {
  const { config, problems } = readYamlFile(text, checkRunValue);
  return { config: config && withAbsolutePaths(config, path.dirname(path.resolve(file))), problems };
}

/** A configuration as the text of a run file, which {@link parseRunFile} reads back unchanged. */
export function stringifyRunConfig(config: RunConfig): string {
  return stringify(config, { lineWidth: 0 });
}

/** Fills in defaults and checks everything that does not depend on where the file lies. */
function checkRunValue(value: unknown): { config: RunConfig | null; problems: Problem[] } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { config: null, problems: [{ path: [], words: words("mappingWithKeys", "model", "data") }] };
  }
  const config = withDefaults(runSchema, value) as RunConfig;
  const problems = [...schemaProblems(runSchema, config), ...exclusions(config)];
  if (problems.length > 0) return { config: null, problems };
  fillDependentDefaults(config);
  if (!Value.Check(runSchema, config)) throw new Error("schemaProblems accepts what the schema refuses");
  return { config, problems: [] };
}

/**
 * Values of a run file as far as they can be read, with every default; wrong ones stay as they are. For forms, which show a file while it is wrong.
 */
export function readableValues(value: unknown): Record<string, unknown> {
  const mapping = typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
  const config = withDefaults(runSchema, mapping) as Partial<RunConfig>;
  fillDependentDefaults(config);
  return config;
}

/** Defaults that hold only where other keys are not given. */
export function fillDependentDefaults({ method, train }: Partial<RunConfig>): void {
  // A selection.json is a budget of its own.
  if (method?.name === "smt" && !isSelectionFile(method.selection) && budgetKeys(method).length === 0) method.ratio = defaultRatio;
  if (train && train.steps === null && train.epochs === null) train.steps = defaultSteps;
}

/** The keys given that say how much SMT trains. */
export function budgetKeys(method: Partial<SmtConfig>): ("ratio" | "blocks" | "trainableParameters")[] {
  return (["ratio", "blocks", "trainableParameters"] as const).filter((key) => (method[key] ?? null) !== null);
}

/** Keys that contradict each other. Runs on values that may not fit the schema, so that all errors are seen at once. */
export function exclusions(config: Partial<RunConfig>): Problem[] {
  const problems: Problem[] = [];
  const budget = config.method?.name === "smt" ? budgetKeys(config.method) : [];
  if (budget.length > 1) problems.push({ path: ["method", budget[1]], words: words("exclusive", budget[0]), atKey: true });
  problems.push(...adapterProblems(config.method));
  const { steps, epochs, learningRate, minLearningRate } = config.train ?? {};
  if ((steps ?? null) !== null && (epochs ?? null) !== null) {
    problems.push({ path: ["train", "epochs"], words: words("exclusive", "steps"), atKey: true });
  }
  if (typeof minLearningRate === "number" && typeof learningRate === "number" && learningRate >= 0 && minLearningRate > learningRate) {
    problems.push({ path: ["train", "minLearningRate"], words: words("notAbove", "learningRate", learningRate) });
  }
  return problems;
}

/** Names of `ranks`: a projection's kind, or that of one matrix. */
const matrixName = /^(model\.layers\.\d+\.(self_attn\.(?=[qkvo]_)|mlp\.(?=gate_|up_|down_)))?([qkvo]|gate|up|down)_proj$/;

/** What the schema cannot say of adapters. */
function adapterProblems(method: Partial<MethodConfig> | undefined): Problem[] {
  const problems: Problem[] = [];
  if (method?.name === "sqft" && Array.isArray(method.neuralSearch) && typeof method.rank === "number")
    for (const [i, rank] of method.neuralSearch.entries())
      if (typeof rank === "number" && rank > method.rank)
        problems.push({ path: ["method", "neuralSearch", i], words: words("notAbove", "rank", method.rank) });
  if ((method?.name === "lora" || method?.name === "dora") && typeof method.ranks === "object" && method.ranks !== null)
    for (const name of Object.keys(method.ranks))
      if (!matrixName.test(name))
        problems.push({
          path: ["method", "ranks", name],
          words: words("noMatrix", "q_proj", "model.layers.3.self_attn.q_proj"),
          atKey: true,
        });
  return problems;
}

/** Paths of the file count from its folder. */
export function withAbsolutePaths(config: RunConfig, folder: string): RunConfig {
  const absolute = (file: string) => path.resolve(folder, file);
  const { train, eval: held, template } = config.data;
  config.model = absolute(config.model);
  config.output = absolute(config.output);
  config.data.train = absolute(train);
  if (held !== null) config.data.eval = absolute(held);
  if (isTemplateFile(template)) config.data.template = absolute(template);
  if (config.method.name === "smt" && isSelectionFile(config.method.selection)) config.method.selection = absolute(config.method.selection);
  return config;
}

/** Whether `data.template` names a file rather than `auto`, `none` or the template itself. */
export function isTemplateFile(template: string): boolean {
  return template !== "auto" && template !== "none" && !/[{}\n]/.test(template);
}

/** Whether `method.selection` names a selection.json rather than a way of ranking. */
export function isSelectionFile(selection: SmtConfig["selection"]): boolean {
  return !(selectionScopes as readonly string[]).includes(selection);
}
