/** Statistics are found in a thread of their own: they are those of the block, nothing waits for them, and a thread that breaks is replaced. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { analyze } from "../../../src/core/blocks/analysis.ts";
import { Analyst } from "../../../src/core/blocks/analyst.ts";
import { normals } from "../../support/randomTensors.ts";

test("blocks are analysed one after the other while this thread goes on", async () => {
  const analyst = new Analyst();
  const [large, small] = [normals(1, 300 * 300), normals(2, 12)];
  let turns = 0;
  let found = false;
  const both = Promise.all([
    analyst.analyze(large, { blockRows: 300, blockColumns: 300 }),
    analyst.analyze(small, { blockRows: 3, blockColumns: 4 }),
  ]).finally(() => {
    found = true;
  });
  for (; !found; await turn()) turns++;
  const [ofLarge, ofSmall] = await both;
  assert.deepEqual(ofLarge.analysis, analyze(large, 300, 300));
  assert.deepEqual(ofSmall.analysis, analyze(small, 3, 4));
  assert.ok(Number(ofLarge.analysisMs) > 0);
  assert.ok(turns > 100, `this thread had ${turns} turns meanwhile`);
  assert.equal(large.length, 90_000, "the values are still the caller's");
});

test("nothing is said of what was not asked for, and nothing but that of a block that is too large", async () => {
  const analyst = new Analyst();
  const shape = { blockRows: 3, blockColumns: 4 };
  assert.deepEqual(await analyst.analyze(undefined, shape), {});
  assert.deepEqual(await analyst.analyze(null, shape), { analysis: null });
});

test("who waits for a thread that breaks is told, and the next one has another thread", async () => {
  const analyst = new Analyst();
  const broken = analyst.analyze(new Float32Array(12), { blockRows: -1, blockColumns: -12 });
  await assert.rejects(broken);
  const { analysis } = await analyst.analyze(Float32Array.of(3, 0, 0, 4), { blockRows: 2, blockColumns: 2 });
  assert.equal(analysis?.norm, 5);
});

test("a process that has its answer ends, and does not wait for the thread to be ended for having nothing to do", () => {
  const program = `
    import { Analyst } from "../../../src/core/blocks/analyst.ts";
    const waiting = setInterval(() => undefined, 1_000);
    const { analysis } = await new Analyst().analyze(Float32Array.of(3, 0, 0, 4), { blockRows: 2, blockColumns: 2 });
    process.stdout.write(String(analysis.norm));
    clearInterval(waiting);`;
  const ended = spawnSync(process.execPath, ["--eval", program], { cwd: import.meta.dirname, timeout: 9_000, encoding: "utf8" });
  assert.equal(ended.stdout, "5", ended.stderr);
  assert.equal(ended.signal, null, "still there after nine seconds");
});
