/** The list of runs: what is found under the roots, in what order, how fast, and what is forgotten. */
import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { RunEventBody } from "../../src/protocol/events.ts";
import { until } from "../core/host/runningCore.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { openWindow } from "./windows.ts";

/** A finished run as it lies on the disk. */
function finishedRun(root: string, name: string, createdMs: number, steps = 100): string {
  const folder = path.join(root, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "run.yaml"), "model: m\n");
  utimesSync(path.join(folder, "run.yaml"), createdMs / 1000, createdMs / 1000);
  const bodies: RunEventBody[] = [
    { kind: "started", run: folder, method: "smt", device: "cpu", trainRows: 1, skippedRows: 0, totalSteps: steps, warmupSteps: 0, trainTokens: 1 },
    ...Array.from({ length: steps }, (_, i): RunEventBody => {
      return { kind: "step", step: i + 1, loss: 3 - i / steps, learningRate: 1e-4, gradNorm: 1, tokensPerSecond: 100 };
    }),
    { kind: "done", run: folder, step: steps },
  ];
  writeFileSync(path.join(folder, "events.jsonl"), bodies.map((body, i) => `${JSON.stringify({ sequence: i + 1, timeMs: i, ...body })}\n`).join(""));
  return folder;
}

test("500 finished runs are listed in moments, each with its state, step and loss", async (t) => {
  const root = temporaryFolder(t);
  for (let i = 0; i < 500; i++) finishedRun(root, `run-${i}`, 1e12 + 1000 * i, 400);
  const { runs } = openWindow(t);
  const began = performance.now();
  await runs.setRoots([root]);
  const views = runs.all().map(({ view }) => view);
  const listedMs = performance.now() - began;
  t.diagnostic(`listed in ${listedMs.toFixed(0)} ms`);
  assert.equal(views.length, 500);
  assert.ok(views.every(({ state, step, totalSteps, loss }) => state === "finished" && step === 400 && totalSteps === 400 && loss === 3 - 399 / 400));
  assert.deepEqual([views[0].name, views[499].name], ["run-499", "run-0"]);
  assert.ok(listedMs < 5000, `${listedMs} ms`);
});

test("run folders are the roots' direct children with a run.yaml; links and others are none; roots with # and spaces count", async (t) => {
  const folder = temporaryFolder(t);
  const [one, two] = [path.join(folder, "a #1"), path.join(folder, "b")];
  const kept = finishedRun(one, "run", 2e12);
  finishedRun(two, "other", 1e12);
  finishedRun(path.join(one, "deeper"), "run", 1e12);
  finishedRun(path.join(folder, "outside"), "run", 1e12);
  symlinkSync(path.join(folder, "outside/run"), path.join(one, "link"));
  mkdirSync(path.join(one, "empty"));
  mkdirSync(path.join(two, "no-file/run.yaml"), { recursive: true });
  writeFileSync(path.join(two, "file"), "");
  const { runs } = openWindow(t);
  await runs.setRoots([one, two, path.join(folder, "absent")]);
  assert.deepEqual(
    runs.all().map(({ runFolder }) => path.relative(folder, runFolder)),
    [path.join("a #1", "run"), path.join("b", "other")],
  );
  assert.equal(runs.get(`${kept}${path.sep}`), runs.all()[0], "one session a folder");
  await runs.setRoots([two]);
  assert.deepEqual(
    runs.all().map(({ runFolder }) => runFolder),
    [kept, path.join(two, "other")],
    "what somebody asked for stays",
  );
});

test("what is deleted or renamed goes from the list, and listeners are told once for many changes", async (t) => {
  const root = temporaryFolder(t);
  const folders = Array.from({ length: 5 }, (_, i) => finishedRun(root, `run-${i}`, 1e12 + i));
  const { runs } = openWindow(t);
  let told = 0;
  runs.onDidChange(() => told++);
  await runs.setRoots([root]);
  await until(() => told > 0);
  assert.ok(told <= 2, `${told}`);
  const [newest] = runs.all();
  rmSync(newest.runFolder, { recursive: true });
  runs.remove(newest);
  assert.equal(runs.all().length, 4);
  renameSync(folders[0], path.join(root, "renamed"));
  rmSync(folders[1], { recursive: true });
  await runs.scan();
  assert.deepEqual(
    runs.all().map(({ view }) => view.name),
    ["run-3", "run-2", "renamed"],
  );
});

test("the bytes on the disk are those of the files in the folder, without what links lead to", async (t) => {
  const root = temporaryFolder(t);
  const folder = finishedRun(root, "run", 1e12);
  const { runs } = openWindow(t);
  const before = await runs.get(folder).diskBytes();
  mkdirSync(path.join(folder, "checkpoints/step-1"), { recursive: true });
  writeFileSync(path.join(folder, "checkpoints/step-1/a"), Buffer.alloc(1234));
  writeFileSync(path.join(root, "large"), Buffer.alloc(9999));
  symlinkSync(path.join(root, "large"), path.join(folder, "link"));
  symlinkSync(root, path.join(folder, "loop"));
  assert.equal((await runs.get(folder).diskBytes()) - before, 1234);
});
