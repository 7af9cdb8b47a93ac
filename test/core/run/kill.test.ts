/**
 * `kill -9` of a real process, at random moments and at named ones, then `resume` until it is done: every number and every file equals the undisturbed
 * run's. The moment is seen from outside, in the run's own events and folder. Kills between any two calls to the disk are in crashPoints.test.ts.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, watch } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { Random } from "../../../src/core/random.ts";
import { methods, type Overrides, onlyRun, RunProcess, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const skip = process.platform === "win32" && "not run: no kill -9 on Windows";

/** Goes on with a run until it is done. `disturb` may kill a process; it is asked once a process. */
async function untilDone(runFile: string, disturb: (run: RunProcess, output: string) => void): Promise<{ folder: string; kills: number }> {
  const output = path.join(path.dirname(runFile), "runs");
  let kills = 0;
  for (let attempt = 0; attempt < 40; attempt++) {
    const begun = onlyRun(output);
    const run = begun ? new RunProcess("resume", begun) : new RunProcess("train", runFile);
    disturb(run, output);
    const { code, signal } = await run.exit;
    if (signal === "SIGKILL") kills++;
    else {
      assert.equal(code, 0, run.errors);
      const folder = onlyRun(output) as string;
      // A run that was killed when it was done is only read: the lock of the dead process may stay.
      const onlyRead = run.events.length === 1;
      const left = (readdirSync(folder, { recursive: true }) as string[]).filter(
        (name) => name.includes(".tmp-") || (name === "run.lock" && !onlyRead),
      );
      assert.deepEqual(left, [], "what a killed process left is swept");
      return { folder, kills };
    }
  }
  throw new Error("the run never ended");
}

const results = new Map<Overrides, Promise<ReturnType<typeof resultOf>>>();

/** The result of the run that nobody disturbs. */
function undisturbed(overrides: Overrides) {
  const result =
    results.get(overrides) ?? session(writeRunFile(path.join(common, String(results.size)), overrides)).then(({ folder }) => resultOf(folder));
  results.set(overrides, result);
  return result;
}

describe("kill -9 at random moments", { skip }, () => {
  const counts: Record<string, number> = {
    "smt, choosing anew, bf16": 5,
    "smt, choosing anew, f32": 2,
    "smt after a warm-up that trains, bf16": 2,
    "smt after a warm-up that trains, f32": 2,
    "full, bf16": 2,
    "full, f32": 2,
    "lors, bf16": 2,
    "lora with dropout, bf16": 1,
    "sqft with a search over ranks, f32": 1,
  };
  for (const [name, wanted] of Object.entries(counts))
    test(`${name}, ${wanted} times`, async (t) => {
      const folder = temporaryFolder(t);
      const overrides = methods[name];
      const expected = await undisturbed(overrides);
      const random = new Random(Date.now());
      const moments: string[] = [];
      const { folder: killed, kills } = await untilDone(writeRunFile(path.join(folder, "killed"), overrides), (run) => {
        if (moments.length === wanted) return;
        // Late enough to come past a checkpoint now and then, early enough to come before the end.
        let events = 1 + random.below(9);
        const delay = Math.floor(random.uniform() * 10);
        moments.push(`event ${events} + ${delay} ms`);
        run.when(
          () => --events === 0,
          () => setTimeout(() => run.kill(), delay),
        );
      });
      t.diagnostic(`${kills} kills: ${moments.join(", ")}`);
      assert.ok(kills >= wanted / 2, `only ${kills} kills came before the run ended`);
      assert.deepEqual(resultOf(killed), expected, `killed at ${moments.join(", ")}`);
    });
});

/** Kills the process as soon as a name that fits appears under the run folder. */
function killWhenFile(run: RunProcess, output: string, fits: (name: string) => boolean): void {
  run.when(
    ({ kind }) => kind === "started",
    () => {
      const folder = onlyRun(output) as string;
      const look = () => {
        if (!(readdirSync(folder, { recursive: true }) as string[]).some(fits)) return;
        run.kill();
        watcher.close();
      };
      const watcher = watch(folder, { recursive: true }, (_, name) => {
        try {
          if (name && fits(name)) run.kill();
          look();
        } catch {
          // a file went while it was looked at
        }
      });
      run.child.on("close", () => watcher.close());
      look();
    },
  );
}

describe("kill -9 at named moments", { skip }, () => {
  const choosing = methods["smt, choosing anew, bf16"];
  const warmed = methods["smt after a warm-up that trains, bf16"];
  const lors = methods["lors, bf16"];
  const moments: [string, Overrides, (run: RunProcess, output: string) => void][] = [
    [
      "during the warm-up",
      choosing,
      (run) =>
        run.when(
          ({ kind }) => kind === "warmup",
          () => run.kill(),
        ),
    ],
    [
      "while LoRS looks for its start",
      lors,
      (run) =>
        run.when(
          (event) => event.kind === "initialising" && event.done > 2,
          () => run.kill(),
        ),
    ],
    ["while the finished adapter is written", lors, (run, output) => killWhenFile(run, output, (name) => name.startsWith("adapter"))],
    [
      "right after the selection",
      choosing,
      (run) =>
        run.when(
          ({ kind }) => kind === "selection",
          () => run.kill(),
        ),
    ],
    [
      "while blocks are chosen anew",
      choosing,
      (run) =>
        run.when(
          (event) => event.kind === "warmup" && event.afterStep === 8,
          () => run.kill(),
        ),
    ],
    [
      "right after blocks were chosen anew",
      choosing,
      (run) =>
        run.when(
          (event) => event.kind === "selection" && event.step === 8,
          () => run.kill(),
        ),
    ],
    [
      "right after the first step",
      choosing,
      (run) =>
        run.when(
          ({ kind }) => kind === "step",
          () => run.kill(),
        ),
    ],
    ["while the first checkpoint is written", choosing, (run, output) => killWhenFile(run, output, (name) => name.includes(".tmp-"))],
    [
      "while a later checkpoint is written",
      choosing,
      (run, output) =>
        killWhenFile(run, output, (name) => name.includes(".tmp-") && existsSync(path.join(onlyRun(output) as string, "checkpoints/step-6"))),
    ],
    ["between rename and prune", choosing, (run, output) => killWhenFile(run, output, (name) => name.endsWith("step-6"))],
    ["when the last checkpoint stands", choosing, (run, output) => killWhenFile(run, output, (name) => name.endsWith("step-12"))],
    ["when the delta of the result is written", choosing, (run, output) => killWhenFile(run, output, (name) => name === "smt.safetensors")],
    ["when the warmed-up model is written", warmed, (run, output) => killWhenFile(run, output, (name) => name.startsWith("base"))],
    [
      "right after a warm-up that trained",
      warmed,
      (run) =>
        run.when(
          ({ kind }) => kind === "selection",
          () => run.kill(),
        ),
    ],
    [
      "right after a resume",
      choosing,
      (run) => {
        run.when(
          (event) => event.kind === "step" && event.step === 5,
          () => run.kill(),
        );
        run.when(
          ({ kind }) => kind === "resumed",
          () => run.kill(),
        );
      },
    ],
  ];
  for (const [name, overrides, disturb] of moments)
    test(name, async (t) => {
      const folder = temporaryFolder(t);
      const expected = await undisturbed(overrides);
      let left = name === "right after a resume" ? 3 : 1;
      const { folder: killed, kills } = await untilDone(writeRunFile(path.join(folder, "killed"), overrides), (run, output) => {
        if (left-- > 0) disturb(run, output);
      });
      if (kills === 0) t.diagnostic("the process ended before the kill reached it");
      assert.deepEqual(resultOf(killed), expected);
    });
});
