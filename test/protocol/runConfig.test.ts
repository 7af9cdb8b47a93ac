import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { checkRunFile, parseRunFile, RunFileError, stringifyRunConfig } from "../../src/protocol/runConfig.ts";
import { runJsonSchema } from "../../src/protocol/runSchema.ts";

const minimal = "model: ./model\ndata: { train: train.jsonl }\n";
const file = path.resolve("/home/ann/project/run.yaml");

/** Problems as `line:column path message`. */
function problemsOf(text: string): string[] {
  return checkRunFile(text, file).problems.map(({ line, column, path: at, message }) => `${line}:${column} ${at} ${message}`);
}

test("the smallest run file gets every default of the documentation", () => {
  assert.deepEqual(parseRunFile(minimal, file), {
    model: path.resolve("/home/ann/project/model"),
    data: {
      train: path.resolve("/home/ann/project/train.jsonl"),
      eval: null,
      format: "auto",
      template: "auto",
      maxRows: null,
      trainOnPrompt: false,
      packing: true,
    },
    method: {
      name: "smt",
      ratio: 0.0084,
      blocks: null,
      trainableParameters: null,
      blockSize: "auto",
      targets: "auto",
      score: "meanOfAbs",
      selection: "global",
      warmup: { steps: 100, update: false },
      reselectEvery: null,
    },
    train: {
      steps: 500,
      epochs: null,
      batchSize: 4,
      sequenceLength: 512,
      gradientAccumulation: 1,
      learningRate: 1e-4,
      schedule: "cosine",
      learningRateWarmupSteps: 20,
      minLearningRate: 0,
      betas: [0.9, 0.95],
      epsilon: 1e-8,
      weightDecay: 0,
      clipGradNorm: 1,
      seed: 1,
      precision: "bf16",
      recompute: "none",
    },
    evaluate: { every: 50, rows: 200, earlyStopping: null },
    checkpoint: { every: 100, keep: 2 },
    device: "auto",
    threads: "auto",
    output: path.resolve("/home/ann/project/.sparse-tuner/runs"),
  });
});

test("defaults of one file do not leak into the next", () => {
  parseRunFile(minimal, file).train.betas[0] = 0;
  assert.deepEqual(parseRunFile(minimal, file).train.betas, [0.9, 0.95]);
});

test("what is written wins over the defaults, and a written budget replaces the default ratio", () => {
  const config = parseRunFile(`${minimal}method: { name: smt, blocks: 64, warmup: { steps: 0 } }\ntrain: { epochs: 0.5 }\n`, file);
  assert.ok(config.method.name === "smt");
  assert.deepEqual([config.method.ratio, config.method.blocks, config.method.warmup.steps, config.method.warmup.update], [null, 64, 0, false]);
  assert.deepEqual([config.train.steps, config.train.epochs], [null, 0.5]);
  assert.deepEqual(parseRunFile(`${minimal}method: { name: full }`, file).method, { name: "full", sparse: "ignore" });
});

test("an empty section means its defaults", () => {
  assert.deepEqual(parseRunFile(`${minimal}method:\ntrain:\nevaluate:\n`, file), parseRunFile(minimal, file));
});

test("paths count from the run file's folder; words and templates are no paths", () => {
  const config = parseRunFile(
    `model: /models/llama\ndata: { train: ../a.jsonl, eval: b.jsonl, template: chat.jinja }\nmethod: { name: smt, selection: s.json }\noutput: out\n`,
    file,
  );
  assert.equal(config.model, path.resolve("/models/llama"));
  assert.equal(config.data.train, path.resolve("/home/ann/a.jsonl"));
  assert.equal(config.data.eval, path.resolve("/home/ann/project/b.jsonl"));
  assert.equal(config.data.template, path.resolve("/home/ann/project/chat.jinja"));
  assert.ok(config.method.name === "smt");
  assert.equal(config.method.selection, path.resolve("/home/ann/project/s.json"));
  assert.equal(config.output, path.resolve("/home/ann/project/out"));
  const inline = parseRunFile(`model: m\ndata: { train: a.jsonl, template: "{{ messages[0].content }}" }`, file);
  assert.equal(inline.data.template, "{{ messages[0].content }}");
});

test("a list that may also be a word is told what is wrong with it", () => {
  const targets = (list: string) => problemsOf(`${minimal}method: { name: smt, targets: ${list} }`);
  assert.deepEqual(targets("[]"), ["3:31 method.targets must not be an empty list"]);
  assert.deepEqual(targets("[q_proj, q_proj]"), ["3:31 method.targets must not name anything twice"]);
  assert.deepEqual(targets("3"), ["3:31 method.targets must be auto or a list, not 3"]);
});

test("all errors come at once, in the order of the file, each with its place and a guess", () => {
  const text = [
    "model: 3",
    "data: { train: t.jsonl, evel: x }",
    "method: { name: smt, ratio: 2, blocks: 3, targets: [q_proj, 3], selection: perMatirx }",
    "train:",
    "  learningRate: -1",
    "  learning_rate: 3",
    "  steps: 3",
    "  epochs: 1",
    "  betas: [0.9]",
    "  seed: .nan",
    "  schedule: cosin",
    "  batchSize: 1.5",
    "  packing: true",
    "threads: 0",
  ].join("\n");
  assert.deepEqual(problemsOf(text), [
    "1:8 model must be text, not 3",
    "2:25 data.evel is not a known key; did you mean eval?",
    "3:29 method.ratio must be a number above 0 and at most 1 or null, not 2",
    "3:32 method.blocks and ratio exclude each other: give one of them",
    "3:61 method.targets[1] must be text, not 3",
    '3:76 method.selection must be global, perMatrix or perKind or text that ends in .json, not "perMatirx"; did you mean perMatrix?',
    "5:17 train.learningRate must be a number from 0 to 10, not -1",
    "6:3 train.learning_rate is not a known key; did you mean learningRate?",
    "8:3 train.epochs and steps exclude each other: give one of them",
    "9:10 train.betas must be a list of 2 entries, not 1",
    "10:9 train.seed must be a whole number from 0 to 4294967295, not NaN",
    '11:13 train.schedule must be constant, linear or cosine, not "cosin"; did you mean cosine?',
    "12:14 train.batchSize must be a whole number from 1 to 65536, not 1.5",
    "13:3 train.packing is not a known key; did you mean data.packing?",
    "14:10 threads must be auto or a whole number from 1 to 1024, not 0",
  ]);
});

test("what is no run file is refused with a place", () => {
  const cases: [string, string[]][] = [
    ["", ["1:1  must be a mapping with at least the keys model and data"]],
    ["- a", ["1:1  must be a mapping with at least the keys model and data"]],
    ["model: m", ["1:1 data is missing"]],
    ["data: {}\nmodel: m", ["1:7 data.train is missing"]],
    ["model: m\ndata:\n", ["2:6 data must be a mapping of keys, not null"]],
    [`${minimal}model: other`, ["3:1  is not valid YAML: Map keys must be unique"]],
    [`${minimal}method: smt`, ['3:9 method must be a mapping with the key name (smt, full, lors, lora, dora, spp or sqft), not "smt"']],
    [`${minimal}method: { ratio: 0.1 }`, ["3:9 method needs the key name: smt, full, lors, lora, dora, spp or sqft"]],
    [`${minimal}method: { name: smtt }`, ['3:17 method.name must be smt, full, lors, lora, dora, spp or sqft, not "smtt"; did you mean smt?']],
    [`${minimal}method: { name: full, ratio: 0.1 }`, ["3:23 method.ratio is not a known key where method.name is full"]],
    [`${minimal}__proto__: { x: 1 }`, ["3:1 __proto__ is not a known key"]],
    [`${minimal}constructor: 1`, ["3:1 constructor is not a known key"]],
    [`${minimal}train: { learningRate: 1e-5, minLearningRate: 1e-4 }`, ["3:47 train.minLearningRate must not be above learningRate (0.00001)"]],
    [`${minimal}train: { betas: [0.9, 1] }`, ["3:23 train.betas[1] must be a number from 0 to below 1, not 1"]],
    [`${minimal}train: { learningRate: .inf }`, ["3:24 train.learningRate must be a number from 0 to 10, not Infinity"]],
    [`${minimal}train: { learningRate: "1e-4" }`, ['3:24 train.learningRate must be a number from 0 to 10, not "1e-4"']],
    [`model: !!js/function x\ndata: { train: t }`, ["1:8  is not valid YAML: Unresolved tag: tag:yaml.org,2002:js/function"]],
    ["x".repeat((1 << 20) + 1), ["1:1  is larger than 1 MiB, which no file of this kind is"]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(problemsOf(text), expected, text.slice(0, 80));
});

test("nesting without end and aliases that multiply are refused, not followed", () => {
  assert.match(problemsOf("[".repeat(200_000))[0], /is not valid YAML/);
  const bomb = [
    "a: &a [x, x, x, x, x, x, x, x, x]",
    ..."bcdefgh".split("").map((key, i) => `${key}: &${key} [${`*${"abcdefg"[i]}, `.repeat(9)}]`),
  ].join("\n");
  assert.match(problemsOf(bomb)[0], /is not valid YAML: Excessive alias count/);
});

test("the exception is a sentence with every place and marks bad input", () => {
  assert.throws(
    () => parseRunFile("model: 3\nx: 1", "run.yaml"),
    (error) =>
      error instanceof RunFileError &&
      error.badInput &&
      error.code === "config/invalid" &&
      error.message ===
        "The run file has 3 errors:\n  run.yaml:1:1: data is missing\n  run.yaml:1:8: model must be text, not 3\n  run.yaml:2:1: x is not a known key",
  );
});

test("a resolved configuration reads back unchanged from its own text", () => {
  fc.assert(
    fc.property(
      fc.record({
        learningRate: fc.double({ min: 1e-9, max: 10, noNaN: true }),
        weightDecay: fc.double({ min: 0, max: 10, noNaN: true }),
        seed: fc.integer({ min: 0, max: 0xffffffff }),
        steps: fc.integer({ min: 1, max: 1e9 }),
        schedule: fc.constantFrom("constant", "linear", "cosine"),
      }),
      fc.string({ minLength: 1, unit: "grapheme" }),
      (train, model) => {
        const config = parseRunFile(JSON.stringify({ model: `m${model}`, data: { train: "t", template: "{{ a }}\n: #" }, train }), file);
        assert.deepEqual(parseRunFile(stringifyRunConfig(config), path.resolve("/elsewhere/run.yaml")), config);
        assert.equal(config.train.learningRate, train.learningRate);
      },
    ),
    { numRuns: 200 },
  );
});

test("media/run.schema.json is the schema the product validates with", () => {
  const stored = readFileSync(path.resolve(import.meta.dirname, "../../media/run.schema.json"), "utf8");
  assert.equal(stored, `${JSON.stringify(runJsonSchema(), null, 2)}\n`, "stale: run `npm run schema`");
  const { required, properties } = JSON.parse(stored);
  assert.deepEqual([required, properties.data.required, properties.method.anyOf[0].required], [["model", "data"], ["train"], ["name"]]);
});
