/** How a core is started: which Node, with what environment, what a refusal says; and the bundle on the oldest Node that there is. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { findLiveRun } from "../../../src/extension/liveRuns.ts";
import { coreEnvironment, createRun, findNode, startCore } from "../../../src/extension/startCore.ts";
import { temporaryFolder, writeRunFile } from "../run/smallRuns.ts";
import { endless, newRun, program, running, until, WatchingHost } from "./runningCore.ts";

const skip = process.platform === "win32" && "not run: scripts stand for programs";

/** A program that answers as it is told. */
function fakeNode(folder: string, answer: string): string {
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, "node");
  writeFileSync(file, `#!/bin/sh\n${answer}\n`);
  chmodSync(file, 0o755);
  return file;
}

test("Node is taken from the PATH, absolute, new enough, and never from a workspace", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const workspace = path.join(folder, "workspace");
  const good = fakeNode(path.join(folder, "good"), "printf 'node 22.1.0'");
  const old = fakeNode(path.join(folder, "old"), "printf 'node 18.20.0'");
  const other = fakeNode(path.join(folder, "other"), "printf hello");
  const inside = fakeNode(path.join(workspace, "bin"), "printf 'node 22.1.0'");
  const link = path.join(folder, "links");
  mkdirSync(link);
  symlinkSync(inside, path.join(link, "node"));
  const search = (...files: string[]) => {
    const env = { PATH: files.map((file) => path.dirname(file)).join(path.delimiter) };
    return findNode({ configured: null, workspaceFolders: [workspace], env, host: { program: other, electron: false } });
  };
  const passedOver = [`${old}: it is version 18.20.0`, `${other}: it does not answer as Node does`];
  for (const file of [inside, path.join(link, "node")]) passedOver.push(`${file}: it lies in the workspace`);
  assert.deepEqual(await search(old, other, inside, path.join(link, "node"), good), { node: good, kind: "path", passedOver });
  await assert.rejects(search("./node", old, inside), { code: "node/not-found", message: /is version 18\.20\.0.*lies in the workspace/ });
  const configured = (file: string) => findNode({ configured: file, workspaceFolders: [workspace] });
  assert.deepEqual(await configured(good), { node: good, kind: "configured" });
  await assert.rejects(configured("node"), { code: "node/not-usable", message: /no absolute path/ });
  await assert.rejects(configured(inside), { code: "node/not-usable", message: /in the workspace/ });
  await assert.rejects(configured(path.join(link, "node")), { code: "node/not-usable", message: /in the workspace/ });
  await assert.rejects(configured(path.join(folder, "absent")), { code: "node/not-usable", message: /does not exist/ });
});

test("a core's environment holds nothing that changes a Node", () => {
  const env = { PATH: "/bin", HOME: "/home/x", NODE_OPTIONS: "--inspect", ELECTRON_RUN_AS_NODE: "1", VSCODE_PID: "7", CUDA_VISIBLE_DEVICES: "0" };
  assert.deepEqual(coreEnvironment(env), { PATH: "/bin", HOME: "/home/x", CUDA_VISIBLE_DEVICES: "0" });
});

test("a run file is checked and gets its run folder; a bad one is refused with the core's own sentence and leaves none", async (t) => {
  const folder = temporaryFolder(t);
  const runFolder = await createRun(program, writeRunFile(folder));
  assert.ok(existsSync(path.join(runFolder, "run.yaml")));
  const bad = writeRunFile(path.join(folder, "bad"), { model: path.join(folder, "absent") });
  await assert.rejects(createRun(program, bad), (error: Error & { code: string; action: string }) => {
    assert.match(error.code, /^model\//);
    assert.ok(error.message.includes("absent") && error.action.length > 0);
    return true;
  });
  assert.ok(!existsSync(path.join(folder, "bad/runs")));
});

test("a run is begun once; what a core cannot start for is told, and stands in log.txt", async (t) => {
  const runFolder = await newRun(temporaryFolder(t));
  const host = await WatchingHost.attach(t, await running(t, runFolder));
  await host.client.command("stop");
  await host.end;
  await until(async () => (await findLiveRun(runFolder)).kind === "none");
  await assert.rejects(startCore({ ...program, runFolder, resume: false }), { code: "run/begun" });
  writeFileSync(path.join(runFolder, "run.yaml"), "model: nothing\n");
  await assert.rejects(startCore({ ...program, runFolder, resume: true }), { code: "config/invalid" });
  assert.match(readFileSync(path.join(runFolder, "log.txt"), "utf8"), /config\/invalid/);
  await assert.rejects(startCore({ ...program, runFolder, resume: true, core: path.join(runFolder, "absent.js") }), { code: "core/start-failed" });
});

test("of three starts at once one works on the run, the others say why not", async (t) => {
  const runFolder = await newRun(temporaryFolder(t), endless);
  const starts = await Promise.allSettled([1, 2, 3].map(() => running(t, runFolder)));
  const pids = new Set(starts.flatMap((start) => (start.status === "fulfilled" ? [start.value.pid] : [])));
  const refused = starts.flatMap((start) => (start.status === "rejected" ? [(start.reason as { code: string }).code] : []));
  assert.equal(pids.size, 1);
  assert.ok(
    refused.every((code) => code === "run/locked" || code === "run/begun"),
    refused.join(),
  );
});

test("a link in the place of log.txt is not followed", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const runFolder = await newRun(folder);
  symlinkSync(path.join(folder, "elsewhere"), path.join(runFolder, "log.txt"));
  await assert.rejects(startCore({ ...program, runFolder, resume: false }), { code: "run/cannot-write" });
  assert.ok(!existsSync(path.join(folder, "elsewhere")));
});

const bundle = path.resolve(import.meta.dirname, "../../../dist/core.js");

test("the bundle runs on the Node of the PATH, from run file to result", {
  skip: !existsSync(bundle) && "not run: dist/core.js is not built",
}, async (t) => {
  const { node } = await findNode({ configured: null, workspaceFolders: [] });
  t.diagnostic(`Node ${execFileSync(node, ["--version"], { encoding: "utf8", env: coreEnvironment() }).trim()}`);
  const folder = temporaryFolder(t);
  const runFolder = await createRun({ node, core: bundle }, writeRunFile(folder, { train: { steps: 300 } }));
  const record = await running(t, runFolder, { node, core: bundle });
  const host = await WatchingHost.attach(t, record);
  assert.equal((await host.end).outcome, "done");
  host.assertGapless();
  assert.equal(host.events.at(-1)?.kind, "done");
  assert.equal(host.steps, 300);
  assert.ok(existsSync(path.join(runFolder, "smt.safetensors")));
});
