/** Drives the inspector of sub-matrices: which block, which step, which part; and takes the values as a person gets them, by Copy as CSV. */
import assert from "node:assert/strict";
import type { Frame } from "playwright-core";
import { type BlockPart, blockParts } from "../../src/protocol/coreProtocol.ts";
import { blockOfCheckpoint } from "./checkpointBytes.ts";
import type { Place } from "./panelReading.ts";
import { until, type WorkbenchWindow } from "./window.ts";

export const inspectorTitle = "Sparse Tuner Sub-matrix Inspector";

export type RankedPlace = Place & { rank: number };

/** Chooses a block on the left side by the quick pick of the ranked list. */
export async function chooseBlock(window: WorkbenchWindow, inspector: Frame, { name, row, column, rank }: RankedPlace): Promise<void> {
  await inspector.getByRole("button", { name: "Choose block…" }).first().click();
  const label = `${rank + 1}. ${name}`;
  await window.quickInput.locator("input").first().fill(label);
  await window.quickPickRows
    .filter({ hasText: new RegExp(`^\\s*${label.replaceAll(".", "\\.")}`) })
    .first()
    .click();
  await inspector.locator("h2").first().getByText(`${name} · ${row}, ${column}`).waitFor();
}

export async function chooseStep(inspector: Frame, step: number | "now"): Promise<void> {
  await inspector.locator("select").first().selectOption(String(step));
}

/** Shows a part of the left block and returns its values, row-major, as they land on the clipboard. */
export async function copiedValues(window: WorkbenchWindow, inspector: Frame, part: BlockPart): Promise<Float32Array> {
  await inspector.locator(`input[name="part-left"][value="${part}"]`).check();
  await window.page.evaluate(() => navigator.clipboard.writeText("nothing yet"));
  await inspector.getByRole("button", { name: "Copy as CSV" }).first().click();
  const text = await until("the values on the clipboard", async () => {
    const copied = await window.page.evaluate(() => navigator.clipboard.readText());
    return copied === "nothing yet" ? null : copied;
  });
  return Float32Array.from(text.trim().split(/[\n,]/).map(Number));
}

/** Every part of the blocks, shown as of a step, equals an independent read of the checkpoint's bytes. */
export async function assertEqualsCheckpoint(
  { window, inspector }: { window: WorkbenchWindow; inspector: Frame },
  files: { checkpoint: string; model: string },
  blocks: readonly RankedPlace[],
  step: number | "now",
): Promise<void> {
  for (const block of blocks) {
    await chooseBlock(window, inspector, block);
    await chooseStep(inspector, step);
    for (const part of blockParts) {
      const expected = blockOfCheckpoint(files, block, part);
      assert.ok(
        expected.some((value) => value !== 0),
        `${part} of ${block.name} is nothing but zeros`,
      );
      const shown = await copiedValues(window, inspector, part);
      const wrong = expected.findIndex((value, index) => value !== shown[index]);
      assert.equal(shown.length, expected.length);
      assert.equal(
        wrong,
        -1,
        `value ${wrong} is ${shown[wrong]} instead of ${expected[wrong]}: ${part} of ${block.name}:${block.row},${block.column} at ${step}`,
      );
    }
  }
}
