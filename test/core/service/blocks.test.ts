/** What is shown of a run's blocks out of its folder equals its files' bytes and what the live run said, at every checkpoint; what was not kept says so. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { readWindow } from "../../../src/core/blocks/blockWindow.ts";
import { type BlockReading, RunBlocks } from "../../../src/core/blocks/runBlocks.ts";
import { magnitudesFrame, scoresFrame, selectionFrame } from "../../../src/core/host/heatmapFrames.ts";
import { type LiveBlock, type MissingBlock, readLiveBlock } from "../../../src/core/host/liveBlock.ts";
import { readLiveCell } from "../../../src/core/host/liveCell.ts";
import { measureChosen } from "../../../src/core/host/liveMagnitudes.ts";
import { weightShapes } from "../../../src/core/model/config.ts";
import type { Run } from "../../../src/core/run.ts";
import { type BlockPart, type BlockPlace, blockParts, type Cell } from "../../../src/protocol/coreProtocol.ts";
import type { Selection } from "../../../src/protocol/selection.ts";
import type { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { blockOf, meanOfAbsolute, tensorOf } from "./runFiles.ts";

const base = path.join(storyFolder, "model.safetensors");

type Known = Extract<BlockReading, { values: Float32Array }>;
const isCode = (code: string) => (error: UserError) => error.code === code && error.action !== "";
const selectionOf = (folder: string): Selection => JSON.parse(readFileSync(path.join(folder, "selection.json"), "utf8"));
const checkpointOf = (folder: string, step: number) => path.join(folder, "checkpoints", `step-${step}`);

/** A place of the selection's matrices that nobody chose. */
function otherPlace({ blocks, matrices }: Selection): BlockPlace {
  const taken = new Set(blocks.map(({ name, row, column }) => `${name}:${row},${column}`));
  for (const { name, rows, columns } of matrices)
    for (let i = 0; i < rows * columns; i++) {
      const place = { name, row: Math.floor(i / columns), column: i % columns };
      if (!taken.has(`${place.name}:${place.row},${place.column}`)) return place;
    }
  throw new Error("all are chosen");
}

/** What a live run said of some blocks in its last step. */
interface Said {
  places: BlockPlace[];
  values: Map<string, LiveBlock | MissingBlock>;
  cells: Cell[];
  frames: Uint8Array[];
  retired: BlockPlace;
}

const home = temporaryFolder({ after });
let folder: string;
let said: Said;

before(async () => {
  const overrides = { method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 2 }, reselectEvery: 4 }, checkpoint: { every: 3, keep: 4 } };
  const frames: Uint8Array[] = [];
  let run: Run;
  ({ folder } = await session(writeRunFile(home, overrides), {
    async onOpen(opened) {
      run = opened;
    },
    selected(selection, grids) {
      const { step } = run.state;
      const shapes = weightShapes(run.model.config);
      frames.splice(0);
      frames.push(scoresFrame(grids ?? [], selection.blockSize, { step: selection.steps, afterStep: step }, true));
      frames.push(selectionFrame(selection, step, (name) => shapes.get(`${name}.weight`) ?? []));
    },
    async onDone(done) {
      said = await listenTo(done, frames);
    },
  }));
});

async function listenTo(run: Run, frames: Uint8Array[]): Promise<Said> {
  const { blocks } = run.selection as Selection;
  const places = [...[0, 7, 39].map((rank) => blocks[rank]), run.retired[0], otherPlace(run.selection as Selection)].map(({ name, row, column }) => ({
    name,
    row,
    column,
  }));
  const values = new Map<string, LiveBlock | MissingBlock>();
  for (const place of places)
    for (const part of blockParts) values.set(`${JSON.stringify(place)} ${part}`, await readLiveBlock(run, { ...place, part }));
  const cells = [];
  for (const place of places) cells.push(await readLiveCell(run, place, null));
  const measured = magnitudesFrame(run.state.step, await measureChosen(run));
  return { places, values, cells, frames: [...frames, measured], retired: places[3] };
}

test("a finished run's blocks, cells and frames are those of the live run at its last step, to the bit", async () => {
  const run = await RunBlocks.open(folder);
  for (const [i, place] of said.places.entries()) {
    assert.deepEqual(await run.cell(place, null), said.cells[i]);
    assert.deepEqual(await run.cell(place, 12), said.cells[i]);
    for (const part of blockParts) {
      const live = said.values.get(`${JSON.stringify(place)} ${part}`) as LiveBlock | MissingBlock;
      // The live run computes with the rounded weight of a block that it no longer trains.
      if (place === said.retired && part === "weight") continue;
      assert.deepEqual(await run.read(place, part, null), live, `${JSON.stringify(place)} ${part}`);
    }
  }
  const shown = await run.frames(null);
  assert.equal(shown.step, 12);
  assert.deepEqual(shown.frames.map(Buffer.from), said.frames.map(Buffer.from));
  const retired = [await run.read(said.retired, "weight", null), await run.read(said.retired, "delta", null)] as Known[];
  assert.ok(retired[1].values.some((value) => value !== 0));
  assert.match((said.values.get(`${JSON.stringify(said.retired)} gradient`) as MissingBlock).reason, /trained earlier/);
});

test("at every checkpoint five blocks have the values of the files' bytes, and cells their means", async () => {
  const run = await RunBlocks.open(folder);
  assert.deepEqual((await run.describe()).checkpoints, [3, 6, 9, 12]);
  for (const step of [3, 9, 12]) {
    const place = checkpointOf(folder, step);
    const selection = selectionOf(place);
    for (const rank of [0, 1, 13, 26, 39]) {
      const block = selection.blocks[rank];
      const expected = blockOf(place, selection, block, base);
      for (const part of blockParts) {
        const read = (await run.read(block, part, step)) as Known;
        assert.deepEqual(read, { step, values: expected[part], rows: 16, columns: 16, blockRows: 16, blockColumns: 16 }, `${part} at ${step}`);
      }
      const { gradient, delta, secondMoment } = expected;
      assert.deepEqual(await run.cell(block, step), {
        step,
        score: block.score,
        selected: true,
        rank,
        gradient: meanOfAbsolute(gradient),
        delta: meanOfAbsolute(delta),
        secondMoment: meanOfAbsolute(secondMoment),
      });
      assert.ok(meanOfAbsolute(gradient) > 0 && meanOfAbsolute(delta) > 0);
    }
  }
  const { blocks } = selectionOf(checkpointOf(folder, 3));
  const cells = await run.history(blocks[0]);
  assert.deepEqual(
    cells.map(({ step }) => step),
    [3, 6, 9, 12],
  );
  for (const cell of cells) assert.deepEqual(cell, await run.cell(blocks[0], cell.step));
});

test("scores of all blocks stand beside the choice that came of them, and beside no other", async () => {
  const run = await RunBlocks.open(folder);
  const kinds = async (step: number) =>
    (await run.frames(step)).frames.map((frame) => (/"kind":"(\w+)"/.exec(Buffer.from(frame).toString("latin1")) as RegExpExecArray)[1]);
  assert.deepEqual(await kinds(12), ["scores", "selection", "magnitudes"]);
  assert.deepEqual(await kinds(3), ["selection", "magnitudes"]);
  const other = otherPlace(selectionOf(checkpointOf(folder, 12)));
  const { shape, values } = tensorOf(path.join(folder, "scores.safetensors"), other.name);
  assert.equal((await run.cell(other, 12)).score, values[other.row * shape[1] + other.column]);
  assert.equal((await run.cell(otherPlace(selectionOf(checkpointOf(folder, 3))), 3)).score, null);
});

test("blocks cut at a matrix's edge, and windows of them, have their own values; only a window's bytes are read", async (t) => {
  const overrides = { method: { name: "smt", blocks: 12, blockSize: 48, warmup: { steps: 2 } }, train: { steps: 3, precision: "f32" } };
  const { folder: ragged } = await session(writeRunFile(temporaryFolder(t), overrides));
  const run = await RunBlocks.open(ragged);
  const place = checkpointOf(ragged, 3);
  const selection = selectionOf(place);
  assert.ok(
    selection.blocks.some(({ column }) => column === 2),
    "no block is cut",
  );
  for (const block of selection.blocks) {
    const expected = blockOf(place, selection, block, base);
    for (const part of blockParts) assert.deepEqual(((await run.read(block, part, 3)) as Known).values, expected[part]);
    const window = { row: 1, column: 2, rows: expected.rows - 1, columns: expected.columns - 3 };
    const cut = (await run.read(block, "gradient", null, { window })) as Known;
    assert.deepEqual(
      cut.values,
      expected.gradient.filter((_, i) => i >= expected.columns && i % expected.columns >= 2 && i % expected.columns < expected.columns - 1),
    );
    assert.deepEqual([cut.rows, cut.columns, cut.blockRows, cut.blockColumns], [window.rows, window.columns, expected.rows, expected.columns]);
  }
  const other = otherPlace(selection);
  const stored = tensorOf(base, `${other.name}.weight`);
  const window = { row: 2, column: 3, rows: 4, columns: 5 };
  assert.deepEqual(
    ((await run.read(other, "weight", null, { window })) as Known).values,
    Float32Array.from(
      { length: 20 },
      (_, i) => stored.values[(other.row * 48 + 2 + Math.floor(i / 5)) * stored.shape[1] + other.column * 48 + 3 + (i % 5)],
    ),
  );

  const ranges: [number, number][] = [];
  const file = {
    async readBytes(_name: string, begin: number, end: number) {
      ranges.push([begin, end]);
      return new Uint8Array(end - begin);
    },
  };
  await readWindow(file, { tensor: "x", dtype: "BF16", offset: 1000, stride: 128 }, window);
  assert.deepEqual(
    ranges.sort((a, b) => a[0] - b[0]),
    [2, 3, 4, 5].map((row) => [2 * (1000 + row * 128 + 3), 2 * (1000 + row * 128 + 8)]),
  );
});

test("before blocks are chosen there is the base's weight and nothing else; before an update there is no gradient and no moment", async (t) => {
  const own = temporaryFolder(t);
  const early = await session(writeRunFile(path.join(own, "early")), { stopRequested: () => true });
  const unchosen = await RunBlocks.open(early.folder);
  const { checkpoints, blockSize, matrices } = await unchosen.describe();
  assert.deepEqual([checkpoints, blockSize, matrices.length], [[], 16, 14]);
  const place = { name: "model.layers.1.mlp.down_proj", row: 7, column: 23 };
  const weight = (await unchosen.read(place, "weight", null)) as Known;
  const stored = tensorOf(base, `${place.name}.weight`);
  assert.equal(weight.values[17], stored.values[(7 * 16 + 1) * 384 + 23 * 16 + 1]);
  for (const part of ["delta", "gradient", "firstMoment", "secondMoment"] as BlockPart[])
    assert.deepEqual(await unchosen.read(place, part, null), { step: 0, reason: "No blocks have been chosen yet." });
  assert.deepEqual(await unchosen.cell(place, null), {
    step: 0,
    score: null,
    selected: false,
    rank: null,
    gradient: null,
    delta: null,
    secondMoment: null,
  });
  assert.deepEqual(await unchosen.frames(null), { step: null, frames: [] });
  await assert.rejects(unchosen.read(place, "weight", 7), isCode("run/no-checkpoint"));
  for (const [bad, sentence] of [
    [{ ...place, name: "model.layers.9.mlp.down_proj" }, /no matrix/],
    [{ ...place, row: 8 }, /no such block/],
  ] as const) {
    await assert.rejects(unchosen.read(bad, "weight", null), sentence);
    await assert.rejects(unchosen.cell(bad, null), sentence);
    await assert.rejects((await RunBlocks.open(folder)).cell(bad, null), isCode("inspect/no-block"));
  }

  let saved = false;
  const begun = await session(writeRunFile(path.join(own, "begun")), {
    onEvent({ kind }) {
      if (kind === "checkpoint") saved = true;
    },
    stopRequested: () => saved,
  });
  const chosen = await RunBlocks.open(begun.folder);
  const [block] = selectionOf(checkpointOf(begun.folder, 0)).blocks;
  for (const part of ["gradient", "firstMoment", "secondMoment"] as BlockPart[])
    assert.deepEqual(await chosen.read(block, part, null), { step: 0, reason: "No update was made since the blocks were chosen." });
  assert.deepEqual(((await chosen.read(block, "delta", null)) as Known).values, new Float32Array(256));
  const cell = await chosen.cell(block, 0);
  assert.deepEqual([cell.gradient, cell.delta, cell.secondMoment, cell.score], [null, 0, null, block.score]);
  const [, , magnitudes] = (await chosen.frames(0)).frames;
  const payload = new Float32Array(magnitudes.slice(-12 * 40).buffer);
  assert.ok(payload.subarray(0, 40).every(Number.isNaN) && payload.subarray(40, 80).every((value) => value === 0) && Number.isNaN(payload[80]));
});

test("a run of full fine-tuning has no blocks and says so", async (t) => {
  const overrides = { method: { name: "full" }, train: { steps: 1 } };
  const run = await RunBlocks.open((await session(writeRunFile(temporaryFolder(t), overrides))).folder);
  assert.deepEqual(await run.describe(), { checkpoints: [0, 1], blockSize: null, matrices: [] });
  const place = { name: "model.layers.0.mlp.up_proj", row: 0, column: 0 };
  assert.match(((await run.read(place, "weight", null)) as MissingBlock).reason, /whole matrices/);
  assert.deepEqual((await run.frames(null)).frames, []);
});

test("a damaged checkpoint is not shown: the one before is the newest then, also when it is damaged after a first look", async (t) => {
  const { folder: own } = await session(writeRunFile(temporaryFolder(t)));
  const run = await RunBlocks.open(own);
  const [block] = selectionOf(checkpointOf(own, 12)).blocks;
  assert.equal((await run.cell(block, null)).step, 12);
  const file = path.join(checkpointOf(own, 12), "optimizer.safetensors");
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(file, bytes);
  assert.equal((await run.cell(block, null)).step, 9);
  await assert.rejects(run.cell(block, 12), isCode("run/no-checkpoint"));
  assert.deepEqual(
    (await run.history(block)).map(({ step }) => step),
    [9],
  );
  await assert.rejects(RunBlocks.open(path.join(own, "checkpoints")), isCode("run/no-run"));
  assert.ok(readdirSync(path.join(own, "checkpoints")).includes("step-12"), "looking changed the folder");
});
