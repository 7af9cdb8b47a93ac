/**
 * What each command is given, after the command line has been read and checked: plain data, so that a command can be called from a test or from
 * another program. A command body is `(options) => Promise<exit code>`; it prints its result to standard output and throws UserError for what a person can mend.
 */

import type { BlockPlace } from "../../protocol/coreProtocol.ts";
import type { TaskName, TaskScoring } from "../../protocol/evaluationTasks.ts";
import type { PruningGrouping, PruningMethod } from "../../protocol/pruning.ts";
import type { BenchModelName } from "../bench/benchModels.ts";

export type { BlockPlace };

/** Shared by all commands. */
export interface CommonOptions {
  /** Print stack traces and what is otherwise left out. */
  verbose: boolean;
}

/** Prints JSON instead of text. */
export interface JsonOption {
  json: boolean;
}

/** `train`: begins a run. */
export interface TrainOptions extends CommonOptions, JsonOption {
  runFile: string;
}

/** `resume`: goes on with a run that was stopped or killed. */
export interface ResumeOptions extends CommonOptions, JsonOption {
  runFolder: string;
  /** Go on although base model, data or configuration are not what the run was started with. */
  acceptChanges: boolean;
}

/** `plan`: the memory a run would take, without its weights. */
export interface PlanOptions extends CommonOptions, JsonOption {
  runFile: string;
}

/** `compare`: a file begins a comparison, a folder goes on with one. */
export interface CompareOptions extends CommonOptions, JsonOption {
  /** The file of a comparison, or the folder of one that is gone on with. */
  fileOrFolder: string;
  /** It must be such a folder. */
  resume: boolean;
}

/** `preview`: the first batch of a run file's data. */
export interface PreviewOptions extends CommonOptions {
  runFile: string;
}

/** `inspect`: a run's chosen blocks, or the values of one. */
export interface InspectOptions extends CommonOptions, JsonOption {
  runFolder: string;
  block: BlockPlace | null;
  /** Of the checkpoint that is looked at; null for the newest. */
  step: number | null;
}

/** `evaluate --data`: loss and perplexity over rows. */
export interface EvaluateOptions extends CommonOptions, JsonOption {
  /** A model folder, a run folder or an adapter's folder. */
  modelOrRun: string;
  /** The model an adapter's folder belongs to. */
  base?: string | null;
  data: string;
  /** Tokens a row is cut at; null for the run's, or the model's positions up to 2048. */
  sequenceLength: number | null;
  /** Usable rows read at most; null for all. */
  rows: number | null;
}

/** `evaluate --task`. */
export interface EvaluateTasksOptions extends CommonOptions, JsonOption {
  modelOrRun: string;
  base?: string | null;
  tasks: readonly TaskName[];
  /** The file of the one task, or a folder in the LLM-Adapters layout. */
  data: string;
  /** Null: by log-likelihood where a task offers answers, else by generation. */
  scoring: TaskScoring | null;
  /** The first so many rows of each task; null for all. */
  rows: number | null;
  batchSize: number;
}

/** The same with the tasks as they are written: names and groups, with commas between. */
export type TaskListOptions = Omit<EvaluateTasksOptions, "tasks"> & { tasks: string };

/** `evaluate --perplexity`. */
export interface EvaluatePerplexityOptions extends CommonOptions, JsonOption {
  modelOrRun: string;
  base?: string | null;
  /** The text. */
  text: string;
  sequenceLength: number | null;
}

/** `generate`: text that a model continues a prompt with. */
export interface GenerateOptions extends CommonOptions, JsonOption {
  modelOrRun: string;
  /** The model an adapter's folder belongs to. */
  base?: string | null;
  /** Empty: starts from BOS. */
  prompt: string;
  /** At most this many new tokens. */
  tokens: number;
  /** 0 takes the likeliest token. */
  temperature: number;
  seed: number;
}

/** What a run's result is written as. */
export const exportFormats = ["merged", "delta", "adapter", "peft"] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** What a merged model's weights are stored as. */
export const exportDTypes = ["f32", "bf16"] as const;
export type ExportDType = (typeof exportDTypes)[number];

/** `export`: writes a run's result for other tools. */
export interface ExportOptions extends CommonOptions {
  /** A run folder, or an adapter's. */
  runFolder: string;
  format: ExportFormat;
  to: string;
  /** The model an adapter's folder belongs to. */
  base?: string | null;
  /** Of the low-rank matrices that stand for an SMT delta in PEFT's format. */
  rank?: number | null;
  /** Of a merged model's weights; null for as the base stores them. */
  dtype?: ExportDType | null;
}

/** `apply` and `undo`. */
export interface DeltaOptions extends CommonOptions {
  model: string;
  /** smt.safetensors, or a folder with it: an exported delta or a run that is done. */
  delta: string;
}

/** `prune`: writes a model with zeros in the place of what counts least. */
export interface PruneCommandOptions extends CommonOptions, JsonOption {
  /** A model folder. */
  model: string;
  method: PruningMethod;
  /** 0.5, 2:4, … */
  pattern: string;
  /** Null: what the method does by itself. */
  grouping: PruningGrouping | null;
  /** Put channels into an order first in which an n:m pattern keeps more. */
  permute: boolean;
  /** Null: magnitude alone goes without. */
  calibration: string | null;
  to: string;
  samples: number;
  /** Tokens of a calibration window; null for the model's positions up to 2048. */
  sequenceLength: number | null;
  seed: number;
  device: "auto" | "cpu" | "webgpu" | "tensorflow";
  /** Null for one a core. */
  threads: number | null;
}

/** `init`: writes a random model. */
export interface InitOptions extends CommonOptions {
  /** A Hugging Face config.json. */
  configFile: string;
  to: string;
  dtype: "f32" | "f16" | "bf16";
  seed: number;
}

/** `bench`: measures speed and memory. */
export interface BenchOptions extends CommonOptions, JsonOption {
  /** A Python with torch to compare with, or null. */
  peer: string | null;
  /** Methods to train, with commas between; null trains all and measures matrix products too. */
  methods: string | null;
  device: "cpu" | "webgpu";
  /** What is trained. */
  model: BenchModelName;
}

/** `doctor`: says what this machine can be used for, and installs what is asked for. */
export interface DoctorOptions extends CommonOptions, JsonOption {
  /** What is installed instead of looking. */
  install?: "tensorflow" | null;
  /** The npm package registry it is fetched from; null: npm's own. */
  registry?: string | null;
}

/** `demo`, which `npm start` runs: the bundled model tuned with SMT. */
export interface DemoOptions extends CommonOptions, JsonOption {
  /** Folder that holds run folders. */
  output: string;
}

/** What somebody who waits is told and may ask. */
export interface Waiting {
  /** Called before the work begins, with what there is to know. */
  onNotes(notes: readonly string[]): void;
  /** Ends the work between two batches or tokens; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options by command. */
export interface CommandOptions {
  train: TrainOptions;
  resume: ResumeOptions;
  plan: PlanOptions;
  compare: CompareOptions;
  preview: PreviewOptions;
  inspect: InspectOptions;
  evaluate: EvaluateOptions | TaskListOptions | EvaluatePerplexityOptions;
  generate: GenerateOptions;
  export: ExportOptions;
  apply: DeltaOptions;
  undo: DeltaOptions;
  prune: PruneCommandOptions;
  init: InitOptions;
  bench: BenchOptions;
  doctor: DoctorOptions;
  demo: DemoOptions;
}

export type CommandName = keyof CommandOptions;

/** Runs a command; resolves to the process's exit code. */
export type CommandBody<Name extends CommandName> = (options: CommandOptions[Name]) => Promise<number>;
