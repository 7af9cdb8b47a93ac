/** Which run files of a window were started already, as names tell, in any script. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { createRunFolder } from "../../src/core/files/runFolder.ts";
import { runNameOf } from "../../src/protocol/runName.ts";
import { temporaryFolder } from "../core/files/smallModels.ts";
import { Uri } from "./vscodeStandIn.ts";
import { openWindow } from "./windows.ts";

const { KnownRuns } = await import("../../src/extension/commands/knownRuns.ts");

test("a run file is a draft until a run was made from it, whatever it is called", async (t) => {
  const folder = temporaryFolder(t);
  const files = ["训练", "训练-2", "かがみ (1)", "a b c d e f g h i j k l m n o p q r s t u v w x y z"].map((name) =>
    path.join(folder, `${name}.sparse-tuner.yaml`),
  );
  for (const file of files) writeFileSync(file, "model: m\ndata: { train: t.jsonl }\n");
  const { runs } = openWindow(t);
  const known = new KnownRuns(runs, Uri.file(folder) as never);
  t.after(() => known.dispose());
  const drafts = async () => {
    await known.refresh();
    return known.drafts().map(({ fsPath }) => fsPath);
  };
  assert.deepEqual((await drafts()).toSorted(), files.toSorted());
  for (const [index, file] of files.entries()) {
    await createRunFolder(path.join(folder, ".sparse-tuner/runs"), runNameOf(file), "model: m\n");
    assert.deepEqual((await drafts()).toSorted(), files.slice(index + 1).toSorted());
  }
});
