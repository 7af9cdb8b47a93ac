/** The service process: what goes in and out of its pipes, how it ends, and that its answers are the command line's. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { evaluateOn } from "../../../src/core/commands/evaluate.ts";
import { exportResult } from "../../../src/core/commands/export.ts";
import { Random } from "../../../src/core/random.ts";
import { encodeFrame } from "../../../src/protocol/frames.ts";
import type { ServiceParams, ServiceRequest, ServiceResults } from "../../../src/protocol/serviceProtocol.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { demoData, jsonLines, sparseTuner } from "../commands/commandLine.ts";
import { session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { RawService } from "./rawService.ts";

const home = temporaryFolder({ after });
const runFile = path.join(home, "demo.sparse-tuner.yaml");
const runText = readFileSync(path.resolve(storyFolder, "../demo.sparse-tuner.yaml"), "utf8")
  .replace("./model", storyFolder)
  .replaceAll("data/", `${demoData}/`);
let folder: string;
let trainable = 0;
before(async () => {
  const run = await session(writeRunFile(path.join(home, "small"), { train: { precision: "f32" } }));
  folder = run.folder;
  for (const event of run.events) if (event.kind === "selection") trainable = event.trainableParameters;
});

async function answer<Name extends ServiceRequest>(service: RawService, name: Name, parameters: ServiceParams[Name]): Promise<ServiceResults[Name]> {
  const { result, error } = await service.ask(name, parameters);
  assert.equal(error, undefined, JSON.stringify(error));
  return result as ServiceResults[Name];
}

test("bytes that are no frame end the service, at once and with nothing on standard output", async (t) => {
  const random = new Random(5);
  const noise = Uint8Array.from({ length: 4096 }, () => Math.floor(random.uniform() * 256));
  const huge = encodeFrame({}).slice(0, 16);
  new DataView(huge.buffer).setUint32(8, 0xffffffff, true);
  const message = encodeFrame({ jsonrpc: "2.0", id: 1, method: "plan" });
  const cases: Record<string, Uint8Array> = {
    noise,
    "a huge frame": huge,
    "a header that is no JSON": encodeFrame({ a: 1 }).map((byte, i) => (i === 16 ? 0xff : byte)),
    "a frame of an unknown kind": encodeFrame({ kind: "attach", attachment: "x" }),
    "half a message, then noise": Buffer.concat([message.slice(0, 30), noise]),
  };
  for (const [what, bytes] of Object.entries(cases)) {
    const service = new RawService(t);
    service.write(bytes);
    assert.deepEqual(await service.exit, { code: 1, signal: null }, what);
    assert.deepEqual([service.frames.length, service.problem], [0, ""], what);
    assert.match(service.errors, /^The service ends: /, what);
  }
});

test("it ends with its input, also in the middle of a message and of its work", async (t) => {
  const cut = new RawService(t);
  cut.write(encodeFrame({ jsonrpc: "2.0", id: 1, method: "plan", params: {} }).slice(0, 40));
  cut.child.stdin.end();
  assert.deepEqual(await cut.exit, { code: 0, signal: null });

  const asked = { modelOrRun: storyFolder, prompt: "Once", tokens: 450, temperature: 1, seed: 1 };
  const patient = new RawService(t);
  await answer(patient, "generate", { ...asked, stream: 7 });
  const whole = patient.messages.length;
  const busy = new RawService(t);
  busy.send("generate", { ...asked, stream: 7 });
  await busy.seen(({ method }) => method === "generated");
  busy.child.stdin.end();
  assert.deepEqual(await busy.exit, { code: 0, signal: null });
  assert.ok(whole > 100 && busy.messages.length < whole / 2, `${busy.messages.length} of ${whole} messages: it went on`);
});

test("wrong parameters, unknown requests and what a person can mend are answered, each as what it is", async (t) => {
  const service = new RawService(t);
  for (const [name, parameters] of [
    ["plan", {}],
    ["plan", [1, 2]],
    ["plan", { runFile, text: runText, more: 1 }],
    ["readBlock", { runFolder: folder, step: null, name: "x", row: -1, column: 0, part: "weight" }],
    ["describeTensors", undefined],
  ] as const)
    assert.equal((await service.ask(name, parameters)).error?.code, -32602, name);
  assert.equal((await service.ask("shutdown", {})).error?.code, -32601);
  const refused = async (name: string, parameters: unknown) => (await service.ask(name, parameters)).error?.data;
  const codes = [
    await refused("plan", { runFile, text: "model: [" }),
    await refused("describeRun", { runFolder: home }),
    await refused("readTensor", { file: runFile, name: "x", window: { row: 0, column: 0, rows: 1, columns: 1 } }),
    await refused("evaluate", { modelOrRun: storyFolder, data: path.join(home, "no.jsonl"), rows: null }),
    await refused("export", { runFolder: folder, format: "merged", to: home }),
  ];
  assert.deepEqual(
    codes.map((data) => data?.code),
    ["config/invalid", "run/no-run", "safetensors/NotFound", "data/missing-file", "export/not-empty"],
  );
  assert.ok(codes.every((data) => data && data.action.length > 5));
  const before = await answer(service, "plan", { runFile, text: runText });
  const begun = path.join(home, "begun");
  mkdirSync(begun);
  writeFileSync(
    path.join(begun, "selection.json"),
    '{ "version": 1, "blockSize": 16, "blocks": [{ "name": "model.layers.1.self_attn.q_proj", "row": 0, "column": 0 }] }',
  );
  const after = await answer(service, "plan", { runFile, text: runText, runFolder: begun });
  assert.deepEqual([before.exact, after.exact, after.trainableParameters], [false, true, 256]);
  // What the blocks are chosen by has been held all the same.
  assert.ok(after.peakBytes <= before.peakBytes && after.bytesByClass.gradients > 0);
});

test("what anything else prints does not come between the frames", async (t) => {
  const noise = "const own = process.stdout.write; setInterval(() => { if (process.stdout.write !== own) console.log('noise') }, 1)";
  const service = new RawService(t, "--import", `data:text/javascript,${encodeURIComponent(noise)}`);
  for (let i = 0; i < 5; i++) await answer(service, "plan", { runFile, text: runText });
  assert.equal(service.problem, "");
  assert.match(service.errors, /noise/);
});

test("a plan is the command line's, of a text that was never saved, and counts what a run then trains", async (t) => {
  const service = new RawService(t);
  for (const change of [
    (text: string) => text,
    (text: string) => text.replace("ratio: 0.05", "ratio: 0.2").replace("precision: bf16", "precision: f32"),
    (text: string) => text.replace(/method: .*/, "method: { name: full }"),
  ]) {
    const text = change(runText);
    const planned = await answer(service, "plan", { runFile, text });
    assert.ok(!existsSync(runFile));
    const saved = path.join(home, "saved.yaml");
    writeFileSync(saved, text);
    const [{ availableBytes, ...printed }] = jsonLines<Record<string, unknown>>(sparseTuner(home, "plan", saved, "--json"));
    assert.ok(Number(availableBytes) > 0 && (planned.availableBytes ?? 0) > 0);
    for (const [key, value] of Object.entries(printed)) assert.deepEqual(planned[key as keyof typeof planned], value, key);
    assert.deepEqual([planned.fits, planned.cheapestChange], [true, null]);
    assert.equal(planned.totalParameters, 656_000);
  }
  const small = path.join(home, "small", "run.yaml");
  const ofSmall = await answer(service, "plan", { runFile: small, text: readFileSync(small, "utf8") });
  assert.deepEqual([ofSmall.trainableParameters, trainable], [40 * 256, 40 * 256]);
  const given = readFileSync(small, "utf8").replace("blocks: 40", `selection: ${path.join(folder, "selection.json")}`);
  const known = await answer(service, "plan", { runFile: small, text: given });
  assert.deepEqual([known.exact, known.trainableParameters], [true, trainable]);
  const full = await answer(service, "plan", { runFile, text: runText.replace(/method: .*/, "method: { name: full }") });
  assert.deepEqual([full.trainableParameters, full.exact], [656_000, true]);
});

test("plans in the shapes of LLaMA-7B come while a slider is moved", async (t) => {
  const model = path.join(home, "7b");
  mkdirSync(model);
  const shapes = { hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32, num_attention_heads: 32, vocab_size: 32000 };
  writeFileSync(
    path.join(model, "config.json"),
    JSON.stringify({ architectures: ["LlamaForCausalLM"], model_type: "llama", max_position_embeddings: 4096, rms_norm_eps: 1e-6, ...shapes }),
  );
  const service = new RawService(t);
  const text = (ratio: number) => `model: ${model}\ndata: { train: none.jsonl }\nmethod: { name: smt, ratio: ${ratio} }\n`;
  const millis: number[] = [];
  for (let i = 1; i <= 12; i++) {
    const began = performance.now();
    const planned = await answer(service, "plan", { runFile, text: text(i / 1000) });
    millis.push(performance.now() - began);
    assert.ok(planned.totalParameters === 6_738_415_616 && planned.peakBytes < planned.fullFineTuning.peakBytes);
  }
  const full = await answer(service, "plan", { runFile, text: `model: ${model}\ndata: { train: none.jsonl }\nmethod: { name: full }\n` });
  assert.deepEqual([full.fits, full.trainableParameters], [false, 6_738_415_616]);
  assert.match(full.cheapestChange ?? "", /train\.recompute/);
  const median = millis.slice(2).sort((a, b) => a - b)[5];
  t.diagnostic(`a plan takes ${median.toFixed(0)} ms`);
  assert.ok(median < 400, `${median} ms`);
});

test("the first batch is the one that preview prints, token by token", async (t) => {
  const preview = await answer(new RawService(t), "preview", { runFile, text: runText });
  const saved = path.join(home, "preview.yaml");
  writeFileSync(saved, runText);
  const printed = sparseTuner(home, "preview", saved).stdout;
  assert.equal(preview.rows.length, preview.batchSize);
  let tokens = 0;
  for (const { documents, padding } of preview.rows) {
    const inRow = documents.flatMap((document) => document.tokens);
    assert.equal(inRow.length + padding, preview.sequenceLength);
    tokens += inRow.length;
    for (const document of documents) {
      const shown = document.tokens.map(({ text, loss }) => (loss ? `[${text.replaceAll("\n", "⏎")}]` : text.replaceAll("\n", "⏎"))).join("");
      assert.ok(printed.includes(`  line ${document.line}: `) && printed.includes(`  ${shown}\n`), `line ${document.line}`);
    }
  }
  assert.equal(tokens, preview.tokens);
  const inLoss = preview.rows.flatMap(({ documents }) => documents.flatMap((document) => document.tokens.filter(({ loss }) => loss)));
  assert.equal(inLoss.length, preview.unmaskedTokens);
  assert.deepEqual(
    preview.notices,
    [...printed.matchAll(/^note: (.*)$/gm)].map(([, note]) => note),
  );
  assert.equal(preview.skippedRows, preview.skipped.length);
  for (const { file, line, reason } of preview.skipped) assert.ok(printed.includes(`left out: ${file}:${line}: ${reason}`));
});

test("evaluation, generated text and exports are those of the command line; a cancelled one stops between tokens or batches", async (t) => {
  const service = new RawService(t);
  const data = path.join(home, "small", "eval.jsonl");
  const evaluated = await answer(service, "evaluate", { modelOrRun: folder, data, rows: 4 });
  const [printed] = jsonLines<Record<string, number>>(sparseTuner(home, "evaluate", folder, "--data", data, "--rows", "4", "--json"));
  const { loss, perplexity, tokens, rows } = evaluated;
  const { sequenceLength, ...same } = printed;
  assert.deepEqual({ loss, perplexity, tokens, rows }, same);
  assert.deepEqual([rows, sequenceLength], [4, 48]);

  const asked = { modelOrRun: folder, prompt: "Once upon a time", tokens: 30, temperature: 0.7, seed: 3 };
  const generated = await answer(service, "generate", { ...asked, stream: 11 });
  const options = ["--prompt", asked.prompt, "--tokens", "30", "--temperature", "0.7", "--seed", "3"];
  const [text] = jsonLines<{ text: string; ids: number[] }>(sparseTuner(home, "generate", folder, ...options, "--json"));
  assert.deepEqual({ text: generated.text, ids: generated.ids }, text);
  const pieces = service.messages.flatMap(({ method, params }) => (method === "generated" && params?.stream === 11 ? [params.text] : []));
  assert.equal(pieces.join(""), text.text);
  assert.ok(pieces.length > 10);

  const long = { ...asked, modelOrRun: storyFolder, tokens: 450, temperature: 1 };
  const piecesOf = (stream: number) => service.messages.filter(({ params }) => params?.stream === stream).length;
  await answer(service, "generate", { ...long, stream: 12 });
  const id = service.send("generate", { ...long, stream: 13 });
  await service.seen(({ params }) => params?.stream === 13);
  service.notify("$/cancelRequest", { id });
  assert.equal((await service.seen((message) => message.id === id)).error?.data?.code, "service/cancelled");
  assert.ok(piecesOf(12) > 100 && piecesOf(13) < piecesOf(12) / 2, `${piecesOf(13)} of ${piecesOf(12)} pieces`);

  const to = path.join(home, "merged");
  assert.deepEqual(await answer(service, "export", { runFolder: folder, format: "merged", to }), { folder: to, notes: [], relativeError: null });
  assert.equal(sparseTuner(home, "export", folder, "--format", "merged", "--to", "printed").status, 0);
  const weights = (name: string) => readFileSync(path.join(home, name, "model.safetensors"));
  assert.deepEqual(weights("merged"), weights("printed"));
  const before = readFileSync(path.join(to, "config.json"));
  assert.equal((await service.ask("export", { runFolder: folder, format: "delta", to })).error?.data?.code, "export/not-empty");
  assert.deepEqual(readFileSync(path.join(to, "config.json")), before);
});

test("an evaluation or export that nobody waits for ends with the reason and leaves nothing behind", async () => {
  const controller = new AbortController();
  const reason = new Error("nobody waits");
  const data = path.join(demoData, "gsm8k-test.jsonl");
  const evaluation = evaluateOn(
    { modelOrRun: storyFolder, data, sequenceLength: null, rows: null },
    { onNotes: () => controller.abort(reason), signal: controller.signal },
  );
  await assert.rejects(evaluation, reason);
  for (const format of ["merged", "delta"] as const) {
    const into = path.join(home, `aborted-${format}`);
    mkdirSync(into);
    await assert.rejects(exportResult({ runFolder: folder, format, to: path.join(into, "model") }, controller.signal), reason);
    assert.deepEqual(readdirSync(into), []);
  }
});

test("models and the machine are described; a folder that is not there yet is looked for above", async (t) => {
  const service = new RawService(t);
  assert.deepEqual(await answer(service, "describeModel", { folder: storyFolder }), {
    supported: true,
    architecture: "LlamaForCausalLM",
    parameters: 656_000,
    layers: 2,
    hiddenSize: 128,
    maxPositions: 512,
    bytes: readFileSync(path.join(storyFolder, "model.safetensors")).length,
    dtype: "BF16",
  });
  const other = await answer(service, "describeModel", { folder: home });
  assert.ok(!other.supported && /config\.json/.test(other.reason));
  const { healthy, findings } = await answer(service, "doctor", { folder: path.join(home, "not", "there") });
  assert.ok(healthy);
  assert.ok(findings.some(({ subject, probe }) => subject === "disk" && probe === `writing to ${home}`));
  for (const { usable, fix } of findings) assert.ok(usable || (fix ?? "").length > 0);
});
