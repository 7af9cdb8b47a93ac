/** A pruning from its options to the folder it leaves: what is in it, what is refused, what a stop leaves. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { Value } from "typebox/value";
import { evaluateOn } from "../../../src/core/commands/evaluate.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { type PruneOptions, pruneModel } from "../../../src/core/pruning/prune.ts";
import { measure, roundTo } from "../../../src/core/pruning/reconstruction.ts";
import {
  type PrunedMatrix,
  type PruningProgress,
  pruningMethods,
  pruningProgressSchema,
  pruningReportSchema,
} from "../../../src/protocol/pruning.ts";
import { fastDevice } from "../../support/devices.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { randomTensors, temporaryFolder, tinyConfig, writeModel } from "../files/smallModels.ts";

const demoRows = path.resolve(storyFolder, "../data/gsm8k-train.jsonl");
const never = new AbortController().signal;
const common = temporaryFolder({ after: (clean: () => void) => after(clean) } as never);

function optionsFor(to: string, change: Partial<PruneOptions> = {}): PruneOptions {
  const small = { samples: 6, sequenceLength: 64, seed: 3, device: "auto", threads: 2 } as const;
  return { model: storyFolder, method: "wanda", pattern: "2:4", calibration: demoRows, to, ...small, ...change };
}

async function weightsOf(folder: string): Promise<Map<string, { bytes: Uint8Array; values: Float32Array }>> {
  const model = await openModelFolder(folder);
  const weights = new Map<string, { bytes: Uint8Array; values: Float32Array }>();
  for (const [name, { dtype }] of model.tensors) {
    const bytes = await model.readTensor(name);
    weights.set(name, { bytes, values: decodeFloats(bytes, dtype) });
  }
  await model.close();
  return weights;
}

const zerosIn = (values: Float32Array) => values.reduce((sum, value) => sum + (value === 0 ? 1 : 0), 0);

for (const method of pruningMethods) {
  test(`${method}: a folder with exact zeros that loads and evaluates, a report that says what is in it, progress that ends at 1`, async () => {
    const to = path.join(common, method);
    const told: PruningProgress[] = [];
    const report = await pruneModel(optionsFor(to, { method }), (progress) => told.push(structuredClone(progress)), never);
    const [before, after] = [await weightsOf(storyFolder), await weightsOf(to)];
    assert.deepEqual([...after.keys()], [...before.keys()]);
    for (const [name, { values, bytes }] of after) {
      if (!name.endsWith("_proj.weight")) assert.deepEqual(bytes, before.get(name)?.bytes, `${name} is as it was`);
      else for (let start = 0; start < values.length; start += 4) assert.equal(zerosIn(values.subarray(start, start + 4)), 2, name);
      if (method !== "sparsegpt" && name.endsWith("_proj.weight"))
        assert.ok(
          values.every((value, i) => value === 0 || value === before.get(name)?.values[i]),
          "what stays has its value",
        );
    }
    assert.ok(Value.Check(pruningReportSchema, report));
    assert.deepEqual(JSON.parse(readFileSync(path.join(to, "pruning.json"), "utf8")), report);
    assert.equal(report.matrices.length, 14);
    for (const { name, zeros, entries, error } of report.matrices) {
      assert.equal(zeros, zerosIn(after.get(`${name}.weight`)?.values as Float32Array));
      assert.equal(entries, after.get(`${name}.weight`)?.values.length);
      assert.ok(error !== null && error > 0.01 && error < 1, `${name}: ${error}`);
    }
    assert.equal(report.zeros * 2, report.entries);
    assert.deepEqual(report.calibration, { file: "gsm8k-train.jsonl", samples: 6, tokens: 384, seed: 3 });
    assert.equal(report.base, path.basename(storyFolder));
    assert.doesNotMatch(JSON.stringify(report), /\//, "no path of a machine");
    for (const progress of told) assert.ok(Value.Check(pruningProgressSchema, progress));
    for (let i = 1; i < told.length; i++) assert.ok(told[i].done >= told[i - 1].done, "never back");
    assert.equal(told.at(-1)?.done, 1);
    const byName = (matrices: readonly PrunedMatrix[]) => [...matrices].sort((a, b) => (a.name < b.name ? -1 : 1));
    const finished = told.flatMap<PrunedMatrix>((progress) => progress.finished);
    assert.deepEqual(byName(finished), byName(report.matrices));
    assert.equal(finished[0].projection, "down_proj", "the largest Hessian is needed first, and alone");
    const evaluated = { modelOrRun: to, data: demoRows, sequenceLength: 64, rows: 5 } as Parameters<typeof evaluateOn>[0];
    const { loss } = await evaluateOn(evaluated, { onNotes: () => {} });
    assert.ok(Number.isFinite(loss));
  });
}

test("SparseGPT's error is the least, magnitude's the largest of 2:4", async () => {
  const errorOf = async (method: PruneOptions["method"]) => {
    const { matrices } = await pruneModel(optionsFor(path.join(common, `error-${method}`), { method, samples: 20 }), () => {}, never);
    return meanError(matrices);
  };
  const [least, middle, most] = [await errorOf("sparsegpt"), await errorOf("wanda"), await errorOf("magnitude")];
  assert.ok(least < middle && middle < most, `${least}, ${middle}, ${most}`);
});

const meanError = (matrices: readonly PrunedMatrix[]) => matrices.reduce((sum, { error }) => sum + (error as number), 0) / matrices.length;

for (const method of ["magnitude", "wanda", "ria"] as const)
  test(`${method}, permuted: 2:4 in the weights as they are stored, with less error, and every other weight in another order`, async () => {
    const [plain, to] = ["plain", "permuted"].map((name) => path.join(common, `${method}-${name}`));
    const told: PruningProgress[] = [];
    const without = await pruneModel(optionsFor(plain, { method, samples: 20 }), () => {}, never);
    const report = await pruneModel(
      optionsFor(to, { method, samples: 20, permute: true }),
      (progress) => told.push(structuredClone(progress)),
      never,
    );
    assert.deepEqual([without.permuted, report.permuted], [undefined, true]);
    assert.ok(meanError(report.matrices) < 0.99 * meanError(without.matrices), `${meanError(report.matrices)}, ${meanError(without.matrices)}`);
    const [before, after] = [await weightsOf(storyFolder), await weightsOf(to)];
    assert.deepEqual([...after.keys()], [...before.keys()]);
    for (const [name, { values }] of after) {
      const dense = before.get(name)?.values as Float32Array;
      if (name.endsWith("_proj.weight"))
        for (let start = 0; start < values.length; start += 4) assert.equal(zerosIn(values.subarray(start, start + 4)), 2, name);
      else assert.deepEqual([...values].sort(), [...dense].sort(), `${name} holds the same numbers`);
    }
    assert.notDeepEqual(after.get("model.embed_tokens.weight")?.values, before.get("model.embed_tokens.weight")?.values);
    for (let i = 1; i < told.length; i++) assert.ok(told[i].done >= told[i - 1].done, "never back");
    assert.deepEqual([told.some(({ stage }) => stage === "permuting"), told.at(-1)?.done], [true, 1]);
    const evaluated = { modelOrRun: to, data: demoRows, sequenceLength: 64, rows: 5 } as Parameters<typeof evaluateOn>[0];
    assert.ok(Number.isFinite((await evaluateOn(evaluated, { onNotes: () => {} })).loss));
  });

test("RIA by row takes as much from every row, by matrix it does not", async () => {
  for (const grouping of ["matrix", "row"] as const) {
    const to = path.join(common, `ria-${grouping}`);
    const report = await pruneModel(optionsFor(to, { method: "ria", pattern: "0.5", grouping }), () => {}, never);
    assert.equal(report.grouping, grouping);
    const values = (await weightsOf(to)).get("model.layers.1.mlp.up_proj.weight")?.values as Float32Array;
    const zeros = Array.from({ length: values.length / 128 }, (_, row) => zerosIn(values.subarray(128 * row, 128 * (row + 1))));
    assert.equal(
      zeros.every((count) => count === 64),
      grouping === "row",
    );
  }
});

test("the same options give the same bytes, another seed other ones", async () => {
  const bytes = async (name: string, seed: number) => {
    await pruneModel(optionsFor(path.join(common, name), { method: "sparsegpt", seed }), () => {}, never);
    return readFileSync(path.join(common, name, "model.safetensors"));
  };
  const first = await bytes("seed-a", 1);
  assert.ok(first.equals(await bytes("seed-b", 1)));
  assert.ok(!first.equals(await bytes("seed-c", 2)));
});

test("F16 and sharded models keep how they are stored; without calibration no error is claimed", async (t) => {
  const folder = temporaryFolder(t);
  const model = writeModel(path.join(folder, "model"), { tensors: randomTensors(tinyConfig, "F16"), shards: 2 });
  const to = path.join(folder, "pruned");
  const report = await pruneModel(optionsFor(to, { model, method: "magnitude", pattern: "0.3", calibration: null }), () => {}, never);
  assert.deepEqual(readdirSync(to), ["config.json", ...readdirSync(model).filter((name) => name.startsWith("model")), "pruning.json"]);
  assert.equal(report.calibration, null);
  const [before, after] = [await weightsOf(model), await weightsOf(to)];
  for (const { name, zeros, entries, error } of report.matrices) {
    assert.equal(error, null);
    assert.equal(zeros, Math.floor(entries * 0.3));
    const [old, now] = [before.get(`${name}.weight`), after.get(`${name}.weight`)];
    assert.equal(now?.bytes.length, 2 * entries);
    assert.ok(now?.values.every((value, i) => value === 0 || value === old?.values[i]));
  }
});

test("errors and zeros are measured on what the file will hold", async () => {
  const device = fastDevice();
  const make = (values: number[]) => {
    const tensor = device.allocate([1, 4], "f32", "workspace");
    device.write(tensor, Float32Array.from(values));
    return tensor;
  };
  // 1e-9 is nothing in F16, and 1.0001 is 1.
  const [dense, pruned, rounded] = [make([1, 2, 3, 1e-9]), make([1.0001, 0, 3, 1e-9]), make([0, 0, 0, 0])];
  await roundTo(device, rounded, pruned, "F16");
  assert.deepEqual(await device.read(rounded), Float32Array.of(1, 0, 3, 0));
  const hessian = device.allocate([4, 4], "f32", "workspace");
  device.write(
    hessian,
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0)),
  );
  const { zeros, entries, error } = await measure(device, dense, rounded, hessian);
  assert.deepEqual([zeros, entries], [2, 4]);
  assert.ok(Math.abs((error as number) - Math.sqrt(4 / 14)) < 1e-6);
  device.close();
});

for (const stage of ["loading", "calibrating", "pruning", "writing"] as const) {
  test(`a stop while ${stage} leaves nothing`, async (t) => {
    const folder = temporaryFolder(t);
    const stopping = new AbortController();
    const to = path.join(folder, "deep", "pruned");
    const stop = ({ stage: now, layer }: PruningProgress) => {
      if (now === stage && (layer === 1 || stage === "loading")) stopping.abort();
    };
    // Small parts and spilled activations: files are open when it stops.
    const options = optionsFor(to, { method: "sparsegpt", samples: 40, maxActivationBytes: 0 });
    await assert.rejects(pruneModel(options, stop, stopping.signal), (error) => error === stopping.signal.reason);
    assert.ok(!existsSync(to));
    assert.deepEqual(
      readdirSync(folder, { recursive: true }).filter((name) => name !== "deep"),
      [],
    );
  });
}

test("a signal that is aborted from the start loads nothing", async (t) => {
  const to = path.join(temporaryFolder(t), "pruned");
  const told: PruningProgress[] = [];
  const stopped = AbortSignal.abort();
  await assert.rejects(
    pruneModel(optionsFor(to), (progress) => told.push(progress), stopped),
    (error) => error === stopped.reason,
  );
  assert.deepEqual(told, []);
});

test("what cannot be done is refused by name, the target folder first, and nothing is written", async (t) => {
  const folder = temporaryFolder(t);
  const full = path.join(folder, "full");
  mkdirSync(full);
  writeFileSync(path.join(full, "mine.txt"), "mine");
  const short = path.join(folder, "short.txt");
  writeFileSync(short, "Too little.");
  const to = path.join(folder, "pruned");
  const refused: [Partial<PruneOptions>, string][] = [
    [{ to: full, model: "nowhere", pattern: "x" }, "export/not-empty"],
    [{ pattern: "2" }, "prune/pattern"],
    [{ pattern: "4:4" }, "prune/pattern"],
    [{ pattern: "3:7" }, "prune/pattern"],
    [{ targets: ["x_proj"] }, "prune/unknown-target"],
    [{ grouping: "row" }, "prune/grouping"],
    [{ method: "ria", grouping: "row" }, "prune/grouping"],
    [{ permute: true, pattern: "0.5" }, "prune/permute"],
    [{ permute: true, method: "sparsegpt" }, "prune/permute"],
    [{ calibration: null }, "prune/no-calibration"],
    [{ calibration: null, method: "sparsegpt" }, "prune/no-calibration"],
    [{ calibration: path.join(folder, "none.txt") }, "data/missing-file"],
    [{ calibration: short }, "prune/too-little-text"],
    [{ sequenceLength: 1024 }, "data/sequence-too-long"],
    [{ model: path.join(folder, "nowhere") }, "model/no-folder"],
  ];
  for (const [change, code] of refused) {
    const told: PruningProgress[] = [];
    await assert.rejects(
      pruneModel(optionsFor(to, change), (progress) => told.push(progress), never),
      { code },
      JSON.stringify(change),
    );
    assert.deepEqual(told, [], code);
  }
  assert.deepEqual(readdirSync(folder).sort(), ["full", "short.txt"]);
  assert.deepEqual(readdirSync(full), ["mine.txt"]);
});

test("a disk without room is refused before weights are loaded", async (t) => {
  const folder = temporaryFolder(t);
  const disk = path.join(folder, "disk");
  mkdirSync(disk);
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).status !== 0) {
    t.skip("not run: a small file system cannot be mounted here");
    return;
  }
  try {
    const told: PruningProgress[] = [];
    await assert.rejects(
      pruneModel(optionsFor(path.join(disk, "pruned")), (progress) => told.push(progress), never),
      { code: "run/disk-full" },
    );
    assert.deepEqual(told, []);
    assert.deepEqual(readdirSync(disk), []);
  } finally {
    spawnSync("umount", [disk]);
  }
});
