/**
 * A comparison that is killed, stopped or changed: naming its folder goes on with it. Every result equals the undisturbed comparison's, finished runs are not
 * done again, and one that was interrupted goes on from its checkpoint.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { RunEvent } from "../../../src/protocol/events.ts";
import { sparseTuner, temporaryFolder } from "../commands/commandLine.ts";
import { linesOf, numbersOf, onlyComparison, writeComparison } from "./smallComparison.ts";

const cli = path.resolve(import.meta.dirname, "../../../src/core/cli.ts");
const folder = temporaryFolder(after);
let undisturbed = "";

before(() => {
  const file = writeComparison(path.join(folder, "undisturbed"));
  const { status, stderr } = sparseTuner(folder, "compare", file);
  assert.equal(status, 0, stderr);
  undisturbed = onlyComparison(file) as string;
});

const eventsOf = (comparison: string, run: string): RunEvent[] => {
  const file = path.join(comparison, "runs", run, "events.jsonl");
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line));
};

async function until(what: string, child: ChildProcess, check: () => boolean): Promise<void> {
  for (let waited = 0; !check(); waited += 2) {
    assert.ok(child.exitCode === null && child.signalCode === null, `the process ended before: ${what}`);
    assert.ok(waited < 120_000, what);
    await delay(2);
  }
}

function started(...args: string[]): { child: ChildProcess; exit: Promise<number | null> } {
  const child = spawn(process.execPath, [cli, "compare", ...args], { stdio: "ignore" });
  return { child, exit: new Promise((resolve) => child.once("close", (code) => resolve(code))) };
}

const running = "smt-3000-lr0.003-seed1";

describe("killed, and gone on with", { skip: process.platform === "win32" && "not run: no kill -9 on Windows" }, () => {
  const moments: [string, (comparison: string) => boolean][] = [
    ["before the first run has begun", (comparison) => existsSync(path.join(comparison, "runs"))],
    ["in the warm-up of the second run", (comparison) => eventsOf(comparison, running).some(({ kind }) => kind === "warmup")],
    ["in the middle of the second run", (comparison) => eventsOf(comparison, running).some((event) => event.kind === "step" && event.step === 4)],
    ["when a run has said that it is done", (comparison) => eventsOf(comparison, running).some(({ kind }) => kind === "done")],
    ["when another method has begun", (comparison) => eventsOf(comparison, "full-lr0.001-seed1").some(({ kind }) => kind === "step")],
  ];
  for (const [name, come] of moments)
    test(name, async () => {
      const file = writeComparison(path.join(folder, name.replaceAll(" ", "-")));
      const { child, exit } = started(file);
      await until(name, child, () => {
        const comparison = onlyComparison(file);
        return comparison !== null && come(comparison);
      });
      child.kill("SIGKILL");
      await exit;
      const comparison = onlyComparison(file) as string;
      // What a kill leaves that comes between writing a file and its name.
      writeFileSync(path.join(comparison, ".tmp-half-written"), "");
      const before = new Map(
        numbersOf(comparison).map((line) => [(line as { run: string }).run, eventsOf(comparison, (line as { run: string }).run).length]),
      );
      const { status, stderr } = sparseTuner(folder, "compare", "--resume", comparison);
      assert.equal(status, 0, stderr);
      assert.deepEqual(numbersOf(comparison), numbersOf(undisturbed));
      for (const [run, count] of before) assert.equal(eventsOf(comparison, run).length, count, `${run} was done already, and was done again`);
      assert.deepEqual(
        readdirSync(comparison).filter((entry) => entry.startsWith(".tmp-") || entry === "run.lock"),
        [],
      );
    });
});

test("a run that was interrupted goes on from its checkpoint, not from the start", async () => {
  const file = writeComparison(path.join(folder, "checkpoint"));
  const { child, exit } = started(file);
  const come = () => eventsOf(onlyComparison(file) ?? "", running).some((event) => event.kind === "checkpoint" && event.step === 4);
  await until("the checkpoint of step 4", child, come);
  child.kill("SIGKILL");
  await exit;
  const comparison = onlyComparison(file) as string;
  const cut = !eventsOf(comparison, running).some(({ kind }) => kind === "done");
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  const resumed = eventsOf(comparison, running).filter((event) => event.kind === "resumed");
  if (cut) assert.deepEqual([resumed.length, (resumed[0] as { fromStep: number }).fromStep >= 4], [1, true]);
  assert.deepEqual(numbersOf(comparison), numbersOf(undisturbed));
});

test("a line that was cut is taken off, and its run is not done again", async () => {
  const file = writeComparison(path.join(folder, "cut"));
  assert.equal(sparseTuner(folder, "compare", file).status, 0);
  const comparison = onlyComparison(file) as string;
  const results = path.join(comparison, "results.jsonl");
  const lines = readFileSync(results, "utf8").split("\n");
  // Without the end's line, and with half of the last result's.
  const kept = `${lines.slice(0, -3).join("\n")}\n`;
  truncateSync(results, kept.length + 40);
  const last = numbersOf(undisturbed).at(-1) as { run: string };
  const events = eventsOf(comparison, last.run).length;
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  assert.deepEqual(numbersOf(comparison), numbersOf(undisturbed));
  assert.equal(eventsOf(comparison, last.run).length, events);
});

for (const how of ["SIGTERM", "a request in the folder"] as const)
  test(`stopped by ${how}: saved at a step boundary, and gone on with`, {
    skip: process.platform === "win32" && "not run: no signals on Windows",
  }, async () => {
    const file = writeComparison(path.join(folder, how.replaceAll(" ", "-")));
    const { child, exit } = started(file);
    await until("a step of the second run", child, () => eventsOf(onlyComparison(file) ?? "", running).some(({ kind }) => kind === "step"));
    const comparison = onlyComparison(file) as string;
    if (how === "SIGTERM") child.kill("SIGTERM");
    else writeFileSync(path.join(comparison, "stop.request"), "");
    const code = await exit;
    assert.equal(code, how === "SIGTERM" ? 143 : 0);
    const ended = linesOf(comparison).at(-1);
    assert.ok(ended?.kind === "ended" && ended.outcome === "stopped", JSON.stringify(ended));
    assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
    assert.deepEqual(numbersOf(comparison), numbersOf(undisturbed));
    assert.equal(existsSync(path.join(comparison, "stop.request")), false);
  });

test("a finished comparison does nothing more; seeds that are added are run", () => {
  const file = writeComparison(path.join(folder, "more"));
  assert.equal(sparseTuner(folder, "compare", file).status, 0);
  const comparison = onlyComparison(file) as string;
  const before = readFileSync(path.join(comparison, "results.jsonl"), "utf8");
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  assert.equal(readFileSync(path.join(comparison, "results.jsonl"), "utf8"), before);
  const config = path.join(comparison, "compare.yaml");
  writeFileSync(config, readFileSync(config, "utf8").replace(/seeds:\n {2}- 1\n {2}- 2\n/, "seeds:\n  - 1\n  - 2\n  - 3\n"));
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  const seeds = linesOf(comparison).flatMap((line) => (line.kind === "result" ? [line.seed] : []));
  assert.deepEqual(seeds.filter((seed) => seed === 3).length, 2);
  assert.equal(numbersOf(comparison).length, numbersOf(undisturbed).length + 2);
});

test("other settings or another model are refused: results could not be compared", () => {
  const file = writeComparison(path.join(folder, "changed"), { methods: [{ name: "full" }], budgets: [] });
  assert.equal(sparseTuner(folder, "compare", file).status, 0);
  const comparison = onlyComparison(file) as string;
  const config = path.join(comparison, "compare.yaml");
  const text = readFileSync(config, "utf8");
  writeFileSync(config, text.replace("steps: 6", "steps: 7"));
  const steps = sparseTuner(folder, "compare", comparison);
  assert.equal(steps.status, 2);
  assert.match(steps.stderr, /was begun with other settings than compare\.yaml says now/);
  writeFileSync(config, text);
  writeFileSync(path.join(path.dirname(file), "train.jsonl"), '{"text":"Another text altogether, which is quite long enough to train on."}\n');
  const data = sparseTuner(folder, "compare", comparison);
  assert.equal(data.status, 2);
  assert.match(data.stderr, /The data is not what the comparison was begun with/);
});

test("what cannot be run is refused before a folder is made, and what is no comparison by its name", () => {
  const refused = writeComparison(path.join(folder, "refused"), { methods: [{ name: "smt", targets: ["q_porj"] }] });
  const { status, stderr } = sparseTuner(folder, "compare", refused);
  assert.equal(status, 2);
  assert.match(stderr, /q_porj matches no matrix/);
  assert.equal(existsSync(path.join(folder, "refused/comparisons")), false);
  const noData = writeComparison(path.join(folder, "no-data"), { data: { train: "missing.jsonl", eval: "eval.jsonl" } });
  assert.match(sparseTuner(folder, "compare", noData).stderr, /missing\.jsonl/);
  assert.equal(existsSync(path.join(folder, "no-data/comparisons")), false);
  assert.match(sparseTuner(folder, "compare", folder).stderr, /is no comparison folder/);
  assert.match(sparseTuner(folder, "compare", "--resume", refused).stderr, /is no folder of a comparison/);
});

test("a second process is refused while one works on it", async () => {
  const file = writeComparison(path.join(folder, "locked"));
  const { child, exit } = started(file);
  await until("a step", child, () => eventsOf(onlyComparison(file) ?? "", "smt-3000-lr0.001-seed1").some(({ kind }) => kind === "step"));
  const second = sparseTuner(folder, "compare", onlyComparison(file) as string);
  assert.equal(second.status, 1);
  assert.match(second.stderr, /is in use by process/);
  assert.equal(await exit, 0);
});

test("the outputs hold every run, and checkpoints of rates that were not chosen are gone", () => {
  const rows = readFileSync(path.join(undisturbed, "results.csv"), "utf8").trim().split("\n");
  assert.equal(rows.length, 1 + 6);
  const table = readFileSync(path.join(undisturbed, "table.md"), "utf8");
  for (const { lossAfter } of numbersOf(undisturbed) as { lossAfter: number }[]) assert.ok(lossAfter > 0);
  assert.match(table, /\| SMT \| 3\.00 K \| 3\.07 K \(\+2\.40 %\) \| 12 blocks \|/);
  assert.match(table, /\| Full \| {2}\| 656 K \|/);
  assert.match(readFileSync(path.join(undisturbed, "results.svg"), "utf8"), /^<svg .*<\/svg>\n$/s);
  const chosen = new Set(rows.slice(1).flatMap((row) => (row.split(",")[9] === "true" ? [row.split(",")[0]] : [])));
  assert.equal(chosen.size, 4);
  for (const run of readdirSync(path.join(undisturbed, "runs"))) {
    assert.equal(existsSync(path.join(undisturbed, "runs", run, "checkpoints")), chosen.has(run), run);
    assert.ok(statSync(path.join(undisturbed, "runs", run, "run.yaml")).size > 0);
  }
});

test("a run that diverges is a result like another: it is not chosen, not tried again, and the rest goes on", () => {
  const file = writeComparison(path.join(folder, "diverged"), {
    methods: [{ name: "full" }],
    budgets: [],
    learningRates: [1e-3, 10],
    seeds: [1],
    train: {
      steps: 40,
      batchSize: 2,
      sequenceLength: 32,
      learningRateWarmupSteps: 0,
      clipGradNorm: null,
      precision: "f32",
      schedule: "constant",
      betas: [0, 0],
      weightDecay: 10,
    },
  });
  const { status, stderr } = sparseTuner(folder, "compare", file);
  assert.equal(status, 0, stderr);
  const comparison = onlyComparison(file) as string;
  const results = linesOf(comparison).flatMap((line) => (line.kind === "result" ? [line] : []));
  const bad = results.find(({ learningRate }) => learningRate === 10);
  const good = results.find(({ learningRate }) => learningRate === 1e-3);
  assert.equal(good?.status, "done");
  assert.deepEqual([bad?.status, bad?.lossAfter], ["diverged", null], JSON.stringify(bad));
  const events = eventsOf(comparison, bad?.run ?? "").length;
  assert.equal(sparseTuner(folder, "compare", comparison).status, 0);
  assert.equal(eventsOf(comparison, bad?.run ?? "").length, events, "it was tried again");
  rmSync(comparison, { recursive: true });
});
