/** What a run shows to a person: events as lines, memory by phase, and how the program names itself and its folders. */
import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { programName, shownPath } from "../../../src/core/commands/programName.ts";
import { textReporter } from "../../../src/core/commands/runReporter.ts";
import { MemoryPhases, memoryLines } from "../../../src/core/commands/runSummary.ts";
import { MemoryLedger } from "../../../src/core/devices/memoryLedger.ts";
import type { MemoryPlan } from "../../../src/core/plan.ts";
import type { Run } from "../../../src/core/run.ts";
import { plainText, wrap } from "../../../src/core/terminal/style.ts";
import type { RunEvent, RunEventBody } from "../../../src/protocol/events.ts";

const plain = { width: 80, interactive: false, color: false };
const event = (body: RunEventBody): RunEvent => ({ sequence: 1, timeMs: 0, ...body });
const selected = event({ kind: "selection", step: 0, blockSize: 16, blocks: 1, trainableParameters: 256, shares: { v_proj: 1 }, sharesByLayer: [] });

/** Lines a reporter writes for these events, on a pipe. */
function reported(...events: RunEventBody[]): string[] {
  let text = "";
  const reporter = textReporter(() => null, { write: (part: string) => (text += part) });
  for (const body of events) reporter.onEvent(event(body));
  reporter.finish();
  return text.trimEnd().split("\n");
}

test("events are lines that a person understands", () => {
  const counts = { method: "smt", totalSteps: 20, warmupSteps: 0, trainTokens: 1500 };
  const lines = reported(
    { kind: "started", run: "runs/a", device: "cpu", trainRows: 1, skippedRows: 1, ...counts },
    { kind: "notice", code: "data/overlap", message: "Two rows are the same." },
    selected,
    { kind: "evaluation", step: 0, loss: 8.5, tokens: 10 },
    { kind: "step", step: 2, loss: 4, learningRate: 1e-3, gradNorm: 1, tokensPerSecond: 2000 },
    { kind: "skipped", step: 3, reason: "the loss is NaN" },
    { kind: "resumed", fromStep: -1 },
    { kind: "paused", step: 4, reason: "The disk is full." },
  );
  assert.deepEqual(lines.slice(0, 6), [
    "run       runs/a",
    "device    cpu",
    "data      1 row, 1.50 K tokens, 1 row left out",
    "note: Two rows are the same.",
    "selection 1 block of 16 × 16: 256 parameters",
    "",
  ]);
  assert.deepEqual(lines.slice(-5), [
    "held-out  loss 8.5000 after 0 updates",
    "Training    2/20  loss 4.0000  2.00 K tokens/s",
    "step 3: update skipped, the loss is NaN",
    "resumed from the start: there was no checkpoint",
    "paused at step 4: The disk is full.",
  ]);
});

/** A run that warms up with `warmup` bytes of activations at most and then trains with `training` of them. */
function phasesOf(warmup: number, training: number): MemoryPhases {
  const ledger = new MemoryLedger();
  const phases = new MemoryPhases();
  ledger.add("weights", 1000);
  phases.open({ device: { ledger }, smt: {}, method: null } as unknown as Run);
  ledger.add("activations", warmup);
  phases.onEvent(event({ kind: "warmup", step: 1, of: 1, afterStep: 0, loss: 1, tokensPerSecond: 1 }));
  ledger.remove("activations", warmup);
  for (const memoryClass of ["trainable", "gradients"] as const) ledger.add(memoryClass, 10);
  ledger.add("optimizer", 20);
  phases.onEvent(selected);
  ledger.add("activations", training);
  ledger.remove("activations", training);
  return phases;
}

test("memory is measured by phase, and the text says when the peak was", () => {
  const none = { weights: 0, trainable: 0, gradients: 0, optimizer: 0, activations: 0, workspace: 0 };
  const full = {
    peakBytes: 4000,
    bytesByClass: { ...none, weights: 1000, trainable: 1000, gradients: 400, optimizer: 800, activations: 800 },
    bytesPerParameter: 18,
  };
  const plan: MemoryPlan = { peakBytes: 2100, bytesByClass: { ...none, weights: 1000 }, bytesPerParameter: 2, exact: false, fullFineTuning: full };
  const early = phasesOf(1000, 500);
  assert.deepEqual(
    early.columns.map(({ heading, peakBytes }) => [heading, peakBytes]),
    [
      ["warm-up", 2000],
      ["training", 1540],
    ],
  );
  assert.deepEqual(early.columns[1].bytesByClass, { ...none, weights: 1000, trainable: 10, gradients: 10, optimizer: 20, activations: 500 });
  const sentence = (phases: MemoryPhases) => memoryLines(phases.columns, plan, "smt", plain).at(-1);
  assert.equal(
    sentence(early),
    "The peak was in the warm-up, when nothing was trainable yet. This run took 50.0 % of full fine-tuning's memory; of its gradients and optimizer state, 2.50 %.",
  );
  assert.match(sentence(phasesOf(100, 960)) ?? "", /^This run took 50\.0 % of/);
  assert.match(memoryLines(early.columns, plan, "smt", plain)[1], /warm-up +training +smt, at most +full fine-tuning/);
});

test("a resumed run has no warm-up to show", () => {
  const ledger = new MemoryLedger();
  const phases = new MemoryPhases();
  phases.open({ device: { ledger }, smt: {}, method: {} } as unknown as Run);
  ledger.add("weights", 7);
  phases.onEvent(selected);
  assert.deepEqual(
    phases.columns.map(({ heading, peakBytes }) => [heading, peakBytes]),
    [["training", 7]],
  );
});

test("the program and its folders are named as a person would type them", () => {
  const folder = path.resolve("/home/me/work");
  assert.equal(programName("/usr/bin/sparse-tuner", folder), "sparse-tuner");
  assert.equal(programName(path.join(folder, "dist/cli.js"), folder), `node ${path.join("dist", "cli.js")}`);
  assert.equal(programName(path.resolve("/opt/it/cli.js"), folder), `node ${path.resolve("/opt/it/cli.js")}`);
  assert.equal(shownPath(path.join(folder, "runs", "a"), folder), path.join("runs", "a"));
  assert.equal(shownPath(folder, folder), ".");
  assert.equal(shownPath(path.join(folder, "it's mine"), folder), "'it'\\''s mine'");
});

test("lines break between words, under their text, and not before a unit", () => {
  const style = { width: 20, interactive: true, color: true };
  assert.equal(wrap("note: one two three four 12 % fives", style, 6), "note: one two three\n      four 12 %\n      fives");
  assert.equal(
    wrap("\x1b[38;5;75mrun\x1b[0m       abcdefghij klm", style, 10).split("\n").map(plainText).join("|"),
    "run       abcdefghij|          klm",
  );
  assert.equal(wrap("note: aaaa bbbb 1234 % x", style, 6), "note: aaaa bbbb\n      1234 % x");
  assert.equal(wrap("  a command to copy stays on its line", style), "  a command to copy stays on its line");
  assert.equal(wrap("averylongwordthatfitsnowhere x", style, 2), "averylongwordthatfitsnowhere\n  x");
  const text = "one two three four five six";
  assert.equal(wrap(text, { ...style, interactive: false }), text);
});
