/**
 * The text of a new comparison on the model and data of a run file: the methods that are usually compared, budgets by the model's size, and what of the run
 * file they share. It is a start to be edited.
 */
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { stringify } from "yaml";
import { checkRunFile, type RunConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { isPruned } from "../commands/newRunMethod.ts";

/** What is usually compared on a model, and on a pruned one. */
const denseMethods = ["smt", "lora", "dora", "full"];
const sparseMethods = ["lors", "spp", "sqft", "lora"];
/** Budgets as shares of the model's parameters. */
const shares = [0.001, 0.005, 0.02];
const usualBudgets = [100_000, 500_000, 2_000_000];

/** The configuration of a run file. Throws UserError when it is wrong: a comparison could not use it either. */
export async function readRunFile(file: string): Promise<RunConfig> {
  const { config, problems } = checkRunFile(await readFile(file, "utf8"), file);
  if (config) return config;
  throw new UserError(
    "config/invalid",
    vscode.l10n.t("{0} has errors: line {1} {2}", file, problems[0].line, problems[0].message),
    vscode.l10n.t("Correct the run file first."),
  );
}

/** `folder` is where the file will lie: paths below it are written relative to it. */
export function comparisonText(config: RunConfig, held: string, folder: string, totalParameters: number | null): string {
  const { learningRate: _rate, seed: _seed, steps, batchSize, sequenceLength, precision } = config.train;
  const content = {
    model: pathIn(folder, config.model),
    data: { train: pathIn(folder, config.data.train), eval: pathIn(folder, held), format: config.data.format, maxRows: config.data.maxRows },
    methods: (isPruned(config.model) ? sparseMethods : denseMethods).map((name) => ({ name })),
    budgets: totalParameters === null ? usualBudgets : [...new Set(shares.map((share) => rounded(share * totalParameters)))],
    learningRates: [1e-4, 3e-4, 1e-3, 3e-3],
    seeds: [1, 2, 3],
    train: { ...(steps === null ? { epochs: config.train.epochs } : { steps }), batchSize, sequenceLength, precision },
    evaluate: { every: null, rows: config.evaluate.rows },
  };
  const comments = [
    vscode.l10n.t("Sparse Tuner comparison: each method at each budget of trained parameters, with the best of the learning rates, over all seeds."),
    vscode.l10n.t("Without budgets the methods are taken as they are given."),
  ];
  return `${comments.map((comment) => `# ${comment}\n`).join("")}${stringify(content, { lineWidth: 0 })}`.replaceAll("\n", os.EOL);
}

/** Two digits are enough for a budget. */
function rounded(value: number): number {
  return Math.max(1, Number(value.toPrecision(2)));
}

function pathIn(folder: string, file: string): string {
  const relative = path.relative(folder, file);
  if (relative === "" || relative.startsWith("..") || path.isAbsolute(relative)) return file;
  return `./${relative.replaceAll(path.sep, "/")}`;
}
