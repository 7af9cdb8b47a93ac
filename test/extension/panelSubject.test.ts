/** What a run's panel has planned: the run's own file, with the blocks it chose in the place of its budget. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { RunSession } from "../../src/extension/runs/runSession.ts";
import { parseRunFile, stringifyRunConfig } from "../../src/protocol/runConfig.ts";

const { RunSubject } = await import("../../src/extension/panel/panelSubject.ts");

test("once a run has chosen its blocks, they alone say how much is trained", async (t) => {
  const runFolder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-subject-"));
  t.after(() => rmSync(runFolder, { recursive: true, force: true }));
  const begun = parseRunFile(
    "model: m\ndata: { train: a.jsonl }\nmethod: { name: smt, blocks: 20, blockSize: 16, targets: [q_proj] }\n",
    "/run.yaml",
  );
  writeFileSync(path.join(runFolder, "run.yaml"), stringifyRunConfig(begun));
  writeFileSync(path.join(runFolder, "selection.json"), "{}");
  const events: { kind: string }[] = [];
  const session = { runFolder, events, load: async () => {}, looked: async () => {} } as unknown as RunSession;
  const planned = async () => parseRunFile((await new RunSubject(session).read()).planText, "/run.yaml");
  assert.deepEqual(await planned(), begun);
  events.push({ kind: "selection" });
  const selection = path.join(runFolder, "selection.json");
  assert.deepEqual(await planned(), { ...begun, method: { ...begun.method, blocks: null, selection } });
});
