/** What the commands print with --json: the keys, one object a line, nothing else; and that the numbers mean what they say they mean. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { benchMatmul } from "../../../src/core/commands/bench.ts";
import { nativeAvailable } from "../../../src/core/devices/cpu/cpuDevice.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { memoryClasses } from "../../../src/protocol/memory.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { cli, demoData, finishedRun, floatTensor, jsonLines, type Outcome, runFileText, sparseTuner, temporaryFolder } from "./commandLine.ts";

const folder = temporaryFolder(after);
const heldOut = path.join(demoData, "gsm8k-test.jsonl");
const asTheRun = ["--data", heldOut, "--rows", "10"];
let run: string;
let events: RunEvent[];
let printed: Outcome;
before(() => {
  ({ run, events, printed } = finishedRun(folder, "small", runFileText()));
  assert.equal(sparseTuner(folder, "export", run, "--format", "merged", "--to", "merged").status, 0);
  assert.equal(sparseTuner(folder, "export", run, "--format", "delta", "--to", "delta").status, 0);
});

const here = (...args: string[]) => sparseTuner(folder, ...args);
const ofKind = <Kind extends RunEvent["kind"]>(kind: Kind) => events.filter((event) => event.kind === kind) as Extract<RunEvent, { kind: Kind }>[];
const keys = (value: object) => Object.keys(value).sort();
const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** A random model in the shape of the bundled one, stored in f32, so that merged weights are the masters themselves. */
function f32Model(): string {
  const model = path.join(folder, "f32");
  if (existsSync(model)) return model;
  assert.equal(here("init", path.join(storyFolder, "config.json"), "--to", "f32", "--dtype", "f32").status, 0);
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) cpSync(path.join(storyFolder, name), path.join(model, name));
  return model;
}

test("train prints every event as a line, the same as in events.jsonl, and nothing else", () => {
  assert.equal(printed.stdout, readFileSync(path.join(folder, run, "events.jsonl"), "utf8"));
  const steps = ofKind("step");
  assert.deepEqual(
    steps.map(({ step }) => step),
    [1, 2, 3, 4],
  );
  for (const step of steps) {
    assert.deepEqual(keys(step), ["gradNorm", "kind", "learningRate", "loss", "sequence", "step", "timeMs", "tokensPerSecond"]);
    assert.ok(Object.values(step).every((value) => typeof value === "string" || Number.isFinite(value)));
  }
  assert.deepEqual(
    ofKind("warmup").map(({ step, of }) => [step, of]),
    [
      [1, 2],
      [2, 2],
    ],
  );
  const [memory] = ofKind("memory");
  assert.deepEqual(keys(memory.bytesByClass), [...memoryClasses].sort());
  assert.equal(
    Object.values(memory.bytesByClass).reduce((sum, bytes) => sum + bytes, 0),
    memory.peakBytes,
  );
  const [selection] = ofKind("selection");
  assert.deepEqual([selection.blocks, selection.trainableParameters], [20, 20 * 256]);
  assert.ok(Math.abs(Object.values(selection.shares).reduce((sum, share) => sum + share, 0) - 1) < 1e-12);
  assert.deepEqual(
    ofKind("evaluation").map(({ step }) => step),
    [0, 2, 4],
  );
  const done = events.at(-1);
  assert.ok(done?.kind === "done" && done.run === path.join(folder, run));
});

test("a finished run that is resumed prints done and exits 0", () => {
  const [done] = jsonLines<RunEvent>(here("resume", run, "--json"));
  assert.deepEqual(done, events.at(-1));
  const { status, stdout } = here("resume", run);
  assert.equal(status, 0);
  assert.match(stdout, /^done: /);
});

test("plan gives the peak by class, beside full fine-tuning's, and needs no weights, data or tokenizer", () => {
  cpSync(path.join(storyFolder, "config.json"), path.join(folder, "bare", "config.json"));
  const planFile = path.join(folder, "bare.yaml");
  const text = runFileText({ model: path.join(folder, "bare"), data: "none.jsonl" });
  writeFileSync(planFile, text);
  const [plan] = jsonLines<Record<string, number & Record<string, number>>>(here("plan", planFile, "--json"));
  for (const key of ["peakBytes", "bytesByClass", "bytesPerParameter", "exact", "fullFineTuning", "device", "fits"]) assert.ok(key in plan, key);
  const sum = (classes: Record<string, number>) => memoryClasses.reduce((bytes, memoryClass) => bytes + classes[memoryClass], 0);
  assert.equal(sum(plan.bytesByClass), plan.peakBytes);
  assert.deepEqual([plan.exact, plan.fits], [false, true]);
  assert.ok(plan.fullFineTuning.peakBytes > plan.peakBytes && plan.fullFineTuning.bytesPerParameter > 17);
  assert.ok(plan.peakBytes >= Math.max(...ofKind("memory").map(({ peakBytes }) => peakBytes)), "the plan is below what the run took");
});

test("evaluate agrees with the run's own evaluations, of the base before it and of the run after it", () => {
  const evaluations = ofKind("evaluation");
  const [ofRun] = jsonLines<Record<string, number>>(here("evaluate", run, ...asTheRun, "--json"));
  assert.deepEqual(ofRun, {
    loss: evaluations[2].loss,
    perplexity: Math.exp(evaluations[2].loss),
    tokens: evaluations[2].tokens,
    rows: 10,
    sequenceLength: 128,
  });
  const [ofBase] = jsonLines<Record<string, number>>(here("evaluate", storyFolder, ...asTheRun, "--sequence-length", "128", "--json"));
  assert.deepEqual([ofBase.loss, ofBase.tokens], [evaluations[0].loss, evaluations[0].tokens]);
  const [ofMerged] = jsonLines<Record<string, number>>(here("evaluate", "merged", ...asTheRun, "--sequence-length", "128", "--json"));
  assert.deepEqual(ofMerged, ofRun);
});

test("generate: a run says what its merged export says, the likeliest tokens every time, and an empty prompt starts from BOS", () => {
  const generate = (model: string, ...more: string[]) =>
    jsonLines<{ text: string; ids: number[] }>(here("generate", model, "--json", "--tokens", "12", ...more))[0];
  const ofRun = generate(run, "--prompt", "Once upon a time");
  assert.deepEqual(keys(ofRun), ["ids", "text"]);
  assert.equal(ofRun.ids.length, 12);
  assert.match(ofRun.text, /^,/);
  assert.deepEqual(generate("merged", "--prompt", "Once upon a time"), ofRun);
  assert.deepEqual(generate(run, "--prompt", "Once upon a time", "--seed", "2"), ofRun);
  assert.match(generate(storyFolder, "--prompt", "").text, /^Once upon a time/);
  const drawn = ["1", "1", "2"].map((seed) => generate(run, "--prompt", "Once", "--temperature", "1", "--seed", seed).text);
  assert.ok(drawn[0] === drawn[1] && drawn[0] !== drawn[2]);
  assert.equal(here("generate", run, "--prompt", "Once upon a time", "--tokens", "12").stdout, `Once upon a time${ofRun.text}\n`);
});

test("inspect lists the blocks in rank order, and a block's delta is what the merged weights differ by", () => {
  const { run: exact } = finishedRun(folder, "exact", runFileText({ train: "precision: f32", model: f32Model() }));
  assert.equal(here("export", exact, "--format", "merged", "--to", "exact-merged").status, 0);
  interface Inspected {
    step: number;
    blocks: {
      name: string;
      row: number;
      column: number;
      score: number;
      rank: number;
      gradient: number | null;
      delta: number | null;
      secondMoment: number | null;
    }[];
    shares: Record<string, number>;
    weight: { rows: number; columns: number; values: number[] };
    delta: { rows: number; columns: number; values: number[] };
    gradient: { rows: number; columns: number; values: number[] };
    firstMoment: { rows: number; columns: number; values: number[] };
    secondMoment: { rows: number; columns: number; values: number[] };
  }
  const [list] = jsonLines<Inspected>(here("inspect", exact, "--json"));
  assert.deepEqual(keys(list), ["blockSize", "blocks", "shares", "step"]);
  assert.deepEqual(keys(list.blocks[0]), ["column", "delta", "gradient", "name", "rank", "row", "score", "secondMoment"]);
  assert.deepEqual(
    list.blocks.map(({ rank }) => rank),
    Array.from({ length: 20 }, (_, rank) => rank),
  );
  const { name, row, column } = list.blocks[3];
  const [{ weight, delta, gradient, firstMoment, secondMoment, ...rest }] = jsonLines<Inspected>(
    here("inspect", exact, "--block", `${name}:${row},${column}`, "--json"),
  );
  assert.deepEqual(rest, list);
  const [base, merged] = [f32Model(), path.join(folder, "exact-merged")].map((model) =>
    floatTensor(path.join(model, "model.safetensors"), `${name}.weight`),
  );
  for (const [matrix, expected] of [
    [weight, (at: number) => merged.values[at]],
    [delta, (at: number) => Math.fround(merged.values[at] - base.values[at])],
  ] as const) {
    assert.deepEqual([matrix.rows, matrix.columns, matrix.values.length], [16, 16, 256]);
    const wanted = matrix.values.map((_, entry) => expected((row * 16 + Math.floor(entry / 16)) * base.shape[1] + column * 16 + (entry % 16)));
    assert.deepEqual(matrix.values, wanted);
  }
  assert.ok(delta.values.some((value) => value !== 0));
  const mean = (matrix: { values: number[] }) => matrix.values.reduce((sum, value) => sum + Math.abs(value), 0) / 256;
  const { gradient: meanGradient, delta: meanDelta, secondMoment: meanSecond } = list.blocks[3];
  assert.deepEqual([meanGradient, meanDelta, meanSecond], [mean(gradient), mean(delta), mean(secondMoment)]);
  assert.ok([gradient, firstMoment, secondMoment].every((matrix) => matrix.rows === 16 && mean(matrix) > 0));

  const [older] = jsonLines<Inspected>(here("inspect", exact, "--step", "2", "--json"));
  assert.deepEqual([list.step, older.step, older.blocks.length], [4, 2, 20]);
  assert.ok(older.blocks.every((block) => block.delta !== null) && older.blocks[3].delta !== list.blocks[3].delta);
  const missing = here("inspect", exact, "--step", "3");
  assert.deepEqual([missing.status, missing.stdout], [2, ""]);
  assert.match(missing.stderr, /no whole checkpoint of step 3.*\n.*steps 2, 4/);
});

test("apply gives the merged weights, undo the base's bytes; a run folder and an exported folder name their delta", () => {
  const weights = path.join(folder, "patched", "model.safetensors");
  cpSync(storyFolder, path.join(folder, "patched"), { recursive: true });
  const before = sha256(weights);
  assert.equal(here("apply", "patched", "delta").status, 0);
  const [ofPatched] = jsonLines<{ ids: number[] }>(here("generate", "patched", "--prompt", "Question:", "--tokens", "20", "--json"));
  const [ofRun] = jsonLines<{ ids: number[] }>(here("generate", run, "--prompt", "Question:", "--tokens", "20", "--json"));
  assert.deepEqual(ofPatched.ids, ofRun.ids);
  assert.notEqual(sha256(weights), before);
  assert.equal(here("undo", "patched", run).status, 0);
  assert.equal(sha256(weights), before);
  assert.deepEqual(readFileSync(path.join(folder, "delta", "smt.safetensors")), readFileSync(path.join(folder, run, "smt.safetensors")));
});

test("a row of the bench has a name, a value beside its limit, and their ratio", {
  skip: !nativeAvailable() && "not run: no native addon",
}, async () => {
  const row = await benchMatmul("f32", 1, { M: 64, K: 96, N: 128 }, 1);
  assert.deepEqual(keys(row), ["limit", "name", "peerRatio", "ratio", "unit", "value"]);
  assert.deepEqual([row.name, row.unit, row.peerRatio], ["matmul f32 64x96x128 1 thread", "GFLOP/s", null]);
  assert.ok(row.value > 0 && row.limit && row.ratio === row.value / row.limit);
});

test("a reader that goes away stops a run, and breaks no short command", { skip: process.platform === "win32" && "not run: no bash" }, () => {
  for (const command of ["train small.yaml --json", "train small.yaml", `inspect ${run} --json`]) {
    const script = `"${process.execPath}" "${cli}" ${command} | head -n 1; echo "$?"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", script], { cwd: folder, encoding: "utf8" });
    assert.equal(stdout.split("\n").length, 3, command);
    assert.doesNotMatch(stderr, /\n\s+at |EPIPE|not foreseen/, command);
  }
});
