/** Blocks of more values than a screen has room for: windows of them, statistics and whole copies, of a live run and of its checkpoint; and where it ends. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { analyze } from "../../../src/core/blocks/analysis.ts";
import { readWithWhole, windowWithin } from "../../../src/core/blocks/blockWindow.ts";
import { RunBlocks } from "../../../src/core/blocks/runBlocks.ts";
import { type LiveBlock, readLiveBlock } from "../../../src/core/host/liveBlock.ts";
import type { Run } from "../../../src/core/run.ts";
import { type BlockPlace, blockParts, maxBlockValues } from "../../../src/protocol/coreProtocol.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { randomTensors, writeModel } from "../files/smallModels.ts";
import { session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";

const side = 640;
const window = { row: 300, column: 500, rows: 20, columns: 1000 };

/** A Llama of one layer whose attention has matrices of 640 × 640, with the bundled tokenizer. */
function wideModel(folder: string): string {
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: side,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 8,
    num_key_value_heads: 8,
    vocab_size: 2048,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  const tensors = randomTensors(config);
  for (const [name, tensor] of Object.entries(tensors))
    if (name.endsWith("norm.weight")) tensor.bytes = new Uint8Array(new Float32Array(side).fill(1).buffer);
  writeModel(folder, { config, tensors });
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(path.join(storyFolder, name), path.join(folder, name));
  return folder;
}

test("a block of 640 × 640 is read by windows, analysed and read whole, live and of its checkpoint, to the bit", async (t) => {
  const home = temporaryFolder(t);
  const overrides = {
    model: wideModel(path.join(home, "model")),
    method: { name: "smt", blocks: 1, blockSize: side, targets: ["q_proj"], warmup: { steps: 1 } },
    train: { steps: 2, batchSize: 1, sequenceLength: 32, learningRateWarmupSteps: 0, precision: "f32" },
    evaluate: { every: null },
  };
  const place: BlockPlace = { name: "model.layers.0.self_attn.q_proj", row: 0, column: 0 };
  const live = new Map<string, LiveBlock>();
  const { folder } = await session(writeRunFile(home, overrides), {
    async onDone(run: Run) {
      for (const part of blockParts) live.set(part, (await readLiveBlock(run, { ...place, part, window, analyze: true })) as LiveBlock);
    },
  });
  const run = await RunBlocks.open(folder);
  for (const part of blockParts) {
    const read = live.get(part) as LiveBlock;
    assert.deepEqual([read.rows, read.columns, read.blockRows, read.blockColumns], [20, 140, side, side]);
    const whole = read.whole as Float32Array;
    assert.deepEqual(
      read.values,
      Float32Array.from({ length: 20 * 140 }, (_, i) => whole[(300 + Math.floor(i / 140)) * side + 500 + (i % 140)]),
      part,
    );
    assert.ok(analyze(whole, side, side).norm > 0);
    assert.deepEqual(await run.read(place, part, null, { window, analyze: true }), read, part);
    const copied = await run.read(place, part, null);
    assert.ok("values" in copied);
    assert.deepEqual(copied.values, whole, part);
  }
});

test("a block of too many values has windows and no statistics; what is no window of it is refused before anything is read", async () => {
  const block = { rows: 4096, columns: 4096 };
  const asked: unknown[] = [];
  const read = async (given: { rows: number; columns: number }) => {
    asked.push(given);
    return new Float32Array(given.rows * given.columns);
  };
  const inside = windowWithin(block, { row: 4000, column: 0, rows: 360, columns: 360 });
  assert.deepEqual(inside, { row: 4000, column: 0, rows: 96, columns: 360 });
  const large = await readWithWhole(block, inside, true, read);
  assert.ok(typeof large !== "string");
  assert.deepEqual([large.whole, large.values.length], [null, 96 * 360]);
  assert.deepEqual(asked, [inside], "nothing but the window was read");
  assert.deepEqual(await readWithWhole(block, inside, false, async () => "not kept"), "not kept");
  const edge = { rows: 2048, columns: maxBlockValues / 2048 };
  const largest = await readWithWhole(edge, { ...edge, row: 0, column: 0 }, true, read);
  assert.equal(typeof largest !== "string" && largest.whole?.length, maxBlockValues);

  const refused = { code: "inspect/no-window" };
  assert.throws(() => windowWithin(block), refused);
  assert.throws(() => windowWithin(block, { row: 4096, column: 0, rows: 1, columns: 1 }), refused);
  assert.throws(() => windowWithin(block, { row: 0, column: 5000, rows: 1, columns: 1 }), refused);
});
