/**
 * A comparison's folder as the extension sees it: damaged and hostile content, and a real core that is started on it, asked to stop, and started again. No
 * VS Code.
 */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { outputOf } from "../../src/extension/compare/compareFiles.ts";
import {
  comparisonsUnder,
  createComparison,
  lastFailure,
  readComparison,
  requestStop,
  startComparison,
  watchComparison,
} from "../../src/extension/compare/comparisonFolder.ts";
import { finishedLines } from "../core/compare/comparisonLines.ts";
import { writeComparison } from "../core/compare/smallComparison.ts";

const root = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-compare-"));
after(() => rmSync(root, { recursive: true, force: true }));
const program = { node: process.execPath, core: path.resolve(import.meta.dirname, "../../src/core/main.ts") };

function folder(name: string): string {
  const made = path.join(root, name);
  mkdirSync(made, { recursive: true });
  writeFileSync(path.join(made, "compare.yaml"), "model: m\n");
  return made;
}

async function until(what: string, check: () => Promise<boolean> | boolean): Promise<void> {
  for (let waited = 0; !(await check()); waited += 20) {
    assert.ok(waited < 120_000, `waited in vain for ${what}`);
    await delay(20);
  }
}

test("what is damaged, too large or none of ours is left out", async () => {
  const made = folder("damaged");
  assert.deepEqual(await readComparison(made), { lines: [], progress: null, live: false });
  const lines = finishedLines().map((line) => JSON.stringify(line));
  writeFileSync(path.join(made, "results.jsonl"), `${lines[0]}\nnot json\n{"kind":"result","run":"../x"}\n${lines[1]}\n${lines[2].slice(0, 30)}`);
  writeFileSync(path.join(made, "progress.json"), '{"state":"running","run":"../../etc"}');
  const { lines: read, progress } = await readComparison(made);
  assert.deepEqual(read, finishedLines().slice(0, 2));
  assert.equal(progress, null);
  truncateSync(path.join(made, "results.jsonl"), (64 << 20) + 1);
  assert.deepEqual((await readComparison(made)).lines, []);
});

test("comparisons are found right below the folders, newest first", async () => {
  const output = path.join(root, "output");
  for (const name of ["20260101-000000-a", "20260102-000000-b"]) folder(path.join("output", name));
  mkdirSync(path.join(output, "20260103-000000-none"));
  assert.deepEqual(
    (await comparisonsUnder([output, `${output}/.`, path.join(root, "missing")])).map((made) => path.basename(made)),
    ["20260102-000000-b", "20260101-000000-a"],
  );
});

test("where a file sends its comparisons; the usual folder while it is wrong", async () => {
  const file = path.join(root, "c.sparse-tuner-compare.yaml");
  writeFileSync(file, "model: m\ndata: { train: a, eval: b }\nmethods: [{ name: full }]\noutput: elsewhere\n");
  assert.equal(await outputOf(file), path.join(root, "elsewhere"));
  writeFileSync(file, "model: [");
  assert.equal(await outputOf(file), path.join(root, ".sparse-tuner/comparisons"));
});

test("a change is told soon, and no longer once nobody watches", async () => {
  const made = folder("watched");
  let told = 0;
  const watching = watchComparison(made, () => told++);
  writeFileSync(path.join(made, "results.jsonl"), "");
  await until("word of it", () => told > 0);
  watching.dispose();
  const before = told;
  let toldAnother = 0;
  const another = watchComparison(made, () => toldAnother++);
  appendFileSync(path.join(made, "results.jsonl"), "\n");
  await until("word to another", () => toldAnother > 0);
  another.dispose();
  assert.equal(told, before);
});

test("a link in the place of the file that asks for a stop is not followed", { skip: process.platform === "win32" }, async () => {
  const made = folder("linked");
  const other = path.join(root, "precious.txt");
  writeFileSync(other, "precious");
  symlinkSync(other, path.join(made, "stop.request"));
  await assert.rejects(requestStop(made));
  assert.equal(readFileSync(other, "utf8"), "precious");
});

test("a Node that cannot be started says why", async () => {
  const file = writeComparison(path.join(root, "no-node"), {});
  await assert.rejects(createComparison({ ...program, node: path.join(root, "no-such-node") }, file), /ENOENT/);
});

test("what a core is refused with comes back as it was said", async () => {
  const file = writeComparison(path.join(root, "refused"), { methods: [{ name: "smt", targets: ["q_porj"] }] });
  await assert.rejects(createComparison(program, file), { code: "method/unknown-target" });
  const made = folder("broken");
  await assert.rejects(startComparison(program, made), { code: "config/invalid" });
  assert.match(await lastFailure(made), /errors/);
});

test("a comparison is started, stopped at a step, and started again until it is done", async () => {
  const file = writeComparison(path.join(root, "real"), {
    methods: [{ name: "full" }],
    budgets: [],
    train: { steps: 60, batchSize: 2, sequenceLength: 32 },
  });
  const made = await createComparison(program, file);
  assert.equal((await readComparison(made)).live, false);
  await startComparison(program, made);
  await until("a step", async () => ((await readComparison(made)).progress?.step ?? 0) > 0);
  const { live, progress } = await readComparison(made);
  assert.deepEqual([live, progress?.state, progress?.of], [true, "running", 60]);
  await startComparison(program, made);
  await requestStop(made);
  await until("the end of the process", async () => !(await readComparison(made)).live);
  const ended = (await readComparison(made)).lines.at(-1);
  assert.ok(ended?.kind === "ended" && ended.outcome === "stopped", JSON.stringify(ended));
  await startComparison(program, made);
  await until("the end of all", async () => (await readComparison(made)).progress?.state === "done");
  const state = await readComparison(made);
  assert.equal(state.lines.filter(({ kind }) => kind === "result").length, 3);
  assert.equal(existsSync(path.join(made, "stop.request")), false);
  assert.match(readFileSync(path.join(made, "log.txt"), "utf8"), /begins with full-lr0\.001-seed1/);
});
