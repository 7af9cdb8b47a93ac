/** What evaluates or generates looks at the data and at lengths before it loads a model: with weights that no device would take, it is the data that is named. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { evaluateOn } from "../../../src/core/commands/evaluate.ts";
import { perplexityOn } from "../../../src/core/commands/evaluateTasks.ts";
import { generateText } from "../../../src/core/commands/generate.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { demoData, temporaryFolder } from "./commandLine.ts";

const folder = temporaryFolder(after);
const modelOrRun = path.join(folder, "nan");
cpSync(storyFolder, modelOrRun, { recursive: true });
const weights = readFileSync(path.join(modelOrRun, "model.safetensors"));
weights.fill(0xff, weights.length - 64);
writeFileSync(path.join(modelOrRun, "model.safetensors"), weights);

const nothing = path.join(folder, "none.jsonl");
const heldOut = path.join(demoData, "gsm8k-test.jsonl");
const watcher = { onNotes() {}, onProgress() {}, onText() {} };
const evaluate = (data: string, sequenceLength: number | null = null) =>
  evaluateOn({ modelOrRun, base: null, data, sequenceLength, rows: 2 }, watcher);
const perplexity = (text: string) => perplexityOn({ modelOrRun, base: null, text, sequenceLength: null }, watcher);
const generate = (tokens: number) => generateText({ modelOrRun, base: null, prompt: "Once", tokens, temperature: 0, seed: 1 }, watcher);

test("evaluate, perplexity and generate", async () => {
  await assert.rejects(evaluate(nothing), { code: "data/missing-file" });
  await assert.rejects(evaluate(heldOut, 100_000), { code: "data/sequence-too-long" });
  await assert.rejects(perplexity(nothing), { code: "data/missing-file" });
  await assert.rejects(generate(100_000), { code: "generate/too-long" });
  for (const work of [() => evaluate(heldOut), () => generate(2)]) await assert.rejects(work(), { code: "model/not-finite" });
});
