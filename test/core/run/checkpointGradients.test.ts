/**
 * Gradients in checkpoints of SMT: those of the last update, to be looked at after a resume as before it; none before the first update and none of a
 * skipped one; checkpoints without them, as older versions wrote them, are gone on from.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { checkpointBytesOf } from "../../../src/core/checkpointing.ts";
import { type CheckpointContent, saveCheckpoint } from "../../../src/core/files/checkpoint.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { entryOf } from "../../../src/core/files/safetensorsWriter.ts";
import { type LiveBlock, type MissingBlock, readLiveBlock } from "../../../src/core/host/liveBlock.ts";
import { readLiveCell } from "../../../src/core/host/liveCell.ts";
import type { Run } from "../../../src/core/run.ts";
import type { SessionOptions } from "../../../src/core/session.ts";
import type { BlockPart, BlockPlace } from "../../../src/protocol/coreProtocol.ts";
import type { Selection } from "../../../src/protocol/selection.ts";
import { resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const overrides = {
  method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 1 } },
  train: { steps: 6 },
  evaluate: { every: null },
  checkpoint: { every: 2, keep: 10 },
};

/** Looks at a run at every step boundary. */
function looking(look: (run: Run) => Promise<void>): Partial<SessionOptions> {
  let run: Run | null = null;
  return {
    async onOpen(opened) {
      run = opened;
    },
    atBoundary: () => look(run as unknown as Run),
  };
}

async function gradientsOf(run: Run): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const { name, gradient } of run.method?.parameters ?? []) all.set(`${name}.gradient`, (await run.device.read(gradient)) as Float32Array);
  return all;
}

async function savedGradients(runFolder: string, step: number): Promise<Map<string, Float32Array>> {
  const file = await openSafetensors(path.join(runFolder, `checkpoints/step-${step}/optimizer.safetensors`));
  const all = new Map<string, Float32Array>();
  for (const name of file.header.tensors.keys())
    if (name.endsWith(".gradient")) all.set(name, new Float32Array(new Uint8Array(await file.readBytes(name)).buffer));
  await file.close();
  return all;
}

function best({ selection }: Run): BlockPlace {
  const { name, row, column } = (selection as Selection).blocks[0];
  return { name, row, column };
}

/** What is read of the best block at this step. */
function readBest(run: Run, part: BlockPart): Promise<LiveBlock | MissingBlock> {
  return readLiveBlock(run, { ...best(run), part });
}

/** A run stopped after its second update, with its gradients then, and the result of one that went on. */
async function stoppedRun(
  folder: string,
): Promise<{ runFile: string; runFolder: string; gradients: Map<string, Float32Array>; expected: ReturnType<typeof resultOf> }> {
  const expected = resultOf((await session(writeRunFile(path.join(folder, "undisturbed"), overrides))).folder);
  const runFile = writeRunFile(path.join(folder, "stopped"), overrides);
  let gradients = new Map<string, Float32Array>();
  let step = 0;
  const look = looking(async (run) => {
    step = run.state.step;
    if (run.selection && step === 0)
      for (const part of ["gradient", "firstMoment", "secondMoment"] as const)
        assert.deepEqual(await readBest(run, part), { step: 0, reason: "No update was made since the blocks were chosen." });
    gradients = await gradientsOf(run);
  });
  const { folder: runFolder } = await session(runFile, { ...look, stopRequested: () => step === 2 });
  return { runFile, runFolder, gradients, expected };
}

test("a checkpoint holds the gradients of its last update, the one before the first update none, and a resume brings them back", async (t) => {
  const { runFile, runFolder, gradients, expected } = await stoppedRun(temporaryFolder(t));
  assert.ok([...gradients.values()].every((values) => values.some((value) => value !== 0)));
  assert.deepEqual(await savedGradients(runFolder, 2), gradients);
  assert.deepEqual(await savedGradients(runFolder, 0), new Map());
  const file = path.join(runFolder, "checkpoints/step-2/optimizer.safetensors");
  const bytes = readFileSync(file);

  const seen: Map<string, Float32Array>[] = [];
  const look = looking(async (run) => {
    seen.push(await gradientsOf(run));
    const block = await readBest(run, "gradient");
    assert.ok("values" in block && block.step === run.state.step);
  });
  await session(runFile, { runFolder, ...look, stopRequested: () => true });
  assert.deepEqual(seen, [gradients]);
  assert.deepEqual(readFileSync(file), bytes, "saved again at once it is the same file");
  await session(runFile, { runFolder });
  assert.deepEqual(resultOf(runFolder), expected);
});

test("a checkpoint without gradients is gone on from to the same result; what it lacks is said until the next update", async (t) => {
  const { runFile, runFolder, expected } = await stoppedRun(temporaryFolder(t));
  const undisturbed = readFileSync(path.join(runFolder, "checkpoints/step-2/manifest.json"), "utf8");
  await withoutGradients(runFolder, 2);
  assert.notEqual(readFileSync(path.join(runFolder, "checkpoints/step-2/manifest.json"), "utf8"), undisturbed);
  const seen: string[] = [];
  const look = looking(async (run) => {
    const [gradient, moment] = [await readBest(run, "gradient"), await readBest(run, "secondMoment")];
    const cell = await readLiveCell(run, best(run), null);
    assert.ok("values" in moment && (cell.secondMoment as number) > 0);
    assert.equal(cell.gradient === null, "reason" in gradient);
    seen.push("reason" in gradient ? gradient.reason : `values of step ${gradient.step}`);
  });
  await session(runFile, { runFolder, ...look });
  assert.match(seen[0], /checkpoint that the run went on from holds no gradients/);
  assert.deepEqual(seen.slice(1), ["values of step 3", "values of step 4", "values of step 5"]);
  const { numbers, files } = resultOf(runFolder);
  // The rewritten checkpoint itself is kept, and differs.
  const later = (all: Record<string, string>) => Object.entries(all).filter(([name]) => !name.includes("step-2"));
  assert.deepEqual([numbers, later(files)], [expected.numbers, later(expected.files)]);
});

/** Writes a checkpoint as a version that did not keep gradients wrote it. */
async function withoutGradients(runFolder: string, step: number): Promise<void> {
  const folder = path.join(runFolder, `checkpoints/step-${step}`);
  const contents: Record<string, CheckpointContent> = {};
  for (const name of ["state.json", "selection.json"]) contents[name] = { json: JSON.parse(readFileSync(path.join(folder, name), "utf8")) };
  for (const name of ["optimizer.safetensors", "smt.safetensors"]) {
    const file = await openSafetensors(path.join(folder, name));
    const tensors = [];
    for (const [tensor, { dtype, shape }] of file.header.tensors) {
      const bytes = await file.readBytes(tensor);
      if (!tensor.endsWith(".gradient")) tensors.push(entryOf(tensor, dtype as "F32", shape, () => bytes));
    }
    contents[name] = { tensors, metadata: Object.fromEntries(file.header.metadata) };
    await file.close();
  }
  await saveCheckpoint(runFolder, step, contents, { keep: 10 });
}

test("of a skipped update there is no gradient, in the run and in its checkpoint; moments stay", async (t) => {
  const seen = new Map<number, string>();
  let healthy: Float32Array | null = null;
  const look = looking(async (run) => {
    const norm = run.model.tensors.finalNorm;
    healthy ??= (await run.device.read(norm)) as Float32Array;
    run.device.write(norm, healthy);
    if (run.state.step === 3) run.device.write(norm, Float32Array.of(Number.POSITIVE_INFINITY), 5);
    if (!run.selection || run.state.step === 0) return;
    const [gradient, moment] = [await readBest(run, "gradient"), await readBest(run, "firstMoment")];
    assert.ok("values" in moment);
    seen.set(run.state.step, "reason" in gradient ? gradient.reason : "values");
  });
  const { folder, events } = await session(writeRunFile(temporaryFolder(t), overrides), look);
  assert.deepEqual(
    events.flatMap((event) => (event.kind === "skipped" ? [event.step] : [])),
    [4],
  );
  assert.match(seen.get(4) as string, /last update was skipped/);
  seen.delete(4);
  assert.deepEqual([...seen.values()], ["values", "values", "values", "values"]);
  const kept = await Promise.all([2, 4, 6].map(async (step) => (await savedGradients(folder, step)).size > 0));
  assert.deepEqual(kept, [true, false, true]);
});

test("full fine-tuning keeps no gradients; what a checkpoint may take is never less than it takes", async (t) => {
  const folder = temporaryFolder(t);
  const full = await session(
    writeRunFile(path.join(folder, "full"), { ...overrides, method: { name: "full" }, train: { steps: 2, precision: "f32" } }),
  );
  assert.deepEqual(await savedGradients(full.folder, 2), new Map());
  let estimated = 0;
  const { folder: smt } = await session(writeRunFile(path.join(folder, "smt"), { ...overrides, train: { steps: 2, precision: "f32" } }), {
    async onDone({ model, smt: plan, selection }) {
      estimated = checkpointBytesOf(model.config, plan, selection);
    },
  });
  const bytesOf = (name: string) => readFileSync(path.join(smt, "checkpoints/step-2", name)).length;
  const bytes = bytesOf("optimizer.safetensors") + bytesOf("smt.safetensors");
  // Three numbers of the optimizer and the master in f32, the base in bf16 an entry; the rest is headers and indices.
  const entryBytes = 18 * 40 * 16 * 16;
  assert.ok(bytes >= entryBytes && bytes <= estimated, `${bytes} bytes, ${estimated} estimated`);
  assert.ok(entryBytes <= estimated - (1 << 20), "not only because of what is added for small files");
});
