import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { ProgressBar, progressLine } from "../../../src/core/terminal/progressBar.ts";
import { styleOf, type TerminalStyle } from "../../../src/core/terminal/style.ts";

const plain: TerminalStyle = { width: 80, interactive: false, color: false };
const screen: TerminalStyle = { width: 80, interactive: true, color: false };
const progress = { label: "Training", step: 250, of: 500, loss: 2.1, tokensPerSecond: 41_234, etaMs: 12_345 };

test("a watched line has a bar and never more than the width", () => {
  assert.equal(progressLine(progress, screen), "Training  ███████████░░░░░░░░░░  250/500  loss 2.1000  41.2 K tokens/s  ETA 12 s");
  assert.equal(progressLine(progress, { ...screen, width: 60 }), "Training  ██████░░░░░  250/500  loss 2.1000  41.2 K tokens/s");
  assert.equal(progressLine(progress, { ...screen, width: 20 }), "Training   250/500");
  for (let width = 20; width <= 120; width++) assert.ok(progressLine(progress, { ...screen, width }).length <= width, `width ${width}`);
});

test("a plain line has figures only; the end has no ETA", () => {
  assert.equal(progressLine(progress, plain), "Training   250/500  loss 2.1000  41.2 K tokens/s  ETA 12 s");
  assert.equal(progressLine({ label: "Warm-up", step: 3, of: 10 }, plain), "Warm-up     3/10");
  assert.equal(progressLine({ ...progress, step: 500, loss: null }, plain), "Training   500/500  41.2 K tokens/s");
});

test("colour is escape codes around the bar and nothing else", () => {
  const text = progressLine(progress, { ...screen, color: true });
  assert.ok(text.includes("\x1b[38;5;37m███████████\x1b[0m\x1b[38;5;240m░░░░░░░░░░\x1b[0m"));
  assert.equal(stripVTControlCharacters(text), progressLine(progress, screen));
});

function recorder() {
  const output: string[] = [];
  const clock = { now: 0 };
  return { output, clock, write: (text: string) => output.push(text), now: () => clock.now };
}

test("where nobody watches, a line every tenth of the way and one at the end", () => {
  const { output, write, now, clock } = recorder();
  const bar = new ProgressBar({ write }, plain, now);
  for (let step = 1; step <= 25; step++) {
    clock.now += 1000;
    bar.update({ label: "Training", step, of: 25 });
  }
  bar.finish();
  assert.deepEqual(
    output.map((line) => line.trim().split(/\s+/)[1]),
    ["3/25", "6/25", "9/25", "12/25", "15/25", "18/25", "21/25", "24/25", "25/25"],
  );
  assert.equal(output[1], "Training    6/25  ETA 19 s\n");
});

test("a watched bar is redrawn in place, at most ten times a second, and text goes above it", () => {
  const { output, write, now, clock } = recorder();
  const bar = new ProgressBar({ write }, screen, now);
  bar.update({ label: "Training", step: 1, of: 4 });
  clock.now = 50;
  bar.update({ label: "Training", step: 2, of: 4 });
  bar.log("saved");
  clock.now = 150;
  bar.update({ label: "Training", step: 3, of: 4 });
  bar.update({ label: "Training", step: 4, of: 4 });
  bar.finish();
  bar.log("done");
  const bare = output.map((text) => text.replace(/[█░]+ */, ""));
  assert.deepEqual(bare, [
    "\r\x1b[2KTraining  1/4",
    "\r\x1b[2Ksaved\n",
    "\r\x1b[2KTraining  2/4  ETA 100 ms",
    "\r\x1b[2KTraining  3/4  ETA 75 ms",
    "\r\x1b[2KTraining  4/4",
    "\r\x1b[2KTraining  4/4",
    "\n",
    "done\n",
  ]);
});

test("the style follows the terminal and the environment", () => {
  assert.deepEqual(styleOf({ isTTY: true, columns: 120 }, {}), { width: 120, interactive: true, color: true });
  assert.deepEqual(styleOf({ isTTY: true, columns: 120 }, { COLUMNS: "60", NO_COLOR: "1" }), { width: 60, interactive: true, color: false });
  assert.deepEqual(styleOf({ isTTY: true, columns: 5 }, { TERM: "dumb" }), { width: 20, interactive: false, color: false });
  assert.deepEqual(styleOf({}, { COLUMNS: "x" }), { width: 80, interactive: false, color: false });
});
