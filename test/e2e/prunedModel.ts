/** A workspace with the bundled model and a copy of it that the command line has pruned, for runs of methods that keep zeros and of those that do not. */
import { execFileSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
const demo = path.join(root, "media/demo");
const cli = path.join(root, "dist/cli.js");

/** Run files of the workspace by the method they train with, on the pruned copy. */
export const runFileOf = (method: string) => `${method}.sparse-tuner.yaml`;

/** Copies model and data without the demo's run file. */
export function fillWithDemo(folder: string): void {
  cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") });
}

/** And prunes the model to 2:4 into `pruned`, with a small run file for each method. */
export function fillWithPruned(folder: string, methods: Record<string, string>): void {
  fillWithDemo(folder);
  const calibration = ["--calibration", path.join(folder, "data/gsm8k-train.jsonl"), "--samples", "4", "--sequence-length", "64"];
  const options = ["--method", "wanda", "--pattern", "2:4", ...calibration, "--to", path.join(folder, "pruned")];
  execFileSync(process.execPath, [cli, "prune", path.join(folder, "model"), ...options], { stdio: "ignore" });
  for (const [method, config] of Object.entries(methods)) {
    const lines = [
      "model: ./pruned",
      "data: { train: data/gsm8k-train.jsonl, eval: data/gsm8k-test.jsonl }",
      `method: ${config} # mine`,
      "train: { steps: 6, batchSize: 1, sequenceLength: 64, precision: f32 }",
      "evaluate: { every: 2, rows: 4 }",
      "",
    ];
    writeFileSync(path.join(folder, runFileOf(method)), lines.join("\n"));
  }
}
