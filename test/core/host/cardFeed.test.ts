/** The card's figures on their way to hosts and into the event log: seldom, the latest, and nothing while nobody looks; with a real core and a fake tool. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { toolVariable } from "../../../src/core/devices/cardMonitor/tool.ts";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { CardFeed, type CardReader } from "../../../src/core/host/cardFeed.ts";
import { checkRun, openRun } from "../../../src/core/prepare.ts";
import type { CardReading, CardReport } from "../../../src/protocol/cardReading.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fakeNvidiaSmi } from "../../support/fakeNvidiaSmi.ts";
import { readConfig, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { newRun, readLog, running, until, WatchingHost } from "./runningCore.ts";

const skip = process.platform === "win32" && "not run: a shell script stands for the tool";
const mib = 2 ** 20;

const reading = (usedBytes: number): CardReading => ({
  name: "A card",
  index: 0,
  cards: 1,
  chosenBy: "only",
  totalBytes: 25600,
  usedBytes,
  ownBytes: null,
  utilisation: null,
  temperatureC: null,
  source: "nvidia-smi",
});

/** A feed over a reader that is told what to report. */
function openFeed(device = "webgpu: nvidia") {
  const calls: string[] = [];
  const kept: number[] = [];
  let tell: (report: CardReport) => void = () => {};
  const reader: CardReader = {
    start: () => void calls.push("start"),
    stop: async () => void calls.push("stop"),
  };
  const feed = new CardFeed((_, onReport) => {
    tell = onReport;
    return reader;
  });
  const open = () => feed.onOpen(device, ({ usedBytes }) => kept.push(usedBytes as number));
  return { feed, calls, kept, open, report: (usedBytes: number) => tell({ reading: reading(usedBytes), problem: "" }) };
}

function sink() {
  const got: (number | null)[] = [];
  return { got, onCard: ({ reading: told }: CardReport) => void got.push(told?.usedBytes ?? null) };
}

test("the card is read while somebody looks, and not before the device is known", () => {
  const { feed, calls, open } = openFeed();
  const [one, two] = [sink(), sink()];
  feed.watch(one, true);
  assert.deepEqual(calls, []);
  open();
  feed.watch(two, true);
  feed.watch(one, false);
  assert.deepEqual(calls, ["start", "start"]);
  feed.watch(two, false);
  feed.watch(two, false);
  assert.deepEqual(calls, ["start", "start", "stop"]);
  const cpu = openFeed("cpu: native kernels, 2 threads");
  cpu.open();
  cpu.feed.watch(one, true);
  assert.deepEqual(cpu.calls, []);
});

test("the latest figures go out once a second at most; who comes later gets them at once", async () => {
  const { feed, open, report } = openFeed();
  open();
  const [first, later] = [sink(), sink()];
  feed.watch(first, true);
  const began = performance.now();
  for (let used = 1; used <= 50; used++) report(used);
  assert.deepEqual(first.got, [1]);
  feed.watch(later, true);
  assert.deepEqual(later.got, [50]);
  await until(() => first.got.length > 1);
  assert.ok(performance.now() - began > 950);
  assert.deepEqual(
    [first.got, later.got],
    [
      [1, 50],
      [50, 50],
    ],
  );
  feed.end();
});

test("the log gets a reading in ten seconds, and peaks that are higher by a part of the card", (t) => {
  let now = 5000;
  t.mock.method(performance, "now", () => now);
  const { feed, kept, open, report } = openFeed();
  open();
  feed.watch(sink(), true);
  const at = (ms: number, ...used: number[]) => {
    now = ms;
    for (const bytes of used) report(bytes);
    feed.atBoundary();
  };
  at(5000, 1000);
  at(6000, 1050, 1100); // a peak of no account: 100 of 25,600
  at(7000, 1101, 900); // one that counts, and the fullest is kept
  at(8000, 900, 800);
  at(16_999, 700);
  assert.deepEqual(kept, [1000, 1101]);
  at(17_001, 600);
  assert.deepEqual(kept, [1000, 1101, 600]);
  feed.atBoundary();
  assert.equal(kept.length, 3);
  report(9000);
  feed.end();
  feed.atBoundary();
  assert.equal(kept.length, 3, "nothing is written after the end");
});

test("a live core reads the card for whoever watches, keeps little, and its tool ends with the looking", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const tool = fakeNvidiaSmi(path.join(folder, "tool"), "two-cards");
  process.env[toolVariable] = tool.file;
  t.after(() => delete process.env[toolVariable]);
  const runFolder = await newRun(folder);
  const record = await running(t, runFolder);
  const [watching, other] = [await WatchingHost.attach(t, record), await WatchingHost.attach(t, record)];
  await watching.seen(({ kind }) => kind === "step");
  assert.deepEqual(tool.starts(), [], "nobody looks yet");
  await watching.client.watchCard(true);
  await until(() => watching.cards.length >= 3);
  const told = watching.cards[0].report.reading;
  assert.deepEqual([told?.index, told?.cards, told?.chosenBy, told?.ownBytes], [1, 2, "process", 3000 * mib]);
  const between = watching.cards[2].atMs - watching.cards[1].atMs;
  assert.ok(between > 800, `two within ${between} ms, though the tool prints every 50 ms`);
  assert.deepEqual([other.cards.length, other.malformed.length, watching.malformed.length], [0, 0, 0]);
  assert.ok(tool.alive());
  await watching.client.watchCard(false);
  await until(() => !tool.alive());
  const kept = readLog(runFolder).filter((event) => event.kind === "card");
  assert.ok(kept.length >= 1 && kept.length <= 3, `${kept.length} readings kept in three seconds`);
  assert.ok(kept.every(({ usedBytes, step }) => usedBytes !== null && step >= 0));
  // A host that goes without a word is one that looks no more.
  await watching.client.watchCard(true);
  await until(() => tool.alive());
  watching.client.close();
  await until(() => !tool.alive());
  await other.client.watchCard(true);
  await until(() => other.cards.length > 0);
  await other.client.command("stop");
  assert.equal((await other.end).outcome, "stopped");
  await until(() => !tool.alive());
  assert.ok(!tool.starts().includes("overlap"), tool.starts().join("\n"));
});

test("a run that no card has room for is refused before a device is opened, with a change that fits", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  process.env[toolVariable] = fakeNvidiaSmi(path.join(folder, "tool"), "full-card").file;
  t.after(() => delete process.env[toolVariable]);
  const train = { batchSize: 64, sequenceLength: 128, recompute: "none", precision: "f32" };
  const config = { ...readConfig(writeRunFile(folder, { train })), device: "webgpu" as const };
  const checked = await checkRun(config);
  t.after(() => checked.base.close());
  assert.ok(checked.plan.peakBytes > 120 * mib, `the plan is ${checked.plan.peakBytes}`);
  const runFolder = await createRunFolder(config.output, "small", stringifyRunConfig(config));
  const refusal = await openRun(checked, runFolder, null, () => {}).then(
    () => assert.fail("it was opened"),
    (error: unknown) => error as UserError,
  );
  assert.ok(refusal instanceof UserError && refusal.code === "run/memory-too-small", String(refusal));
  assert.match(refusal.message, /NVIDIA T600 has 120 MiB free of 6\.00 GiB \(nvidia-smi\)/);
  const settings = /^Set train\.recompute to layer( and train\.batchSize to (\d+) and train\.gradientAccumulation to (\d+))?: the run/.exec(
    refusal.action,
  );
  assert.ok(settings, refusal.action);
  // What is proposed fits by the planner itself.
  const batchSize = Number(settings[2] ?? 64);
  const changed = { ...config, train: { ...config.train, recompute: "layer" as const, batchSize, gradientAccumulation: 64 / batchSize } };
  const again = await checkRun(changed);
  await again.base.close();
  assert.ok(again.plan.peakBytes <= 120 * mib && (settings[3] === undefined || Number(settings[3]) === 64 / batchSize));
});
