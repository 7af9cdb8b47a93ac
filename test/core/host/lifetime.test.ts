/** A core outlives who started it, keeps its socket, and is noticed when it dies or hangs. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { nativeAvailable } from "../../../src/core/devices/cpu/cpuDevice.ts";
import { CoreClient } from "../../../src/extension/coreClient.ts";
import { findLiveRun, killLiveRun } from "../../../src/extension/liveRuns.ts";
import { startCore } from "../../../src/extension/startCore.ts";
import type { LiveRunRecord } from "../../../src/protocol/liveRun.ts";
import { temporaryFolder } from "../run/smallRuns.ts";
import { killHard, newRun, program, readLog, running, until, WatchingHost } from "./runningCore.ts";

const skip = process.platform === "win32" && "not run: no kill -9 on Windows";

test("the process that started it is killed: the core goes on, is found again with no gap, and is not started twice", { skip }, async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const script = path.join(import.meta.dirname, "startAndStay.ts");
  const starter = spawn(process.execPath, [script, program.node, program.core, runFolder], { stdio: ["ignore", "pipe", "inherit"] });
  const record = JSON.parse(await new Promise<string>((resolve) => starter.stdout.setEncoding("utf8").once("data", resolve))) as LiveRunRecord;
  t.after(() => killHard(record.pid));
  const before = await WatchingHost.attach(t, record);
  await before.seen(({ kind }) => kind === "step");
  starter.kill("SIGKILL");
  await new Promise((resolve) => starter.once("exit", resolve));
  const seen = before.steps;
  await until(() => before.steps > seen + 5);
  before.client.close();

  const again = await startCore({ ...program, runFolder, resume: true });
  assert.deepEqual(again, { record, started: false });
  const after = await WatchingHost.attach(t, again.record, { after: before.client.lastSequence });
  await until(() => after.steps > 5);
  assert.equal(after.client.hello.pid, record.pid);
  before.assertGapless();
  after.assertGapless(before.client.lastSequence);
  const together = [...before.events, ...after.events];
  assert.deepEqual(together, readLog(runFolder).slice(0, together.length));
});

test("a core killed with -9 is seen to be lost within 10 s, its waiting answers end, and it resumes as a new process", { skip }, async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const record = await running(t, runFolder);
  const host = await WatchingHost.attach(t, record);
  await host.seen(({ kind }) => kind === "step");
  const began = performance.now();
  process.kill(record.pid, "SIGSTOP");
  const answers = Promise.allSettled(Array.from({ length: 5 }, () => host.client.status()));
  assert.equal(await killLiveRun(runFolder), true);
  assert.equal((await host.end).outcome, "lost");
  assert.ok(performance.now() - began < 10_000);
  for (const answer of await answers) assert.equal(answer.status === "rejected" && answer.reason.code, "core/unreachable");
  await assert.rejects(host.client.status(), { code: "core/unreachable" });
  await until(async () => (await findLiveRun(runFolder)).kind === "unregistered");
  assert.deepEqual(await findLiveRun(runFolder), { kind: "unregistered", pid: record.pid, alive: false });
  assert.equal(await killLiveRun(runFolder), false);
  const resumed = await running(t, runFolder, { resume: true });
  assert.notEqual(resumed.pid, record.pid);
  assert.ok(!existsSync(record.socket), "the dead core's socket was swept");
  const next = await WatchingHost.attach(t, resumed);
  await next.seen(({ kind }) => kind === "resumed");
  next.assertGapless();
});

test("a core that hangs is not responding, and speaks again when it goes on", { skip }, async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  const host = await WatchingHost.attach(t, record, { notRespondingMs: 2500 });
  await until(() => host.heartbeats.length > 1);
  process.kill(record.pid, "SIGSTOP");
  await until(() => host.responding.length === 1);
  process.kill(record.pid, "SIGCONT");
  await until(() => host.responding.length === 2);
  assert.deepEqual(host.responding, [false, true]);
});

test("a socket that vanishes comes back; who is attached notices nothing", { skip }, async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  const host = await WatchingHost.attach(t, record);
  rmSync(record.socket);
  await assert.rejects(CoreClient.connect({ record, name: "late" }), { code: "core/unreachable" });
  await until(() => existsSync(record.socket));
  const late = await WatchingHost.attach(t, record);
  const steps = host.steps;
  await until(() => host.steps > steps && late.steps > 0);
  rmSync(path.dirname(record.socket), { recursive: true });
  await until(() => existsSync(record.socket));
  await WatchingHost.attach(t, record);
  host.assertGapless();
});

test("the core beats while it computes", async (t) => {
  const overrides = {
    train: { steps: 100_000, batchSize: nativeAvailable() ? 16 : 1, sequenceLength: 512 },
    evaluate: { every: null },
    checkpoint: { every: null },
  };
  const record = await running(t, await newRun(temporaryFolder(t), overrides));
  const host = await WatchingHost.attach(t, record);
  await until(() => host.heartbeats.length > 4);
  const gaps = host.heartbeats.slice(1).map(({ atMs }, i) => atMs - host.heartbeats[i].atMs);
  // A host takes a core for hung after 10 s; the beat is every 2 s, and half of the rest is left for a busy machine.
  assert.ok(Math.max(...gaps) < 6000, `gaps of ${gaps.map(Math.round)} ms`);
});
