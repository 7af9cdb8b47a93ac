/**
 * What each command is given, after the command line has been read and checked: plain data, so that a command can be called from a test or from
 * another program. A command body is `(options) => Promise<exit code>`; it prints its result to standard output and throws UserError for what a person can mend.
 */

import type { BlockPlace } from "../../protocol/coreProtocol.ts";

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

export interface TrainOptions extends CommonOptions, JsonOption {
  runFile: string;
}

export interface ResumeOptions extends CommonOptions, JsonOption {
  runFolder: string;
  /** Go on although base model, data or configuration are not what the run was started with. */
  acceptChanges: boolean;
}

export interface PlanOptions extends CommonOptions, JsonOption {
  runFile: string;
}

export interface PreviewOptions extends CommonOptions {
  runFile: string;
}

export interface InspectOptions extends CommonOptions, JsonOption {
  runFolder: string;
  block: BlockPlace | null;
  /** Of the checkpoint that is looked at; null for the newest. */
  step: number | null;
}

export interface EvaluateOptions extends CommonOptions, JsonOption {
  /** A model folder or a run folder. */
  modelOrRun: string;
  data: string;
  /** Tokens a row is cut at; null for the run's, or the model's positions up to 2048. */
  sequenceLength: number | null;
  /** Usable rows read at most; null for all. */
  rows: number | null;
}

export interface GenerateOptions extends CommonOptions, JsonOption {
  modelOrRun: string;
  /** Empty: starts from BOS. */
  prompt: string;
  /** At most this many new tokens. */
  tokens: number;
  /** 0 takes the likeliest token. */
  temperature: number;
  seed: number;
}

export interface ExportOptions extends CommonOptions {
  runFolder: string;
  format: "merged" | "delta";
  to: string;
}

/** `apply` and `undo`. */
export interface DeltaOptions extends CommonOptions {
  model: string;
  /** smt.safetensors, or a folder with it: an exported delta or a run that is done. */
  delta: string;
}

export interface InitOptions extends CommonOptions {
  /** A Hugging Face config.json. */
  configFile: string;
  to: string;
  dtype: "f32" | "f16" | "bf16";
  seed: number;
}

export interface BenchOptions extends CommonOptions, JsonOption {
  /** A Python with torch to compare with, or null. */
  peer: string | null;
}

export interface DoctorOptions extends CommonOptions, JsonOption {}

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
  preview: PreviewOptions;
  inspect: InspectOptions;
  evaluate: EvaluateOptions;
  generate: GenerateOptions;
  export: ExportOptions;
  apply: DeltaOptions;
  undo: DeltaOptions;
  init: InitOptions;
  bench: BenchOptions;
  doctor: DoctorOptions;
  demo: DemoOptions;
}

export type CommandName = keyof CommandOptions;

/** Runs a command; resolves to the process's exit code. */
export type CommandBody<Name extends CommandName> = (options: CommandOptions[Name]) => Promise<number>;
