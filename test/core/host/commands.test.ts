/** Two hosts on one core: both see every event, both command it; pause, resume, save and stop act at step boundaries and change no number. */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { findLiveRun, isAlive } from "../../../src/extension/liveRuns.ts";
import { startCore } from "../../../src/extension/startCore.ts";
import { resultOf, session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { endless, newRun, program, readLog, running, until, WatchingHost } from "./runningCore.ts";

test("two hosts see all events without a gap; one pauses, the other resumes; a repeated command acts once; stop saves and ends", async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const record = await running(t, runFolder);
  const first = await WatchingHost.attach(t, record, { name: "window 1" });
  await first.seen(({ kind }) => kind === "step");
  const second = await WatchingHost.attach(t, record, { name: "window 2" });
  await second.seen(({ kind }) => kind === "step");

  assert.deepEqual(await first.client.command("pause", "pause-1"), { repeated: false });
  await second.seen(({ kind }) => kind === "paused");
  await until(() => first.steps === second.steps);
  assert.equal((await second.client.status()).state, "paused");
  const [steps, beats] = [first.steps, first.heartbeats.length];
  await delay(3000);
  assert.equal(first.steps, steps, "no step while paused");
  assert.ok(first.heartbeats.length >= beats + 2, "a paused core still beats");

  assert.deepEqual(await second.client.command("resume", "resume-1"), { repeated: false });
  await until(() => first.steps > steps + 2);
  assert.deepEqual(await second.client.command("pause", "pause-1"), { repeated: true }, "the id was used by another window");
  await first.client.command("save", "save-1");
  const saved = await second.seen(({ kind, sequence }) => kind === "checkpoint" && sequence > steps);
  assert.ok(saved.kind === "checkpoint" && existsSync(saved.folder));
  assert.equal((await first.client.status()).clients, 2);

  await first.client.command("stop", "stop-1");
  assert.deepEqual([await first.end, await second.end], [{ outcome: "stopped" }, { outcome: "stopped" }]);
  const log = readLog(runFolder);
  assert.deepEqual(first.events, log);
  assert.deepEqual(second.events, log);
  first.assertGapless();
  const commands = log.flatMap((event) => (event.kind === "command" ? [`${event.by}: ${event.name} ${event.id}`] : []));
  assert.deepEqual(commands, ["window 1: pause pause-1", "window 2: resume resume-1", "window 1: save save-1", "window 1: stop stop-1"]);
  assert.deepEqual(
    log.slice(-2).map(({ kind }) => kind),
    ["checkpoint", "stopped"],
  );
  assert.ok(existsSync(path.join(runFolder, "log.txt")));

  await until(async () => (await findLiveRun(runFolder)).kind === "none" && !(await isAlive(record)));
  assert.ok(!existsSync(record.socket) && !existsSync(path.join(runFolder, "run.lock")));
  assert.deepEqual(readdirSync(path.join(process.env.XDG_STATE_HOME as string, "sparse-tuner/runs")), []);
});

test("pauses, saves and a stop with a resume leave the numbers and the result as they are undisturbed", async (t) => {
  const folder = temporaryFolder(t);
  const overrides = {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 8 }, reselectEvery: 250 },
    train: { steps: 400 },
    checkpoint: { every: 200, keep: 1 },
  };
  const expected = resultOf((await session(writeRunFile(path.join(folder, "undisturbed"), overrides))).folder);
  const runFolder = await newRun(path.join(folder, "disturbed"), overrides);
  const record = await running(t, runFolder);
  const host = await WatchingHost.attach(t, record);
  await host.client.command("pause");
  await host.seen(({ kind }) => kind === "paused");
  await host.client.command("save");
  await host.client.command("resume");
  await host.seen((event) => event.kind === "step" && event.step >= 5);
  await host.client.command("save");
  await host.client.command("pause");
  await host.seen((event) => event.kind === "paused" && event.step >= 5);
  await host.client.command("stop");
  assert.equal((await host.end).outcome, "stopped");
  await until(async () => (await findLiveRun(runFolder)).kind === "none");

  const again = await WatchingHost.attach(t, await running(t, runFolder, { resume: true }), { after: host.client.lastSequence });
  assert.equal((await again.end).outcome, "done");
  again.assertGapless(host.client.lastSequence);
  assert.deepEqual([...host.events, ...again.events], readLog(runFolder), "the last events came before the end");
  assert.deepEqual(resultOf(runFolder), expected);
  await until(async () => (await findLiveRun(runFolder)).kind === "none");
  await assert.rejects(startCore({ ...program, runFolder, resume: true }), { code: "run/finished" });
});

test("without a host for as long as it was told, the core saves and stops; a host keeps it", async (t) => {
  const runFolder = await newRun(temporaryFolder(t), endless);
  const record = await running(t, runFolder, { stopWhenAloneMs: 1500 });
  const host = await WatchingHost.attach(t, record);
  await delay(3000);
  assert.equal((await host.client.status()).state, "running");
  host.client.close();
  assert.deepEqual(await host.end, { outcome: "closed" });
  await until(async () => (await findLiveRun(runFolder)).kind === "none", 30_000);
  const log = readLog(runFolder);
  assert.deepEqual(
    log.slice(-2).map(({ kind }) => kind),
    ["checkpoint", "stopped"],
  );
  assert.ok(log.some((event) => event.kind === "command" && event.by === "the core, alone for 2 s,"));
});
