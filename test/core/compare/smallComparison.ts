/** A comparison that takes a few seconds, on the bundled model, and what equal comparisons have in common. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { stringify } from "yaml";
import type { ComparisonLine } from "../../../src/protocol/compareResults.ts";
import { parseComparisonLines } from "../../../src/protocol/compareResults.ts";
import { storyFolder } from "../../support/storyModel.ts";

/** Questions of the bundled rows as plain texts, one JSON line each. */
function rows(file: string, count: number): string {
  const lines = readFileSync(path.resolve(storyFolder, "../data", file), "utf8")
    .split("\n")
    .slice(0, count);
  return lines.map((line) => `${JSON.stringify({ text: JSON.parse(line).question })}\n`).join("");
}

/** Writes the file with its data and returns its path: SMT at one budget and full fine-tuning, two learning rates, two seeds: six runs of six updates. */
export function writeComparison(folder: string, overrides: object = {}): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "train.jsonl"), rows("gsm8k-train.jsonl", 20));
  writeFileSync(path.join(folder, "eval.jsonl"), rows("gsm8k-test.jsonl", 3));
  const file = path.join(folder, "small.sparse-tuner-compare.yaml");
  const comparison = {
    model: storyFolder,
    data: { train: "train.jsonl", eval: "eval.jsonl" },
    methods: [{ name: "smt", blockSize: 16, warmup: { steps: 1 } }, { name: "full" }],
    budgets: [3000],
    learningRates: [1e-3, 3e-3],
    seeds: [1, 2],
    train: { steps: 6, batchSize: 2, sequenceLength: 32, learningRateWarmupSteps: 1 },
    evaluate: { every: null },
    checkpoint: { every: 2 },
    threads: 1,
    output: "comparisons",
    ...overrides,
  };
  writeFileSync(file, stringify(comparison));
  return file;
}

/** The only comparison folder beside a file. */
export function onlyComparison(file: string): string | null {
  const output = path.join(path.dirname(file), "comparisons");
  try {
    const names = readdirSync(output).filter((name) => !name.startsWith("."));
    return names.length === 1 ? path.join(output, names[0]) : null;
  } catch {
    return null;
  }
}

/** None while nothing was written. */
export function linesOf(folder: string): ComparisonLine[] {
  const file = path.join(folder, "results.jsonl");
  return existsSync(file) ? parseComparisonLines(readFileSync(file, "utf8")) : [];
}

/** Everything of the results that does not depend on the clock. */
export function numbersOf(folder: string): object[] {
  return linesOf(folder).flatMap((line) => {
    if (line.kind !== "result") return [];
    const { timeMs: _time, secondsPerStep: _step, seconds: _seconds, ...rest } = line;
    return [rest];
  });
}
