/** What goes wrong with a person's input: exit code 2, one sentence with the cause, one with the next action, no stack trace, and nothing on standard output. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { storyFolder } from "../../support/storyModel.ts";
import { demoData, finishedRun, runFileText, sparseTuner, temporaryFolder } from "./commandLine.ts";

const folder = temporaryFolder(after);
const heldOut = path.join(demoData, "gsm8k-test.jsonl");
const heldOutText = path.join(folder, "text.txt");
const write = (name: string, text: string | Uint8Array) => {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), text);
};

/** The command must be refused with this sentence and this action. */
function refused(args: string[], sentence: RegExp, action: RegExp, expectedStatus = 2): void {
  const { status, stdout, stderr } = sparseTuner(folder, ...args);
  assert.deepEqual([status, stdout], [expectedStatus, ""], `${args.join(" ")}: ${stderr}`);
  // Without a compiler a note about the device may come first.
  const lines = stderr
    .trimEnd()
    .split("\n")
    .filter((line) => !line.startsWith("note: "));
  assert.ok(lines[0].startsWith("sparse-tuner: "), stderr);
  assert.match(lines.slice(0, -1).join("\n"), sentence, args.join(" "));
  assert.match(lines[lines.length - 1], action, args.join(" "));
  assert.doesNotMatch(stderr, /\n\s+at /, args.join(" "));
}

/** A copy of the bundled model's folder without weights, with these files instead. */
function modelWith(name: string, files: Record<string, string | Uint8Array>, config: object = {}): string {
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    mkdirSync(path.join(folder, name), { recursive: true });
    cpSync(path.join(storyFolder, file), path.join(folder, name, file));
  }
  write(`${name}/config.json`, JSON.stringify({ ...JSON.parse(readFileSync(path.join(storyFolder, "config.json"), "utf8")), ...config }));
  for (const [file, content] of Object.entries(files)) write(`${name}/${file}`, content);
  return name;
}

let run: string;
before(() => {
  write("text.txt", "Once upon a time there was a little girl. ".repeat(200));
  ({ run } = finishedRun(folder, "small", runFileText()));
});

test("a model that cannot be used is named with what is wrong, by every command that opens it", () => {
  const pointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 1415337224\n";
  const weights = readFileSync(path.join(storyFolder, "model.safetensors"));
  const index = { metadata: {}, weight_map: { "model.norm.weight": "model-00001-of-00002.safetensors" } };
  const cases: [string, RegExp, RegExp][] = [
    [modelWith("pointer", { "model.safetensors": pointer }), /Git LFS pointer/, /git lfs pull/],
    [modelWith("pickle", { "pytorch_model.bin": Uint8Array.of(0x80, 2, 0x7d) }), /pytorch_model\.bin is a pickle/, /safetensors/],
    [modelWith("gguf", { "model.gguf": "GGUF" }), /no model\.safetensors.*model\.gguf/, /safetensors/],
    [modelWith("shards", { "model.safetensors.index.json": JSON.stringify(index) }), /model-00001-of-00002\.safetensors.*not there/, /Download/],
    [
      modelWith("experts", { "model.safetensors": weights }, { model_type: "mixtral", num_local_experts: 8 }),
      /mixtral.*mixture of experts/,
      /Supported are/,
    ],
    [modelWith("yarn", { "model.safetensors": weights }, { rope_scaling: { rope_type: "yarn", factor: 4 } }), /rope type "yarn"/, /Supported are/],
    ["nothing", /nothing is missing/, /config\.json/],
  ];
  for (const [model, sentence, action] of cases) {
    write(`${model}.yaml`, runFileText({ model: `./${model}` }));
    refused(["train", `${model}.yaml`], sentence, action);
    refused(["evaluate", model, "--data", heldOut], sentence, action);
  }
});

test("all errors of a run file stand at once, each with path and line", () => {
  write("bad.yaml", "modle: ./model\ndata: { train: rows.jsonl, format: jsn }\nmethod: { name: stm }\ntrain:\n  batchSize: 0\n");
  const { status, stderr } = sparseTuner(folder, "plan", "bad.yaml");
  assert.equal(status, 2);
  assert.match(stderr, /has 5 errors/);
  for (const line of [
    "bad.yaml:1:1: model is missing",
    "bad.yaml:1:1: modle is not a known key; did you mean model?",
    "bad.yaml:2:36: data.format must be",
    'bad.yaml:3:17: method.name must be smt, full, lors, lora, dora, spp or sqft, not "stm"; did you mean smt?',
    "bad.yaml:5:14: train.batchSize must be",
  ])
    assert.ok(stderr.includes(line), `${line}\n${stderr}`);
  refused(["train", "none.yaml"], /none\.yaml does not exist/, /exists/);
});

test("data that cannot be used are refused before a run folder is made", () => {
  write("odd.jsonl", '{"foo":1}\n{"bar":2}\n');
  write("broken.jsonl", `${'{"prompt":"a","completion":"b"}\n'.repeat(5)}${"x\n".repeat(5)}`);
  for (const [data, sentence] of [
    ["odd.jsonl", /no usable row \(line 1: its layout is unknown/],
    ["broken.jsonl", /5 of 10 rows .* are bad.*line 6/],
    ["none.jsonl", /There is no .*none\.jsonl/],
  ] as const) {
    write("data.yaml", `${runFileText({ data })}output: never\n`);
    refused(["train", "data.yaml"], sentence, /\.$/);
    refused(["preview", "data.yaml"], sentence, /\.$/);
  }
  assert.throws(() => readFileSync(path.join(folder, "never")), /ENOENT/);
  refused(["evaluate", storyFolder, "--data", "none.jsonl"], /There is no none\.jsonl/, /Check the path/);
  refused(["evaluate", storyFolder, "--data", heldOut, "--sequence-length", "513"], /--sequence-length is 513.*512 positions/, /512 or less/);
});

test("a target with something in it, a file for a folder, and an unknown block are refused", () => {
  for (const format of ["merged", "delta"]) {
    write(`full-${format}/note.txt`, "mine");
    refused(["export", run, "--format", format, "--to", `full-${format}`], /is not empty/, /new or an empty folder/);
    refused(["export", run, "--format", format, "--to", "small.yaml"], /small\.yaml is a file/, /new folder/);
  }
  refused(["init", path.join(storyFolder, "config.json"), "--to", "full-delta"], /is not empty/, /new or an empty folder/);
  refused(
    ["inspect", run, "--block", "model.layers.0.mlp.gate_proj:999,0"],
    /^sparse-tuner: model\.layers\.0\.mlp\.gate_proj has 24 × 8 blocks: there is none at 999,0\.$/,
    /^Rows go up to 23, columns to 7\.$/,
  );
  refused(["inspect", run, "--block", "lm_head:0,0"], /lm_head is none of the matrices that the run chose blocks from/, /like model\.layers\.0\./);
  const { blocks } = JSON.parse(readFileSync(path.join(folder, run, "selection.json"), "utf8"));
  const taken = new Set(blocks.map(({ name, row, column }: { name: string; row: number; column: number }) => `${name}:${row},${column}`));
  const others = Array.from({ length: 24 }, (_, row) => `model.layers.0.mlp.gate_proj:${row},0`).filter((block) => !taken.has(block));
  refused(["inspect", run, "--block", others[0]], new RegExp(`does not train block ${others[0]}`), /best blocks are model\./);
  refused(["inspect", storyFolder], /is no run folder/, /\.sparse-tuner\/runs/);
  refused(["apply", storyFolder, "full-delta"], /has no smt\.safetensors/, /Give/);
});

test("a model that computes no number is not evaluated as if it had", () => {
  const weights = readFileSync(path.join(storyFolder, "model.safetensors"));
  const headerBytes = Number(weights.readBigUInt64LE(0));
  const header = JSON.parse(weights.toString("utf8", 8, 8 + headerBytes));
  const [start, end] = header["model.norm.weight"].data_offsets.map((at: number) => 8 + headerBytes + at);
  for (let at = start; at < end; at += 2) weights.writeUInt16LE(0x7f7f, at); // the largest bf16: finite, until it is multiplied
  const model = modelWith("huge", { "model.safetensors": weights });
  const sentence = /^sparse-tuner: The model computes NaN or infinity: its mean loss is (NaN|Infinity)\.$/;
  refused(["evaluate", model, "--data", heldOut, "--rows", "3", "--json"], sentence, /look whether training diverged/, 1);
  refused(["evaluate", model, "--perplexity", heldOutText, "--json"], sentence, /look whether training diverged/, 1);
});

test("a prompt that leaves no room says how much there is", () => {
  refused(
    ["generate", run, "--prompt", "Hello", "--tokens", "600"],
    /The prompt has 4 tokens, 600 more are asked for, and the model has 512 positions/,
    /at most 508/,
  );
  refused(
    ["generate", run, "--prompt", "a b ".repeat(600), "--tokens", "1"],
    /The prompt has 1\d\d\d tokens/,
    /^Shorten the prompt to less than 512 tokens/,
  );
});

test("a run that another process works on is left alone", () => {
  const lock = { pid: process.pid, host: os.hostname(), processStart: null, timeMs: Date.now(), nonce: "held-by-the-test" };
  const stopped = path.join(folder, "locked");
  cpSync(path.join(folder, run), stopped, { recursive: true });
  const events = path.join(stopped, "events.jsonl");
  writeFileSync(events, readFileSync(events, "utf8").replace(/.*"kind":"done".*\n/, ""));
  write("locked/run.lock", `${JSON.stringify(lock)}\n`);
  refused(["resume", "locked"], new RegExp(`locked is in use by process ${process.pid}`), /Stop that run first/, 1);
});
