/** Heatmap frames: what a host sees during a warm-up is what the core recorded, at the end what the run's files say; nobody looking, nothing is made. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { readSelection } from "../../../src/core/commands/train.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { HeatmapFeed } from "../../../src/core/host/heatmapFeed.ts";
import type { ScoreGrid } from "../../../src/core/methods/smt/selection.ts";
import { coreToHostLimits, type FrameHeader, type FrameKind } from "../../../src/protocol/coreProtocol.ts";
import { type Frame, FrameDecoder } from "../../../src/protocol/frames.ts";
import type { Selection } from "../../../src/protocol/selection.ts";
import { temporaryFolder } from "../run/smallRuns.ts";
import { newRun, running, until, WatchingHost } from "./runningCore.ts";

const overrides = {
  method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 150 } },
  train: { steps: 1_000_000, batchSize: 4, sequenceLength: 64 },
  evaluate: { every: null },
  checkpoint: { every: null },
};

type ScoresFrame = { header: Extract<FrameHeader, { kind: "scores" }>; payload: Uint8Array };
const isScores = (frame: { header: object }): frame is ScoresFrame => "kind" in frame.header && frame.header.kind === "scores";

const recorded = (runFolder: string): Frame[] => new FrameDecoder(coreToHostLimits).push(readFileSync(path.join(runFolder, "frames.bin")));

test("a host that looks sees warm-up frames as recorded, then the scores and the selection of the files; another that does not look sees none", async (t) => {
  const runFolder = await newRun(temporaryFolder(t), overrides);
  const record = await running(t, runFolder, { recordFrames: true });
  const host = await WatchingHost.attach(t, record);
  const blind = await WatchingHost.attach(t, record);
  await host.client.watchHeatmap(true);
  await host.seen(({ kind }) => kind === "selection");
  await until(() => host.frames.some(({ header }) => header.kind === "selection"));

  const scores = host.frames.filter(isScores);
  const steps = scores.map(({ header }) => header.step);
  assert.ok(new Set(steps).size >= 3, `frames of steps ${steps}`);
  assert.deepEqual(
    steps,
    [...steps].sort((a, b) => a - b),
  );
  const made = recorded(runFolder);
  for (const { header, payload } of scores) {
    const same = made.filter(isScores).find((frame) => frame.header.step === header.step && frame.header.final === header.final);
    assert.deepEqual(same, { header, payload });
  }
  assert.equal(scores.at(-1)?.header.final, true, "the last frame is of the scores that chose");
  await assertScoresOfFile(scores.at(-1) as ScoresFrame, path.join(runFolder, "scores.safetensors"));
  const frameOf = ({ frames }: WatchingHost, wanted: FrameKind) => frames.filter(({ header }) => header.kind === wanted).at(-1);
  assertSelection(frameOf(host, "selection") as WatchingHost["frames"][number], readSelection(runFolder) as Selection);
  assert.deepEqual(blind.frames, []);

  await blind.client.watchHeatmap(true);
  await until(() => frameOf(blind, "selection") !== undefined);
  for (const kind of ["scores", "selection"] as const)
    assert.deepEqual(frameOf(blind, kind), frameOf(host, kind), "who comes later gets what there is");
  await blind.client.watchHeatmap(false);
  assert.deepEqual([host.malformed, blind.malformed], [[], []]);
});

/** Every block's byte is its score within half a level. */
async function assertScoresOfFile({ header, payload }: ScoresFrame, file: string): Promise<void> {
  const scores = await openSafetensors(file);
  let at = 0;
  for (const { name, rows, columns, low, high } of header.matrices) {
    const { begin, end, shape } = scores.info(name);
    assert.deepEqual(shape, [rows, columns]);
    const exact = decodeFloats(await scores.readBytes(name, 0, end - begin), "F32");
    assert.equal(low, Math.min(...exact));
    assert.equal(high, Math.max(...exact));
    for (const score of exact) assert.ok(Math.abs(low + (payload[at++] * (high - low)) / 255 - score) <= (0.5001 * (high - low)) / 255);
  }
  assert.equal(at, payload.length);
  await scores.close();
}

function assertSelection({ header, payload }: { header: FrameHeader; payload: Uint8Array }, selection: Selection): void {
  assert.ok(header.kind === "selection");
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  let at = 0;
  const blocks = header.matrices.flatMap(({ name, columns, chosen }) =>
    Array.from({ length: chosen }, () => {
      const [place, rank, score] = [view.getUint32(at, true), view.getUint32(at + 4, true), view.getFloat32(at + 8, true)];
      at += 12;
      return { name, row: Math.floor(place / columns), column: place % columns, score, rank };
    }),
  );
  assert.deepEqual(
    blocks.sort((a, b) => a.rank - b.rank),
    selection.blocks,
  );
}

test("when nobody looks, the one frame that is made is that of the selection", async (t) => {
  const runFolder = await newRun(temporaryFolder(t), { ...overrides, method: { ...overrides.method, warmup: { steps: 5 } } });
  const host = await WatchingHost.attach(t, await running(t, runFolder, { recordFrames: true }));
  await host.seen(({ kind }) => kind === "step");
  assert.deepEqual(
    recorded(runFolder).map(({ header }) => [header.kind, header.final, header.step]),
    [["scores", true, 5]],
  );
});

/** One block of that rank. */
function selectionOf(rank: number): Selection {
  const given = { version: 1 as const, blockSize: 16, score: "given", selection: "given", seed: 0, dataHash: "", steps: 0, totalParameters: 0 };
  return { ...given, shares: {}, matrices: [], blocks: [{ name: "a", row: 0, column: 0, score: 1, rank }] };
}

test("a host that takes frames slowly gets the latest, and no more than one waits for it", async () => {
  const feed = new HeatmapFeed(() => 16);
  const sent: Frame[] = [];
  let release = () => {};
  feed.watch(
    {
      send(bytes) {
        sent.push(...new FrameDecoder(coreToHostLimits).push(bytes));
        return new Promise((resolve) => {
          release = resolve;
        });
      },
    },
    true,
  );
  for (let i = 0; i < 1000; i++) feed.selected(selectionOf(i), null, i, () => [16, 16]);
  assert.deepEqual(
    sent.map(({ header }) => header.step),
    [0],
  );
  for (let i = 0; i < 5; i++) {
    release();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(
    sent.map(({ header }) => header.step),
    [0, 999],
  );
});

const magnitudes = [{ gradient: 1, delta: 2, secondMoment: null }];
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("magnitudes are measured for who waits, once a step, and so seldom that a watcher costs less than 2 %", async () => {
  const feed = new HeatmapFeed(() => 16);
  const measured: { step: number; began: number; ended: number }[] = [];
  let step = 0;
  const look = (still = false, workMs = 3) =>
    feed.updated(step, still, async () => {
      const began = performance.now();
      while (performance.now() - began < workMs);
      measured.push({ step, began, ended: performance.now() });
      return magnitudes;
    });
  for (const still of [false, true]) await look(still);
  assert.equal(measured.length, 0, "nobody waits");
  const sent: Frame[] = [];
  const sink = { send: async (bytes: Uint8Array) => void sent.push(...new FrameDecoder(coreToHostLimits).push(bytes)) };
  feed.watch(sink, true);
  for (; measured.length < 3; await turn()) {
    step++;
    await look();
  }
  for (const [i, { began }] of measured.slice(1).entries()) {
    const before = measured[i];
    assert.ok(began - before.ended >= 50 * (before.ended - before.began), `${began - before.ended} ms after ${before.ended - before.began}`);
  }
  assert.deepEqual(
    sent.map(({ header }) => header.step),
    measured.map((measurement) => measurement.step),
  );
  step++;
  await look(true);
  assert.equal(measured.at(-1)?.step, step, "a run that stands still is measured at once");
  const times = measured.length;
  await look(true);
  assert.equal(measured.length, times, "and not again");

  const fast = new HeatmapFeed(() => 16);
  fast.watch({ send: async () => {} }, true);
  let count = 0;
  const counted = async () => {
    count++;
    return magnitudes;
  };
  const began = performance.now();
  for (; count < 4; await turn()) await fast.updated(++step, false, counted);
  assert.ok(performance.now() - began >= 300, "no more than ten a second");
});

test("what cannot be measured is not tried again at every step, and its error is the caller's", async () => {
  const feed = new HeatmapFeed(() => 16);
  feed.watch({ send: async () => {} }, true);
  let tried = 0;
  const fail = () => {
    tried++;
    return Promise.reject(new Error("the base is gone"));
  };
  await assert.rejects(feed.updated(1, false, fail), /the base is gone/);
  await feed.updated(2, false, fail);
  assert.equal(tried, 1);
});

test("magnitudes never follow a selection that they do not belong to", async () => {
  const feed = new HeatmapFeed(() => 16);
  const slow: Frame[] = [];
  let release = () => {};
  const sink = {
    send(bytes: Uint8Array) {
      slow.push(...new FrameDecoder(coreToHostLimits).push(bytes));
      return new Promise<void>((resolve) => {
        release = resolve;
      });
    },
  };
  feed.watch(sink, true);
  feed.selected(selectionOf(0), null, 0, () => [16, 16]);
  await feed.updated(1, true, async () => magnitudes);
  feed.selected(selectionOf(1), null, 1, () => [16, 16]);
  for (let i = 0; i < 5; i++) {
    release();
    await turn();
  }
  assert.deepEqual(
    slow.map(({ header }) => [header.kind, header.step]),
    [
      ["selection", 0],
      ["selection", 1],
    ],
  );
  const late: Frame[] = [];
  feed.watch({ send: async (bytes) => void late.push(...new FrameDecoder(coreToHostLimits).push(bytes)) }, true);
  await turn();
  assert.deepEqual(
    late.map(({ header }) => header.kind),
    ["selection"],
  );
  await feed.updated(1, true, async () => magnitudes);
  await turn();
  const { header, payload } = late.at(-1) as Frame;
  assert.deepEqual(header, { kind: "magnitudes", step: 1, blocks: 1 });
  assert.deepEqual([...new Float32Array(payload.buffer)], [1, 2, Number.NaN]);
});

test("scores that are dear to read are read seldom", async () => {
  const feed = new HeatmapFeed(() => 16);
  feed.watch({ send: async () => {} }, true);
  const read: { began: number; ended: number }[] = [];
  const grids = async () => {
    const began = performance.now();
    while (performance.now() - began < 5);
    read.push({ began, ended: performance.now() });
    return [];
  };
  let step = 0;
  for (; read.length < 4; await turn()) await feed.scored({ step: ++step, afterStep: 0 }, grids);
  assert.ok(read[1].began - read[0].began >= 100);
  for (const [i, { began }] of read.slice(2).entries()) assert.ok(began - read[i + 1].ended >= 50 * (read[i + 1].ended - read[i + 1].began));
});

test("large frames come seldom: 100,000 blocks twice a second, and none is made in between", async () => {
  const feed = new HeatmapFeed(() => 1);
  feed.watch({ send: async () => {} }, true);
  const grid = { name: "a", layer: 0, projection: "q_proj", shape: [316, 316], scores: new Float32Array(316 * 316).fill(1) } satisfies ScoreGrid;
  const read: number[] = [];
  const grids = async () => {
    read.push(performance.now());
    return [grid];
  };
  for (let step = 0; read.length < 3; await turn()) await feed.scored({ step: ++step, afterStep: 0 }, grids);
  for (const [i, atMs] of read.slice(1).entries()) assert.ok(atMs - read[i] >= 490, `${atMs - read[i]} ms`);
});
