/**
 * What a bigram model comes to on held-out text, for docs/results.md to hold a trained model against:
 * `node test/developmentNode.mjs test/bench/bigram.ts MODEL TRAIN.jsonl HELD.jsonl`, rows as {"text"}. Absolute discounting, counted on the training tokens;
 * the discount is chosen on the held-out text itself, in the bigram's favour. A figure, no verdict: nothing here is a test.
 */
import { readFileSync } from "node:fs";
import { openTokenizer } from "../../src/core/data/tokenizer.ts";
import { openModelConfig } from "../../src/core/files/modelFolder.ts";

const discounts = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const [modelFolder, trainFile, heldFile] = process.argv.slice(2);
const tokenizer = await openTokenizer(modelFolder);
const { vocabSize } = (await openModelConfig(modelFolder)).config;

function documents(file: string): ArrayLike<number>[] {
  const rows = readFileSync(file, "utf8").trimEnd().split("\n");
  return rows.map((row) => tokenizer.encode((JSON.parse(row) as { text: string }).text));
}

/** Pairs of neighbouring tokens, as first · V + second. */
function* pairs(texts: readonly ArrayLike<number>[]): Generator<number> {
  for (const text of texts) for (let i = 1; i < text.length; i++) yield text[i - 1] * vocabSize + text[i];
}

const seen = new Float64Array(vocabSize * vocabSize);
/** By first token: how often it has a successor, and how many different ones. By second token: how often it is one. */
const [followed, successors, follows] = [0, 0, 0].map(() => new Float64Array(vocabSize));
let total = 0;
for (const pair of pairs(documents(trainFile))) {
  const first = Math.floor(pair / vocabSize);
  if (seen[pair]++ === 0) successors[first]++;
  followed[first]++;
  follows[pair % vocabSize]++;
  total++;
}

/** Interpolated with the frequency of the second token, to which half an occurrence is added. */
function probability(pair: number, discount: number): number {
  const first = Math.floor(pair / vocabSize);
  const alone = (follows[pair % vocabSize] + 0.5) / (total + 0.5 * vocabSize);
  if (followed[first] === 0) return alone;
  return (Math.max(0, seen[pair] - discount) + discount * successors[first] * alone) / followed[first];
}

const held = [...pairs(documents(heldFile))];
for (const discount of discounts) {
  const loss = held.reduce((sum, pair) => sum - Math.log(probability(pair, discount)), 0) / held.length;
  console.log(`discount ${discount}: ${loss.toFixed(4)} nats a token (${held.length} held-out, ${total} training tokens)`);
}
