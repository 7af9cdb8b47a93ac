/** `sparse-tuner prune` as a person calls it: table, JSON, refusals, Ctrl-C. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import type { PruningReport } from "../../../src/protocol/pruning.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { cli, demoData, jsonLines, sparseTuner, temporaryFolder } from "./commandLine.ts";

const folder = temporaryFolder(after);
const rows = path.join(demoData, "gsm8k-train.jsonl");
const calibrated = ["--calibration", rows, "--samples", "4", "--sequence-length", "64"];

test("prune writes a model and prints zeros and errors by layer", () => {
  const { status, stdout, stderr } = sparseTuner(
    folder,
    "prune",
    storyFolder,
    "--method",
    "sparsegpt",
    "--pattern",
    "2:4",
    ...calibrated,
    "--to",
    "a",
  );
  assert.equal(status, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  assert.match(lines[0], /^196608 of 393216 weights are zero\.$/);
  assert.match(lines[2], /^layer +zeros +q_proj +k_proj +v_proj +o_proj +gate_proj +up_proj +down_proj$/);
  for (const [i, name] of ["0", "1", "all"].entries()) assert.match(lines[3 + i], new RegExp(`^ +${name} +50\\.0 %( +0\\.\\d{4}){7}$`));
  assert.equal(lines.at(-1), "The pruned model stands in a.");
  assert.match(stderr, /Pruning/);
  assert.ok(existsSync(path.join(folder, "a/model.safetensors")));
});

test("--json prints the report alone; magnitude goes without calibration and then names no error", () => {
  const command = ["prune", storyFolder, "--method", "magnitude", "--pattern", "0.25", "--to", "b"];
  const [report] = jsonLines<PruningReport>(sparseTuner(folder, ...command, "--json"));
  assert.equal(report.zeros, 98304);
  assert.deepEqual(report, JSON.parse(readFileSync(path.join(folder, "b/pruning.json"), "utf8")));
  const { stdout } = sparseTuner(folder, ...command.slice(0, -1), "c");
  assert.match(stdout, /^98304 of 393216 weights are zero\.\nlayer +zeros\n +0 +25\.0 %\n/);
});

test("refusals exit 2 with a sentence and the next action", () => {
  const prune = (...rest: string[]) => sparseTuner(folder, "prune", storyFolder, ...rest);
  const refused: [string[], RegExp][] = [
    [["--method", "wanda", "--pattern", "2:4", "--to", "d"], /wanda looks at a layer's inputs and needs text\.\nGive a file with --calibration/],
    [["--method", "best", "--pattern", "2:4", "--to", "d"], /Allowed choices are magnitude, wanda, sparsegpt, ria/],
    [["--method", "magnitude", "--pattern", "half", "--to", "d"], /half is no pattern\.\nGive a share/],
    [["--method", "magnitude", "--pattern", "0.5", "--permute", "--to", "d"], /changes nothing for a share of zeros\.\nLeave --permute out/],
    [["--method", "wanda", "--pattern", "0.5", "--grouping", "row", "--calibration", rows, "--to", "d"], /Only RIA.*\nLeave --grouping out/],
    [["--method", "magnitude", "--to", "d"], /'--pattern <PATTERN>' not specified/],
    [
      ["--method", "ria", "--pattern", "0.5", "--calibration", rows, "--samples", "1000000", "--to", "d"],
      /windows of 512 need 512000000: \d+ are missing\./,
    ],
  ];
  for (const [rest, expected] of refused) {
    const { status, stdout, stderr } = prune(...rest);
    assert.equal(status, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, expected);
  }
  assert.ok(!existsSync(path.join(folder, "d")));
});

test("Ctrl-C stops, says that nothing was written, and exits 130", { skip: process.platform === "win32" }, async () => {
  const before = readdirSync(folder).sort();
  const command = ["prune", storyFolder, "--method", "sparsegpt", "--pattern", "0.5", "--calibration", rows, "--samples", "128", "--to", "e"];
  const child = spawn(process.execPath, [cli, ...command], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    // The first line of progress: it is at work.
    if (stderr === "") child.kill("SIGINT");
    stderr += text;
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(code, 130, stderr);
  assert.match(stderr, /Stopped: nothing was written\.\n$/);
  assert.deepEqual(readdirSync(folder).sort(), before);
});
