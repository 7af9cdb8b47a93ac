/** The run folder, its lock and its event log. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { EventLog, readEvents } from "../../../src/core/files/eventLog.ts";
import { createRunFolder, isRunFolder, log, requireRunFolder, runId, sweepRunFolder } from "../../../src/core/files/runFolder.ts";
import { lockHolder, lockRun } from "../../../src/core/files/runLock.ts";
import type { RunEventBody } from "../../../src/protocol/events.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { temporaryFolder } from "./smallModels.ts";

test("a run gets a folder of its own, with its run file, hidden from git", async (t) => {
  const root = temporaryFolder(t);
  const output = path.join(root, ".sparse-tuner/runs");
  const now = new Date(2026, 0, 2, 3, 4, 5);
  const folders = await Promise.all(Array.from({ length: 4 }, () => createRunFolder(output, "my run", "model: x\n", now)));
  assert.deepEqual(
    folders.map((folder) => path.basename(folder)).sort(),
    ["", "-2", "-3", "-4"].map((end) => `20260102-030405-my-run${end}`),
  );
  for (const folder of folders) {
    assert.equal(readFileSync(path.join(folder, "run.yaml"), "utf8"), "model: x\n");
    assert.deepEqual(readdirSync(folder), ["run.yaml"]);
    assert.ok(await isRunFolder(folder));
  }
  assert.equal(readFileSync(path.join(root, ".sparse-tuner/.gitignore"), "utf8"), "*\n");
  await createRunFolder(path.join(root, "elsewhere"), "x", "", now);
  assert.ok(!existsSync(path.join(root, ".gitignore")) && !existsSync(path.join(root, "elsewhere/.gitignore")));
  await assert.rejects(requireRunFolder(root), { code: "run/no-run" });
  await log(folders[0], "one\ntwo");
  assert.match(readFileSync(path.join(folders[0], "log.txt"), "utf8"), /^\d{4}-\d\d-\d\dT[\d:.]+Z one\n {2}two\n$/);
});

test("an output that is a file, lies below one, or is a link to nowhere is refused with its name", async (t) => {
  const root = temporaryFolder(t);
  const [file, link] = [path.join(root, "file"), path.join(root, "link")];
  writeFileSync(file, "mine");
  symlinkSync(path.join(root, "nowhere"), link);
  const cases: [string, string][] = [
    [file, `${file} is a file`],
    [path.join(file, "runs"), `${file} is a file`],
    [link, `${link} is a link that leads nowhere`],
    [path.join(link, "runs"), `${link} is a link that leads nowhere`],
  ];
  for (const [output, obstacle] of cases)
    await assert.rejects(createRunFolder(output, "x", ""), {
      code: "run/output-is-a-file",
      badInput: true,
      message: `${output} cannot hold run folders: ${obstacle}.`,
    });
  assert.equal(readFileSync(file, "utf8"), "mine");
  assert.ok(!existsSync(path.join(root, "nowhere")));
});

test("names from outside become plain folder names", (t) => {
  const suite = sharedData("naughty-strings");
  if (!suite) return t.diagnostic("not run: no shared data: naughty strings as run names");
  for (const name of JSON.parse(readFileSync(path.join(suite, "blns.json"), "utf8"))) {
    const id = runId(name, new Date());
    assert.match(id, /^\d{8}-\d{6}-[\p{L}\p{N}_][\p{L}\p{M}\p{N}._-]*$/u);
    assert.ok(Buffer.byteLength(id) <= 176, id);
  }
});

test("a lock is given to one, refused to others while that one lives, and given back", async (t) => {
  const folder = temporaryFolder(t);
  const results = await Promise.allSettled(Array.from({ length: 6 }, () => lockRun(folder)));
  const held = results.filter((result) => result.status === "fulfilled");
  assert.equal(held.length, 1);
  for (const result of results)
    if (result.status === "rejected")
      assert.ok(
        result.reason instanceof UserError && result.reason.code === "run/locked" && result.reason.message.includes(`process ${process.pid}`),
      );
  assert.equal((await lockHolder(folder))?.pid, process.pid);
  await held[0].value.release();
  await held[0].value.release();
  assert.equal(await lockHolder(folder), null);
  assert.deepEqual(readdirSync(folder), []);
});

test("a lock that whoever has just had it sweeps away while it is made is made again", async (t) => {
  const folder = temporaryFolder(t);
  let sweeping = true;
  const swept = (async () => {
    for (; sweeping; await delay(1)) await sweepRunFolder(folder);
  })();
  try {
    for (let i = 0; i < 100; i++) await (await lockRun(folder)).release();
  } finally {
    sweeping = false;
    await swept;
  }
});

test("the lock of a dead process, of an id that another program got, and an unreadable one are taken over by exactly one", async (t) => {
  const child = spawn(process.execPath, ["-e", ""]);
  await new Promise((resolve) => child.on("close", resolve));
  const holder = { pid: child.pid, host: os.hostname(), processStart: null, timeMs: 1, nonce: "n" };
  const stale = [JSON.stringify(holder), "", "garbage", '{"pid":-1}', "\0\0\0"];
  if (process.platform === "linux") stale.push(JSON.stringify({ ...holder, pid: process.pid, processStart: "another boot:1" }));
  for (const text of stale) {
    for (let round = 0; round < 5; round++) {
      const folder = temporaryFolder(t);
      writeFileSync(path.join(folder, "run.lock"), text);
      assert.equal(await lockHolder(folder), null, text);
      const results = await Promise.allSettled(Array.from({ length: 4 }, () => lockRun(folder)));
      assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1, text);
      assert.deepEqual(readdirSync(folder), ["run.lock"]);
    }
  }
});

test("a live process and another host keep their lock", async (t) => {
  const folder = temporaryFolder(t);
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  t.after(() => child.kill("SIGKILL"));
  for (const other of [
    { pid: child.pid, host: os.hostname() },
    { pid: 1, host: "elsewhere" },
  ]) {
    writeFileSync(path.join(folder, "run.lock"), JSON.stringify({ ...other, processStart: null, timeMs: 1, nonce: "n" }));
    await assert.rejects(lockRun(folder), (error) => error instanceof UserError && error.message.includes(`process ${other.pid}`));
  }
});

const step = (n: number): RunEventBody => ({ kind: "step", step: n, loss: 1 / n, learningRate: 1e-4, gradNorm: 1, tokensPerSecond: 10 });

test("events are numbered without a gap over several openings, and read back", async (t) => {
  const folder = temporaryFolder(t);
  assert.deepEqual(await readEvents(folder), []);
  for (let round = 0; round < 3; round++) {
    const events = await EventLog.open(folder);
    assert.equal(events.lastSequence, round * 10);
    for (let i = 1; i <= 10; i++) assert.equal(events.append(step(i), 1000 + i).sequence, round * 10 + i);
    events.sync();
    events.close();
  }
  const events = await readEvents(folder);
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    Array.from({ length: 30 }, (_, i) => i + 1),
  );
  assert.deepEqual(events[4], { sequence: 5, timeMs: 1005, ...step(5) });
});

test("a log cut at any byte loses the cut line only, and goes on without a gap", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  const first = await EventLog.open(folder);
  for (let i = 1; i <= 3; i++) first.append({ ...step(i) }, i);
  first.close();
  const whole = readFileSync(file);
  for (let length = 0; length <= whole.length; length++) {
    writeFileSync(file, whole.subarray(0, length));
    const complete = whole.subarray(0, length).toString().split("\n").length - 1;
    assert.equal((await readEvents(folder)).length, complete, `reader, ${length} bytes`);
    const events = await EventLog.open(folder);
    assert.equal(events.append({ kind: "resumed", fromStep: 0 }).sequence, complete + 1);
    events.close();
    assert.equal((await readEvents(folder)).length, complete + 1);
  }
});

test("a torn last line that ends in a newline is dropped, a damaged line before others is refused", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "events.jsonl");
  const events = await EventLog.open(folder);
  for (let i = 1; i <= 3; i++) events.append(step(i), i);
  events.close();
  const whole = readFileSync(file);
  appendFileSync(file, "\0\0\0\0\n");
  (await EventLog.open(folder)).close();
  assert.ok(readFileSync(file).equals(whole));
  const lines = whole.toString().split("\n");
  for (const bad of ["{}", "", '{"sequence":9,"kind":"step"}', "null", "[]"]) {
    writeFileSync(file, [lines[0], bad, lines[2], ""].join("\n"));
    await assert.rejects(
      EventLog.open(folder),
      (error) => error instanceof UserError && error.code === "run/bad-events" && error.message.includes("event 2"),
      bad,
    );
    await assert.rejects(readEvents(folder), { code: "run/bad-events" });
  }
});

test("lines longer than the read buffer are read", async (t) => {
  const folder = temporaryFolder(t);
  const events = await EventLog.open(folder);
  for (const n of [10, 3_000_000, 10]) events.append({ kind: "notice", code: "x", message: "é".repeat(n) });
  events.close();
  assert.deepEqual(
    (await readEvents(folder)).map((event) => event.kind === "notice" && event.message.length),
    [10, 3_000_000, 10],
  );
});

test("a reader beside a writer never sees half a line", async (t) => {
  const folder = temporaryFolder(t);
  const events = await EventLog.open(folder);
  const reading = (async () => {
    let most = 0;
    while (most < 2000) most = (await readEvents(folder)).length;
  })();
  for (let i = 1; i <= 2000; i++) {
    events.append(step(i));
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await reading;
  events.close();
});

test("a full disk while an event is written takes the event back", { skip: process.platform !== "linux" || process.getuid?.() !== 0 }, async (t) => {
  const { execFileSync } = await import("node:child_process");
  const folder = path.join(temporaryFolder(t), "small");
  mkdirSync(folder);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "pipe" });
  } catch {
    return t.skip("not run: a small file system cannot be mounted here");
  }
  try {
    const events = await EventLog.open(folder);
    let written = 0;
    const fill = () => {
      for (;;) {
        events.append({ kind: "notice", code: "x", message: "y".repeat(1000) });
        written++;
      }
    };
    assert.throws(fill, { code: "run/disk-full" });
    assert.ok(written > 20);
    assert.equal(readFileSync(path.join(folder, "events.jsonl")).at(-1), 0x0a, "no half line stays");
    assert.equal((await readEvents(folder)).length, written);
    truncateSync(path.join(folder, "events.jsonl"), 0);
    events.close();
  } finally {
    execFileSync("umount", [folder]);
  }
});
