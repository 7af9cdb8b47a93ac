/** Files of comparisons: defaults, paths, every error with its place, and the configuration that each run of one gets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CompareFileError,
  checkCompareFile,
  configOfRun,
  labelOf,
  methodOf,
  parseCompareFile,
  stringifyCompareConfig,
} from "../../src/protocol/compareConfig.ts";
import { parseRunFile, stringifyRunConfig } from "../../src/protocol/runConfig.ts";

const least = "model: ./model\ndata: { train: a.jsonl, eval: b.jsonl }\nmethods: [{ name: smt }]\n";

function problemsOf(text: string): string[] {
  return checkCompareFile(text, "/files/c.yaml").problems.map(({ path, line, column, message }) => `${line}:${column} ${path} ${message}`);
}

test("what is left out has defaults, and paths count from the file's folder", () => {
  const config = parseCompareFile(least, "/files/c.yaml");
  assert.equal(config.model, "/files/model");
  assert.equal(config.data.train, "/files/a.jsonl");
  assert.equal(config.data.eval, "/files/b.jsonl");
  assert.equal(config.output, "/files/.sparse-tuner/comparisons");
  assert.deepEqual([config.budgets, config.seeds, config.learningRates], [[], [1, 2, 3], [1e-4, 3e-4, 1e-3, 3e-3]]);
  assert.equal(config.train.steps, 500);
  assert.equal((config.methods[0] as { ratio: number }).ratio, 0.0084, "as a run file's, where no budgets are given");
});

test("with budgets a method has no size of its own", () => {
  const config = parseCompareFile(`${least}budgets: [1000]\n`, "/files/c.yaml");
  assert.equal((config.methods[0] as { ratio: number | null }).ratio, null);
  for (const [method, key] of [
    ["{ name: smt, ratio: 0.1 }", "ratio"],
    ["{ name: smt, blocks: 3 }", "blocks"],
    ["{ name: smt, selection: chosen.json }", "selection"],
    ["{ name: lora, ranks: { q_proj: 4 } }", "ranks"],
    ["{ name: sqft, neuralSearch: [4, 2] }", "neuralSearch"],
  ] as const) {
    const text = least.replace("{ name: smt }", method);
    assert.deepEqual(problemsOf(text), [], method);
    assert.match(problemsOf(`${text}budgets: [1000]\n`)[0] ?? "", new RegExp(`methods\\[0\\]\\.${key} and budgets exclude each other`), method);
  }
});

test("keys that a comparison varies are known, and it is said where they stand", () => {
  const text = `${least}train: { learningRate: 0.1, seed: 3 }\n`;
  assert.deepEqual(problemsOf(text), [
    "4:10 train.learningRate is what a comparison searches: give learningRates",
    "4:29 train.seed is what a comparison varies: give seeds",
  ]);
  assert.match(
    problemsOf("model: m\ndata: { train: a, eval: b }\nmethod: { name: smt }\n").join("\n"),
    /3:1 method is a run file's key: list what is compared under methods/,
  );
});

test("errors of methods have their place in the list", () => {
  const text = "model: m\ndata: { train: a, eval: b }\nmethods:\n  - { name: smt }\n  - { name: lora, rnak: 3 }\n  - { name: smt }\n";
  assert.deepEqual(problemsOf(text), [
    "5:19 methods[1].rnak is not a known key; did you mean rank?",
    "6:5 methods[2] is called SMT like methods[0]: give it another label",
  ]);
  assert.match(problemsOf(least.replace(", eval: b.jsonl", ""))[0], /data\.eval is missing/);
  assert.match(problemsOf(`${least}seeds: []\n`)[0], /seeds must not be an empty list/);
  assert.match(
    problemsOf(`${least}learningRates: [0.1, 0.01]\ntrain: { minLearningRate: 0.05 }\n`)[0],
    /must not be above the lowest of learningRates \(0\.01\)/,
  );
});

test("a resolved comparison reads back unchanged, and the exception names every place", () => {
  const config = parseCompareFile(least.replace("{ name: smt }", "{ name: smt }, { name: dora, label: 'D: 1' }, { name: full }"), "/files/c.yaml");
  assert.deepEqual(parseCompareFile(stringifyCompareConfig(config), "/elsewhere/c.yaml"), config);
  assert.throws(
    () => parseCompareFile("model: 3\n", "/files/c.yaml"),
    (error: CompareFileError) =>
      error instanceof CompareFileError && error.badInput && /\/files\/c\.yaml:1:8: model must be text/.test(error.message),
  );
});

test("a run of a comparison is a run file with its own learning rate and seed", () => {
  const config = parseCompareFile(least.replace("{ name: smt }", "{ name: lora, label: mine }"), "/files/c.yaml");
  const [method] = config.methods;
  assert.equal(labelOf(method), "mine");
  const run = configOfRun(config, methodOf(method), { learningRate: 0.25, seed: 9 }, "/out");
  const read = parseRunFile(stringifyRunConfig(run), "/files/run.yaml");
  assert.deepEqual([read.train.learningRate, read.train.seed, read.output, read.method.name], [0.25, 9, "/out", "lora"]);
  assert.equal("label" in read.method, false);
});
