/** What a run refuses, by name, before a device is opened or a run folder's state touched; and what it says without refusing. */
import assert from "node:assert/strict";
import { appendFileSync, copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { createRunFolder, removeUnbegun } from "../../../src/core/files/runFolder.ts";
import { checkRun, openRun } from "../../../src/core/prepare.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { randomTensors, tinyConfig, writeModel } from "../files/smallModels.ts";
import { type Overrides, onlyRun, RunProcess, readConfig, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

/** The code and sentence that `checkRun`, which opens no device, refuses with. */
async function refusal(folder: string, overrides: Overrides): Promise<string> {
  const config = readConfig(writeRunFile(folder, overrides));
  try {
    const { base } = await checkRun(config);
    await base.close();
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.badInput && error.action.length > 10, error.message);
    return `${error.code}: ${error.message}`;
  }
  return "accepted";
}

function tinyModel(folder: string, config: object = {}): string {
  writeModel(folder, { config: { ...tinyConfig, ...config }, tensors: randomTensors(tinyConfig) });
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(path.join(storyFolder, name), path.join(folder, name));
  return folder;
}

describe("refused before anything is allocated", () => {
  const smt = (more: object) => ({ method: { name: "smt", blocks: 4, blockSize: 16, ...more } });
  const cases: [string, (folder: string) => Overrides, RegExp][] = [
    ["rows longer than the model's positions", () => ({ train: { sequenceLength: 513 } }), /sequenceLength is 513, but the model knows only 512/],
    ["token ids beyond the vocabulary", (folder) => ({ model: tinyModel(path.join(folder, "m")) }), /vocab/i],
    [
      "a target that matches no matrix",
      () => smt({ targets: ["q_proj", "qkv_proj"] }),
      /method\/unknown-target: The target qkv_proj matches no matrix/,
    ],
    ["an unknown rope type", (folder) => ({ model: tinyModel(path.join(folder, "m"), { rope_scaling: { rope_type: "yarn", factor: 4 } }) }), /yarn/],
    [
      "a mixture of experts",
      (folder) => ({
        model: tinyModel(path.join(folder, "m"), { model_type: "mixtral", architectures: ["MixtralForCausalLM"], num_local_experts: 8 }),
      }),
      /[Mm]ixtral|experts/,
    ],
    ["a budget that buys no block", () => ({ method: { name: "smt", ratio: 1e-6, blockSize: 16 } }), /method\/no-block/],
    ["more blocks than there are", () => smt({ blocks: 100000 }), /method\/too-many-blocks/],
    ["a score that needs a warm-up without one", () => smt({ warmup: { steps: 0 } }), /method\/no-warmup: The score meanOfAbs/],
    [
      "a warm-up that shall train without a backward pass",
      () => smt({ score: "activation", warmup: { steps: 2, update: true } }),
      /method\/warmup-cannot-train: .*activation/,
    ],
    [
      "a selection of another model",
      (folder) => smt({ selection: writeSelection(folder, "model.layers.7.self_attn.q_proj") }),
      /method\/selection-mismatch: .*layers\.7\.self_attn\.q_proj:0,0/,
    ],
    [
      "a block size that is not the given selection's",
      (folder) => ({ method: { name: "smt", blockSize: 32, selection: writeSelection(folder, "model.layers.0.self_attn.q_proj") } }),
      /method\/selection-contradicted: method\.blockSize is 32, but .*selection\.json holds blocks of 16 × 16/,
    ],
    [
      "targets that leave a block of the given selection out",
      (folder) => ({ method: { name: "smt", targets: ["k_proj"], selection: writeSelection(folder, "model.layers.0.self_attn.q_proj") } }),
      /method\/selection-contradicted: .*selection\.json holds block model\.layers\.0\.self_attn\.q_proj:0,0, .*method\.targets \(k_proj\)/,
    ],
    [
      "diagonal blocks that shall be chosen anew",
      () => ({ method: { name: "smt", score: "diagonal", reselectEvery: 5 } }),
      /method\/cannot-reselect: .*the score diagonal chooses the same ones every time/,
    ],
    ["data with nothing usable", (folder) => ({ data: { train: writeFile(folder, "empty.jsonl", "\n\n") } }), /^data\//],
  ];
  for (const [name, overrides, expected] of cases)
    test(name, async (t) => {
      const folder = temporaryFolder(t);
      assert.match(await refusal(folder, overrides(folder)), expected);
    });

  test("the command says it in a sentence with the next action, exits 2 and leaves no run folder", async (t) => {
    const folder = temporaryFolder(t);
    const run = new RunProcess("train", writeRunFile(folder, { train: { sequenceLength: 513 } }));
    assert.equal((await run.exit).code, 2);
    assert.match(run.errors, /^sparse-tuner: .*513.*\nSet train\.sequenceLength to 512 or less\.\n$/);
    assert.equal(onlyRun(path.join(folder, "runs")), null);
  });
});

function writeFile(folder: string, name: string, text: string): string {
  writeFileSync(path.join(folder, name), text);
  return name;
}

function writeSelection(folder: string, name: string): string {
  return writeFile(folder, "selection.json", JSON.stringify({ version: 1, blockSize: 16, blocks: [{ name, row: 0, column: 0 }] }));
}

/** A copy of the bundled model whose bf16 weight `name` holds `bits` at `entry`. */
function damagedStory(folder: string, name: string, entry: number, bits: number): string {
  mkdirSync(folder, { recursive: true });
  cpSync(storyFolder, folder, { recursive: true });
  const file = path.join(folder, "model.safetensors");
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  bytes.writeUInt16LE(bits, 8 + headerBytes + header[name].data_offsets[0] + 2 * entry);
  writeFileSync(file, bytes);
  return folder;
}

describe("refused while the weights are read", () => {
  for (const [what, bits] of [
    ["NaN", 0x7fc1],
    ["infinity", 0xff80],
  ] as const)
    test(`${what} in a weight: the tensor and the entry are named`, async (t) => {
      const folder = temporaryFolder(t);
      const name = "model.layers.1.mlp.down_proj.weight";
      const runFile = writeRunFile(folder, { model: damagedStory(path.join(folder, "model"), name, 12345, bits) });
      await assert.rejects(session(runFile), (error: UserError) => {
        assert.equal(error.code, "model/not-finite");
        assert.match(error.message, /model\.layers\.1\.mlp\.down_proj\.weight holds NaN or infinity at entry 12345/);
        return true;
      });
    });
});

test("refused before it began, a new run leaves no folder; one that holds more, or was resumed, stays", async (t) => {
  const folder = temporaryFolder(t);
  const model = path.join(folder, "model");
  damagedStory(model, "model.layers.0.mlp.up_proj.weight", 7, 0x7fc1);
  const refused = new RunProcess("train", writeRunFile(folder, { model }));
  assert.notEqual((await refused.exit).code, 0);
  assert.match(refused.errors, /holds NaN or infinity/);
  assert.deepEqual(readdirSync(path.join(folder, "runs")), []);
  const config = readConfig(path.join(folder, "run.yaml"));
  const runFolder = await createRunFolder(config.output, "begun", stringifyRunConfig(config));
  const resumed = new RunProcess("resume", runFolder);
  assert.notEqual((await resumed.exit).code, 0);
  assert.deepEqual(readdirSync(runFolder).sort(), ["events.jsonl", "log.txt", "run.yaml"]);
  writeFileSync(path.join(runFolder, "mine.txt"), "");
  await removeUnbegun(runFolder);
  assert.ok(existsSync(path.join(runFolder, "mine.txt")));
});

describe("what has changed between save and resume", () => {
  const overrides: Overrides = { checkpoint: { every: 2 }, train: { steps: 6 } };

  async function stopped(folder: string): Promise<{ runFile: string; runFolder: string }> {
    const model = path.join(folder, "model");
    cpSync(storyFolder, model, { recursive: true });
    const runFile = writeRunFile(folder, { ...overrides, model });
    let step = 0;
    const { folder: runFolder } = await session(runFile, {
      stopRequested: () => step >= 3,
      onEvent: (event) => {
        if (event.kind === "step") step = event.step;
      },
    });
    return { runFile, runFolder };
  }

  const changes: [string, (folder: string, runFolder: string) => void][] = [
    ["base", (folder) => damagedStory(path.join(folder, "model"), "model.layers.0.mlp.up_proj.weight", 3, 0x3c12)],
    ["data", (folder) => appendFileSync(path.join(folder, "train.jsonl"), '{"text": "One more row than before, which changes the data."}\n')],
    [
      "config",
      (_folder, runFolder) => {
        const file = path.join(runFolder, "run.yaml");
        writeFileSync(file, readFileSync(file, "utf8").replace(/learningRate: 0\.003/, "learningRate: 0.002"));
      },
    ],
  ];
  for (const [what, change] of changes)
    test(`the ${what}: refused with both hashes, and gone on with --accept-changes, which is logged`, async (t) => {
      const folder = temporaryFolder(t);
      const { runFolder } = await stopped(folder);
      change(folder, runFolder);
      const before = resultOf(runFolder);
      const refused = new RunProcess("resume", runFolder);
      assert.equal((await refused.exit).code, 2, refused.errors);
      assert.match(refused.errors, /has changed since the checkpoint of step 3: [0-9a-f]{12}… then, [0-9a-f]{12}… now\.\n.*--accept-changes/);
      assert.deepEqual(resultOf(runFolder), before, "a refusal changes nothing");
      const accepted = new RunProcess("resume", runFolder, "--accept-changes");
      assert.equal((await accepted.exit).code, 0, accepted.errors);
      const notices = accepted.events.flatMap((event) => (event.kind === "notice" ? [event.code] : []));
      assert.ok(notices.includes(`run/changed-${what}`), notices.join());
      assert.equal(accepted.events.at(-1)?.kind, "done");
    });

  test("nothing: where the run is saved and how often does not count", async (t) => {
    const { runFolder } = await stopped(temporaryFolder(t));
    const file = path.join(runFolder, "run.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace(/^checkpoint:\n {2}every: 2/m, "checkpoint:\n  every: 5"));
    const resumed = new RunProcess("resume", runFolder);
    assert.equal((await resumed.exit).code, 0, resumed.errors);
  });

  test("more steps, accepted: the run goes on to them", async (t) => {
    const { runFolder } = await stopped(temporaryFolder(t));
    const file = path.join(runFolder, "run.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace(/^ {2}steps: 6$/m, "  steps: 9"));
    const resumed = new RunProcess("resume", runFolder, "--accept-changes");
    assert.equal((await resumed.exit).code, 0, resumed.errors);
    assert.deepEqual(
      resumed.events.filter((event) => event.kind === "step").map(({ step }) => step),
      [4, 5, 6, 7, 8, 9],
    );
  });

  test("a selection.json that was given, or that it is gone: a run goes on with the one it keeps", async (t) => {
    const folder = temporaryFolder(t);
    const given = path.join(folder, writeSelection(folder, "model.layers.1.mlp.up_proj"));
    const method = { name: "smt", selection: given };
    const { folder: whole } = await session(writeRunFile(path.join(folder, "whole"), { method, ...overrides }));
    const runFile = writeRunFile(folder, { method, ...overrides });
    let stop = false;
    const { folder: runFolder } = await session(runFile, {
      stopRequested: () => stop,
      onEvent: (event) => {
        stop ||= event.kind === "step" && event.step === 3;
      },
    });
    writeSelection(folder, "model.layers.0.self_attn.q_proj");
    const changed = await checkRun(readConfig(runFile), runFolder);
    await changed.base.close();
    assert.equal(changed.selection?.blocks[0].name, "model.layers.1.mlp.up_proj", "planned with the blocks it trains");
    rmSync(given);
    const resumed = new RunProcess("resume", runFolder);
    assert.equal((await resumed.exit).code, 0, resumed.errors);
    assert.equal(resultOf(runFolder).files["smt.safetensors"], resultOf(whole).files["smt.safetensors"]);
  });

  test("the model that a warm-up left: refused when it is damaged or gone", async (t) => {
    const folder = temporaryFolder(t);
    const runFile = writeRunFile(folder, { ...overrides, method: { name: "smt", blocks: 20, blockSize: 16, warmup: { steps: 1, update: true } } });
    let stop = false;
    const { folder: runFolder } = await session(runFile, {
      stopRequested: () => stop,
      onEvent: ({ kind }) => {
        stop ||= kind === "step";
      },
    });
    const weights = path.join(runFolder, "base/model.safetensors");
    const bytes = readFileSync(weights);
    const flipped = Buffer.from(bytes);
    // Every matrix of the first layer has blocks or not; the low bit of every entry of the file's second half reaches one that has.
    for (let i = Math.floor(bytes.length / 4) * 2; i < bytes.length; i += 2) flipped[i] ^= 1;
    writeFileSync(weights, flipped);
    await assert.rejects(session(runFile, { runFolder }), (error: UserError) => error.code === "run/changed-base");
    writeFileSync(weights, bytes.subarray(0, 1000));
    await assert.rejects(session(runFile, { runFolder }), (error: unknown) => error instanceof UserError);
    writeFileSync(weights, bytes);
    assert.equal((await session(runFile, { runFolder })).ended, "done");
  });
});

describe("said, not refused", () => {
  test("a budget that is not what the diagonals hold", async (t) => {
    const noticeOf = async (method: object) => {
      const config = readConfig(writeRunFile(temporaryFolder(t), { method: { name: "smt", score: "diagonal", ...method } }));
      const { base, notices } = await checkRun(config);
      await base.close();
      return notices.map(({ code, message }) => `${code}: ${message}`).join();
    };
    // The longer sides of the bundled model's matrices are 2 · (4 · 128 + 3 · 384) = 3328 long.
    assert.equal(await noticeOf({ trainableParameters: 8 * 3328 }), "");
    assert.equal(await noticeOf({ blocks: 3328 / 16, blockSize: 16 }), "");
    assert.match(
      await noticeOf({ trainableParameters: 10_000 }),
      /^method\/not-the-diagonals: The whole diagonals .* are \d+ parameters .* the 10000 that/,
    );
    assert.match(await noticeOf({ blocks: 100 }), /are 98 blocks in blocks of 35 × 35, the nearest to the 100 that/);
    assert.match(await noticeOf({ blocks: 40, blockSize: 16 }), /buys 40 blocks of 16 × 16, and .* hold 208: a part of each/);
    assert.match(await noticeOf({ blocks: 300, blockSize: 16 }), /buys 300 blocks of 16 × 16, and .* hold 208: blocks beside/);
  });

  test("a budget beside a selection.json, which is one itself", async (t) => {
    const folder = temporaryFolder(t);
    const method = { name: "smt", selection: path.join(folder, writeSelection(folder, "model.layers.1.mlp.up_proj")) };
    const noticesOf = async (more: object) => {
      const config = readConfig(writeRunFile(folder, { method: { ...method, ...more } }));
      const { base, notices } = await checkRun(config);
      await base.close();
      return { config, notices: notices.map(({ code, message }) => `${code}: ${message}`) };
    };
    const { notices } = await noticesOf({ ratio: 0.3 });
    assert.equal(notices.length, 1);
    assert.match(notices[0], /^method\/budget-unused: method\.ratio \(0\.3\) does not count: .* those of .*selection\.json\.$/);
    const { config, notices: none } = await noticesOf({});
    assert.deepEqual([config.method.name === "smt" && config.method.ratio, none], [null, []], "no ratio is filled in that would not count");
  });

  test("evaluation rows that also stand in the training data", async (t) => {
    const runFile = writeRunFile(temporaryFolder(t), { data: { eval: "train.jsonl" }, train: { steps: 1 }, evaluate: { rows: 3 } });
    const { events } = await session(runFile);
    const notice = events.find((event) => event.kind === "notice" && event.code === "data/overlap");
    assert.match((notice as { message: string }).message, /^3 evaluation rows also in the training data/);
    const { events: clean } = await session(writeRunFile(temporaryFolder(t), { train: { steps: 1 } }));
    assert.ok(!clean.some((event) => event.kind === "notice" && event.code === "data/overlap"));
  });

  test("the first step takes the longest batch", async (t) => {
    for (const packing of [true, false]) {
      const folder = temporaryFolder(t);
      const run = await openRun(await checkRun(readConfig(writeRunFile(folder, { data: { packing } }))), folder, null, () => {});
      const tokens = Array.from({ length: run.batches.batchesPerEpoch(0) }, (_, i) => run.batches.batch(i).tokens);
      assert.ok(tokens.length > 5 && new Set(tokens).size > 1);
      assert.equal(tokens[0], Math.max(...tokens));
      run.device.close();
      await run.base.close();
    }
  });
});
