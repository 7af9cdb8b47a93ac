/** Calibration windows: exactly as many tokens as asked, drawn by a seed, from every kind of data file. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { assetPath } from "../../../src/core/assets.ts";
import { openTokenizer } from "../../../src/core/data/tokenizer.ts";
import { openModelConfig } from "../../../src/core/files/modelFolder.ts";
import { drawStarts, readCalibration } from "../../../src/core/pruning/calibration.ts";
import { temporaryFolder } from "../files/smallModels.ts";

const model = assetPath("media/demo/model");
const tokenizer = await openTokenizer(model);
const { config } = await openModelConfig(model);
const story = "Once upon a time there was a little dog who liked to run in the park with his friend, the small grey cat. ".repeat(60);

test("windows do not share a token, lie inside, and are drawn over the whole text", () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 200; seed++) {
    const starts = drawStarts(100, { samples: 4, sequenceLength: 20 }, seed);
    assert.equal(starts.length, 4);
    for (const [i, start] of starts.entries()) {
      assert.ok(start >= (i === 0 ? 0 : starts[i - 1] + 20) && start + 20 <= 100);
      seen.add(start);
    }
  }
  assert.ok(seen.has(0) && seen.has(80) && seen.size > 60);
  assert.deepEqual(drawStarts(80, { samples: 4, sequenceLength: 20 }, 7), [0, 20, 40, 60]);
});

test("the same file and seed give the same windows, another seed others; every window is a stretch of the text", async (t) => {
  const file = path.join(temporaryFolder(t), "story.txt");
  writeFileSync(file, story);
  const read = (seed: number) => readCalibration({ file, samples: 5, sequenceLength: 32, seed }, tokenizer, config);
  const [first, again, other] = [await read(1), await read(1), await read(2)];
  assert.equal(first.ids.length, 160);
  assert.deepEqual(first.ids, again.ids);
  assert.notDeepEqual(first.ids, other.ids);
  const whole = [...tokenizer.prefixIds, ...tokenizer.encode(story), ...(tokenizer.eosTokenId === null ? [] : [tokenizer.eosTokenId])];
  const stretches = new Set(Array.from({ length: whole.length - 31 }, (_, i) => whole.slice(i, i + 32).join()));
  for (let window = 0; window < 5; window++) assert.ok(stretches.has(first.ids.slice(window * 32, window * 32 + 32).join()), `window ${window}`);
});

test("JSON lines, JSON and chats serve as well; rows follow one another", async (t) => {
  const folder = temporaryFolder(t);
  const rows = Array.from({ length: 40 }, (_, i) => ({ prompt: `Say ${i}.`, completion: story.slice(0, 40 + i) }));
  const files = { "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n"), "rows.json": JSON.stringify(rows) };
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(path.join(folder, name), text);
    const { ids, notes } = await readCalibration({ file: path.join(folder, name), samples: 8, sequenceLength: 64, seed: 0 }, tokenizer, config);
    assert.equal(ids.length, 512);
    assert.ok(ids.every((id) => id >= 0 && id < config.vocabSize));
    assert.ok(new Set(ids).size > 20);
    assert.deepEqual(notes, []);
  }
});

test("too little text is refused with how much is missing, and what would do", async (t) => {
  const file = path.join(temporaryFolder(t), "short.txt");
  writeFileSync(file, story.slice(0, 600));
  const read = (samples: number, sequenceLength: number) => readCalibration({ file, samples, sequenceLength, seed: 0 }, tokenizer, config);
  const available = tokenizer.prefixIds.length + tokenizer.encode(story.slice(0, 600)).length + 1;
  await assert.rejects(read(64, 32), (error: Error & { code: string; action: string }) => {
    assert.equal(error.code, "prune/too-little-text");
    assert.match(error.message, new RegExp(`${available} tokens, but 64 windows of 32 need 2048: ${2048 - available} are missing`));
    assert.match(error.action, new RegExp(`--samples ${Math.floor(available / 32)}\\.`));
    return true;
  });
  await assert.rejects(read(1, 512), { action: "Give more text, or ask for a smaller --sequence-length." });
});

test("a large file is read no further than needed", async (t) => {
  const file = path.join(temporaryFolder(t), "many.jsonl");
  const row = JSON.stringify({ text: story.slice(0, 1000) });
  // Rows that would be refused stand behind what is looked at: 16 times 64 tokens.
  writeFileSync(file, `${Array.from({ length: 40 }, () => row).join("\n")}\n${"not JSON\n".repeat(400)}`);
  const { ids } = await readCalibration({ file, samples: 2, sequenceLength: 32, seed: 0 }, tokenizer, config);
  assert.equal(ids.length, 64);
});
