/** Every option of SMT end to end: scores, rankings, length of a run, what is written. What the scores are is judged in smtScores.test.ts. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { Tensor } from "../../../src/core/devices/device.ts";
import { applyDelta, undoDelta } from "../../../src/core/files/deltaApply.ts";
import { deltaOverrides, exportMerged } from "../../../src/core/files/mergedExport.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { openDelta } from "../../../src/core/files/smtDelta.ts";
import type { SparseMatrixTuning } from "../../../src/core/methods/smt/smt.ts";
import { checkRun } from "../../../src/core/prepare.ts";
import { type Run, trainedBlocks } from "../../../src/core/run.ts";
import { parseSelection, type Selection } from "../../../src/protocol/selection.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { readConfig, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const scores = ["meanOfAbs", "absOfAccumulated", "absOfMean", "magnitude", "lowRankMagnitude", "activation", "random", "diagonal"];
const scopes = ["global", "perMatrix", "perKind"];

function selectionIn(folder: string): Selection {
  const file = path.join(folder, "selection.json");
  return parseSelection(readFileSync(file, "utf8"), file);
}

describe("every score with every ranking", () => {
  for (const score of scores)
    test(score, async (t) => {
      for (const selection of scopes) {
        const folder = temporaryFolder(t);
        const method = { name: "smt", blocks: 42, blockSize: 16, score, selection, warmup: { steps: 2 } };
        const { folder: run, ended } = await session(
          writeRunFile(folder, { method, train: { steps: 3 }, evaluate: { every: null }, checkpoint: { every: null } }),
        );
        assert.equal(ended, "done");
        const chosen = selectionIn(run);
        assert.deepEqual([chosen.score, chosen.selection, chosen.blocks.length], [score, selection, 42]);
        assert.ok(
          chosen.blocks.every(({ rank, score: own }, i) => rank === i && (i === 0 || own <= chosen.blocks[i - 1].score)),
          "in rank order",
        );
        const counts = new Map<string, number>();
        const group = (name: string) => (selection === "perKind" ? (name.split(".").at(-1) as string) : name);
        for (const { name } of chosen.blocks) counts.set(group(name), (counts.get(group(name)) ?? 0) + 1);
        if (selection === "perMatrix") assert.deepEqual([...counts.values()], Array(14).fill(3));
        if (selection === "perKind") assert.deepEqual([...counts.values()], Array(7).fill(6));
      }
    });
});

describe("how long a run is", () => {
  test("epochs instead of steps: every document once an epoch", async (t) => {
    const train = { steps: null, epochs: 2, gradientAccumulation: 3, batchSize: 1 };
    const runFile = writeRunFile(temporaryFolder(t), { train, data: { packing: false, eval: null } });
    const { base, data } = await checkRun(readConfig(runFile));
    await base.close();
    assert.ok(data.train.count > 40);
    const { events } = await session(runFile);
    // Twice all documents, three an update, the last update made full from a third epoch.
    assert.equal(events.filter(({ kind }) => kind === "step").length, Math.ceil((2 * data.train.count) / 3));
  });

  test("early stopping ends the run where held-out loss stops falling, saves it, and a resume has nothing to do", async (t) => {
    const folder = temporaryFolder(t);
    const overrides = {
      train: { steps: 40, learningRate: 0.5, learningRateWarmupSteps: 0, schedule: "constant" },
      evaluate: { every: 2, earlyStopping: 3 },
      checkpoint: { every: 5 },
    };
    const { events, folder: run, ended } = await session(writeRunFile(folder, overrides));
    assert.equal(ended, "done");
    const losses = events.flatMap((event) => (event.kind === "evaluation" ? [event] : []));
    const best = losses.reduce((least, event) => (event.loss < least.loss ? event : least));
    const last = losses.at(-1) as (typeof losses)[number];
    assert.equal(losses.indexOf(last) - losses.indexOf(best), 3, "it waited for three evaluations without gain, no more");
    assert.ok(last.step < 40 && events.some((event) => event.kind === "notice" && event.code === "run/early-stop"));
    assert.ok(existsSync(path.join(run, "checkpoints", `step-${last.step}`)));
    assert.deepEqual(events.at(-1), { ...events.at(-1), kind: "done", step: last.step });
  });
});

describe("what is written", () => {
  test("blocks of 48, ragged at the edges: export, apply and undo are exact to the byte", async (t) => {
    const folder = temporaryFolder(t);
    for (const score of ["meanOfAbs", "random"]) {
      const method = { name: "smt", ratio: 0.08, blockSize: 48, score, warmup: { steps: 2 } };
      const { folder: run } = await session(writeRunFile(path.join(folder, score), { method, train: { steps: 4 } }));
      const deltaFile = path.join(run, "smt.safetensors");
      const copy = path.join(folder, score, "copy");
      cpSync(storyFolder, copy, { recursive: true });
      const weights = (place: string) => readFileSync(path.join(place, "model.safetensors"));
      const base = weights(copy);
      await applyDelta(copy, deltaFile);
      const applied = weights(copy);
      assert.ok(!applied.equals(base));
      const folderOfBase = await openModelFolder(storyFolder);
      const delta = await openDelta(deltaFile);
      const ragged = [...delta.matrices.values()].some(({ index }) => index.some((value, i) => i % 2 === 1 && value !== 48));
      assert.ok(ragged, "some chosen blocks are cut");
      await exportMerged(folderOfBase, deltaOverrides(folderOfBase, delta), path.join(folder, score, "merged"));
      await folderOfBase.close();
      await delta.close();
      await sameWeights(path.join(folder, score, "merged"), copy);
      await undoDelta(copy, deltaFile);
      assert.ok(weights(copy).equals(base), "undo gives the base's bytes back");
    }
  });

  test("choosing anew: the delta holds the blocks of every selection, and no other byte differs from the base", async (t) => {
    for (const precision of ["bf16", "f32"]) {
      const folder = temporaryFolder(t);
      const chosen = new Set<string>();
      let run = "";
      const method = { name: "smt", blocks: 20, blockSize: 16, score: "meanOfAbs", warmup: { steps: 1 }, reselectEvery: 3 };
      const { folder: runFolder, events } = await session(writeRunFile(folder, { method, train: { steps: 9, precision, learningRate: 0.05 } }), {
        async onOpen(open) {
          run = open.folder;
        },
        onEvent: (event) => {
          if (event.kind === "step")
            for (const { name, row, column } of selectionIn(run).blocks) chosen.add(`${name}.weight:${16 * row},${16 * column}`);
        },
      });
      assert.equal(events.filter(({ kind }) => kind === "selection").length, 3);
      const delta = await openDelta(path.join(runFolder, "smt.safetensors"));
      const held = [...delta.matrices].flatMap(([weight, { index }]) =>
        Array.from({ length: index.length / 4 }, (_, i) => `${weight}:${index[4 * i]},${index[4 * i + 2]}`),
      );
      assert.ok(chosen.size > 20, "the selections differ");
      assert.deepEqual(held.sort(), [...chosen].sort());
      await delta.close();
      const copy = path.join(folder, "copy");
      cpSync(storyFolder, copy, { recursive: true });
      await applyDelta(copy, path.join(runFolder, "smt.safetensors"));
      await onlyBlocksDiffer(copy, chosen);
      assert.ok(resultOf(runFolder).files["smt.safetensors"]);
    }
  });

  test("choosing anew: the first update of the new blocks is AdamW's first, as long as the learning rate", async (t) => {
    const method = { name: "smt", blocks: 20, blockSize: 16, score: "meanOfAbs", warmup: { steps: 1 }, reselectEvery: 5 };
    const train = { steps: 6, precision: "f32", learningRate: 1e-3, learningRateWarmupSteps: 0, schedule: "constant" };
    let run: Run | null = null;
    const weights = new Map<string, Float32Array>();
    let longest = 0;
    await session(writeRunFile(temporaryFolder(t), { method, train, evaluate: { every: null } }), {
      async onOpen(open) {
        run = open;
      },
      async atBoundary() {
        const { state, device, model } = run as unknown as Run;
        if (state.step === 5) for (const [name, tensor] of model.tensors.byName) weights.set(name, (await device.read(tensor)) as Float32Array);
      },
      async onDone(done) {
        assert.deepEqual([done.state.step, done.state.lastSelection, done.state.updates], [6, 5, 1]);
        for (const { name, row, column, values } of await trainedBlocks(done, done.method as SparseMatrixTuning)) {
          const width = (done.model.tensors.byName.get(`${name}.weight`) as Tensor).shape[1];
          const before = weights.get(`${name}.weight`) as Float32Array;
          for (const [i, value] of values.entries()) {
            const at = (16 * row + Math.floor(i / 16)) * width + 16 * column + (i % 16);
            longest = Math.max(longest, Math.abs(value - before[at]));
          }
        }
      },
    });
    assert.ok(Math.abs(longest - 1e-3) < 1e-6, `the longest step of an entry is ${longest}`);
  });

  test("random blocks are others every time they are chosen, the first ones those that the seed gives", async (t) => {
    const chosen: string[] = [];
    for (const reselectEvery of [1, null]) {
      const runFile = writeRunFile(temporaryFolder(t), {
        method: { name: "smt", blocks: 10, blockSize: 16, score: "random", reselectEvery },
        train: { steps: 3 },
        evaluate: { every: null },
        checkpoint: { every: null },
      });
      let folder = "";
      await session(runFile, {
        async onOpen(open) {
          folder = open.folder;
        },
        onEvent: ({ kind }) => {
          if (kind === "selection") chosen.push(JSON.stringify(selectionIn(folder).blocks));
        },
      });
    }
    assert.equal(chosen.length, 4);
    assert.equal(new Set(chosen).size, 3);
    assert.equal(chosen[3], chosen[0]);
  });

  test("the whole diagonal of every matrix, with the block size that meets the budget", async (t) => {
    const method = { name: "smt", score: "diagonal", trainableParameters: 4 * 3328, selection: "perMatrix" };
    const { folder, events } = await session(writeRunFile(temporaryFolder(t), { method, train: { steps: 2 } }));
    const { blockSize, blocks } = selectionIn(folder);
    assert.deepEqual([blockSize, blocks.length], [4, 3328 / 4]);
    const selection = events.find((event) => event.kind === "selection");
    assert.equal(selection?.kind === "selection" && selection.trainableParameters, 4 * 3328);
    const down = blocks.filter(({ name }) => name === "model.layers.1.mlp.down_proj").sort((a, b) => a.column - b.column);
    assert.deepEqual(
      down.map(({ row, column }) => [row, column]),
      Array.from({ length: 96 }, (_, column) => [Math.floor(column / 3), column]),
    );
  });

  test("a selection.json of one run starts another with the same blocks and no warm-up", async (t) => {
    const folder = temporaryFolder(t);
    const { folder: first } = await session(writeRunFile(path.join(folder, "first"), { train: { steps: 1 } }));
    const file = path.join(folder, "given.json");
    writeFileSync(file, readFileSync(path.join(first, "selection.json")));
    const { events, folder: second } = await session(
      writeRunFile(path.join(folder, "second"), { method: { name: "smt", selection: file }, train: { steps: 1 } }),
    );
    assert.ok(!events.some(({ kind }) => kind === "warmup"));
    assert.deepEqual(selectionIn(second).blocks, selectionIn(first).blocks);
    assert.equal(resultOf(second).files["smt.safetensors"], resultOf(first).files["smt.safetensors"]);
  });
});

async function sameWeights(one: string, other: string): Promise<void> {
  const [a, b] = [await openModelFolder(one), await openModelFolder(other)];
  for (const name of a.tensors.keys()) assert.deepEqual(await a.readTensor(name), await b.readTensor(name), name);
  await a.close();
  await b.close();
}

/** Every bf16 entry of the model outside these blocks of 16 is the base's; in each block one at least is not. */
async function onlyBlocksDiffer(place: string, blocks: ReadonlySet<string>): Promise<void> {
  const [ours, base] = [await openModelFolder(place), await openModelFolder(storyFolder)];
  const moved = new Set<string>();
  for (const [name, { shape }] of base.tensors) {
    const [a, b] = [await ours.readTensor(name), await base.readTensor(name)];
    for (let i = 0; i < a.length; i += 2) {
      if (a[i] === b[i] && a[i + 1] === b[i + 1]) continue;
      const [row, column] = [Math.floor(i / 2 / shape[1]), (i / 2) % shape[1]];
      moved.add(`${name}:${row - (row % 16)},${column - (column % 16)}`);
    }
  }
  await ours.close();
  await base.close();
  assert.deepEqual([...moved].sort(), [...blocks].sort());
}
