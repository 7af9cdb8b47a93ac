/** SIGTERM and SIGINT: the step is finished, the run saved, the exit code says which; a second signal ends it at once. Resumed, nothing is lost. */
import assert from "node:assert/strict";
import path from "node:path";
import { describe, test } from "node:test";
import { methods, type Overrides, onlyRun, RunProcess, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

/** Of a result, what a checkpoint at another step cannot change: which steps are kept depends on when the run was stopped. */
function comparable({ numbers, files }: ReturnType<typeof resultOf>, lastStep = 12) {
  return {
    numbers,
    files: Object.entries(files)
      .filter(([name]) => !name.startsWith("checkpoints") || name.includes(`step-${lastStep}`))
      .sort(),
  };
}

/** Long enough that a signal sent at step 4 arrives before the end. */
const steps = 60;

function longRun(name: string): Overrides {
  return { ...methods[name], train: { ...methods[name].train, steps }, checkpoint: { every: 25 }, evaluate: { every: 30 } };
}

describe("a signal", { skip: process.platform === "win32" && "not run: no signals on Windows" }, () => {
  for (const [name, signal, code] of [
    ["smt, choosing anew, bf16", "SIGTERM", 143],
    ["smt, choosing anew, f32", "SIGINT", 130],
    ["smt after a warm-up that trains, bf16", "SIGINT", 130],
    ["full, f32", "SIGTERM", 143],
    ["full, bf16", "SIGINT", 130],
  ] as const)
    test(`${signal} in the middle of ${name}: saved, exit ${code}, resume bit-identical`, async (t) => {
      const folder = temporaryFolder(t);
      const expected = resultOf((await session(writeRunFile(path.join(folder, "undisturbed"), longRun(name)))).folder);
      const runFile = writeRunFile(path.join(folder, "stopped"), longRun(name));
      const run = new RunProcess("train", runFile);
      run.when(
        (event) => event.kind === "step" && event.step === 4,
        () => run.kill(signal),
      );
      assert.deepEqual(await run.exit, { code, signal: null }, run.errors);
      const stopped = run.events.at(-1);
      assert.ok(stopped?.kind === "stopped" && stopped.step >= 4 && stopped.step < steps, JSON.stringify(stopped));
      const saved = run.events.at(-2);
      assert.ok(saved?.kind === "checkpoint" && saved.step === stopped.step, "it was saved where it stopped");
      assert.match(run.errors, /stopping after this step/);
      const output = onlyRun(path.join(folder, "stopped/runs")) as string;
      const resumed = new RunProcess("resume", output);
      assert.equal((await resumed.exit).code, 0, resumed.errors);
      assert.deepEqual(
        resumed.events.find(({ kind }) => kind === "resumed"),
        { ...resumed.events.find(({ kind }) => kind === "resumed"), fromStep: stopped.step },
      );
      assert.deepEqual(comparable(resultOf(output), steps), comparable(expected, steps));
    });

  test("asked to stop while blocks are chosen anew, the run is saved at that step and chooses them again", async (t) => {
    const folder = temporaryFolder(t);
    const overrides = { ...methods["smt, choosing anew, bf16"], checkpoint: { every: null } };
    const expected = resultOf((await session(writeRunFile(path.join(folder, "undisturbed"), overrides))).folder);
    let stop = false;
    const runFile = writeRunFile(path.join(folder, "stopped"), overrides);
    const first = await session(runFile, {
      stopRequested: () => stop,
      onEvent: (event) => {
        stop ||= event.kind === "warmup" && event.afterStep === 8 && event.step === 1;
      },
    });
    assert.equal(first.ended, "stopped");
    assert.deepEqual(
      first.events.slice(-2).map(({ kind }) => kind),
      ["checkpoint", "stopped"],
    );
    const { events, folder: output } = await session(runFile, { runFolder: first.folder });
    assert.equal(events.find((event) => event.kind === "resumed")?.fromStep, 8);
    assert.deepEqual(comparable(resultOf(output)), comparable(expected));
  });

  test("asked to stop in the first warm-up, nothing is saved and a resume begins again", async (t) => {
    const folder = temporaryFolder(t);
    const overrides = methods["smt after a warm-up that trains, bf16"];
    const expected = resultOf((await session(writeRunFile(path.join(folder, "undisturbed"), overrides))).folder);
    let stop = false;
    const runFile = writeRunFile(path.join(folder, "stopped"), overrides);
    const first = await session(runFile, {
      stopRequested: () => stop,
      onEvent: (event) => {
        stop ||= event.kind === "warmup" && event.step === 2;
      },
    });
    assert.equal(first.ended, "stopped");
    assert.deepEqual(resultOf((await session(runFile, { runFolder: first.folder })).folder), expected);
  });

  test("a second signal ends it at once", async (t) => {
    const runFile = writeRunFile(temporaryFolder(t), { train: { steps: 100000, sequenceLength: 256, batchSize: 16 }, evaluate: { every: null } });
    const run = new RunProcess("train", runFile);
    await run.seen(({ kind }) => kind === "warmup");
    run.kill("SIGTERM");
    run.kill("SIGINT");
    const { code } = await run.exit;
    assert.ok(code === 130 || code === 143, `exit ${code}: ${run.errors}`);
    assert.ok(!run.events.some(({ kind }) => kind === "stopped"));
  });

  test("a resume of a finished run prints done, exits 0 and changes nothing", async (t) => {
    const { folder } = await session(writeRunFile(temporaryFolder(t), { train: { steps: 2 } }));
    const before = resultOf(folder);
    const run = new RunProcess("resume", folder);
    assert.equal((await run.exit).code, 0, run.errors);
    assert.deepEqual(
      run.events.map(({ kind }) => kind),
      ["done"],
    );
    assert.deepEqual(resultOf(folder), before);
  });

  test("a run that is worked on is not worked on twice", async (t) => {
    const runFile = writeRunFile(temporaryFolder(t), { train: { steps: 100000 } });
    const run = new RunProcess("train", runFile);
    await run.seen(({ kind }) => kind === "step");
    const second = new RunProcess("resume", onlyRun(path.join(path.dirname(runFile), "runs")) as string);
    assert.equal((await second.exit).code, 1);
    assert.match(second.errors, /is in use by process \d+/);
    run.kill();
    await run.exit;
  });
});
