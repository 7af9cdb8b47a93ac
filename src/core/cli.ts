#!/usr/bin/env node
/**
 * The command line: which commands there are, what they are given, how they end. It reads arguments and reports errors; the work is in commands/.
 * Exit codes: 0 done, 1 failed, 2 bad usage or input, 130 and 143 stopped by a signal.
 * The rule to keep: an error is one sentence with its cause and one with the next action on standard error; a stack trace needs --verbose.
 */
import { Command, CommanderError, Help, InvalidArgumentError, Option } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { pruningGroupings, pruningMethods } from "../protocol/pruning.ts";
import { UserError } from "../protocol/userError.ts";
import { bodies } from "./commands/bodies.ts";
import { fileErrorSentence } from "./commands/fileErrors.ts";
import {
  type BlockPlace,
  type CommandBody,
  type CommandName,
  type CommandOptions,
  type ExportOptions,
  exportDTypes,
  exportFormats,
} from "./commands/options.ts";
import { exitOnSignals } from "./commands/stopSignal.ts";

const failed = 1;
const badUsage = 2;

/** Runs the command line; resolves to the exit code. `args` are the words after the program's name. */
export async function main(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = commandLine(async (name, options) => {
    exitCode = await run(name, options);
  });
  try {
    await program.parseAsync(args as string[], { from: "user" });
    return exitCode;
  } catch (error) {
    // Commander has printed its help or its sentence already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : badUsage;
    return report(error, args.includes("--verbose"));
  }
}

type Run = <Name extends CommandName>(name: Name, options: CommandOptions[Name]) => Promise<void>;

async function run<Name extends CommandName>(name: Name, options: CommandOptions[Name]): Promise<number> {
  const body = await (bodies[name] as () => Promise<CommandBody<Name>>)();
  return body(options);
}

/** Prints what went wrong and says what to exit with. */
function report(error: unknown, verbose: boolean): number {
  const print = (line: string) => process.stderr.write(`${line}\n`);
  if (verbose && error instanceof Error) print(error.stack ?? String(error));
  if (error instanceof UserError) {
    print(`sparse-tuner: ${error.message}`);
    print(error.action);
    return error.badInput ? badUsage : failed;
  }
  const sentence = fileErrorSentence(error);
  if (sentence !== null) {
    print(`sparse-tuner: ${sentence}`);
    print("Check the path and its permissions, and run the command again.");
    return badUsage;
  }
  print(`sparse-tuner: ${error instanceof Error ? error.message : String(error)}`);
  print(
    verbose
      ? "This is an error of Sparse Tuner: please report it with the trace above."
      : "This was not foreseen: run the command again with --verbose for a trace.",
  );
  return failed;
}

const commandersHelp = new Help();

/** A default of "no" goes without saying. */
function optionDescription(option: Option): string {
  return commandersHelp.optionDescription(option).replace(/ \(default: (false|null)\)$/, "");
}

/** Every command has options; its list needs not say so. */
function subcommandTerm(command: Command): string {
  return `${command.name()} ${command.usage().replace("[options]", "")}`.replace(/ +/g, " ").trim();
}

function commandLine(run: Run): Command {
  const program = new Command("sparse-tuner")
    .description("Sparse fine-tuning of language models: train only the blocks of a model that matter, and see which ones.")
    .version(packageJson.version)
    .option("--verbose", "print stack traces and what is otherwise left out", false)
    .configureHelp({ showGlobalOptions: true, optionDescription, subcommandTerm })
    .addHelpText("after", "\nExit codes: 0 done, 1 failed, 2 bad usage or input, 130 or 143 stopped by a signal.\nStart with `sparse-tuner demo`.")
    .exitOverride();
  const command = (usage: string, description: string) =>
    program
      .command(usage)
      .description(description)
      .showHelpAfterError(`Run \`sparse-tuner ${usage.split(" ")[0]} --help\` for its usage.`);
  program.showHelpAfterError("Run `sparse-tuner --help` for the commands.");
  const json = "print JSON instead of text";
  const adapterBase = "the model that an adapter's folder belongs to";
  const verbose = () => program.opts<{ verbose: boolean }>().verbose;

  command("train <RUN.yaml>", "Start a run.")
    .option("--json", "print every event as one JSON line", false)
    .addHelpText("after", runFileHelp)
    .action((runFile: string, options: { json: boolean }) => run("train", { runFile, ...options, verbose: verbose() }));
  command("resume <RUN_FOLDER>", "Continue a stopped or killed run; a finished one prints `done`.")
    .option("--json", "print every event as one JSON line", false)
    .option("--accept-changes", "go on although base model, data or configuration have changed since the start", false)
    .action((runFolder: string, options: { json: boolean; acceptChanges: boolean }) => run("resume", { runFolder, ...options, verbose: verbose() }));
  command("plan <RUN.yaml>", "Say what memory a run takes, without weights: a folder with config.json is enough.")
    .option("--json", json, false)
    .action((runFile: string, options: { json: boolean }) => run("plan", { runFile, ...options, verbose: verbose() }));
  command("compare <COMPARE.yaml|FOLDER>", "Run methods on the same model and data, and show which one does best; a comparison's folder goes on.")
    .option("--resume", "go on with the comparison whose folder is named (a folder is always gone on with)", false)
    .option("--json", "print every result as one JSON line", false)
    .addHelpText("after", compareFileHelp)
    .action((fileOrFolder: string, options: { json: boolean; resume: boolean }) => run("compare", { fileOrFolder, ...options, verbose: verbose() }));
  command("preview <RUN.yaml>", "Show the real first batch: tokens, roles, loss mask, documents.").action((runFile: string) =>
    run("preview", { runFile, verbose: verbose() }),
  );
  command("inspect <RUN_FOLDER>", "Show which blocks a run trains, and one block's numbers.")
    .option("--block <NAME:ROW,COLUMN>", "a block, e.g. model.layers.0.self_attn.q_proj:2,5", blockPlace, null)
    .option("--step <N>", "look at the checkpoint of this step (default: the newest)", wholeNumber(0), null)
    .option("--json", json, false)
    .action((runFolder: string, options: { block: BlockPlace | null; step: number | null; json: boolean }) =>
      run("inspect", { runFolder, ...options, verbose: verbose() }),
    );
  const evaluateCommand = command("evaluate <MODEL_OR_RUN>", "Measure loss and perplexity on a file, or accuracy on test sets.")
    .option(
      "--data <FILE>",
      "rows to evaluate on: the response tokens of question and answer or chat rows, all tokens of texts; with --task its file, or a folder with <task>.json or LLM-Adapters' <Task>/test.json",
      word,
      null,
    )
    .option("--base <MODEL>", adapterBase, word, null)
    .option(
      "--sequence-length <N>",
      "tokens a row is cut at (default: the run's, or a model's positions up to 2048); give a run and its base the same to compare them",
      wholeNumber(2),
      null,
    )
    .option("--rows <N>", "usable rows read at most (default: all)", wholeNumber(1), null)
    .addOption(new Option("--task <NAMES>", taskHelp).argParser(word).default(null).conflicts("sequenceLength"))
    .addOption(
      new Option("--scoring <HOW>", "with --task (default: logLikelihood where a task offers answers, else generation)")
        .choices(["logLikelihood", "generation"])
        .default(null),
    )
    .option("--batch-size <B>", "with --task, prompts worked on at once (default: 16)", wholeNumber(1, 4096), null)
    .addOption(
      new Option("--perplexity <FILE>", "as papers on pruning measure it: the whole text in windows of the sequence length, without overlap")
        .argParser(word)
        .default(null)
        .conflicts(["data", "task", "rows", "scoring", "batchSize"]),
    )
    .option("--json", json, false);
  evaluateCommand.action((modelOrRun: string, options: EvaluateArguments) => {
    const { data, task, perplexity, scoring, batchSize, rows, sequenceLength, ...rest } = options;
    const common = { modelOrRun, ...rest, verbose: verbose() };
    if (perplexity !== null) return run("evaluate", { ...common, text: perplexity, sequenceLength });
    if (data === null) return evaluateCommand.error("error: required option '--data <FILE>' not specified");
    if (task !== null) return run("evaluate", { ...common, tasks: task, data, scoring, rows, batchSize: batchSize ?? 16 });
    if (scoring !== null || batchSize !== null) return evaluateCommand.error("error: --scoring and --batch-size belong to --task");
    return run("evaluate", { ...common, data, sequenceLength, rows });
  });
  command("generate <MODEL_OR_RUN>", "Continue a prompt.")
    .requiredOption("--prompt <TEXT>", "what to continue; empty starts from the beginning-of-text token")
    .option("--base <MODEL>", adapterBase, word, null)
    .option("--tokens <N>", "at most so many new tokens", wholeNumber(1), 100)
    .option("--temperature <T>", "0 takes the likeliest token", nonNegative, 0)
    .option("--seed <S>", "seed of the sampling", seed, 1)
    .option("--json", json, false)
    .action(
      (modelOrRun: string, options: { prompt: string; base: string | null; tokens: number; temperature: number; seed: number; json: boolean }) =>
        run("generate", { modelOrRun, ...options, verbose: verbose() }),
    );
  command("export <RUN_OR_ADAPTER>", "Write a run's result, or an adapter's, as a model folder, a delta or an adapter.")
    .addOption(
      new Option(
        "--format <FORMAT>",
        "merged: a complete model folder; delta: SMT's trained blocks alone; adapter: an adapter alone; peft: an adapter that PEFT loads (lora, dora, and SMT's blocks by --rank)",
      )
        .choices([...exportFormats])
        .makeOptionMandatory(),
    )
    .requiredOption("--to <FOLDER>", "folder to write, new or empty")
    .option("--base <MODEL>", adapterBase, word, null)
    .option("--rank <R>", "of the low-rank matrices that stand for SMT's blocks in PEFT's format", wholeNumber(1, 65536), null)
    .addOption(
      new Option("--dtype <DTYPE>", "with merged: what all weights are stored as (default: as the base's)").choices([...exportDTypes]).default(null),
    )
    .action((runFolder: string, options: Omit<ExportOptions, "runFolder" | "verbose">) =>
      run("export", { runFolder, ...options, verbose: verbose() }),
    );
  command("apply <MODEL> <DELTA>", "Write a delta's blocks into a model folder.").action((model: string, delta: string) =>
    run("apply", { model, delta, verbose: verbose() }),
  );
  command("undo <MODEL> <DELTA>", "Take a delta out again: the model's files get their old bytes back.").action((model: string, delta: string) =>
    run("undo", { model, delta, verbose: verbose() }),
  );
  command("prune <MODEL>", "Write a model in which a share of the weights of its linear maps is zero.")
    .addOption(new Option("--method <METHOD>", "what is pruned first").choices([...pruningMethods]).makeOptionMandatory())
    .requiredOption("--pattern <PATTERN>", "a share of zeros such as 0.5, or n zeros of m neighbouring inputs: 2:4, 4:8")
    .addOption(
      new Option("--grouping <WHERE>", "ria with a share: where the lowest scores are looked for (default: matrix)")
        .choices([...pruningGroupings])
        .default(null),
    )
    .option(
      "--permute",
      "with 2:4, 4:8 …: put the model's channels into an order first in which more of what scores high stays; the model computes the same",
      false,
    )
    .option(
      "--calibration <FILE>",
      "text that shows which inputs matter: .txt, .jsonl, .json; magnitude can do without",
      (path: string) => path,
      null,
    )
    .requiredOption("--to <FOLDER>", "folder to write, new or empty")
    .option("--samples <N>", "calibration windows", wholeNumber(1, 1e6), 128)
    .option("--sequence-length <N>", "tokens of a window (default: the model's positions, at most 2048)", wholeNumber(2), null)
    .option("--seed <S>", "draws the windows", seed, 0)
    .addOption(
      new Option("--device <DEVICE>", "what computes; auto is the cpu here").choices(["auto", "cpu", "webgpu", "tensorflow"]).default("auto"),
    )
    .option("--threads <N>", "threads of the cpu (default: one a core)", wholeNumber(1, 1024), null)
    .option("--json", json, false)
    .action((model: string, options: Omit<CommandOptions["prune"], "model" | "verbose">) => run("prune", { model, ...options, verbose: verbose() }));
  command("init <CONFIG.json>", "Write a model with random weights, for benchmarks.")
    .requiredOption("--to <FOLDER>", "folder to write, new or empty")
    .addOption(new Option("--dtype <DTYPE>", "type of the weights").choices(["f32", "f16", "bf16"]).default("bf16"))
    .option("--seed <S>", "seed of the weights", seed, 1)
    .action((configFile: string, options: { to: string; dtype: "f32" | "f16" | "bf16"; seed: number }) =>
      run("init", { configFile, ...options, verbose: verbose() }),
    );
  command("bench", "Measure the engine against this machine's limits.")
    .option("--peer <PYTHON>", "a Python with PyTorch to measure in turn with", (path: string) => path, null)
    .option("--methods <LIST>", "methods to train and nothing else, with commas between", (list: string) => list, null)
    .addOption(
      new Option("--device <DEVICE>", "what computes; on webgpu methods train in bf16, and the peer on cuda")
        .choices(["cpu", "webgpu"])
        .default("cpu"),
    )
    .addOption(
      new Option("--model <SIZE>", "random Llama to train: 134M in batches of 2 x 256, 1.2B of 8 x 1024").choices(["134M", "1.2B"]).default("134M"),
    )
    .option("--json", json, false)
    .action((options: Omit<CommandOptions["bench"], "verbose">) => run("bench", { ...options, verbose: verbose() }));
  command("doctor", "Say what of this machine is used, what is not, and why.")
    .option("--json", json, false)
    .addOption(new Option("--install <ENGINE>", "install it for this user, instead of looking").choices(["tensorflow"]).default(null))
    .option("--registry <URL>", "npm package registry it is fetched from, in place of npm's own", (url: string) => url, null)
    .action((options: { json: boolean; install: "tensorflow" | null; registry: string | null }) => run("doctor", { ...options, verbose: verbose() }));
  command("demo", "Fine-tune the bundled model on bundled data and show everything there is to see.")
    .option("--output <FOLDER>", "folder that holds run folders", ".sparse-tuner/runs")
    .option("--json", "print every event as one JSON line", false)
    .action((options: { output: string; json: boolean }) => run("demo", { ...options, verbose: verbose() }));
  return program;
}

const runFileHelp = `
A run file needs a model folder and training data; everything else has a default:

  model: ./model                     # Hugging Face folder
  data: { train: train.jsonl, eval: eval.jsonl, format: auto, template: auto, maxRows: null, trainOnPrompt: false, packing: true }
  method: { name: smt, ratio: 0.0084, blockSize: auto, targets: auto, score: meanOfAbs, selection: global,
            warmup: { steps: 100, update: false }, reselectEvery: null }   # instead of ratio: blocks, trainableParameters
  # or { name: full, sparse: ignore }, which keep lets a pruned model's zeros stay; adapters:
  #    { name: lors, rank: 16, alpha: 16, targets: auto, gradient: ste, init: gradientSvd, initSamples: 128 }     # for pruned models
  #    { name: lora, rank: 16, alpha: 32, dropout: 0, rankStabilized: false, targets: auto, ranks: {} }           # dora: + normGradient: detached
  #    { name: spp, groups: 16, scaling: 2, dropout: 0, targets: auto }                                           # for pruned models
  #    { name: sqft, rank: 32, alpha: 64, dropout: 0, neuralSearch: null, quantize: null, targets: auto }         # for pruned models
  train: { steps: 500, batchSize: 4, sequenceLength: 512, gradientAccumulation: 1, learningRate: 1.0e-4, schedule: cosine,
           learningRateWarmupSteps: 20, minLearningRate: 0, betas: [0.9, 0.95], epsilon: 1.0e-8, weightDecay: 0, clipGradNorm: 1.0,
           seed: 1, precision: bf16, recompute: none }                     # instead of steps: epochs
  evaluate: { every: 50, rows: 200, earlyStopping: null }
  checkpoint: { every: 100, keep: 2 }
  device: auto                       # a graphics card that computes right, else cpu; or cpu | webgpu | tensorflow
  threads: auto
  output: .sparse-tuner/runs         # holds run folders only`;

const taskHelp =
  "test sets to be judged by, with commas between: boolq, piqa, siqa, hellaswag, winogrande, arc_easy, arc_challenge, obqa (all: commonsense), gsm8k, svamp, aqua, addsub, multiarith, singleeq (all: maths), mawps, mathqa";

interface EvaluateArguments {
  data: string | null;
  task: string | null;
  perplexity: string | null;
  base: string | null;
  scoring: "logLikelihood" | "generation" | null;
  batchSize: number | null;
  rows: number | null;
  sequenceLength: number | null;
  json: boolean;
}

function word(text: string): string {
  return text;
}

const compareFileHelp = `
A comparison needs a model folder, training and held-out rows, and methods; everything else has a default:

  model: ./model
  data: { train: train.jsonl, eval: eval.jsonl }                          # and what a run file's data has
  methods: [{ name: smt }, { name: lora }, { name: full, label: full FT }] # each as method in a run file
  budgets: [50000, 200000]           # trained parameters of each; none takes the methods as they are given
  learningRates: [1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3]                         # the best is searched for each with the first seed
  seeds: [1, 2, 3]                   # mean and spread are taken over them
  train: { steps: 500 }              # as in a run file, without learningRate and seed; so are evaluate, checkpoint, device, threads
  task: { name: boolq, data: boolq.json, rows: 1000, scoring: auto }      # a test set that all are scored on too; left out: none
  criterion: loss                    # what chooses learning rates: the held-out loss, or accuracy on the task
  keepCheckpoints: best              # all | none
  output: .sparse-tuner/comparisons  # holds comparison folders only`;

function blockPlace(text: string): BlockPlace {
  const parts = /^(.+?)(?:\.weight)?:(\d{1,9}),(\d{1,9})$/.exec(text);
  if (!parts) throw new InvalidArgumentError("It must be NAME:ROW,COLUMN, e.g. model.layers.0.self_attn.q_proj:2,5.");
  return { name: parts[1], row: Number(parts[2]), column: Number(parts[3]) };
}

function wholeNumber(minimum: number, maximum = 1e9): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`It must be a whole number from ${minimum} to ${maximum}.`);
    }
    return value;
  };
}

function seed(text: string): number {
  return wholeNumber(0, 0xffffffff)(text);
}

function nonNegative(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new InvalidArgumentError("It must be a number that is not negative.");
  return value;
}

exitOnSignals();
// When the reader of a pipe goes away, nobody sees what comes: stop as if asked to, once.
process.stdout.once("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.stdout.on("error", () => {});
  process.kill(process.pid, "SIGTERM");
});
process.exitCode = await main(process.argv.slice(2));
