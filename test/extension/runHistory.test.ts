/** Events of a run as a window reads them: by the ends, whole, as they grow, and out of files that anybody could have written. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Random } from "../../src/core/random.ts";
import { RunHistory } from "../../src/extension/runs/runHistory.ts";
import { history, type RunEvent, type RunEventBody } from "../../src/protocol/events.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";

const started = (totalSteps: number): RunEventBody => ({
  kind: "started",
  run: "r",
  method: "smt",
  device: "cpu",
  trainRows: 1,
  skippedRows: 0,
  totalSteps,
  warmupSteps: 0,
  trainTokens: 1,
});
const step = (number: number): RunEventBody => ({
  kind: "step",
  step: number,
  loss: 3 + 1 / number,
  learningRate: 1e-4,
  gradNorm: 1.25,
  tokensPerSecond: 1000.5,
});

/** A run of so many events: begun, interrupted in the middle and resumed a little before. */
function events(count: number): RunEvent[] {
  const all: RunEventBody[] = [started(count)];
  for (let number = 1; all.length < count; ) {
    all.push(step(number++));
    if (all.length !== Math.floor(count / 2)) continue;
    number = Math.max(1, number - 10);
    all.push({ kind: "resumed", fromStep: number - 1 }, started(count));
  }
  return all.slice(0, count).map((body, i) => ({ sequence: i + 1, timeMs: 1000 * i, ...body }) as RunEvent);
}

const text = (list: readonly RunEvent[]) => list.map((event) => `${JSON.stringify(event)}\n`).join("");

function folderWith(t: { after(clean: () => void): void }, content: string | Buffer): string {
  const folder = path.join(temporaryFolder(t), "run");
  mkdirSync(folder);
  writeFileSync(path.join(folder, "events.jsonl"), content);
  return folder;
}

function open(folder: string): { history: RunHistory; reports: string[] } {
  const reports: string[] = [];
  return { history: new RunHistory(folder, (what) => reports.push(what)), reports };
}

test("100,000 events: opened by the ends at once, read whole in moments, the same by both ways", async (t) => {
  const all = events(100_000);
  const folder = folderWith(t, text(all));
  let began = performance.now();
  const { history: run, reports } = open(folder);
  const openedMs = performance.now() - began;
  assert.equal(run.lastSequence, all.length);
  assert.equal(run.progress.totalSteps, 100_000);
  assert.equal(run.progress.step, (all.at(-1) as { step: number }).step);
  assert.equal(run.progress.outcome, null);
  began = performance.now();
  let longestMs = 0;
  const ticks = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - last);
    last = performance.now();
  }, 1);
  let last = performance.now();
  await run.load();
  clearInterval(ticks);
  const loadedMs = performance.now() - began;
  const expected = history(all);
  assert.deepEqual(run.events, expected);
  assert.deepEqual(open(folder).history.events, expected);
  assert.deepEqual(reports, []);
  t.diagnostic(`opened in ${openedMs.toFixed(1)} ms, loaded in ${loadedMs.toFixed(0)} ms, others waited ${longestMs.toFixed(0)} ms at most`);
  assert.ok(openedMs < 200 && loadedMs < 5000 && longestMs < 500, `${openedMs}, ${loadedMs}, ${longestMs}`);
});

test("what is no event is left out and reported; a last line without an end is not there yet", async (t) => {
  const all = events(40);
  const lines = all.map((event) => JSON.stringify(event));
  lines.splice(30, 0, "garbage", '{"sequence":31,"kind":"step"}', "", '{"kind":"unknown","sequence":31,"timeMs":0}', "\u0000\uffff");
  const torn = `${lines.join("\n")}\n${JSON.stringify({ ...all[39], sequence: 41 }).slice(0, 40)}`;
  const folder = folderWith(t, torn);
  const { history: run, reports } = open(folder);
  assert.deepEqual(run.events, history(all));
  assert.ok(reports.length >= 4 && reports.every((report) => report.length < 200));
  appendFileSync(path.join(folder, "events.jsonl"), `${JSON.stringify({ ...all[39], sequence: 41 }).slice(40)}\n`);
  const told: RunEvent[] = [];
  await run.catchUp((fresh) => told.push(...fresh));
  assert.deepEqual(
    told.map(({ sequence }) => sequence),
    [41],
  );
  assert.equal(run.events.at(-1)?.sequence, 41);
});

test("absent, empty, binary, endless and hostile files are runs without events", (t) => {
  const contents = [
    "",
    "\n\n\n",
    Buffer.alloc(100_000),
    "x".repeat(50_000),
    `${"[".repeat(20_000)}\n`,
    '{"sequence":1e999,"timeMs":1,"kind":"done"}\n',
  ];
  for (const content of contents) {
    const { history: run } = open(folderWith(t, content));
    assert.equal(run.lastSequence, 0);
    assert.deepEqual(run.events, []);
  }
  assert.deepEqual(open(path.join(temporaryFolder(t), "absent")).history.events, []);
  const folder = folderWith(t, "");
  truncateSync(path.join(folder, "events.jsonl"), 40_000_000); // one line of zeros, longer than any event
  appendFileSync(path.join(folder, "events.jsonl"), `\n${JSON.stringify({ sequence: 1, timeMs: 1, kind: "done", run: "r", step: 1 })}\n`);
  const { history: run, reports } = open(folder);
  assert.equal(run.progress.outcome, "finished");
  assert.equal(run.events.length, 1);
  assert.ok(reports.some((report) => /too long/.test(report)));
});

test("a choice of blocks longer than the end that is usually read", (t) => {
  const shares = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`projection_${i}`, 1 / 3000]));
  const selection: RunEventBody = { kind: "selection", step: 0, blockSize: 16, blocks: 1, trainableParameters: 1, shares, sharesByLayer: [] };
  const all = [...events(20), { sequence: 21, timeMs: 21_000, ...selection } as RunEvent];
  assert.equal(open(folderWith(t, text(all))).history.lastSequence, 21);
});

test("from a core and from the file, in any order and twice: every event once, and the getter with what was told is all", async (t) => {
  const all = events(300);
  const random = new Random(11);
  for (let round = 0; round < 60; round++) {
    const begin = random.below(all.length);
    const folder = folderWith(t, text(all.slice(0, begin)));
    const { history: run } = open(folder);
    let written = begin;
    let delivered = begin;
    const told: RunEvent[] = [];
    let looked: RunEvent[] | null = null;
    const tell = (fresh: readonly RunEvent[]) => void (looked && told.push(...fresh));
    while (delivered < all.length) {
      const action = random.below(6);
      if (action === 0 && written < all.length) {
        const more = all.slice(written, written + 1 + random.below(40));
        appendFileSync(path.join(folder, "events.jsonl"), text(more));
        written += more.length;
      } else if (action === 1) {
        // A core sends what it wrote, some of it again.
        const from = Math.max(0, delivered - random.below(3));
        const sent = all.slice(from, from + random.below(written - from + 1));
        delivered = Math.max(delivered, from + sent.length);
        tell(run.take(sent));
      } else if (action === 2) {
        await run.catchUp(tell);
        delivered = written;
      } else if (action === 3 && looked === null) {
        looked = [...run.events];
      } else if (action === 4) await run.load();
      else if (action === 5) run.release();
    }
    looked ??= [...run.events];
    assert.deepEqual(history([...looked, ...told]), history(all), `round ${round}`);
    assert.deepEqual(run.events, history(all));
  }
});

test("what a core sends while the file is read is not missed, whether the reader has still met it or not", async (t) => {
  const all = events(60);
  const folder = folderWith(t, text(all.slice(0, 40)));
  const { history: run } = open(folder);
  const loading = run.load();
  run.take(all.slice(40, 50));
  assert.equal(run.load(), loading, "it is read once");
  appendFileSync(path.join(folder, "events.jsonl"), text(all.slice(40, 45)));
  await loading;
  run.take(all.slice(45));
  assert.deepEqual(run.events, history(all));
});
