/**
 * Tests inside the extension host of the real VS Code: commands, diagnostics, completion, hover, CodeLens and edits. Bundles the checks of inHost/ with a
 * bare extension that carries them, runs them beside the packaged extension, and makes a test of each line of their report.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import { build } from "esbuild";
import type { Gesture } from "./inHost/checks.ts";
import type { CheckResult } from "./inHost/index.ts";
import { workbenchSession } from "./session.ts";
import { temporaryFolder } from "./temporaryFolder.ts";
import { until, type WorkbenchWindow } from "./window.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const cli = path.resolve(import.meta.dirname, "../../src/core/cli.ts");
const timeoutMs = 300_000;
const folder = temporaryFolder();
const [report, carrier] = [path.join(folder, "report"), path.join(folder, "carrier")];

/** VS Code runs tests for an extension under development only; this one does nothing. */
before(async () => {
  mkdirSync(report);
  mkdirSync(carrier);
  const manifest = { name: "carrier", publisher: "sparse-tuner", version: "0.0.1", engines: { vscode: "^1.100.0" } };
  writeFileSync(path.join(carrier, "package.json"), JSON.stringify(manifest));
  await build({
    entryPoints: [path.join(import.meta.dirname, "inHost/index.ts")],
    outfile: path.join(carrier, "checks.cjs"),
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    external: ["vscode"],
  });
});

const inWorkbench = workbenchSession({
  env: { SPARSE_TUNER_TEST_REPORT: report },
  development: { extension: carrier, tests: path.join(carrier, "checks.cjs") },
  settings: { "files.autoSave": "off", "sparseTuner.notifications": "none" },
  workspace: { fill: (target) => cpSync(demo, target, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") }) },
});

/** Does what a check asks for, as a person does. */
async function make(window: WorkbenchWindow, gesture: Gesture): Promise<void> {
  if (gesture.kind === "pick") return window.pick(gesture.label);
  await window.quickInput.filter({ hasText: gesture.question }).waitFor();
  await window.answer(gesture.text);
}

/** The texts that Try Model returned, beside `generate` of the same models with the same numbers. */
function comparedWithGenerate(): void {
  const tried = JSON.parse(readFileSync(path.join(report, "tried.json"), "utf8")) as Record<string, string | number>;
  const numbers = ["tokens", "temperature", "seed"].flatMap((name) => [`--${name}`, String(tried[name])]);
  for (const [model, text] of [
    [tried.model, tried.before],
    [tried.trained, tried.after],
  ]) {
    const { stdout, stderr } = spawnSync(process.execPath, [cli, "generate", String(model), "--prompt", String(tried.prompt), ...numbers], {
      encoding: "utf8",
    });
    assert.equal(stdout, text, stderr);
  }
}

test("inside the extension host", { timeout: timeoutMs + 60_000 }, async (context) => {
  let logs = "";
  await inWorkbench(async ({ window, logs: written }) => {
    let ended = false;
    void window.testsEnded.then(() => (ended = true));
    // Checks ask for pictures of the window, and for answers to questions, by a file, and go on when it is gone.
    const look = async () => {
      for (const name of readdirSync(report).filter((file) => file.endsWith(".picture"))) {
        await window.screenshot(path.basename(name, ".picture"));
        rmSync(path.join(report, name));
      }
      for (const name of readdirSync(report).filter((file) => file.endsWith(".gesture"))) {
        await make(window, JSON.parse(readFileSync(path.join(report, name), "utf8")) as Gesture);
        rmSync(path.join(report, name));
      }
      return ended;
    };
    await until("the checks to end", look, timeoutMs);
    logs = written().slice(-5000);
    await context.test("Try Model writes what the command line writes, to the character", () => comparedWithGenerate());
  })(context);
  const file = path.join(report, "report.jsonl");
  const lines = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
  assert.ok(lines.length >= 20, `${lines.length} checks ran`);
  for (const line of lines) {
    const { name, error } = JSON.parse(line) as CheckResult;
    await context.test(name, () => assert.ok(error === null, `${error}\n${logs}`));
  }
});
