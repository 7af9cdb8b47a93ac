/** Values of blocks read from a live run equal what the run's files say, to the bit; what is not kept is said to be missing. */

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { analyze } from "../../../src/core/blocks/analysis.ts";
import { readSelection } from "../../../src/core/commands/train.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { type LiveBlock, type MissingBlock, readLiveBlock } from "../../../src/core/host/liveBlock.ts";
import type { Run } from "../../../src/core/run.ts";
import type { BlockPart } from "../../../src/protocol/coreProtocol.ts";
import type { Selection } from "../../../src/protocol/selection.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { newRun, running, WatchingHost } from "./runningCore.ts";

const size = 16;

/** A tensor of a file as f32. */
async function tensorOf(file: string, name: string): Promise<Float32Array> {
  const opened = await openSafetensors(file);
  const { begin, end } = opened.info(name);
  const values = decodeFloats(await opened.readBytes(name, 0, end - begin), "F32");
  await opened.close();
  return values;
}

/** A block of the base model's file. */
async function baseBlock(name: string, row: number, column: number): Promise<Float32Array> {
  const folder = await openModelFolder(storyFolder);
  const { shape, dtype } = folder.tensor(`${name}.weight`);
  const all = decodeFloats(await folder.readTensor(`${name}.weight`), dtype);
  await folder.close();
  return Float32Array.from({ length: size * size }, (_, i) => all[(row * size + Math.floor(i / size)) * shape[1] + column * size + (i % size)]);
}

/** Where a block lies in its matrix's flat tensors: by column, then row. */
function offsetOf({ blocks }: Selection, name: string, row: number, column: number): number {
  const sorted = blocks.filter((block) => block.name === name).sort((a, b) => a.column - b.column || a.row - b.row);
  return sorted.findIndex((block) => block.row === row && block.column === column) * size * size;
}

test("on a paused run weight, delta and moments of five blocks equal the checkpoint's bytes, a running one answers with its step", async (t) => {
  const overrides = {
    method: { name: "smt", blocks: 40, blockSize: size, warmup: { steps: 3 } },
    train: { steps: 1_000_000, precision: "bf16" },
    evaluate: { every: null },
    checkpoint: { every: null },
  };
  const runFolder = await newRun(temporaryFolder(t), overrides);
  const host = await WatchingHost.attach(t, await running(t, runFolder));
  const { client } = host;
  await host.seen((event) => event.kind === "step" && event.step >= 3);
  const selection = readSelection(runFolder) as Selection;
  const steps = new Set<number>();
  while (steps.size < 3) {
    const live = await client.readBlock({ ...placeOf(selection, 0), part: "gradient", analyze: true });
    assert.ok(live.available && live.step >= 3 && live.values.some((value) => value !== 0));
    // Values and statistics are of one step, however fast the run goes on.
    assert.deepEqual([live.analysis?.minimum, live.analysis?.maximum], [Math.min(...live.values), Math.max(...live.values)]);
    steps.add(live.step);
  }

  await client.command("pause");
  const { sequence } = await host.seen(({ kind }) => kind === "paused");
  await client.command("save");
  const saved = await host.seen((event) => event.kind === "checkpoint" && event.sequence > sequence);
  assert.ok(saved.kind === "checkpoint");
  const optimizer = path.join(saved.folder, "optimizer.safetensors");
  for (const rank of [0, 1, 13, 26, 39]) {
    const place = placeOf(selection, rank);
    const read = async (part: BlockPart) => {
      const block = await client.readBlock({ ...place, part });
      assert.ok(block.available && block.step === saved.step && block.rows === size && block.blockColumns === size);
      return block.values;
    };
    const offset = offsetOf(selection, place.name, place.row, place.column);
    const slice = (values: Float32Array) => values.subarray(offset, offset + size * size);
    assert.deepEqual(await read("firstMoment"), new Float32Array(slice(await tensorOf(optimizer, `${place.name}.weight.firstMoment`))));
    assert.deepEqual(await read("secondMoment"), new Float32Array(slice(await tensorOf(optimizer, `${place.name}.weight.secondMoment`))));
    const [weight, delta, base] = [await read("weight"), await read("delta"), await baseBlock(place.name, place.row, place.column)];
    assert.deepEqual(
      delta,
      weight.map((value, i) => value - base[i]),
    );
    assert.ok(delta.some((value) => value !== 0));
    assert.deepEqual(weight, await savedBlock(saved.folder, place));
  }
  const window = { row: 3, column: 5, rows: 4, columns: 7 };
  const whole = await client.readBlock({ ...placeOf(selection, 2), part: "secondMoment" });
  const part = await client.readBlock({ ...placeOf(selection, 2), part: "secondMoment", window, analyze: true });
  assert.ok(whole.available && part.available);
  assert.deepEqual([whole.analysis, part.analysis], [undefined, analyze(whole.values, size, size)]);
  assert.deepEqual(
    part.values,
    Float32Array.from({ length: 28 }, (_, i) => whole.values[(3 + Math.floor(i / 7)) * size + 5 + (i % 7)]),
  );
});

function placeOf(selection: Selection, rank: number) {
  const { name, row, column } = selection.blocks[rank];
  return { name, row, column };
}

/** A block's trained value out of the checkpoint's delta. */
async function savedBlock(folder: string, { name, row, column }: { name: string; row: number; column: number }): Promise<Float32Array> {
  const { openDelta } = await import("../../../src/core/files/smtDelta.ts");
  const delta = await openDelta(path.join(folder, "smt.safetensors"));
  const index = delta.matrices.get(`${name}.weight`)?.index ?? new Int32Array();
  const values = await delta.readBlocks(`${name}.weight`);
  await delta.close();
  for (let i = 0; i < index.length; i += 4)
    if (index[i] === row * size && index[i + 2] === column * size) return values.slice((i / 4) * size * size, (i / 4 + 1) * size * size);
  throw new Error(`the delta has no block ${name}:${row},${column}`);
}

test("gradients are those of the step before; blocks that are not trained have a weight and nothing else; retired ones keep their delta", async (t) => {
  let run: Run | null = null;
  const seen: Record<string, LiveBlock | MissingBlock> = {};
  let retired: Run["retired"][number] | undefined;
  const overrides = {
    method: { name: "smt", blocks: 40, blockSize: size, warmup: { steps: 2 }, reselectEvery: 2 },
    train: { steps: 4, precision: "f32" },
  };
  const { events } = await session(writeRunFile(temporaryFolder(t), overrides), {
    async onOpen(opened) {
      run = opened;
    },
    async atBoundary() {
      const open = run as unknown as Run;
      const read = async (label: string, place: { name: string; row: number; column: number }, part: BlockPart) => {
        seen[label] ??= await readLiveBlock(open, { ...place, part });
      };
      if (!open.selection) await read("before", { name: "model.layers.0.mlp.up_proj", row: 0, column: 0 }, "gradient");
      if (open.selection && open.state.step === 1) {
        const trained = placeOf(open.selection, 0);
        const keys = new Set(open.selection.blocks.map(({ name, row, column }) => `${name}:${row},${column}`));
        const places = open.selection.matrices.map(({ name }) => ({ name, row: 1, column: 2 }));
        const other = places.find(({ name, row, column }) => !keys.has(`${name}:${row},${column}`)) as (typeof places)[number];
        await read("gradient", trained, "gradient");
        await read("moment", trained, "firstMoment");
        await read("otherWeight", other, "weight");
        await read("otherDelta", other, "delta");
        await read("otherMoment", other, "firstMoment");
        assert.deepEqual((seen.otherWeight as LiveBlock).values, await baseBlock(other.name, other.row, other.column));
        for (const [place, sentence] of [
          [{ name: "model.layers.99.mlp.up_proj", row: 0, column: 0 }, /has no matrix/],
          [{ ...trained, row: 1000 }, /no such block/],
          [{ ...trained, window: { row: 0, column: 16, rows: 1, columns: 7 } }, /outside its block/],
        ] as const)
          await assert.rejects(readLiveBlock(open, { ...place, part: "weight" }), sentence);
      }
      retired ??= open.retired[0];
      if (retired && open.state.step === 3) await read("retired", retired, "delta");
    },
  });
  assert.deepEqual(seen.before, { step: 0, reason: "No blocks have been chosen yet." });
  const [gradient, moment] = [seen.gradient, seen.moment] as LiveBlock[];
  const first = events.find((event) => event.kind === "step" && event.step === 1);
  assert.ok(first?.kind === "step" && gradient.step === 1);
  const scale = 0.1 * Math.min(1, 1 / first.gradNorm); // (1 − β1) · clipping
  for (const [i, value] of gradient.values.entries())
    assert.ok(Math.abs(value * scale - moment.values[i]) <= 1e-5 * Math.abs(moment.values[i]) + 1e-12, `entry ${i}`);
  assert.ok(gradient.values.some((value) => value !== 0));
  for (const label of ["otherDelta", "otherMoment"]) assert.match((seen[label] as MissingBlock).reason, /is not trained/);
  assert.ok(retired && "values" in seen.retired);
  const base = await baseBlock(retired.name, retired.row, retired.column);
  assert.deepEqual(
    seen.retired.values,
    retired.values.map((value, i) => value - base[i]),
  );
});
