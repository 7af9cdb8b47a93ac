/**
 * Runs that take about a second, on the bundled model: their run files, doing them in this process or in a child, and everything of a run folder
 * that must be the same when a run is the same. Wall-clock figures are left out, nothing else.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { stringify } from "yaml";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { checkRun } from "../../../src/core/prepare.ts";
import { runSession, type SessionOptions } from "../../../src/core/session.ts";
import { history, type RunEvent } from "../../../src/protocol/events.ts";
import { parseRunFile, type RunConfig, stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { storyFolder } from "../../support/storyModel.ts";

export const cli = path.resolve(import.meta.dirname, "../../../src/core/cli.ts");

/** A folder that is removed after the test (or suite). */
export function temporaryFolder(test: { after(clean: () => void): void }): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-run-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Questions of the bundled rows as plain texts, one JSON line each. */
function rows(file: string, count: number): string {
  const lines = readFileSync(path.resolve(storyFolder, "../data", file), "utf8")
    .split("\n")
    .slice(0, count);
  return lines.map((line) => `${JSON.stringify({ text: JSON.parse(line).question })}\n`).join("");
}

/** Overrides of a run file, section by section. */
export interface Overrides {
  model?: string;
  data?: object;
  method?: object;
  train?: object;
  evaluate?: object;
  checkpoint?: object;
  device?: RunConfig["device"];
  threads?: number;
  output?: string;
}

/** Writes a run file with its data into `folder` and returns its path: 12 SMT updates of 2 × 48 tokens, evaluated every 4, saved every 3. */
export function writeRunFile(folder: string, overrides: Overrides = {}): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "train.jsonl"), rows("gsm8k-train.jsonl", 40));
  writeFileSync(path.join(folder, "eval.jsonl"), rows("gsm8k-test.jsonl", 4));
  const method = overrides.method ?? { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 3 } };
  const run = {
    model: overrides.model ?? storyFolder,
    data: { train: "train.jsonl", eval: "eval.jsonl", ...overrides.data },
    method,
    train: { steps: 12, batchSize: 2, sequenceLength: 48, learningRate: 3e-3, learningRateWarmupSteps: 2, precision: "bf16", ...overrides.train },
    evaluate: { every: 4, ...overrides.evaluate },
    checkpoint: { every: 3, keep: 2, ...overrides.checkpoint },
    device: overrides.device ?? "auto",
    threads: overrides.threads ?? 1,
    output: overrides.output ?? "runs",
  };
  const file = path.join(folder, "run.yaml");
  writeFileSync(file, stringify(run));
  return file;
}

export function readConfig(runFile: string): RunConfig {
  return parseRunFile(readFileSync(runFile, "utf8"), runFile);
}

/** Does a session of a new run (or, with `runFolder`, of that one) in this process; returns its folder and how it ended. */
export async function session(
  runFile: string,
  options: Partial<SessionOptions> & { runFolder?: string } = {},
): Promise<{ folder: string; ended: "done" | "stopped"; events: RunEvent[] }> {
  const config = readConfig(runFile);
  const checked = await checkRun(config);
  const folder = options.runFolder ?? (await createRunFolder(config.output, "small", stringifyRunConfig(config)));
  const events: RunEvent[] = [];
  const resume = options.runFolder ? { acceptChanges: false } : null;
  const onEvent = (event: RunEvent) => {
    events.push(event);
    options.onEvent?.(event);
  };
  const ended = await runSession(checked, folder, { stopRequested: () => false, onWaiting: () => {}, resume, ...options, onEvent });
  return { folder, ended, events };
}

/** A child process that trains or resumes, its events as they come. */
export class RunProcess {
  readonly child: ChildProcess;
  readonly events: RunEvent[] = [];
  /** Everything on standard error. */
  errors = "";
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #rest = "";
  readonly #watchers = new Set<(event: RunEvent) => void>();

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, [cli, ...args, "--json"], { stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#read(text));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
    });
    this.exit = new Promise((resolve) => this.child.on("close", (code, signal) => resolve({ code, signal })));
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      const event = JSON.parse(line) as RunEvent;
      this.events.push(event);
      for (const watcher of this.#watchers) watcher(event);
    }
  }

  /** Calls `then` at the first event that fits. */
  when(fits: (event: RunEvent) => boolean, then: (event: RunEvent) => void): void {
    const watcher = (event: RunEvent) => {
      if (!fits(event)) return;
      this.#watchers.delete(watcher);
      then(event);
    };
    this.#watchers.add(watcher);
    for (const event of [...this.events]) if (this.#watchers.has(watcher)) watcher(event);
  }

  /** The first event that fits; fails when the process ends without one. */
  async seen(fits: (event: RunEvent) => boolean): Promise<RunEvent> {
    const ended = this.exit.then(({ code }) => {
      throw new Error(`the process ended with ${code} before: ${this.errors}`);
    });
    return Promise.race([new Promise<RunEvent>((resolve) => this.when(fits, resolve)), ended]);
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.child.kill(signal);
  }
}

/** The only run folder under `output`, or null. */
export function onlyRun(output: string): string | null {
  const names = existsSync(output) ? readdirSync(output).filter((name) => !name.startsWith(".")) : [];
  if (names.length > 1) throw new Error(`${output} holds ${names.join(", ")}`);
  return names.length === 1 ? path.join(output, names[0]) : null;
}

/** Everything that equal runs have in common: the numbers of their history, and the hash of every file that does not hold times. */
export function resultOf(runFolder: string): { numbers: object[]; files: Record<string, string> } {
  const events = readFileSync(path.join(runFolder, "events.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as RunEvent);
  const counted = ["warmup", "selection", "initialising", "step", "evaluation", "sparsity", "skipped"];
  const numbers = history(events)
    .filter(({ kind }) => counted.includes(kind))
    .map(({ sequence: _sequence, timeMs: _time, ...event }) => ({ ...event, tokensPerSecond: null }));
  const files: Record<string, string> = {};
  for (const name of readdirSync(runFolder, { recursive: true }) as string[]) {
    if (["events.jsonl", "run.yaml", "log.txt", "run.lock"].includes(name)) continue; // times; the output folder; times; a process
    const file = path.join(runFolder, name);
    files[name] = readOrFolder(file);
  }
  return { numbers, files };
}

function readOrFolder(file: string): string {
  try {
    return createHash("sha256").update(readFileSync(file)).digest("hex");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EISDIR") return "folder";
    throw error;
  }
}

/** The methods whose runs must survive anything, each with a precision. */
export const methods: Record<string, Pick<Overrides, "method" | "train">> = {
  "smt, choosing anew, bf16": {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 3 }, reselectEvery: 4 },
    train: { precision: "bf16" },
  },
  "smt, choosing anew, f32": {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 2 }, reselectEvery: 5 },
    train: { precision: "f32" },
  },
  "smt after a warm-up that trains, bf16": {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 3, update: true } },
    train: { precision: "bf16" },
  },
  "smt after a warm-up that trains, f32": {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 3, update: true } },
    train: { precision: "f32" },
  },
  "full, bf16": { method: { name: "full" }, train: { precision: "bf16", learningRate: 1e-3 } },
  "full, f32": { method: { name: "full" }, train: { precision: "f32", learningRate: 1e-3 } },
  "lors, bf16": { method: { name: "lors", rank: 4, initSamples: 3 }, train: { precision: "bf16" } },
  "lora with dropout, bf16": { method: { name: "lora", rank: 4, dropout: 0.2 }, train: { precision: "bf16" } },
  "dora with dropout, f32": { method: { name: "dora", rank: 4, dropout: 0.2, normGradient: "full" }, train: { precision: "f32" } },
  "spp, f32": { method: { name: "spp", groups: 8 }, train: { precision: "f32" } },
  "sqft with a search over ranks, f32": {
    method: { name: "sqft", rank: 4, dropout: 0.1, neuralSearch: [4, 2] },
    train: { precision: "f32", gradientAccumulation: 2 },
  },
  "full that keeps zeros, bf16": { method: { name: "full", sparse: "keep" }, train: { precision: "bf16", learningRate: 1e-3 } },
};
