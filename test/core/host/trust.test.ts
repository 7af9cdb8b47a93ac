/** What a workspace says of a process is not believed: forged locks, reused process ids, foreign folders, wrong nonces. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { processStart } from "../../../src/core/files/runLock.ts";
import { socketPath } from "../../../src/core/host/listener.ts";
import { requirePrivateFolder } from "../../../src/core/host/privateFolder.ts";
import { CoreClient } from "../../../src/extension/coreClient.ts";
import { findLiveRun, isAlive, killLiveRun, liveRuns } from "../../../src/extension/liveRuns.ts";
import { startCore } from "../../../src/extension/startCore.ts";
import { liveRunsFolder, parseLiveRunRecord } from "../../../src/protocol/liveRun.ts";
import { temporaryFolder } from "../run/smallRuns.ts";
import { newRun, program, running, WatchingHost } from "./runningCore.ts";

const skip = process.platform === "win32" && "not run: rights and signals of Windows are others";
const register = liveRunsFolder({ platform: process.platform, env: process.env, home: os.homedir() });

/** A process of ours that stands for somebody else's. */
function bystander(t: { after(clean: () => void): void }) {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  t.after(() => child.kill("SIGKILL"));
  return child;
}

test("a forged run.lock leads to no socket and no signal", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const runFolder = await newRun(folder);
  const victim = bystander(t);
  let connections = 0;
  const trap = net.createServer(() => connections++).listen(path.join(folder, "trap.sock"));
  t.after(() => trap.close());
  const lock = {
    pid: victim.pid,
    host: os.hostname(),
    processStart: await processStart(victim.pid as number),
    timeMs: Date.now(),
    nonce: "forged-nonce",
    socket: path.join(folder, "trap.sock"),
  };
  writeFileSync(path.join(runFolder, "run.lock"), JSON.stringify(lock));
  assert.deepEqual(await findLiveRun(runFolder), { kind: "unregistered", pid: victim.pid, alive: true });
  assert.equal(await killLiveRun(runFolder), false);
  await assert.rejects(startCore({ ...program, runFolder, resume: false, timeoutMs: 20_000 }), { code: "run/locked" });
  assert.equal(victim.exitCode ?? victim.signalCode, null);
  assert.equal(connections, 0);
});

test("the lock of another machine says that the run is elsewhere", { skip }, async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  writeFileSync(path.join(runFolder, "run.lock"), JSON.stringify({ pid: 1, host: "another-machine", processStart: null, timeMs: 0, nonce: "n" }));
  assert.deepEqual(await findLiveRun(runFolder), { kind: "elsewhere", host: "another-machine", pid: 1 });
  await assert.rejects(startCore({ ...program, runFolder, resume: false }), { code: "run/elsewhere" });
});

test("a record whose process id went to another program is not believed", {
  skip: process.platform !== "linux" && "not run: only Linux tells when a process began",
}, async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const victim = bystander(t);
  const pid = victim.pid as number;
  assert.equal(await isAlive({ pid, processStart: await processStart(pid) }), true);
  const record = {
    version: 1,
    runFolder,
    pid,
    host: os.hostname(),
    processStart: "another-boot:1",
    nonce: "reused-pid-nonce",
    socket: "/nowhere",
    startedMs: 1,
  };
  mkdirSync(register, { recursive: true, mode: 0o700 });
  writeFileSync(path.join(register, "reused-pid-nonce.json"), JSON.stringify(record));
  assert.ok(parseLiveRunRecord(JSON.stringify(record)), "the record itself is well-formed");
  assert.deepEqual(await findLiveRun(runFolder), { kind: "none" });
  assert.equal(await killLiveRun(runFolder), false);
  assert.equal(victim.exitCode ?? victim.signalCode, null);
  const live = await running(t, runFolder);
  assert.deepEqual(
    (await liveRuns()).map(({ nonce }) => nonce),
    [live.nonce],
    "the core that starts sweeps the stale record",
  );
});

test("where the system does not tell when a process began, a record that nobody answers for is asked of the command line", { skip }, async (t) => {
  const folders = [await newRun(temporaryFolder(t)), await newRun(temporaryFolder(t))];
  const victim = bystander(t);
  // As after a restart of the machine: the process id of a core that was killed is another program's.
  const stale = {
    version: 1,
    runFolder: folders[0],
    pid: victim.pid as number,
    host: os.hostname(),
    processStart: null,
    nonce: "reused-without-start",
    socket: path.join(folders[0], "nobody.sock"),
    startedMs: 1,
  };
  const record = await running(t, folders[1]);
  writeFileSync(path.join(register, `${record.nonce}.json`), JSON.stringify({ ...record, processStart: null }));
  writeFileSync(path.join(register, `${stale.nonce}.json`), JSON.stringify(stale));
  assert.ok(await isAlive(stale), "all that the system says");
  assert.deepEqual(await findLiveRun(folders[0]), { kind: "none" });
  assert.equal(await killLiveRun(folders[0]), false);
  await running(t, folders[0]);

  // The core's own record holds: while it answers, while it is held, and while its socket is gone.
  const live = { kind: "live", record: { ...record, processStart: null } };
  assert.deepEqual(await findLiveRun(folders[1]), live);
  process.kill(record.pid, "SIGSTOP");
  assert.deepEqual(await findLiveRun(folders[1]), live);
  rmSync(record.socket);
  assert.deepEqual(await findLiveRun(folders[1]), live);
  assert.equal(await killLiveRun(folders[1]), true);
  assert.equal(victim.exitCode ?? victim.signalCode, null);
});

test("a register that others could have written to holds nothing", { skip }, async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  assert.equal((await liveRuns()).length, 1);
  chmodSync(register, 0o777);
  t.after(() => chmodSync(register, 0o700));
  assert.deepEqual(await liveRuns(), []);
  await assert.rejects(startCore({ ...program, runFolder: await newRun(temporaryFolder(t)), resume: false, timeoutMs: 20_000 }), {
    code: "host/unsafe-folder",
  });
  chmodSync(register, 0o700);
  assert.deepEqual(await liveRuns(), [record]);
});

test("folders for sockets must be the user's alone, and paths short enough", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const [open, link] = [path.join(folder, "open"), path.join(folder, "link")];
  mkdirSync(open, { mode: 0o755 });
  symlinkSync(folder, link);
  await requirePrivateFolder(path.join(folder, "new"));
  await assert.rejects(requirePrivateFolder(open), { code: "host/unsafe-folder", message: /can be entered by other users/ });
  await assert.rejects(requirePrivateFolder(link), { code: "host/unsafe-folder", message: /is no folder/ });
  assert.throws(() => socketPath("nonce", { platform: "linux", temporary: `/${"x".repeat(80)}`, user: 1000 }), { code: "host/long-socket-path" });
  assert.match(socketPath("nonce", { platform: "linux", temporary: "/tmp", user: 1000 }), /^\/tmp\/sparse-tuner-1000\/[0-9a-f]{16}\.sock$/);
  assert.match(socketPath("nonce", { platform: "win32", temporary: "C:\\Temp", user: 0 }), /^\\\\\.\\pipe\\sparse-tuner-[0-9a-f]{16}$/);
});

test("a wrong nonce and a wrong version are refused with a sentence, and the run goes on", async (t) => {
  const record = await running(t, await newRun(temporaryFolder(t)));
  await assert.rejects(CoreClient.connect({ record: { ...record, nonce: "00000000-wrong" }, name: "x" }), {
    code: "core/refused",
    message: /another run's/,
  });
  await assert.rejects(CoreClient.connect({ record, name: "x", version: 99 }), { code: "core/refused", message: /version 99/ });
  const host = await WatchingHost.attach(t, record);
  await host.seen(({ kind }) => kind === "step");
  assert.equal((await host.client.status()).clients, 1);
});
