/** The cursor on events.jsonl: a long history, half a line, one taken back, a slow host — always every event once, in order. */
import assert from "node:assert/strict";
import { appendFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { EventFeed } from "../../../src/core/host/eventFeed.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

const line = (sequence: number, text = "x".repeat(sequence % 400)) =>
  `${JSON.stringify({ sequence, timeMs: 0, kind: "notice", code: "é", message: text })}\n`;

test("a long history comes whole, after any number, lines longer than a read included", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  writeFileSync(file, "");
  for (let sequence = 1; sequence <= 4000; sequence++) appendFileSync(file, sequence === 2000 ? line(sequence, "y".repeat(700_000)) : line(sequence));
  for (const after of [0, 1, 1999, 2000, 3999, 4000]) {
    const seen: number[] = [];
    const feed = new EventFeed(folder, after, async (events) => {
      seen.push(...events.map(({ sequence }) => sequence));
    });
    await feed.pump();
    assert.deepEqual(
      seen,
      Array.from({ length: 4000 - after }, (_, i) => after + 1 + i),
    );
    await feed.close();
  }
});

test("half a line waits for its end, and one that is taken back is never sent", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  writeFileSync(file, line(1));
  const seen: string[] = [];
  const feed = new EventFeed(folder, 0, async (events) => {
    seen.push(...events.map((event) => `${event.sequence} ${event.kind === "notice" && event.message}`));
  });
  appendFileSync(file, line(2, "taken back").slice(0, 30));
  await feed.pump();
  truncateSync(file, line(1).length + 1); // é has two bytes
  appendFileSync(file, line(2, "kept").slice(0, 20));
  await feed.pump();
  appendFileSync(file, line(2, "kept").slice(20) + line(3, "z"));
  await feed.pump();
  assert.deepEqual(seen, ["1 x", "2 kept", "3 z"]);
  await feed.close();
});

test("while a host has not taken the last events, no more are read for it", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  writeFileSync(file, line(1));
  const sends: number[][] = [];
  let taken = () => {};
  const feed = new EventFeed(folder, 0, (events) => {
    sends.push(events.map(({ sequence }) => sequence));
    return new Promise((resolve) => {
      taken = resolve;
    });
  });
  const turn = () => new Promise((resolve) => setTimeout(resolve, 30));
  void feed.pump();
  await turn();
  for (let sequence = 2; sequence <= 50; sequence++) {
    appendFileSync(file, line(sequence));
    void feed.pump();
  }
  await turn();
  assert.deepEqual(sends, [[1]]);
  taken();
  while (sends.length < 2) await turn();
  taken();
  assert.deepEqual(sends, [[1], Array.from({ length: 49 }, (_, i) => i + 2)]);
  await feed.close();
});

test("many short steps are sent together, a first one at once, and the last ones when the run ends", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  writeFileSync(file, line(1));
  const sends: { atMs: number; last: number }[] = [];
  const feed = new EventFeed(folder, 0, async (events) => {
    sends.push({ atMs: performance.now(), last: events.at(-1)?.sequence as number });
  });
  void feed.pump();
  while (sends.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const began = performance.now();
  for (let sequence = 2; performance.now() - began < 450; sequence++) {
    await new Promise((resolve) => setTimeout(resolve, 3));
    appendFileSync(file, line(sequence, "short"));
    void feed.pump();
  }
  appendFileSync(file, line(9999, "end"));
  await feed.finish();
  assert.equal(sends[0].last, 1);
  assert.equal(sends.at(-1)?.last, 9999);
  // A timer never fires early by more than its resolution; a slow machine sends less often.
  assert.ok(sends.length <= 5, `${sends.length} sendings in ${Math.round(performance.now() - began)} ms`);
  await feed.close();
});
