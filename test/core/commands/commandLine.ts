/** The command line as a person calls it: a child process, and one small run that several tests look at. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { storyFolder } from "../../support/storyModel.ts";

export const cli = path.resolve(import.meta.dirname, "../../../src/core/cli.ts");
export const demoData = path.resolve(storyFolder, "../data");

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end in `folder`. */
export function sparseTuner(folder: string, ...args: string[]): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { cwd: folder, encoding: "utf8", maxBuffer: 1 << 26 });
  return { status, stdout, stderr };
}

/** Output that must be JSON lines and nothing else, from a command that must succeed. */
export function jsonLines<Line>({ status, stdout, stderr }: Outcome): Line[] {
  if (status !== 0) throw new Error(`exit code ${status}: ${stderr}`);
  if (!stdout.endsWith("\n")) throw new Error(`the last line is not whole: ${stdout.slice(-80)}`);
  return stdout
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line));
}

export function temporaryFolder(after: (clean: () => void) => void): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-commands-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A run file's text: the bundled model on the head of the bundled rows, 4 updates of 2 × 128 tokens. */
export function runFileText({
  model = storyFolder,
  data = path.join(demoData, "gsm8k-train.jsonl"),
  method = "{ name: smt, blocks: 20, blockSize: 16, warmup: { steps: 2 } }",
  train = "precision: bf16",
} = {}): string {
  return `model: ${model}
data: { train: ${data}, eval: ${path.join(demoData, "gsm8k-test.jsonl")}, maxRows: 40 }
method: ${method}
train: { steps: 4, batchSize: 2, sequenceLength: 128, learningRate: 3.0e-3, learningRateWarmupSteps: 1, ${train} }
evaluate: { every: 2, rows: 10 }
checkpoint: { every: 2 }
`;
}

/** A finished run: its folder and what `train --json` printed. */
export function finishedRun(folder: string, name: string, text: string): { run: string; events: RunEvent[]; printed: Outcome } {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, `${name}.yaml`), `${text}output: ${name}-runs\n`);
  const printed = sparseTuner(folder, "train", `${name}.yaml`, "--json");
  const events = jsonLines<RunEvent>(printed);
  return { run: path.join(`${name}-runs`, readdirSync(path.join(folder, `${name}-runs`))[0]), events, printed };
}

/** F32 tensor of a safetensors file that holds only little. */
export function floatTensor(file: string, name: string): { shape: number[]; values: Float32Array } {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const { shape, data_offsets } = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes))[name];
  const start = 8 + headerBytes + data_offsets[0];
  return { shape, values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + 8 + headerBytes + data_offsets[1])) };
}
