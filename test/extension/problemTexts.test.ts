/** What is wrong in files that people write, as a window says it: every kind, in the same words as the command line, and in Chinese without a word of English. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { Type } from "typebox";
import { checkCompareFile } from "../../src/protocol/compareConfig.ts";
import { englishWords, say, type Words } from "../../src/protocol/problemWords.ts";
import { checkRunFile } from "../../src/protocol/runConfig.ts";
import { schemaProblems } from "../../src/protocol/schemaProblems.ts";
import { l10n } from "./vscodeStandIn.ts";

const { problemMessage, problemTexts } = await import("../../src/extension/language/problemTexts.ts");
const bundle = JSON.parse(readFileSync(path.resolve(import.meta.dirname, "../../l10n/bundle.l10n.zh-cn.json"), "utf8")) as Record<string, string>;
after(() => {
  l10n.bundle = undefined;
});

const minimal = "model: m\ndata: { train: t, eval: e }\n";
/** Files with errors of every kind. */
const runFiles = [
  "- a",
  "model: [",
  "x".repeat(2_000_000),
  "model: { a: 1 }\n",
  "model: ''\ndata: { train: t, packing: 7 }\n",
  `${minimal}odd: 1\nthread: 2\n`,
  `${minimal}method: { rank: 1 }\n`,
  `${minimal}method: { name: full, rank: 1 }\n`,
  `${minimal}method: { name: smt, ratio: 2, blocks: 3, targets: [], selection: x }\n`,
  `${minimal}method: { name: smt, targets: [q_proj, q_proj] }\n`,
  `${minimal}method: { name: loraa }\n`,
  `${minimal}method: { name: lora, ranks: { odd: 3, q_proj: -1 }, dropout: 1 }\n`,
  `${minimal}method: { name: sqft, rank: 2, neuralSearch: [4] }\n`,
  `${minimal}method: { name: sqft, neuralSearch: [${Array(17).fill(1)}] }\n`,
  `${minimal}method: 3\ntrain: [1]\n`,
  `${minimal}train: { steps: x, learningRate: 0.1, minLearningRate: 1, schedule: cosin, epsilon: -1, betas: [1] }\n`,
  `${minimal}train: { betas: [1, { a: 1 }], learningRate: -1, steps: 3, epochs: 2 }\n`,
];
const methods = "methods: [{ name: smt }]\n";
const comparisons = [
  "3",
  `${minimal}method: { name: smt }\n${methods}`,
  `${minimal}train: { learningRate: 1, seed: 2 }\n${methods}`,
  `${minimal}train: { minLearningRate: 1 }\nlearningRates: [0.1]\n${methods}`,
  `${minimal}criterion: accuracy\n${methods}`,
  `${minimal}methods: [{ name: smt }, { name: smt }]\n`,
  `${minimal}budgets: [1000]\nmethods: [{ name: smt, ratio: 0.1 }]\n`,
  `${minimal}methods: []\n`,
];
/** Bounds that no key has now. */
const bounds = [{ minimum: 1 }, { exclusiveMinimum: 1 }, { maximum: -1 }, { exclusiveMaximum: -1 }, { exclusiveMinimum: 1, exclusiveMaximum: 2 }];

const ofFiles = [
  ...runFiles.flatMap((text) => checkRunFile(text, "/r.yaml").problems),
  ...comparisons.flatMap((text) => checkCompareFile(text, "/c.yaml").problems),
];
const problems: { words: Words; message: string }[] = [
  ...ofFiles,
  ...bounds.flatMap((bound) => schemaProblems(Type.Number(bound), 0)).map(({ words }) => ({ words, message: say(words) })),
];

test("an English window says what the command line says", () => {
  assert.deepEqual(problemTexts(), englishWords);
  for (const problem of problems) assert.equal(problemMessage(problem), problem.message);
});

test("a Chinese window says it without a word of English", () => {
  const chinese = Object.fromEntries(Object.entries(englishWords).map(([kind, text]) => [kind, bundle[text]])) as Record<
    keyof typeof englishWords,
    string
  >;
  for (const [kind, text] of Object.entries(chinese))
    assert.ok(!/[A-Za-z]{2}/.test(text?.replace(/\b(name|loss|YAML|MiB|label)\b/g, "") ?? "xx"), kind);
  for (const { words } of problems) assert.match(say(words, chinese), /\p{Script=Han}/u);
});

test("the examples have every kind of problem", () => {
  const seen = new Set<string>();
  const look = (found: Words): void => {
    seen.add(found.kind);
    for (const part of found.given) if (typeof part === "object") look(part);
  };
  for (const { words } of problems) look(words);
  assert.deepEqual(
    Object.keys(englishWords).filter((kind) => !seen.has(kind)),
    [],
  );
});
