/** A workspace with a run that the command line has finished, as it would come with a repository, and the way to its panel. */
import { execFileSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { panelTitle } from "./panelReading.ts";
import type { WorkbenchWindow } from "./window.ts";

const root = path.resolve(import.meta.dirname, "../..");
export const broughtRunFile = "brought.sparse-tuner.yaml";

export function fillWithRun(folder: string): void {
  const filter = (file: string) => !file.endsWith(".sparse-tuner.yaml");
  cpSync(path.join(root, "media/demo"), folder, { recursive: true, filter });
  const lines = [
    "model: ./model",
    "data: { train: data/gsm8k-train.jsonl, eval: data/gsm8k-test.jsonl }",
    "method: { name: smt, blocks: 40, blockSize: 16, warmup: { steps: 2 } }",
    "train: { steps: 20, sequenceLength: 64 }",
    "evaluate: { every: 10, rows: 5 }",
    "",
  ];
  writeFileSync(path.join(folder, broughtRunFile), lines.join("\n"));
  execFileSync(process.execPath, [path.join(root, "dist/cli.js"), "train", path.join(folder, broughtRunFile)], { stdio: "ignore" });
}

/** Opens the panel of a run from the Runs view. A row that is made anew under the pointer has lost its command: it is clicked again. */
export async function openRun(window: WorkbenchWindow, name: string): Promise<Frame> {
  await window.openContainer("Sparse Tuner");
  const row = window.page.locator(".part.sidebar .monaco-list-row").filter({ hasText: name }).first();
  for (let tries = 0; tries < 5; tries++) {
    await row.click();
    const panel = await window.frame(panelTitle, 6000).catch(() => null);
    if (panel) return panel;
  }
  throw new Error(`A click on ${name} opens no panel`);
}
