/**
 * Reads and writes run files: YAML text in, a complete `RunConfig` out, or all that is wrong with it, each with its place in the file.
 * The schema is runSchema.ts; here are what a schema cannot say (keys that exclude each other), defaults that depend on other keys, and paths.
 * It opens no file: whether a path exists is found out by who uses it.
 */
import path from "node:path";
import { Value } from "typebox/value";
import { type Document, isMap, isNode, isSeq, LineCounter, parseDocument, stringify } from "yaml";
import { type RunConfig, runSchema, type SmtConfig, selectionScopes } from "./runSchema.ts";
import { type Problem, schemaProblems, withDefaults } from "./schemaProblems.ts";
import { UserError } from "./userError.ts";

export type { DataConfig, MethodConfig, RunConfig, SmtConfig, TrainConfig } from "./runSchema.ts";

/** A run file is written by hand; beyond this it is something else. */
const maxFileBytes = 1 << 20;

const defaultRatio = 0.0084;
const defaultSteps = 500;

/** One error of a run file. `path` as in `train.learningRate`, empty for the file; line and column count from 1. */
export interface RunFileProblem {
  path: string;
  line: number;
  column: number;
  message: string;
  /** What an editor underlines: offsets into the text. */
  start: number;
  end: number;
  /** The key or word that was probably meant; a key of another section with its path. */
  guess: string | null;
}

/** All errors of a run file at once. */
export class RunFileError extends UserError {
  readonly problems: readonly RunFileProblem[];

  constructor(file: string, problems: readonly RunFileProblem[]) {
    const lines = problems.map(({ path, line, column, message }) => `${file}:${line}:${column}: ${path ? `${path} ` : ""}${message}`);
    const action = "Correct the run file; completion in the editor and `sparse-tuner train --help` show every key.";
    super("config/invalid", lines.length === 1 ? lines[0] : `The run file has ${lines.length} errors:\n  ${lines.join("\n  ")}`, action);
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
  const whole = (message: string) => failed({ path: "", line: 1, column: 1, message, start: 0, end: 0, guess: null });
  if (text.length > maxFileBytes) return whole("is larger than 1 MiB: this is no run file");
  const lines = new LineCounter();
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  let document: Document;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  } catch (error) {
    // Nesting deeper than the stack ends here.
    return whole(`is not valid YAML: ${sentence((error as Error).message)}`);
  }
  // After the first few, syntax errors are echoes of one another.
  const syntax = [...document.errors, ...document.warnings].slice(0, 20);
  if (syntax.length > 0)
    return failed(
      ...syntax.map(({ message, pos: [start, end] }) => {
        return { path: "", ...place(start), message: `is not valid YAML: ${sentence(message)}`, start, end, guess: null };
      }),
    );

  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    return whole(`is not valid YAML: ${sentence((error as Error).message)}`);
  }
  const { config, problems } = checkRunValue(value);
  if (problems.length > 0) {
    const placed = problems.map((problem) => {
      const { offset, start, end } = placeOf(document, problem);
      return { path: pathText(problem.path), ...place(offset), message: problem.message, start, end, guess: problem.guess ?? null };
    });
    return failed(...placed.sort((a, b) => a.line - b.line || a.column - b.column));
  }
  return { config: withAbsolutePaths(config as RunConfig, path.dirname(path.resolve(file))), problems: [] };
}

/** A configuration as the text of a run file, which {@link parseRunFile} reads back unchanged. */
export function stringifyRunConfig(config: RunConfig): string {
  return stringify(config, { lineWidth: 0 });
}

function failed(...problems: RunFileProblem[]): { config: null; problems: RunFileProblem[] } {
  return { config: null, problems };
}

/** Fills in defaults and checks everything that does not depend on where the file lies. */
function checkRunValue(value: unknown): { config: RunConfig | null; problems: Problem[] } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { config: null, problems: [{ path: [], message: "must be a mapping with at least the keys model and data" }] };
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
function fillDependentDefaults({ method, train }: Partial<RunConfig>): void {
  if (method?.name === "smt" && budgetKeys(method).length === 0) method.ratio = defaultRatio;
  if (train && train.steps === null && train.epochs === null) train.steps = defaultSteps;
}

function budgetKeys(method: Partial<SmtConfig>): string[] {
  return (["ratio", "blocks", "trainableParameters"] as const).filter((key) => (method[key] ?? null) !== null);
}

/** Keys that contradict each other. Runs on values that may not fit the schema, so that all errors are seen at once. */
function exclusions(config: Partial<RunConfig>): Problem[] {
  const problems: Problem[] = [];
  const budget = config.method?.name === "smt" ? budgetKeys(config.method) : [];
  if (budget.length > 1)
    problems.push({ path: ["method", budget[1]], message: `and ${budget[0]} exclude each other: give one of them`, atKey: true });
  const { steps, epochs, learningRate, minLearningRate } = config.train ?? {};
  if ((steps ?? null) !== null && (epochs ?? null) !== null) {
    problems.push({ path: ["train", "epochs"], message: "and steps exclude each other: give one of them", atKey: true });
  }
  if (typeof minLearningRate === "number" && typeof learningRate === "number" && learningRate >= 0 && minLearningRate > learningRate) {
    problems.push({ path: ["train", "minLearningRate"], message: `must not be above learningRate (${learningRate})` });
  }
  return problems;
}

function withAbsolutePaths(config: RunConfig, folder: string): RunConfig {
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

/**
 * Where a problem lies in the text: at its key, its value, or, where that is missing, at the nearest mapping around it. `offset` is where it is said to
 * be; from `start` to `end` it is underlined: never nothing, and of a mapping only the key.
 */
function placeOf(document: Document, problem: Problem): { offset: number; start: number; end: number } {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  let [start, end] = [offset, offset];
  for (const [depth, step] of problem.path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isNode(item.key) && String(item.key) === String(step));
      if (!pair) break;
      const last = depth === problem.path.length - 1;
      const at = (last && problem.atKey) || !isNode(pair.value) || !pair.value.range ? pair.key : pair.value;
      offset = (isNode(at) && at.range?.[0]) || offset;
      const underlined = at === pair.value && last && !isMap(at) && !isEmpty(at) ? at : pair.key;
      [start, end] = isNode(underlined) && underlined.range ? underlined.range : [offset, offset];
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      if (!isNode(node) || !node.range) break;
      [start, end] = node.range;
      offset = start;
    } else break;
  }
  return { offset, start, end };
}

function isEmpty(node: unknown): boolean {
  return isNode(node) && node.range?.[0] === node.range?.[1];
}

function pathText(steps: (string | number)[]): string {
  return steps.reduce<string>((text, step) => (typeof step === "number" ? `${text}[${step}]` : text ? `${text}.${step}` : step), "");
}

function sentence(message: string): string {
  return message.split("\n")[0].replace(/[.:]$/, "");
}
