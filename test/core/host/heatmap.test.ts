/** Heatmap frames: what a host sees during a warm-up is what the core recorded, at the end what the run's files say; nobody looking, nothing is made. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { readSelection } from "../../../src/core/commands/train.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { decodeFloats } from "../../../src/core/files/storedFloats.ts";
import { HeatmapFeed } from "../../../src/core/host/heatmapFeed.ts";
import { coreToHostLimits, type FrameHeader } from "../../../src/protocol/coreProtocol.ts";
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
  assertSelection(host.frames.at(-1) as (typeof host.frames)[number], readSelection(runFolder) as Selection);
  assert.deepEqual(blind.frames, []);

  await blind.client.watchHeatmap(true);
  await until(() => blind.frames.length === 2);
  assert.deepEqual(blind.frames, host.frames.slice(-2), "who comes later gets what there is");
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
  const selection = (rank: number): Selection => ({
    version: 1,
    blockSize: 16,
    score: "given",
    selection: "given",
    seed: 0,
    dataHash: "",
    steps: 0,
    totalParameters: 0,
    shares: {},
    matrices: [],
    blocks: [{ name: "a", row: 0, column: 0, score: 1, rank }],
  });
  for (let i = 0; i < 1000; i++) feed.selected(selection(i), null, i, () => [16, 16]);
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
