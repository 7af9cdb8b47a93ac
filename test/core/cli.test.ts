import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import type { CommandName } from "../../src/core/commands/options.ts";

const root = path.resolve(import.meta.dirname, "../..");
const cli = path.join(root, "src/core/cli.ts");
const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-cli-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function sparseTuner(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { cwd: folder, encoding: "utf8" });
  return { status, stdout, stderr };
}

const commands: Record<CommandName, string> = {
  train: "<RUN.yaml>",
  resume: "<RUN_FOLDER>",
  plan: "<RUN.yaml>",
  compare: "<COMPARE.yaml|FOLDER>",
  preview: "<RUN.yaml>",
  inspect: "<RUN_FOLDER>",
  evaluate: "<MODEL_OR_RUN>",
  generate: "<MODEL_OR_RUN>",
  export: "<RUN_OR_ADAPTER>",
  apply: "<MODEL> <DELTA>",
  undo: "<MODEL> <DELTA>",
  prune: "<MODEL>",
  init: "<CONFIG.json>",
  bench: "",
  doctor: "",
  demo: "",
};

test("--help names every command, and exits 0", () => {
  const { status, stdout } = sparseTuner("--help");
  assert.equal(status, 0);
  for (const name of Object.keys(commands)) assert.match(stdout, new RegExp(`^ {2}${name}\\b`, "m"));
});

test("every command has its own help with usage and --verbose", () => {
  for (const [name, argument] of Object.entries(commands)) {
    const { status, stdout } = sparseTuner(name, "--help");
    assert.equal(status, 0, name);
    assert.ok(stdout.startsWith(`Usage: sparse-tuner ${name} [options]${argument && ` ${argument}`}\n`), `${name}: ${stdout.slice(0, 80)}`);
    assert.match(stdout, /--verbose/);
  }
});

test("the version is the package's", () => {
  const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  assert.deepEqual(sparseTuner("--version"), { status: 0, stdout: `${version}\n`, stderr: "" });
});

test("bad usage exits 2 with a sentence and the way to help, and prints nothing else", () => {
  const cases: [string[], RegExp][] = [
    [["tarin"], /unknown command 'tarin'\n\(Did you mean train\?\)/],
    [["train"], /missing required argument 'RUN.yaml'/],
    [["train", "a", "b"], /too many arguments/],
    [["train", "--jsn", "x"], /unknown option '--jsn'\n\(Did you mean --json\?\)/],
    [["evaluate", "m"], /required option '--data <FILE>' not specified/],
    [["generate", "m"], /required option '--prompt <TEXT>' not specified/],
    [["generate", "m", "--prompt", "", "--tokens", "0"], /must be a whole number from 1/],
    [["generate", "m", "--prompt", "", "--temperature", "nan"], /must be a number that is not negative/],
    [["generate", "m", "--prompt", "", "--seed", "1.5"], /must be a whole number from 0/],
    [["inspect", "r", "--block", "q_proj"], /must be NAME:ROW,COLUMN/],
    [["export", "r", "--format", "gguf", "--to", "x"], /Allowed choices are merged, delta/],
    [["init", "c.json", "--to", "x", "--dtype", "f64"], /Allowed choices are f32, f16, bf16/],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = sparseTuner(...args);
    assert.deepEqual([status, stdout], [2, ""], args.join(" "));
    assert.match(stderr, message);
    assert.match(stderr, /Run `sparse-tuner [a-z-]+( --help)?`/);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
  assert.equal(sparseTuner().status, 2);
});

test("an error in a file is a sentence and an action, with a trace only under --verbose", () => {
  const missing = sparseTuner("init", "none.json", "--to", "x");
  assert.equal(missing.status, 2);
  assert.match(missing.stderr, /^sparse-tuner: .*none\.json/);
  assert.doesNotMatch(missing.stderr, /\n\s+at /);
  const traced = sparseTuner("init", "none.json", "--to", "x", "--verbose");
  assert.equal(traced.status, 2);
  assert.match(traced.stderr, /\n\s+at /);
});

test("init writes a model folder that depends on the seed alone", () => {
  const config = { model_type: "llama", hidden_size: 8, intermediate_size: 12, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1 };
  const rest = { vocab_size: 16, max_position_embeddings: 32, rms_norm_eps: 1e-5, rope_theta: 10000, hidden_act: "silu", tie_word_embeddings: false };
  writeFileSync(path.join(folder, "config.json"), JSON.stringify({ ...config, ...rest }));
  const weights = ["a", "b", "c"].map((name, i) => {
    const { status, stderr } = sparseTuner("init", "config.json", "--to", name, "--dtype", "f32", "--seed", String(Math.floor(i / 2)));
    assert.deepEqual([status, stderr], [0, ""]);
    return readFileSync(path.join(folder, name, "model.safetensors"));
  });
  assert.ok(weights[0].equals(weights[1]) && !weights[0].equals(weights[2]));
  assert.ok(existsSync(path.join(folder, "a", "config.json")));
});

test("doctor says what is used and gives a probe and one fix for what is not", () => {
  const { status, stdout } = sparseTuner("doctor", "--json");
  const { healthy, findings } = JSON.parse(stdout);
  assert.deepEqual([status, healthy], [0, true]);
  assert.deepEqual(
    ["node", "cpu device", "processor", "memory", "disk", "webgpu", "tensorflow"].filter(
      (subject) => !findings.some((finding: { subject: string }) => finding.subject === subject),
    ),
    [],
  );
  for (const { usable, probe, result, fix } of findings) assert.ok(probe && result && (usable || fix));
  assert.match(sparseTuner("doctor").stdout, /^ok +cpu device +\S.*\n/m);
});

/** A program that stops its loop when asked, as a run does. */
const stopping = `
  import { exitOnSignals, listenForStop } from ${JSON.stringify(path.join(root, "src/core/commands/stopSignal.ts"))};
  exitOnSignals();
  const stop = listenForStop((signal) => console.log("stopping after " + signal));
  console.log("ready");
  const patience = process.argv.includes("slow") ? 100 : 3;
  let steps = 0;
  while (!stop.received || ++steps < patience) await new Promise((resolve) => setTimeout(resolve, 20));
  stop.close();
  console.log("saved");
  process.exitCode = stop.exitCode;
`;

async function signalled(first: NodeJS.Signals, second?: NodeJS.Signals): Promise<[number | null, string]> {
  const child: ChildProcess = spawn(process.execPath, ["--input-type=module", "-e", stopping, ...(second ? ["slow"] : [])]);
  let output = "";
  const seen = (word: string) =>
    new Promise<void>((resolve) => {
      const look = () => output.includes(word) && resolve();
      child.stdout?.on("data", look);
      look();
    });
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const closed = new Promise<number | null>((resolve) => child.on("close", resolve));
  await seen("ready");
  child.kill(first);
  if (second) {
    await seen("stopping");
    child.kill(second);
  }
  return [await closed, output];
}

test("the first signal lets the step end and save, with the signal's exit code; the second ends at once", {
  skip: process.platform === "win32" && "not run: no signals on Windows",
}, async () => {
  assert.deepEqual(await signalled("SIGINT"), [130, "ready\nstopping after SIGINT\nsaved\n"]);
  assert.deepEqual(await signalled("SIGTERM"), [143, "ready\nstopping after SIGTERM\nsaved\n"]);
  assert.deepEqual(await signalled("SIGINT", "SIGTERM"), [143, "ready\nstopping after SIGINT\n"]);
});
