/**
 * Scores against a slow direct computation on every device: the log-likelihood of each candidate one by one from whole logits in float64, and generation
 * prompt by prompt. Neither may depend on what shares a batch.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { generate } from "../../../src/core/generate.ts";
import { generateBatch } from "../../../src/core/generateBatch.ts";
import type { OpenModel } from "../../../src/core/inference.ts";
import type { Llama } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import type { Precision } from "../../../src/core/model/tensors.ts";
import { withPositions } from "../../../src/core/tasks/evaluateTask.ts";
import { scoreByGeneration } from "../../../src/core/tasks/scoreByGeneration.ts";
import { type Choices, scoreByLogLikelihood } from "../../../src/core/tasks/scoreByLogLikelihood.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice, type TestDevice, testDevices } from "../../support/devices.ts";
import { candidateLogLikelihood } from "./directScores.ts";
import { storyForTasks } from "./openStory.ts";

const prompts = [
  "Once upon a time",
  "Tim and Lily went to the park. They saw a big",
  "The",
  "One day a little girl named Lily found a needle in her room. She knew it was",
  "Mom said",
];
const texts = [
  [" there was a girl.", " there was a boy.", " there was a"],
  [" dog", " red ball and a small red ball", " dog and ran"],
  [" sun was hot", " cat"],
  [" difficult to play with it because it was sharp.", " sharp"],
  [" no", " yes", " no", " no, Tim"],
];

function questionsOf({ tokenizer }: OpenModel): Choices[] {
  return prompts.map((prompt, i) => {
    const segments = texts[i].map((text) => tokenizer.encodeSegments([prompt, text]));
    return { prompt: Int32Array.from([...tokenizer.prefixIds, ...segments[0][0]]), candidates: segments.map(([, ids]) => ids) };
  });
}

const score = (open: OpenModel, questions: readonly Choices[], batchSize: number) =>
  withPositions(open.model, 128, (long) => scoreByLogLikelihood(long, open.method, questions, { batchSize, padTokenId: 0, onProgress() {} }));

for (const device of testDevices({ reference: true })) describe(`scores on ${device.name}`, () => suite(device));

function suite(device: TestDevice): void {
  let open: OpenModel;
  before(async () => {
    open = await storyForTasks(await device.open(), "f32");
  });
  after(() => open.close());

  test("log-likelihoods are those of each candidate alone, in batches of any size, and give their memory back", async () => {
    const questions = questionsOf(open);
    const live = open.model.device.ledger.liveBytes;
    const expected: number[][] = [];
    for (const { prompt, candidates } of questions) {
      const sums: number[] = [];
      for (const candidate of candidates) sums.push(await candidateLogLikelihood(open, prompt, candidate));
      expected.push(sums);
    }
    for (const batchSize of device.name === "reference" ? [2] : [1, 2, 16]) {
      const found = await score(open, questions, batchSize);
      for (const [i, sums] of expected.entries())
        for (const [j, sum] of sums.entries())
          assert.ok(Math.abs(found[i][j] - sum) < 2e-4, `question ${i}, candidate ${j}: ${found[i][j]} instead of ${sum}`);
    }
    assert.equal(open.model.device.ledger.liveBytes, live);
  });

  test("prompts of any length written side by side get what each gets alone, token for token, and end where it ends", async () => {
    const ids = questionsOf(open).map(({ prompt }) => prompt);
    const tokens = [24, 7, 24, 1, 13];
    const live = open.model.device.ledger.liveBytes;
    // What the first writes fifth ends a text, so that sequences end at different times.
    const [first] = await alone(open.model, ids.slice(0, 1), [24], []);
    const stopIds = [first[4], open.tokenizer.eosTokenId ?? 2];
    const expected = await alone(open.model, ids, tokens, stopIds);
    assert.deepEqual(expected[0], first.slice(0, first.indexOf(first[4])));
    assert.ok(expected.some(({ length }, i) => length === tokens[i]) && expected.some(({ length }, i) => length < tokens[i]));
    const batch = (prompts: readonly Int32Array[], limits: readonly number[]) =>
      generateBatch(open.model, open.method, prompts, { tokens: limits, stopIds, padTokenId: 0 });
    assert.deepEqual(await batch(ids, tokens), expected);
    assert.deepEqual(await batch([...ids].reverse(), [...tokens].reverse()), [...expected].reverse());
    assert.equal(open.model.device.ledger.liveBytes, live);
  });
}

async function alone(model: Llama, prompts: readonly Int32Array[], tokens: readonly number[], stopIds: readonly number[]): Promise<number[][]> {
  const written: number[][] = [];
  for (const [i, prompt] of prompts.entries()) written.push(await generate(model, prompt, { tokens: tokens[i], temperature: 0, seed: 1, stopIds }));
  return written;
}

for (const precision of ["f32", "bf16"] satisfies Precision[])
  test(`in ${precision}, twenty prompts written four at a time are the texts of each alone`, async () => {
    const open = await storyForTasks(fastDevice(), precision);
    const encoded = Array.from({ length: 20 }, (_, i) =>
      Int32Array.from(
        open.tokenizer.encode(`${prompts[i % 5].slice(0, 40 - i)} and ${i % 3 === 0 ? "the dog" : "then she"}`, { addSpecialTokens: true }),
      ),
    );
    const stopIds = [open.tokenizer.eosTokenId ?? 2];
    const options = { tokens: 24, batchSize: 4, stopIds, padTokenId: 0 };
    const done: number[] = [];
    const found = await scoreByGeneration(open.model, open.method, open.tokenizer, encoded, { ...options, onProgress: (n) => done.push(n) });
    const expected = await alone(open.model, encoded, new Array(20).fill(24), stopIds);
    assert.deepEqual(
      found,
      expected.map((ids) => open.tokenizer.decode(ids, { skipSpecial: true })),
    );
    assert.deepEqual(done, [4, 8, 12, 16, 20]);
    assert.ok(new Set(found).size > 5, "the prompts get texts of their own");
    open.close();
  });

test("candidates that differ in their last token alone cost one pass over the prompt", async () => {
  const open = await storyForTasks(fastDevice(), "f32");
  const rope = ropeTables(open.model.device, open.model.config, 64);
  const prompt = Int32Array.from([1, 30, 40, 50]);
  let documents = 0;
  const onProgress = (_: number, of: number) => {
    documents = of;
  };
  const options = { batchSize: 4, padTokenId: 0, onProgress };
  const model = { ...open.model, rope };
  const candidates = [7, 8, 9, 10].map((last) => [5, 6, last]);
  const [sums] = await scoreByLogLikelihood(model, open.method, [{ prompt, candidates }], options);
  assert.equal(documents, 1);
  for (const [i, candidate] of candidates.entries()) assert.ok(Math.abs(sums[i] - (await candidateLogLikelihood(open, prompt, candidate))) < 2e-4);
  await scoreByLogLikelihood(model, open.method, [{ prompt, candidates: [[5, 6, 7], [9, 6, 7], [5]] }], options);
  assert.equal(documents, 2);
  open.close();
});

test("a model that computes no numbers is an error, not an accuracy of 0 %", async () => {
  const open = await storyForTasks(fastDevice(), "f32");
  const { device, tensors } = open.model;
  device.write(tensors.finalNorm, new Float32Array(tensors.finalNorm.shape[0]).fill(Number.POSITIVE_INFINITY));
  const refused = (code: string) => (error: unknown) => error instanceof UserError && error.code === code;
  await assert.rejects(score(open, questionsOf(open), 4), refused("task/not-finite"));
  const asked = questionsOf(open).map(({ prompt }) => prompt);
  const options = { tokens: 4, batchSize: 2, stopIds: [], padTokenId: 0, onProgress() {} };
  await assert.rejects(scoreByGeneration(open.model, open.method, open.tokenizer, asked, options), refused("generate/not-finite"));
  await assert.rejects(generate(open.model, asked[0], { ...options, temperature: 1, seed: 1 }), refused("generate/not-finite"));
  open.close();
});

test("both stop between batches when they are given up", async () => {
  const open = await storyForTasks(fastDevice(), "f32");
  const questions = questionsOf(open);
  const controller = new AbortController();
  const stop = { batchSize: 1, padTokenId: 0, signal: controller.signal, onProgress: () => controller.abort(new Error("enough")) };
  const live = open.model.device.ledger.liveBytes;
  await assert.rejects(
    withPositions(open.model, 128, (long) => scoreByLogLikelihood(long, open.method, questions, stop)),
    /enough/,
  );
  const again = new AbortController();
  let batches = 0;
  const onProgress = () => {
    batches++;
    again.abort(new Error("enough"));
  };
  const asked = questions.map(({ prompt }) => prompt);
  await assert.rejects(
    scoreByGeneration(open.model, open.method, open.tokenizer, asked, { ...stop, tokens: 2, stopIds: [], signal: again.signal, onProgress }),
    /enough/,
  );
  assert.equal(batches, 1);
  assert.equal(open.model.device.ledger.liveBytes, live);
  open.close();
});
