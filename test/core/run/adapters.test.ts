/**
 * Runs of every adapter method, and of full fine-tuning that keeps zeros, on a pruned model: they learn, the sparsity meter says what is in the files, the
 * result is read back as the run left it, and a merged export computes what the run computed.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { exportResult } from "../../../src/core/commands/export.ts";
import { saveCheckpoint } from "../../../src/core/files/checkpoint.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { entryOf } from "../../../src/core/files/safetensorsWriter.ts";
import { openModel } from "../../../src/core/inference.ts";
import { runLogits } from "../../../src/core/model/llama.ts";
import { checkRun } from "../../../src/core/prepare.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { compareZeros, prunedCopy, valuesOf } from "./prunedModel.ts";
import { readConfig, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const pruned = await prunedCopy(storyFolder, path.join(common, "pruned"), { dtype: "F32" });

const train = { precision: "f32", steps: 4, learningRate: 1e-2, learningRateWarmupSteps: 0 };
const keeping: Record<string, object> = {
  lors: { name: "lors", rank: 4, initSamples: 3 },
  "lors, exact": { name: "lors", rank: 4, init: "kaiming", gradient: "exact", targets: ["v_proj", "down_proj"] },
  spp: { name: "spp", groups: 8, dropout: 0.1 },
  sqft: { name: "sqft", rank: 4, neuralSearch: [4, 3, 2], dropout: 0.1 },
  "sqft on four bits": { name: "sqft", rank: 4, quantize: { groupSize: 32 } },
  "full that keeps zeros": { name: "full", sparse: "keep" },
};
const losing: Record<string, object> = {
  lora: { name: "lora", rank: 4, dropout: 0.1, ranks: { q_proj: 2, "model.layers.1.mlp.up_proj": 6 }, rankStabilized: true },
  dora: { name: "dora", rank: 4, targets: ["q_proj", "model.layers.0.mlp.down_proj"] },
  "full that fills zeros": { name: "full" },
  smt: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 1 } },
};

const ofKind = <Kind extends RunEvent["kind"]>(events: readonly RunEvent[], kind: Kind) =>
  events.filter((event) => event.kind === kind) as Extract<RunEvent, { kind: Kind }>[];

const ids = Int32Array.from({ length: 24 }, (_, i) => ((i * 37 + 11) % 2000) + 3);

/** Logits of all positions of a text, by a model, a run, or an adapter with its base. */
async function logitsOf(modelOrRun: string, base: string | null = null): Promise<Float32Array> {
  const opened = await openModel(modelOrRun, { device: "auto", threads: 2, positions: 64, base });
  const logits = (await opened.model.device.read(await runLogits(opened.model, opened.method, ids, ids.length, null))) as Float32Array;
  opened.close();
  return logits;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

for (const [name, method] of Object.entries({ ...keeping, ...losing }))
  describe(name, () => {
    const adapter = !("blocks" in method) && (method as { name: string }).name !== "full";
    const keeps = name in keeping;
    const [run, merged] = [path.join(common, name), path.join(common, `${name} merged`)];
    let folder: string;
    let events: RunEvent[];
    let notes: string[];
    before(async () => {
      const runFile = writeRunFile(run, { model: pruned, method, train, evaluate: { every: 2, rows: 1 } });
      ({ folder, events } = await session(runFile));
      const report = await exportResult({ runFolder: folder, format: "merged", to: merged });
      notes = report.notes.filter((note) => !note.startsWith("The portable device"));
    });

    test("it learns", () => {
      const [first, ...rest] = ofKind(events, "evaluation");
      assert.equal(ofKind(events, "started")[0].method, (method as { name: string }).name);
      assert.deepEqual(
        rest.map(({ step }) => step),
        [2, 4],
      );
      assert.ok(rest[1].loss < first.loss, `${first.loss} → ${rest[1].loss}`);
    });

    test(`zeros are ${keeps ? "kept" : "lost"}, as the meter says at every evaluation, and the warning before the start`, async () => {
      const meter = ofKind(events, "sparsity");
      assert.deepEqual(
        meter.map(({ step }) => step),
        [0, 2, 4],
      );
      assert.deepEqual([meter[0].zeros, meter[0].lost, meter[0].byLayer], [meter[0].entries / 2, 0, [0.5, 0.5]]);
      const { zeros, lost, pairs, groups } = await compareZeros(pruned, merged);
      assert.deepEqual([meter[2].zeros, meter[2].lost], [zeros, lost]);
      const warned = ofKind(events, "notice").filter(({ code }) => code === "method/loses-zeros");
      const started = events.findIndex(({ kind }) => kind === "started");
      if (keeps) {
        assert.equal(lost, 0);
        if (!name.includes("four bits")) assert.equal(pairs, groups, "2:4");
        assert.deepEqual([warned, notes], [[], []]);
      } else {
        assert.ok(lost > 1000 && meter[1].lost > 1000, `only ${lost}`);
        assert.equal(warned.length, 1);
        assert.match(warned[0].message, /^50\.0 % of the model's linear weights are zero, and /);
        assert.ok(events.indexOf(warned[0]) - started < 5 && events.indexOf(warned[0]) < events.findIndex(({ kind }) => kind === "step"));
        assert.deepEqual(notes, [warned[0].message]);
      }
    });

    test("a merged export computes what the run computes", async () => {
      const ofRun = await logitsOf(folder);
      const moved = largestDifference(ofRun, await logitsOf(pruned));
      assert.ok(moved > 0.02, `the run changed nothing: ${moved}`);
      const most = Math.max(...ofRun.map(Math.abs));
      const difference = largestDifference(ofRun, await logitsOf(merged));
      assert.ok(difference <= 1e-5 * most, `${difference} of ${most}`);
    });

    // Full fine-tuning leaves no adapter.
    if (!adapter) return;
    test("a finished run's adapter folder is the run's adapter, bit for bit", async () => {
      const kept = path.join(folder, "adapter");
      const peft = ["lora", "dora"].includes(name);
      assert.deepEqual(
        readdirSync(kept).sort(),
        peft ? ["adapter_config.json", "adapter_model.safetensors"] : ["adapter.safetensors", "sparse-tuner-adapter.json"],
      );
      const ofRun = await logitsOf(folder);
      assert.deepEqual(await logitsOf(kept, pruned), ofRun);
      const again = path.join(common, `${name} again`);
      await exportResult({ runFolder: kept, base: pruned, format: "adapter", to: again });
      for (const file of readdirSync(kept)) {
        // A run file has several ways to name the same matrices; PEFT's has one for us.
        if (file !== "adapter_config.json") assert.deepEqual(readFileSync(path.join(again, file)), readFileSync(path.join(kept, file)), file);
      }
      const mergedAgain = path.join(common, `${name} merged again`);
      await exportResult({ runFolder: kept, base: pruned, format: "merged", to: mergedAgain });
      const [one, other] = [merged, mergedAgain].map((place) => readFileSync(path.join(place, "model.safetensors")));
      assert.ok(one.equals(other), "the merged folders differ");
    });
  });

test("a run without held-out rows has a meter all the same", async () => {
  const runFile = writeRunFile(path.join(common, "no-eval"), {
    model: pruned,
    method: { name: "lors", rank: 2, init: "kaiming" },
    data: { eval: null },
    train: { ...train, steps: 3 },
    evaluate: { every: 2 },
  });
  const { events } = await session(runFile);
  assert.deepEqual(
    ofKind(events, "sparsity").map(({ step, lost }) => [step, lost]),
    [
      [0, 0],
      [2, 0],
      [3, 0],
    ],
  );
});

test("a dense base has no meter and no warning, and its plan needs none", async () => {
  const { events } = await session(writeRunFile(path.join(common, "dense"), { method: { name: "lora", rank: 2 }, train: { ...train, steps: 1 } }));
  assert.deepEqual([ofKind(events, "sparsity"), ofKind(events, "notice").filter(({ code }) => code === "method/loses-zeros")], [[], []]);
});

test("the search for LoRS' start is told, and is over before the first checkpoint", async () => {
  const method = { name: "lors", rank: 2, initSamples: 6 };
  const { events } = await session(writeRunFile(path.join(common, "start"), { model: pruned, method, train: { ...train, steps: 1 } }));
  const told = ofKind(events, "initialising");
  const { of } = told[0];
  assert.deepEqual(
    told.map(({ done }) => done),
    Array.from({ length: of }, (_, i) => i + 1),
  );
  assert.ok(of % 8 === 0 && of > 8, "eight passes over all of the rows");
  const at = (kind: string) => events.findIndex((event) => event.kind === kind);
  assert.ok(events.indexOf(told[of - 1]) < at("checkpoint") && at("evaluation") < events.indexOf(told[0]));
});

test("an export in which a zero turned non-zero fails and leaves nothing", async () => {
  const runFile = writeRunFile(path.join(common, "losing"), {
    model: pruned,
    method: { name: "full", sparse: "keep" },
    train: { ...train, steps: 1 },
  });
  const { folder } = await session(runFile);
  const checkpoint = path.join(folder, "checkpoints/step-1");
  const trained = await openSafetensors(path.join(checkpoint, "trained.safetensors"));
  const base = await openSafetensors(path.join(pruned, "model.safetensors"));
  const name = "model.layers.1.mlp.up_proj.weight";
  const zero = new Float32Array(new Uint8Array(await base.readBytes(name)).buffer).indexOf(0);
  const entries = await Promise.all(
    [...trained.header.tensors].map(async ([tensor, { shape }]) => {
      const values = new Float32Array(new Uint8Array(await trained.readBytes(tensor)).buffer);
      if (tensor === name) values[zero] = 1e-30;
      return entryOf(tensor, "F32", shape, () => values);
    }),
  );
  const state = JSON.parse(readFileSync(path.join(checkpoint, "state.json"), "utf8"));
  await saveCheckpoint(folder, 2, { "trained.safetensors": { tensors: entries }, "state.json": { json: state } }, { keep: 2 });
  await Promise.all([trained.close(), base.close()]);
  const to = path.join(common, "losing-merged");
  await assert.rejects(exportResult({ runFolder: folder, format: "merged", to }), (error: Error & { code: string }) => {
    assert.equal(error.code, "export/lost-zeros");
    assert.match(
      error.message,
      /^1 zero of the pruned base would no longer be zero in model\.layers\.1\.mlp\.up_proj\.weight\. Nothing was written\.$/,
    );
    return true;
  });
  assert.ok(!existsSync(to));
});

test("a run file of before `sparse` was there resumes: what it leaves out is what it did", async () => {
  const runFile = writeRunFile(path.join(common, "old"), { method: { name: "full" }, train: { ...train, steps: 2 }, checkpoint: { every: 1 } });
  let steps = 0;
  const { folder } = await session(runFile, { onEvent: ({ kind }) => void (kind === "step" && steps++), stopRequested: () => steps === 1 });
  const { hashes, base } = await checkRun(readConfig(runFile));
  await base.close();
  // Of the version before there was a choice, with the same settings.
  const file = path.join(folder, "run.yaml");
  const text = readFileSync(file, "utf8");
  assert.match(text, /^ {2}sparse: ignore\n/m);
  writeFileSync(file, text.replace(/^ {2}sparse: ignore\n/m, ""));
  assert.equal(JSON.parse(readFileSync(path.join(folder, "checkpoints/step-1/state.json"), "utf8")).hashes.config, hashes.config);
  const copy = path.join(common, "keep-now");
  cpSync(folder, copy, { recursive: true });
  writeFileSync(path.join(copy, "run.yaml"), text.replace("sparse: ignore", "sparse: keep"));
  rmSync(path.join(copy, "run.lock"), { force: true });
  const kept = await checkRun(readConfig(path.join(copy, "run.yaml")));
  await kept.base.close();
  assert.notEqual(kept.hashes.config, hashes.config);
});

test("an export into bf16 says how much of a small change rounding takes, and nothing where it takes none", async () => {
  const stored = await prunedCopy(storyFolder, path.join(common, "in bf16"));
  const exact = await prunedCopy(stored, path.join(common, "the same in f32"), { dtype: "F32", dense: true });
  const [inF32, inBf16] = ["merged in f32", "merged in bf16"].map((name) => path.join(common, name));
  const method = { name: "lora", rank: 4, targets: ["v_proj", "down_proj"] };
  const { folder } = await session(
    writeRunFile(path.join(common, "small change"), { model: exact, method, train: { ...train, learningRate: 1e-3 } }),
  );
  const noteOf = async (runFolder: string, base: string | null, to: string) =>
    (await exportResult({ runFolder, base, format: "merged", to })).notes.find((note) => note.includes("rounding"));
  assert.equal(await noteOf(folder, null, inF32), undefined);
  const note = await noteOf(path.join(folder, "adapter"), stored, inBf16);
  const [before, whole, rounded] = [await valuesOf(stored), await valuesOf(inF32), await valuesOf(inBf16)];
  let [lost, all] = [0, 0];
  for (const [name, { values: old }] of before) {
    const [now, kept] = [whole, rounded].map((weights) => weights.get(name)?.values);
    // An embedding under the head's name is exported under its own.
    if (!now || !kept) continue;
    for (const [i, value] of now.entries()) {
      const change = value - old[i];
      lost += change * (value - kept[i]);
      all += change * change;
    }
  }
  assert.ok(lost / all > 0.1, `${lost / all}`);
  const said = Number(/takes ([\d.]+) % of what the adapter changed/.exec(note ?? "")?.[1]) / 100;
  assert.ok(Math.abs(said - lost / all) <= 0.005 * said, `${note}: ${lost / all}`);
});
