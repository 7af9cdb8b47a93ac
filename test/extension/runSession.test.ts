/** Runs as windows see them, with real cores: started, watched, commanded, left, found again, hung, and not trusted. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { toolVariable } from "../../src/core/devices/cardMonitor/tool.ts";
import { CoreClient } from "../../src/extension/coreClient.ts";
import { CoreRpc, openSocket } from "../../src/extension/coreRpc.ts";
import { findLiveRun, liveRuns } from "../../src/extension/liveRuns.ts";
import { readRemovableLock, removeLock } from "../../src/extension/runs/removeLock.ts";
import type { RunSession } from "../../src/extension/runs/runSession.ts";
import type { CardReport } from "../../src/protocol/cardReading.ts";
import { protocolVersion } from "../../src/protocol/coreProtocol.ts";
import { history, type RunEvent } from "../../src/protocol/events.ts";
import type { HeatmapFrame } from "../../src/protocol/panelProtocol.ts";
import { endless, killHard, newRun, readLog, until } from "../core/host/runningCore.ts";
import { type Overrides, RunProcess, resultOf, session as runHere, temporaryFolder, writeRunFile } from "../core/run/smallRuns.ts";
import { fakeNvidiaSmi } from "../support/fakeNvidiaSmi.ts";
import { noService, openWindow, slowSteps, Watcher } from "./windows.ts";

const skip = process.platform === "win32" && "not run: no kill -9 on Windows";
type Test = { after(clean: () => void): void };

/** Starts a run in a window; after the test its process is gone. */
async function started(test: Test, runs: ReturnType<typeof openWindow>["runs"], overrides: Overrides = endless): Promise<RunSession> {
  const session = await runs.start(writeRunFile(temporaryFolder(test), overrides));
  test.after(async () => {
    const live = await findLiveRun(session.runFolder);
    if (live.kind === "live") killHard(live.record.pid);
  });
  return session;
}

/** Lasts longer than a few extension hosts take to start. */
const long: Overrides = { train: { steps: 160, ...slowSteps }, evaluate: { every: 80 }, checkpoint: { every: 40 } };

test("a run from run file to finished: its states, its view and its events", async (t) => {
  const { runs } = openWindow(t);
  let changes = 0;
  runs.onDidChange(() => changes++);
  const session = await started(t, runs, { train: { steps: 60 } });
  const watcher = new Watcher(session);
  assert.ok(session.live && typeof session.view.pid === "number");
  await watcher.reached("finished");
  // The last event comes before the process has gone.
  await until(() => !session.live);
  const { view } = session;
  assert.deepEqual([view.step, view.totalSteps, view.failure, view.remainingMs, view.pid], [60, 60, null, null, null]);
  assert.equal(view.name, path.basename(session.runFolder));
  assert.equal(view.machineBytes, os.totalmem());
  const log = readLog(session.runFolder);
  assert.equal(view.loss, (log.findLast(({ kind }) => kind === "step") as { loss: number }).loss);
  assert.deepEqual(watcher.events, log);
  assert.deepEqual(session.events, log);
  assert.ok(!session.live && changes > 0);
  await assert.rejects(session.command("pause"), { code: "run/not-live" });
  await assert.rejects(session.resume(), { code: "run/finished" });
  const again = openWindow(t).runs.get(session.runFolder);
  assert.deepEqual(again.view, view);
  assert.ok((await session.diskBytes()) > 10_000);
});

test("pause, resume, stop and resume again; nothing steps while it is paused", async (t) => {
  const { runs } = openWindow(t);
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  await session.command("pause");
  await watcher.reached("paused");
  const { step } = session.view;
  const { pid } = session.view;
  assert.equal(session.view.remainingMs, null);
  await session.resume();
  await watcher.stepped();
  assert.equal(watcher.events.find((event) => event.kind === "step" && event.step > step)?.kind, "step");
  assert.equal(session.view.pid, pid);
  assert.ok((session.view.remainingMs ?? 0) > 1000);
  await session.command("stop");
  await watcher.reached("stopped");
  await until(async () => (await findLiveRun(session.runFolder)).kind === "none");
  await session.resume();
  await watcher.stepped();
  assert.notEqual(session.view.pid, pid);
  assert.deepEqual(history(watcher.events), session.events);
});

/** An extension host as a process of its own, with what it saw. */
async function hostProcess(
  test: Test,
  place: string,
): Promise<{ child: ChildProcess; runFolder: string; pid: number; state: string; events: RunEvent[] }> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "extensionHost.ts"), place], { stdio: ["ignore", "pipe", "inherit"] });
  test.after(() => child.kill("SIGKILL"));
  const events: RunEvent[] = [];
  let rest = "";
  return new Promise((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() as string;
      for (const line of lines) {
        const said = JSON.parse(line);
        events.push(...said.events);
        if (said.runFolder) resolve({ child, events, runFolder: said.runFolder, pid: said.pid, state: said.state });
      }
    });
  });
}

test("hosts are killed with -9 again and again: one core, no event lost or twice, and the weights of the undisturbed run", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const undisturbed = await runHere(writeRunFile(path.join(folder, "a"), long));
  let host = await hostProcess(t, writeRunFile(path.join(folder, "b"), long));
  const { runFolder, pid } = host;
  t.after(() => killHard(pid));
  for (let round = 0; round < 3; round++) {
    const wanted = host.events.length + 20;
    await until(() => host.events.length >= wanted);
    host.child.kill("SIGKILL");
    await new Promise((resolve) => host.child.once("exit", resolve));
    host = await hostProcess(t, runFolder);
    assert.deepEqual([host.pid, host.state], [pid, "running"]);
    assert.equal(host.runFolder, runFolder);
    const { events } = host;
    assert.deepEqual(
      events.map(({ sequence }) => sequence),
      events.map((_, i) => i + 1),
    );
  }
  await until(() => host.events.some(({ kind }) => kind === "done"), 120_000);
  assert.deepEqual(host.events, readLog(runFolder));
  assert.deepEqual(resultOf(runFolder), resultOf(undisturbed.folder));
});

test("two windows on one run: both see all, both command it, and there is one core", async (t) => {
  const first = openWindow(t).runs;
  const session = await started(t, first);
  const second = openWindow(t).runs;
  await second.setRoots([path.dirname(session.runFolder)]);
  const [other] = second.all();
  assert.equal(other.runFolder, session.runFolder);
  assert.ok(other.live);
  const [one, two] = [new Watcher(session), new Watcher(other)];
  assert.equal(other.view.pid, session.view.pid);
  await Promise.all([other.command("pause"), session.command("pause")]);
  await Promise.all([one.reached("paused"), two.reached("paused")]);
  await session.resume();
  await Promise.all([one.stepped(), two.stepped()]);
  await other.command("stop");
  await Promise.all([one.reached("stopped"), two.reached("stopped")]);
  assert.deepEqual(one.events, two.events);
  assert.equal(one.events.filter(({ kind }) => kind === "command").length, 4);
  // What one window starts, the other attaches to by itself.
  await until(async () => (await findLiveRun(session.runFolder)).kind === "none");
  await session.resume();
  await two.reached("running");
  assert.equal(other.view.pid, session.view.pid);
  assert.equal((await liveRuns()).filter(({ runFolder }) => runFolder === session.runFolder).length, 1);
});

test("a core that hangs: not responding, speaks again; only then may it be killed, and it stays ended", { skip }, async (t) => {
  const times = { notRespondingMs: 2500, retryMs: 200 };
  const { runs } = openWindow(t, { times });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  await assert.rejects(session.kill(), { code: "run/responding" });
  const pid = session.view.pid as number;
  process.kill(pid, "SIGSTOP");
  await watcher.reached("notResponding");
  const late = openWindow(t, { times }).runs;
  const lateSession = late.get(session.runFolder);
  const lateWatcher = new Watcher(lateSession);
  await lateWatcher.reached("notResponding");
  assert.equal(lateSession.view.pid, pid);
  process.kill(pid, "SIGCONT");
  await Promise.all([watcher.reached("running"), lateWatcher.reached("running")]);
  process.kill(pid, "SIGSTOP");
  await Promise.all([watcher.reached("notResponding"), lateWatcher.reached("notResponding")]);
  await session.kill();
  await Promise.all([watcher.reached("interrupted"), lateWatcher.reached("interrupted")]);
  assert.equal((await findLiveRun(session.runFolder)).kind, "unregistered");
  await session.resume();
  await watcher.stepped();
  assert.notEqual(session.view.pid, pid);
});

test("with keepRunning off the core saves and stops once no window has been attached for a while", async (t) => {
  const { runs } = openWindow(t, { keepRunning: () => false, times: { aloneMs: 500 } });
  const session = await started(t, runs);
  await new Watcher(session).stepped();
  runs.dispose();
  await until(() => readLog(session.runFolder).at(-1)?.kind === "stopped");
  await until(async () => (await findLiveRun(session.runFolder)).kind === "none");
  assert.equal(openWindow(t).runs.get(session.runFolder).view.state, "stopped");
});

test("a live run follows the setting keepRunning of the window that attached last, and its changes", async (t) => {
  const times = { aloneMs: 500 };
  let keep = true;
  const first = openWindow(t, { keepRunning: () => keep, times }).runs;
  const session = await started(t, first);
  await new Watcher(session).stepped();
  const { pid } = session.view;
  keep = false;
  await first.keepRunningChanged();
  // Told before it follows: with the first event it sees, the core knows its setting.
  const second = openWindow(t, { keepRunning: () => true, times }).runs;
  const seen = second.get(session.runFolder);
  await until(() => seen.live);
  await new Watcher(seen).stepped(1);
  for (const window of [first, second]) window.dispose();
  const leftMs = Date.now();
  const loggedMs = () => readLog(session.runFolder).at(-1)?.timeMs ?? 0;
  await until(
    () => loggedMs() > leftMs + 2500,
    20_000,
    () => "it was stopped all the same",
  );

  const third = openWindow(t, { keepRunning: () => keep, times }).runs;
  keep = true;
  const again = third.get(session.runFolder);
  await until(() => again.live);
  assert.equal(again.view.pid, pid);
  keep = false;
  await third.keepRunningChanged();
  third.dispose();
  await until(() => readLog(session.runFolder).at(-1)?.kind === "stopped");
});

test("Restricted Mode: nothing is started or attached to, the folder is read, and trust lets it in", async (t) => {
  const { runs } = openWindow(t);
  const session = await started(t, runs);
  await new Watcher(session).stepped();
  let trusted = false;
  const programs: string[] = [];
  const restrictedWindow = openWindow(t, {
    isTrusted: () => trusted,
    program: async () => {
      programs.push("asked");
      throw new Error("no program is started here");
    },
  });
  await restrictedWindow.runs.setRoots([path.dirname(session.runFolder)]);
  await restrictedWindow.runs.attachLive();
  const [seen] = restrictedWindow.runs.all();
  assert.deepEqual([seen.view.state, seen.live, seen.view.pid], ["restricted", false, null]);
  assert.ok(seen.view.step > 0 && seen.events.length > 5);
  const refused = { code: "trust/restricted" };
  await assert.rejects(restrictedWindow.runs.start("/run.yaml"), refused);
  await assert.rejects(seen.resume(), refused);
  await assert.rejects(seen.command("stop"), refused);
  await assert.rejects(seen.kill(), refused);
  assert.deepEqual(programs, []);
  trusted = true;
  await restrictedWindow.runs.attachLive();
  await until(() => seen.live);
  assert.equal(seen.view.pid, session.view.pid);
});

test("a repository with a forged lock: shown as busy, nobody is signalled or connected to", { skip }, async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const victim = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  t.after(() => victim.kill("SIGKILL"));
  writeFileSync(
    path.join(runFolder, "run.lock"),
    JSON.stringify({ pid: victim.pid, host: os.hostname(), processStart: null, timeMs: 0, nonce: "n" }),
  );
  const { runs } = openWindow(t);
  await runs.setRoots([path.dirname(runFolder)]);
  const session = runs.get(runFolder);
  assert.equal(session.view.state, "elsewhere");
  await assert.rejects(session.kill(), { code: "run/not-live" });
  await assert.rejects(session.resume(), { code: "run/locked" });
  assert.equal(session.view.state, "elsewhere");
  assert.equal(victim.exitCode ?? victim.signalCode, null);
});

test("the lock of another machine says elsewhere, and no core is started beside it", async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  writeFileSync(path.join(runFolder, "run.lock"), JSON.stringify({ pid: 1, host: "another-machine", processStart: null, timeMs: 0, nonce: "n" }));
  const { runs } = openWindow(t);
  await runs.setRoots([path.dirname(runFolder)]);
  const [session] = runs.all();
  assert.equal(session.view.state, "elsewhere");
  const file = path.join(runFolder, "run.lock");
  assert.deepEqual(session.view.holder, { pid: 1, host: "another-machine", here: false, file });
  await assert.rejects(session.resume(), { code: "run/elsewhere", message: /process 1 on another-machine/ });
  assert.ok(!existsSync(path.join(runFolder, "log.txt")));

  // What was shown is removed, and nothing that came after it.
  const shown = (await readRemovableLock(runFolder)) as string;
  writeFileSync(file, shown.replace('"n"', '"another"'));
  assert.equal(await removeLock(runFolder, shown), false);
  assert.ok(existsSync(file));
  writeFileSync(file, shown);
  assert.equal(await removeLock(runFolder, shown), true);
  assert.deepEqual(readdirSync(runFolder).sort(), ["run.yaml"]);
  await session.refresh();
  assert.deepEqual([session.view.state, session.view.holder], ["interrupted", null]);
  await session.resume();
  await new Watcher(session).stepped();
  t.after(() => killHard(session.view.pid as number));

  // The lock of a core that is alive stays, whoever asks.
  await assert.rejects(readRemovableLock(runFolder), { code: "run/live" });
  await assert.rejects(removeLock(runFolder, readFileSync(file, "utf8")), { code: "run/live" });
  assert.ok(existsSync(file) && !existsSync(`${file}.takeover`));
});

test("a lock is not removed while others are taking it, and a guard that somebody left is passed", async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const [file, guard] = [path.join(runFolder, "run.lock"), path.join(runFolder, "run.lock.takeover")];
  const text = JSON.stringify({ pid: 1, host: "another-machine", processStart: null, timeMs: 0, nonce: "n" });
  writeFileSync(file, text);
  writeFileSync(guard, "");
  await assert.rejects(removeLock(runFolder, text), { code: "run/lock-busy" });
  assert.ok(existsSync(file) && existsSync(guard));
  utimesSync(guard, 0, 0);
  assert.equal(await removeLock(runFolder, text), true);
  assert.deepEqual(readdirSync(runFolder), ["run.yaml"]);
});

test("a run of the command line is busy elsewhere and can be watched as it goes on", async (t) => {
  const folder = temporaryFolder(t);
  const cli = new RunProcess("train", writeRunFile(folder, endless));
  t.after(() => cli.kill());
  await cli.seen(({ kind }) => kind === "step");
  const { runs } = openWindow(t);
  await runs.setRoots([path.join(folder, "runs")]);
  const [session] = runs.all();
  const watcher = new Watcher(session);
  assert.equal(session.view.state, "elsewhere");
  await watcher.stepped(50);
  cli.kill();
  await watcher.reached("interrupted");
});

test("an event that nobody understands is logged and left out, from a core as from a file, and the rest comes", async (t) => {
  const { runs, logged } = openWindow(t);
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  await session.command("pause");
  await watcher.reached("paused");
  const { sequence } = readLog(session.runFolder).at(-1)!;
  // The core sends what the file holds.
  const strange = [
    { sequence: sequence + 1, timeMs: 1, kind: "from-tomorrow" },
    { sequence: sequence + 2, timeMs: 1, kind: "step", step: "<img>" },
  ];
  appendFileSync(path.join(session.runFolder, "events.jsonl"), strange.map((event) => `${JSON.stringify(event)}\n`).join(""));
  await session.resume();
  await watcher.stepped();
  assert.ok(logged.some((line) => line.includes(`event ${sequence + 1} of kind from-tomorrow`)));
  assert.ok(logged.some((line) => line.includes(`event ${sequence + 2} of kind step`)));
  assert.ok(watcher.events.every(({ timeMs }) => timeMs > 1));
  assert.ok(session.live);
});

test("frames come while somebody looks and not before; those of a run at rest come from its folder", async (t) => {
  const stored: HeatmapFrame[] = [
    { header: { kind: "scores", step: 3, afterStep: 0, final: true, matrices: [] }, payload: new Uint8Array() },
    { header: { kind: "selection", step: 0, blockSize: 16, matrices: [] }, payload: new Uint8Array() },
  ];
  const asked: object[] = [];
  const service = {
    ...noService,
    heatmap: async (parameters: object) => {
      asked.push(parameters);
      return { step: 0, frames: stored };
    },
  };
  const { runs } = openWindow(t, { service });
  const session = await started(t, runs);
  const watcher = new Watcher(session);
  await watcher.stepped();
  assert.equal(session.frames.length, 0);
  const told: string[] = [];
  session.listen({ onFrame: ({ header }) => told.push(header.kind) });
  const [one, two] = [session.watchFrames(), session.watchFrames()];
  await until(() => told.includes("selection"));
  one.dispose();
  one.dispose();
  assert.ok(session.frames.some(({ header, payload }) => header.kind === "selection" && payload.length > 0));
  two.dispose();
  await session.command("stop");
  await watcher.reached("stopped");
  const before = asked.length;
  assert.equal(before, 0, "a live run needs no service");
  session.watchFrames().dispose();
  session.watchFrames();
  await until(() => session.frames.length === 2);
  assert.deepEqual(asked, [{ runFolder: session.runFolder, step: null }]);
  assert.deepEqual(session.frames, stored);
});

test("who looks while a live core is still being looked for gets its frames, and no service is started for those of the folder", async (t) => {
  const session = await started(t, openWindow(t).runs);
  await new Watcher(session).stepped();
  const asked: object[] = [];
  const heatmap = async (parameters: object) => {
    asked.push(parameters);
    return { step: 0, frames: [] };
  };
  const restored = openWindow(t, { service: { ...noService, heatmap } }).runs.get(session.runFolder);
  assert.equal(restored.live, false);
  restored.watchFrames();
  await restored.looked();
  assert.equal(restored.live, true);
  await until(() => restored.frames.some(({ header }) => header.kind === "selection"));
  assert.deepEqual(asked, []);
});

test("what is asked of a core that is leaving is refused, and nothing else is thrown", async (t) => {
  const { runs } = openWindow(t);
  const session = await started(t, runs);
  await new Watcher(session).stepped();
  const record = (await liveRuns()).find(({ runFolder }) => runFolder === session.runFolder)!;
  const rpc = new CoreRpc(await openSocket(record.socket, 10_000), () => {});
  const hello = () => rpc.request("hello", { version: protocolVersion, nonce: record.nonce, client: "window" });
  await hello();
  // The socket alone is closed, as a core's going away closes it: the library would throw what cannot be written where nobody catches it.
  rpc.socket.end();
  await assert.rejects(rpc.request("status", {}), { code: "core/unreachable" });
  await assert.rejects(hello(), { code: "core/unreachable" });
  const client = await CoreClient.connect({ record, name: "window" });
  client.close();
  await assert.rejects(client.status(), { code: "core/unreachable" });
  assert.equal(session.view.state, "running");
});

test("a window has the graphics card's figures while its panel looks, and none of them afterwards", { skip }, async (t) => {
  const tool = fakeNvidiaSmi(path.join(temporaryFolder(t), "tool"), "one-card");
  process.env[toolVariable] = tool.file;
  t.after(() => delete process.env[toolVariable]);
  const { runs } = openWindow(t);
  const session = await started(t, runs);
  const told: (CardReport | null)[] = [];
  session.listen({ onCard: (card) => told.push(card) });
  await until(() => session.events.some(({ kind }) => kind === "step"));
  assert.deepEqual([session.card, tool.starts()], [null, []]);
  const looking = session.watchFrames();
  await until(() => (session.card?.reading?.usedBytes ?? null) !== null);
  assert.deepEqual(session.card, told.at(-1));
  assert.equal(session.card?.reading?.name, "NVIDIA GeForce RTX 4090");
  // Kept readings say nothing of the run's state, and are events like others.
  await until(() => session.events.some(({ kind }) => kind === "card"));
  looking.dispose();
  assert.deepEqual([session.card, told.at(-1)], [null, null]);
  await until(() => !tool.alive());
  session.watchFrames();
  await until(() => session.card !== null);
  await session.command("stop");
  await until(() => session.card === null && !tool.alive());
});
