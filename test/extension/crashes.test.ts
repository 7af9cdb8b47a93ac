/** Cores that are killed while a window is attached: started again as far as the budget goes, with nothing lost; orderly failures are not. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { processStart } from "../../src/core/files/runLock.ts";
import { findLiveRun, isAlive, liveRuns } from "../../src/extension/liveRuns.ts";
import { CrashBudget } from "../../src/extension/runs/crashBudget.ts";
import type { RunSession } from "../../src/extension/runs/runSession.ts";
import { createRun } from "../../src/extension/startCore.ts";
import { history } from "../../src/protocol/events.ts";
import type { Failure } from "../../src/protocol/panelProtocol.ts";
import { endless, killHard, program, readLog, until } from "../core/host/runningCore.ts";
import { type Overrides, resultOf, session as runHere, temporaryFolder, writeRunFile } from "../core/run/smallRuns.ts";
import { openWindow, slowSteps, Watcher } from "./windows.ts";

const skip = process.platform === "win32" && "not run: no kill -9 on Windows";
type Test = { after(clean: () => void): void };

async function started(test: Test, runs: ReturnType<typeof openWindow>["runs"], overrides: Overrides = endless): Promise<RunSession> {
  const session = await runs.start(writeRunFile(temporaryFolder(test), overrides));
  test.after(async () => {
    const live = await findLiveRun(session.runFolder);
    if (live.kind === "live") killHard(live.record.pid);
  });
  return session;
}

test("a killed core is started again after 1 s and the run ends as the undisturbed one, in both windows", { skip }, async (t) => {
  const overrides: Overrides = { train: { steps: 120, ...slowSteps }, evaluate: { every: 40 }, checkpoint: { every: 25 } };
  const undisturbed = await runHere(writeRunFile(temporaryFolder(t), overrides));
  const { runs, logged } = openWindow(t);
  const session = await started(t, runs, overrides);
  const second = openWindow(t).runs;
  await second.setRoots([path.dirname(session.runFolder)]);
  const [one, two] = [new Watcher(session), new Watcher(second.all()[0])];
  await one.stepped(30);
  const { pid } = session.view;
  const killedMs = performance.now();
  killHard(pid as number);
  await until(() => session.view.pid !== null && session.view.pid !== pid);
  assert.ok(performance.now() - killedMs >= 1000, "it waited");
  assert.ok(logged.some((line) => /crashed at step \d+ and is started again in 1 s/.test(line)));
  await Promise.all([one.reached("finished"), two.reached("finished")]);
  const log = readLog(session.runFolder);
  assert.deepEqual(one.events, log);
  assert.deepEqual(two.events, log);
  assert.deepEqual(session.events, history(log));
  assert.equal(log.filter(({ kind }) => kind === "resumed").length, 1, "one core went on");
  assert.ok(!one.states.includes("interrupted") && !one.states.includes("failed"), one.states.join());
  assert.deepEqual(resultOf(session.runFolder), resultOf(undisturbed.folder));
});

test("the budget: so many restarts, then failed with the log's last lines; who resumes has it anew", { skip }, async (t) => {
  const budget = new CrashBudget({ delaysMs: [10, 20], windowMs: 300_000 });
  const { runs } = openWindow(t, { budget });
  // Saved at every step, so that no crash comes at the step of another.
  const session = await started(t, runs, { ...endless, checkpoint: { every: 1 } });
  const watcher = new Watcher(session);
  const pids = new Set<number>();
  for (let crash = 0; crash < 3; crash++) {
    await watcher.stepped(3);
    const pid = session.view.pid as number;
    pids.add(pid);
    appendFileSync(path.join(session.runFolder, "log.txt"), `${Array.from({ length: 30 }, (_, i) => `line ${crash}.${i}`).join("\n")}\n`);
    killHard(pid);
    if (crash < 2) await until(() => session.live && session.view.pid !== pid);
  }
  await watcher.reached("failed");
  assert.equal(pids.size, 3);
  const { failure, logTail } = session.view;
  assert.deepEqual([failure?.code, failure?.place, logTail.length, logTail.at(-1)], ["core/crashed", null, 20, "line 2.29"]);
  assert.ok(failure?.message && failure.action);
  assert.equal((await liveRuns()).filter(({ runFolder }) => runFolder === session.runFolder).length, 0);
  await session.resume();
  await watcher.stepped(3);
  assert.deepEqual([session.view.state, session.view.failure, session.view.logTail], ["running", null, []]);
  const resumed = session.view.pid as number;
  killHard(resumed);
  await until(() => session.live && session.view.pid !== resumed);
});

test("Stop ends the wait for a restart, and whoever resumes has a run that goes on", { skip }, async (t) => {
  const { runs, logged } = openWindow(t, { budget: new CrashBudget({ delaysMs: [600_000], windowMs: 600_000 }) });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped(3);
  killHard(session.view.pid as number);
  await until(() => logged.some((line) => /is started again in 600 s/.test(line)));
  assert.equal(session.view.state, "starting");
  await session.command("stop");
  await watcher.reached("interrupted");
  assert.equal((await findLiveRun(session.runFolder)).kind, "unregistered");
  await assert.rejects(session.command("stop"), { code: "run/not-live" });
  await session.resume();
  await watcher.stepped(3);
  assert.equal(session.view.state, "running");
});

/** Two windows on one run, each of which waits for so long before it starts a crashed core again. */
async function twoWindows(t: Test, delaysMs: readonly [number, number]) {
  const [one, two] = delaysMs.map((delayMs) => openWindow(t, { budget: new CrashBudget({ delaysMs: [delayMs], windowMs: 600_000 }) }));
  const session = await started(t, one.runs);
  await two.runs.setRoots([path.dirname(session.runFolder)]);
  const both = [
    { ...one, session, watcher: new Watcher(session) },
    { ...two, session: two.runs.all()[0], watcher: new Watcher(two.runs.all()[0]) },
  ] as const;
  await Promise.all(both.map(({ watcher }) => watcher.stepped(3)));
  return both;
}

test("Stop in one window ends the wait for a restart in the others, and whoever resumes has a run that goes on", { skip }, async (t) => {
  const [one, two] = await twoWindows(t, [600_000, 3_000]);
  killHard(one.session.view.pid as number);
  for (const { logged } of [one, two]) await until(() => logged.some((line) => /is started again/.test(line)));
  await one.session.command("stop");
  await Promise.all([one.watcher.reached("interrupted"), two.watcher.reached("interrupted")]);
  assert.equal((await findLiveRun(one.session.runFolder)).kind, "unregistered");
  await two.session.resume();
  await two.watcher.stepped(3);
  const { pid } = two.session.view;
  killHard(pid as number);
  // Nobody has stopped the run since it was resumed.
  await until(() => two.session.live && two.session.view.pid !== pid);
});

test("Stop in a window that waits for a restart stops the core that another has started meanwhile", { skip }, async (t) => {
  const [one, two] = await twoWindows(t, [600_000, 10]);
  const { pid } = one.session.view;
  killHard(pid as number);
  await until(() => two.session.live && two.session.view.pid !== pid && one.session.view.state === "starting");
  await one.session.command("stop");
  await Promise.all([one.watcher.reached("stopped"), two.watcher.reached("stopped")]);
});

test("a core that crashes after it was told to stop is not started again", { skip }, async (t) => {
  const { runs, logged } = openWindow(t, { budget: new CrashBudget({ delaysMs: [10, 10, 10], windowMs: 300_000 }) });
  // Its steps take long enough for it to be held before it has come to the next boundary.
  const session = await started(t, runs, { ...endless, train: { ...endless.train, ...slowSteps } });
  const watcher = new Watcher(session);
  await watcher.stepped(2);
  const pid = session.view.pid as number;
  process.kill(pid, "SIGSTOP");
  const stop = session.command("stop").catch(() => undefined);
  killHard(pid);
  await stop;
  await watcher.reached("interrupted");
  assert.ok(!watcher.states.includes("failed"), watcher.states.join());
  assert.equal(logged.filter((line) => /crashed/.test(line)).length, 1);
});

test("Stop reaches a core that is only being started, before its first step", async (t) => {
  const { runs } = openWindow(t);
  const runFile = writeRunFile(temporaryFolder(t), endless);
  const session = runs.get(await createRun(program, runFile));
  const watcher = new Watcher(session);
  const resumed = session.resume();
  await watcher.reached("starting");
  await session.command("stop");
  assert.equal(session.view.state, "stopping");
  await assert.rejects(session.command("pause"), { code: "run/not-live" });
  await resumed;
  await watcher.reached("stopped");
  assert.equal(watcher.steps, 0);
  assert.deepEqual(
    readLog(session.runFolder).flatMap((event) => (event.kind === "command" ? [event.name] : [])),
    ["stop"],
  );
});

test("a crash at the same step again is not tried a third time", { skip }, async (t) => {
  const budget = new CrashBudget({ delaysMs: [10, 10, 10], windowMs: 300_000 });
  const { runs } = openWindow(t, { budget });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  await session.command("save");
  await session.command("pause");
  await watcher.reached("paused");
  const { step, pid } = session.view;
  killHard(pid as number);
  await until(() => session.view.pid !== null && session.view.pid !== pid);
  // It goes on behind the step at which it crashed; the budget is told that it came to the same one.
  await until(() => session.view.state === "running" && session.view.step > step);
  budget.crashed(performance.now(), `step ${step}`);
  await session.command("pause");
  // The state may be known from a heartbeat before the last step's event has come.
  await until(() => session.view.state === "paused" && session.events.at(-1)?.kind === "paused");
  budget.crashed(performance.now(), `step ${session.view.step}`);
  killHard(session.view.pid as number);
  await watcher.reached("failed");
  assert.match(session.view.failure?.message ?? "", new RegExp(`twice at step ${session.view.step}\\b`));
});

test("an orderly failure is told with its code and its place, and nothing is started again", async (t) => {
  const budget = new CrashBudget({ delaysMs: [10, 10, 10], windowMs: 300_000 });
  const { runs } = openWindow(t, { budget });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  rmSync(path.join(session.runFolder, "checkpoints"), { recursive: true });
  writeFileSync(path.join(session.runFolder, "checkpoints"), "a file");
  await session.command("save");
  await watcher.reached("failed");
  const told = readLog(session.runFolder).at(-1);
  assert.ok(told?.kind === "failed");
  assert.deepEqual(session.view.failure, { code: told.code, message: told.message, action: told.action, place: null });
  await until(async () => (await findLiveRun(session.runFolder)).kind === "none");
  assert.equal(readLog(session.runFolder).filter(({ kind }) => kind === "resumed").length, 0);

  // What a core refuses before it is one is told too, with the line it names.
  const file = path.join(session.runFolder, "run.yaml");
  writeFileSync(file, `${readFileSync(file, "utf8")}\nunknownKey: 1\n`);
  await assert.rejects(session.resume(), { code: "config/invalid" });
  assert.equal(session.view.state, "failed");
  const refused = session.view.failure as Failure | null;
  assert.deepEqual([refused?.code, refused?.place?.file], ["config/invalid", file]);
  assert.ok((refused?.place?.line ?? 0) > 1);
  const absent = runs.start(path.join(path.dirname(file), "absent.yaml"));
  await assert.rejects(absent);
});

test("a core that dies after it has said how the run ended has not crashed", { skip }, async (t) => {
  const { runs, logged } = openWindow(t, { budget: new CrashBudget({ delaysMs: [10, 10, 10], windowMs: 300_000 }) });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  await session.command("pause");
  await watcher.reached("paused");
  // As if it had died between its last event and its farewell.
  const { sequence, timeMs } = readLog(session.runFolder).at(-1)!;
  const stopped = { sequence: sequence + 1, timeMs, kind: "stopped", step: session.view.step, reason: "asked to stop" };
  appendFileSync(path.join(session.runFolder, "events.jsonl"), `${JSON.stringify(stopped)}\n`);
  killHard(session.view.pid as number);
  await watcher.reached("stopped");
  await until(async () => (await findLiveRun(session.runFolder)).kind !== "live");
  assert.deepEqual(
    logged.filter((line) => /crashed/.test(line)),
    [],
  );
});

test("a run that was interrupted while no window was attached waits for a person", { skip }, async (t) => {
  const first = openWindow(t).runs;
  const session = await started(t, first);
  await new Watcher(session).stepped();
  const pid = session.view.pid as number;
  first.dispose();
  killHard(pid);
  await until(async () => (await findLiveRun(session.runFolder)).kind === "unregistered");
  const { runs } = openWindow(t);
  await runs.setRoots([path.dirname(session.runFolder)]);
  const [seen] = runs.all();
  assert.deepEqual([seen.view.state, seen.view.pid, seen.view.remainingMs], ["interrupted", null, null]);
  const watcher = new Watcher(seen);
  await seen.resume();
  await watcher.stepped();
  assert.deepEqual(history(watcher.events), seen.events);
});

test("a dead process that nobody has reaped counts as dead", {
  skip: process.platform !== "linux" && "not run: only Linux tells of such processes",
}, async (t) => {
  // The shell becomes a program that never asks for its children's end.
  const parent = spawn("/bin/sh", ["-c", "sleep 0.2 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
  t.after(() => parent.kill("SIGKILL"));
  const pid = Number(await new Promise<string>((resolve) => parent.stdout.setEncoding("utf8").once("data", resolve)));
  const mark = await processStart(pid);
  assert.ok(await isAlive({ pid, processStart: mark }));
  await until(() => / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8")));
  process.kill(pid, 0); // The system still knows it.
  assert.equal(await isAlive({ pid, processStart: mark }), false);
});
