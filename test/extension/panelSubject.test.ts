/** What a run's panel has planned: the run's own file, and once they are chosen the blocks that its warm-up chose. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { openWindow } from "./windows.ts";

const { RunSubject } = await import("../../src/extension/panel/panelSubject.ts");

test("once a run has chosen its blocks, its plan is asked for with them", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-subject-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const runFolder = path.join(folder, "run");
  mkdirSync(runFolder);
  const runFile = path.join(runFolder, "run.yaml");
  writeFileSync(runFile, "model: m\ndata: { train: a.jsonl }\nmethod: { name: smt, blocks: 20, blockSize: 16, targets: [q_proj] }\n");
  const subject = new RunSubject(openWindow(t).runs.get(runFolder));
  const begun = { runFile, text: readFileSync(runFile, "utf8") };
  assert.deepEqual((await subject.read()).toPlan, begun);
  const chosen = path.join(runFolder, "selection.json");
  writeFileSync(chosen, "{}");
  assert.deepEqual((await subject.read()).toPlan, { ...begun, chosen });
});
