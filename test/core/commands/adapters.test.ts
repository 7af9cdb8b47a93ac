/** Adapters on the command line: what train and plan say of them, inspect's figures, evaluate and generate of an adapter on its base, and every export. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { compareZeros, prunedCopy } from "../run/prunedModel.ts";
import { demoData, finishedRun, floatTensor, jsonLines, runFileText, sparseTuner, temporaryFolder } from "./commandLine.ts";

const folder = temporaryFolder(after);
const pruned = await prunedCopy(storyFolder, path.join(folder, "pruned"));
const here = (...args: string[]) => sparseTuner(folder, ...args);
const small = "precision: f32";
const heldOut = ["--data", path.join(demoData, "gsm8k-test.jsonl"), "--rows", "4", "--sequence-length", "128", "--json"];
const runs = new Map<string, { run: string; events: RunEvent[] }>();

/** A finished run of a method, made when it is first asked for. */
function runOf(method: string, model = pruned): { run: string; events: RunEvent[] } {
  const key = `${method} ${model}`;
  const known = runs.get(key) ?? finishedRun(folder, `run${runs.size}`, runFileText({ model, method, train: small }).replace("rows: 10", "rows: 4"));
  runs.set(key, known);
  return known;
}

const lors = "{ name: lors, rank: 4, initSamples: 3 }";
const lora = "{ name: lora, rank: 4, targets: [q_proj, down_proj] }";
const smt = "{ name: smt, blocks: 6, blockSize: 16, targets: [v_proj], warmup: { steps: 1 } }";

before(() => {
  runOf(lors);
  runOf(lora);
});

function refused(...args: string[]): string {
  const { status, stderr } = here(...args);
  assert.equal(status, 2, stderr);
  return stderr;
}

test("plan counts an adapter's parameters and warns of a method that fills a pruned model's zeros", () => {
  const file = (name: string, method: string) => {
    writeFileSync(path.join(folder, name), runFileText({ model: pruned, method }));
    return name;
  };
  const loraFile = file("plan-lora.yaml", lora);
  const [plan] = jsonLines<{ trainableParameters: number; warnings: string[]; exact: boolean }>(here("plan", loraFile, "--json"));
  assert.deepEqual([plan.trainableParameters, plan.exact], [2 * 4 * (128 + 128 + 128 + 384), true]);
  assert.equal(plan.warnings.length, 1);
  assert.match(plan.warnings[0], /^50\.0 % of the model's linear weights are zero, and LoRA fills them when it is merged: use lors, spp or sqft/);
  const text = here("plan", loraFile).stdout;
  assert.match(text, /^It trains 6\.14 K parameters beside the model's 656 K \(0\.94 %\)\.$/m);
  assert.match(text, /^Warning: 50\.0 % /m);
  const [kept] = jsonLines<{ warnings: string[] }>(here("plan", file("plan-lors.yaml", lors), "--json"));
  assert.deepEqual(kept.warnings, []);
});

test("train says what becomes of the zeros", () => {
  writeFileSync(path.join(folder, "text.yaml"), `${runFileText({ model: pruned, method: lora, train: small })}output: text-runs\n`);
  const { stdout, status } = here("train", "text.yaml");
  assert.equal(status, 0);
  assert.match(stdout, /^note: 50\.0 % of the model's linear weights are zero, and LoRA fills them/m);
  assert.match(stdout, /^zeros +50\.0 % of the linear weights of the base$/m);
  assert.match(stdout, /^zeros +3\d\.\d % of the linear weights after 4 updates, \d+(\.\d)? K of the base's LOST$/m);
  assert.match(stdout, /sparse-tuner(\.js)? inspect |inspect text-runs/);
});

test("inspect says how many parameters are trained where; the run said the same at its start", () => {
  const { run, events } = runOf(lora);
  const found = jsonLines<Record<string, unknown> & { matrices: { name: string; parameters: number }[] }>(here("inspect", run, "--json"))[0];
  // Rank 4 beside (128, 128) and (128, 384) in each of two layers.
  const layer = { q_proj: 4 * (128 + 128), down_proj: 4 * (128 + 384) };
  const all = { q_proj: 2 * layer.q_proj, down_proj: 2 * layer.down_proj };
  const total = all.q_proj + all.down_proj;
  assert.deepEqual([found.trainableParameters, found.parameters, found.parametersByLayer], [total, all, [layer, layer]]);
  assert.deepEqual(found.shares, { q_proj: all.q_proj / total, down_proj: all.down_proj / total });
  assert.deepEqual(
    found.matrices.map(({ parameters }) => parameters),
    [layer.q_proj, layer.down_proj, layer.q_proj, layer.down_proj],
  );
  const { matrices, trainableParameters, parameters, parametersByLayer } = events.find((event) => event.kind === "adapters") ?? assert.fail();
  assert.deepEqual([matrices, trainableParameters, parameters, parametersByLayer], [4, total, all, [layer, layer]]);
  assert.match(here("inspect", run).stdout, /^lora on 4 matrices with 6\.14 K trained parameters, as of step 4\nQ .*33\.3 %/);
});

test("inspect gives norm and effective rank of each matrix's change, as a singular value decomposition does", async () => {
  const { run } = runOf(lora);
  const [found] = jsonLines<{
    step: number;
    method: { name: string };
    matrices: { name: string; rank: number; norm: number; effectiveRank: number }[];
  }>(here("inspect", run, "--json"));
  assert.deepEqual([found.step, found.method.name, found.matrices.length], [4, "lora", 4]);
  const { name, rank, norm, effectiveRank } = found.matrices[3];
  assert.deepEqual([name, rank], ["model.layers.1.mlp.down_proj", 4]);
  const trained = path.join(folder, run, "checkpoints/step-4/trained.safetensors");
  const [a, b] = ["A", "B"].map((part) => floatTensor(trained, `${name}.lora_${part}`));
  const product = Matrix.from1DArray(128, 4, b.values)
    .mmul(Matrix.from1DArray(4, 384, a.values))
    .mul(32 / 4);
  const singular = new SingularValueDecomposition(product, { autoTranspose: true }).diagonal.slice(0, 4);
  const sum = singular.reduce((total, value) => total + value, 0);
  const entropy = singular.reduce((total, value) => (value > 0 ? total - (value / sum) * Math.log(value / sum) : total), 0);
  assert.ok(Math.abs(norm - product.norm("frobenius")) <= 1e-6 * norm, `${norm}, ${product.norm("frobenius")}`);
  assert.ok(Math.abs(effectiveRank - Math.exp(entropy)) <= 1e-4, `${effectiveRank}, ${Math.exp(entropy)}`);
  assert.match(
    here("inspect", run).stdout,
    /^lora on 4 matrices with .*, as of step 4\n(?:.*\n){5}model\.layers\.0\.self_attn\.q_proj +rank +4 +norm \d\.\d{3}e[-+]\d +effective rank \d\.\d\d$/m,
  );
  assert.match(refused("inspect", run, "--block", "model.layers.0.self_attn.q_proj:0,0"), /it is no SMT run\.\nLeave --block out/);
});

test("evaluate and generate: a run, its adapter on its base, and its merged export say the same", () => {
  const { run, events } = runOf(lors);
  const adapter = path.join(run, "adapter");
  const evaluations = events.filter(({ kind }) => kind === "evaluation") as Extract<RunEvent, { kind: "evaluation" }>[];
  type Loss = { loss: number; tokens: number };
  const [ofRun] = jsonLines<Loss>(here("evaluate", run, ...heldOut));
  const last = evaluations.at(-1) as Loss;
  assert.deepEqual([ofRun.loss, ofRun.tokens], [last.loss, last.tokens]);
  assert.deepEqual(jsonLines<Loss>(here("evaluate", adapter, "--base", pruned, ...heldOut))[0], ofRun);
  const generate = (...args: string[]) =>
    jsonLines<{ ids: number[] }>(here("generate", ...args, "--prompt", "Once upon", "--tokens", "8", "--json"))[0].ids;
  const said = generate(run);
  assert.deepEqual(generate(adapter, "--base", pruned), said);
  assert.notDeepEqual(generate(pruned), said);
  assert.match(
    refused("evaluate", adapter, ...heldOut),
    /is an adapter, which needs the model it was trained on\.\nName that model's folder with --base\./,
  );
  assert.match(refused("evaluate", adapter, "--base", storyFolder, ...heldOut), /belongs to a model called "pruned"/);
  assert.match(refused("evaluate", run, "--base", pruned, ...heldOut), /is a run folder, which knows its base/);
});

test("export --format merged of an adapter's folder keeps every zero; without --base it is refused", async () => {
  const adapter = path.join(runOf(lors).run, "adapter");
  assert.match(refused("export", adapter, "--format", "merged", "--to", "no"), /--base/);
  const { status, stdout, stderr } = here("export", adapter, "--base", pruned, "--format", "merged", "--to", "merged");
  assert.deepEqual([status, stdout], [0, "The tuned model stands in merged.\n"], stderr);
  const { lost, pairs, groups } = await compareZeros(pruned, path.join(folder, "merged"));
  assert.deepEqual([lost, pairs], [0, groups]);
  assert.ok(!existsSync(path.join(folder, "no")));
});

test("export of LoRA: merged says that zeros are filled; adapter and peft are PEFT's files", () => {
  const { run } = runOf(lora);
  const merged = here("export", run, "--format", "merged", "--to", "lora-merged");
  assert.equal(merged.status, 0);
  assert.match(merged.stderr, /^note: 50\.0 % of the model's linear weights are zero, and LoRA fills them/m);
  for (const format of ["adapter", "peft"]) {
    assert.equal(here("export", run, "--format", format, "--to", `lora-${format}`).status, 0);
    assert.deepEqual(readdirSync(path.join(folder, `lora-${format}`)).sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  }
  assert.match(refused("export", run, "--format", "delta", "--to", "no"), /has no trained blocks\.\nExport it with --format adapter or merged\./);
  assert.match(refused("export", run, "--format", "peft", "--rank", "4", "--to", "no"), /Leave --rank out/);
});

test("export --format peft of a masked adapter is refused with why and what to do", () => {
  assert.match(
    refused("export", runOf(lors).run, "--format", "peft", "--to", "no"),
    /PEFT knows no lors adapters: it would apply one without the mask.*\nExport the merged model with --format merged, or .*--format adapter\./,
  );
});

test("export --format peft of an SMT run: a low-rank adapter with its error, which a larger rank lowers to nothing", () => {
  const { run } = runOf(smt, storyFolder);
  assert.match(refused("export", run, "--format", "peft", "--to", "no"), /of a rank that is to be chosen\.\nGive it with --rank/);
  assert.match(
    refused("export", run, "--format", "peft", "--rank", "65", "--to", "no"),
    /larger than model\.layers\.\d\.self_attn\.v_proj, which is 64 × 128/,
  );
  assert.match(refused("export", run, "--format", "adapter", "--to", "no"), /A run of smt trains weights of the model itself: it has no adapter/);
  const errorAt = (rank: number) => {
    const { status, stdout, stderr } = here("export", run, "--format", "peft", "--rank", String(rank), "--to", `smt-${rank}`);
    assert.equal(status, 0, stderr);
    const lines = stdout.trim().split("\n");
    assert.match(lines[0], /^model\.layers\.\d\.self_attn\.v_proj +relative error /);
    return Number(new RegExp(`^in all +relative error (\\S+) at rank ${rank}$`, "m").exec(stdout)?.[1]);
  };
  const [rough, better, exact] = [errorAt(1), errorAt(8), errorAt(64)];
  assert.ok(rough > better && better > exact && exact < 1e-4 && rough < 1, `${rough} ${better} ${exact}`);
  // Applied to its base, the one without error is the run.
  const [ofRun] = jsonLines<{ loss: number }>(here("evaluate", run, ...heldOut));
  const [ofAdapter] = jsonLines<{ loss: number }>(here("evaluate", "smt-64", "--base", storyFolder, ...heldOut));
  const [ofBase] = jsonLines<{ loss: number }>(here("evaluate", storyFolder, ...heldOut));
  assert.ok(
    Math.abs(ofRun.loss - ofAdapter.loss) < 0.02 * Math.abs(ofBase.loss - ofRun.loss) + 2e-3,
    `${ofRun.loss} ${ofAdapter.loss} ${ofBase.loss}`,
  );
  assert.equal(readFileSync(path.join(folder, "smt-64/adapter_config.json"), "utf8").includes(folder), false);
});

test("what a schema cannot say of adapters is said with its place in the run file", () => {
  writeFileSync(path.join(folder, "wrong.yaml"), runFileText({ method: "{ name: sqft, rank: 8, neuralSearch: [8, 12] }" }));
  assert.match(refused("plan", "wrong.yaml"), /wrong\.yaml:3:\d+: method\.neuralSearch\[1\] must not be above rank \(8\)/);
  writeFileSync(path.join(folder, "wrong.yaml"), runFileText({ method: "{ name: lora, ranks: { q_proj: 4, qkv: 2 } }" }));
  assert.match(refused("plan", "wrong.yaml"), /wrong\.yaml:3:\d+: method\.ranks\.qkv is no matrix/);
  writeFileSync(path.join(folder, "wrong.yaml"), runFileText({ method: "{ name: lora, targets: [q_proj, qkv] }" }));
  assert.match(refused("plan", "wrong.yaml"), /The target qkv matches no matrix/);
});
