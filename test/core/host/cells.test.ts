/**
 * What heatmaps show of blocks: a cell's numbers are those of the files and of the block's own values, exactly; magnitudes of all chosen blocks are the
 * cells' numbers as f32; what a run does not have at a step is null, or NaN in a frame.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { readSelection } from "../../../src/core/commands/train.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { magnitudesFrame } from "../../../src/core/host/heatmapFrames.ts";
import { type LiveBlock, readLiveBlock } from "../../../src/core/host/liveBlock.ts";
import { readLiveCell } from "../../../src/core/host/liveCell.ts";
import { measureChosen } from "../../../src/core/host/liveMagnitudes.ts";
import type { ScoreGrid } from "../../../src/core/methods/smt/selection.ts";
import { blockKey, type Run } from "../../../src/core/run.ts";
import type { ScoreReader } from "../../../src/core/smtRun.ts";
import { type BlockPlace, type Cell, coreToHostLimits } from "../../../src/protocol/coreProtocol.ts";
import { type Frame, FrameDecoder } from "../../../src/protocol/frames.ts";
import type { Selection } from "../../../src/protocol/selection.ts";
import { type Overrides, session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { newRun, running, until, WatchingHost } from "./runningCore.ts";

const size = 16;
const absent = { gradient: null, delta: null, secondMoment: null };

/** A run with a look at each of its step boundaries, those of warm-ups too. */
async function looking(folder: string, overrides: Overrides, look: (run: Run, scores: ScoreReader | null) => Promise<void>): Promise<void> {
  let run: Run | null = null;
  let scores: ScoreReader | null = null;
  await session(writeRunFile(folder, overrides), {
    async onOpen(opened) {
      run = opened;
    },
    async scored(_at, reader) {
      scores = reader;
    },
    selected() {
      scores = null;
    },
    atBoundary: () => look(run as unknown as Run, scores),
  });
}

/** The mean over a block of what readBlock gives of it. */
async function meanOf(run: Run, place: BlockPlace, part: "gradient" | "delta" | "secondMoment"): Promise<number> {
  const { values } = (await readLiveBlock(run, { ...place, part })) as LiveBlock;
  return values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
}

const placeOf = ({ name, row, column }: BlockPlace): BlockPlace => ({ name, row, column });

for (const precision of ["f32", "bf16"] as const)
  test(`a cell is the mean of the block's own values, before and after a choice anew (${precision})`, async (t) => {
    const overrides = {
      method: { name: "smt", blocks: 40, blockSize: size, warmup: { steps: 2 }, reselectEvery: 2 },
      train: { steps: 5, precision },
    };
    let [chosenCells, retiredCells] = [0, 0];
    await looking(temporaryFolder(t), overrides, async (run) => {
      if (!run.selection || run.state.step === 0) return;
      const all = await measureChosen(run);
      assert.equal(all.length, 40);
      for (const block of run.selection.blocks) {
        const cell = await readLiveCell(run, placeOf(block), null);
        assert.deepEqual([cell.step, cell.selected, cell.rank, cell.score], [run.state.step, true, block.rank, block.score]);
        assert.equal(cell.delta, await meanOf(run, placeOf(block), "delta"));
        if (run.state.step > run.state.lastSelection) {
          assert.equal(cell.gradient, await meanOf(run, placeOf(block), "gradient"));
          assert.equal(cell.secondMoment, await meanOf(run, placeOf(block), "secondMoment"));
          assert.ok((cell.gradient as number) > 0 && (cell.delta as number) > 0 && (cell.secondMoment as number) > 0);
          chosenCells++;
        } else assert.deepEqual([cell.gradient, cell.secondMoment], [null, null], "no update since they were chosen");
        assert.ok(
          all.some(({ gradient, delta, secondMoment }) => gradient === cell.gradient && delta === cell.delta && secondMoment === cell.secondMoment),
        );
      }
      for (const retired of run.retired) {
        const cell = await readLiveCell(run, placeOf(retired), null);
        assert.deepEqual([cell.selected, cell.rank, cell.gradient, cell.secondMoment], [false, null, null, null]);
        assert.equal(cell.delta, await meanOf(run, placeOf(retired), "delta"));
        retiredCells++;
      }
    });
    assert.ok(chosenCells >= 80 && retiredCells > 0, `${chosenCells} cells of chosen blocks, ${retiredCells} of retired ones`);
  });

/** All scores of a run's newest choice. */
async function scoresOfFile(folder: string): Promise<Map<string, { columns: number; values: Float32Array }>> {
  const file = await openSafetensors(path.join(folder, "scores.safetensors"));
  const scores = new Map<string, { columns: number; values: Float32Array }>();
  for (const [name, { shape }] of file.header.tensors)
    scores.set(name, { columns: shape[1], values: decodeFloats(await file.readBytes(name), "F32") });
  await file.close();
  return scores;
}

test("scores: those so far in a warm-up, then those that chose, of all blocks; of another choice's file none", async (t) => {
  const overrides = { method: { name: "smt", blocks: 40, blockSize: size, warmup: { steps: 3 } }, train: { steps: 1 } };
  const name = "model.layers.1.mlp.down_proj";
  const [soFar, final] = [[] as (number | null)[], [] as Cell[]];
  await looking(temporaryFolder(t), overrides, async (run, scores) => {
    if (!run.selection) {
      const cell = await readLiveCell(run, { name, row: 1, column: 2 }, scores);
      assert.deepEqual(cell, { step: 0, score: cell.score, selected: false, rank: null, ...absent });
      const all = scores ? await scores() : [];
      const grid = all.find((other) => other.name === name) as ScoreGrid;
      assert.equal(cell.score, grid ? grid.scores[Math.ceil(grid.shape[1] / size) + 2] : null);
      soFar.push(cell.score);
      await assert.rejects(readLiveCell(run, { name, row: 1000, column: 2 }, scores), { code: "inspect/no-block" });
      return;
    }
    const keys = new Set(run.selection.blocks.map(blockKey));
    for (const [matrix, { columns, values }] of await scoresOfFile(run.folder))
      for (const i of [0, 1, values.length >> 1, values.length - 1]) {
        const place = { name: matrix, row: Math.floor(i / columns), column: i % columns };
        const cell = await readLiveCell(run, place, null);
        assert.deepEqual([cell.score, cell.selected], [values[i], keys.has(blockKey(place))]);
        if (!cell.selected) assert.deepEqual(cell, { step: 0, score: cell.score, selected: false, rank: null, ...absent });
        final.push(cell);
      }
    run.state.lastSelection = 7;
    const other = final.findIndex(({ selected }) => !selected);
    const [[first]] = [...(await scoresOfFile(run.folder))];
    assert.ok(other >= 0);
    const unchosen = [0, 1, 2, 3, 4, 5].map((column) => ({ name: first, row: 0, column })).find((place) => !keys.has(blockKey(place))) as BlockPlace;
    assert.equal((await readLiveCell(run, unchosen, null)).score, null, "the file holds the scores of a choice at another step");
    run.state.lastSelection = 0;
  });
  assert.equal(soFar[0], null, "nothing is known before the first warm-up step");
  assert.equal(new Set(soFar).size, 3, `scores grow: ${soFar}`);
  assert.ok(final.some(({ selected }) => selected) && final.some(({ selected }) => !selected));
});

test("a run that trains whole matrices has cells with nothing in them", async (t) => {
  await looking(temporaryFolder(t), { method: { name: "full" }, train: { steps: 1 } }, async (run) => {
    const cell = await readLiveCell(run, { name: "model.layers.0.mlp.up_proj", row: 0, column: 0 }, null);
    assert.deepEqual(cell, { step: 0, score: null, selected: false, rank: null, ...absent });
  });
});

const recorded = (runFolder: string): Frame[] => new FrameDecoder(coreToHostLimits).push(readFileSync(path.join(runFolder, "frames.bin")));
const isMagnitudes = ({ header }: { header: object }) => "kind" in header && header.kind === "magnitudes";
const magnitudesOf = ({ frames }: WatchingHost) => frames.filter(isMagnitudes);

test("a watching host gets magnitudes as recorded; where the run stands still they are its last step's, and equal every chosen block's cell", async (t) => {
  const overrides = {
    method: { name: "smt", blocks: 40, blockSize: size, warmup: { steps: 2 } },
    train: { steps: 1_000_000 },
    evaluate: { every: null },
    checkpoint: { every: null },
  };
  const runFolder = await newRun(temporaryFolder(t), overrides);
  const record = await running(t, runFolder, { recordFrames: true });
  const host = await WatchingHost.attach(t, record);
  await host.client.watchHeatmap(true);
  await until(() => magnitudesOf(host).length >= 3);
  await host.client.command("pause");
  const paused = await host.seen(({ kind }) => kind === "paused");
  assert.ok(paused.kind === "paused");
  await until(() => magnitudesOf(host).some(({ header }) => "step" in header && header.step === paused.step));
  const last = magnitudesOf(host).at(-1) as WatchingHost["frames"][number];
  const selection = readSelection(runFolder) as Selection;
  const blocks = selection.matrices.flatMap(({ name }) => selection.blocks.filter((block) => block.name === name));
  const cells: Cell[] = [];
  for (const block of blocks) cells.push(await host.client.readCell(placeOf(block)));
  assert.ok(cells.every(({ step }) => step === paused.step));
  const [expected] = new FrameDecoder(coreToHostLimits).push(magnitudesFrame(paused.step, cells));
  assert.deepEqual(last, expected);
  const made = recorded(runFolder).filter(isMagnitudes);
  for (const frame of magnitudesOf(host))
    assert.deepEqual(
      made.find(({ header }) => "step" in frame.header && header.step === frame.header.step),
      frame,
    );

  const late = await WatchingHost.attach(t, record);
  await late.client.watchHeatmap(true);
  await until(() => magnitudesOf(late).length > 0);
  assert.deepEqual(magnitudesOf(late), [last]);

  await host.client.command("resume");
  await host.seen((event) => event.kind === "step" && event.step >= paused.step + 20);
  await host.client.command("stop");
  const stopped = await host.seen(({ kind }) => kind === "stopped");
  assert.ok(stopped.kind === "stopped");
  await until(() => magnitudesOf(host).some(({ header }) => "step" in header && header.step === stopped.step));
  assert.deepEqual([host.malformed, late.malformed], [[], []]);
});

test("a host that begins to watch a paused run gets the step it stands at; while nobody watches nothing is measured", async (t) => {
  const overrides = { train: { steps: 1_000_000 }, evaluate: { every: null }, checkpoint: { every: null } };
  const runFolder = await newRun(temporaryFolder(t), overrides);
  const host = await WatchingHost.attach(t, await running(t, runFolder, { recordFrames: true }));
  await host.seen((event) => event.kind === "step" && event.step >= 20);
  await host.client.command("pause");
  const paused = await host.seen(({ kind }) => kind === "paused");
  assert.ok(paused.kind === "paused");
  await host.client.status();
  assert.deepEqual(recorded(runFolder).filter(isMagnitudes), []);
  await host.client.watchHeatmap(true);
  await until(() => magnitudesOf(host).length > 0);
  assert.deepEqual(
    magnitudesOf(host).map(({ header }) => header),
    [{ kind: "magnitudes", step: paused.step, blocks: 40 }],
  );
});
