/**
 * Drives the form of the training panel as a person does, and reads its plan: rows by the key that they show. It knows the panel's `data-` attributes and
 * nothing of how a value is kept.
 */
import type { Frame, Locator } from "playwright-core";
import { type BytesByClass, memoryClasses } from "../../src/protocol/memory.ts";
import { panelTitle } from "./panelReading.ts";
import { until, type WorkbenchWindow } from "./window.ts";

/** The panel that shows a run file, by the file's name. */
export function panelOfFile({ page }: WorkbenchWindow, name: string): Promise<Frame> {
  return until(
    `the panel of ${name}`,
    async () => {
      for (const frame of page.frames()) {
        const shown = await frame
          .evaluate((title) => (document.title === title ? document.querySelector(".form-file")?.textContent : null), panelTitle)
          .catch(() => null);
        if (shown === name) return frame;
      }
      return null;
    },
    60_000,
  );
}

export function formRow(panel: Frame, key: string): Locator {
  return panel.locator(`.form-row[data-path="${key}"]`);
}

/** The text in a field. */
export function fieldValue(panel: Frame, key: string): Promise<string> {
  return formRow(panel, key).locator("vscode-text-field input").inputValue();
}

/** Types a value and leaves it with Enter. */
export async function enter(panel: Frame, key: string, value: string | number): Promise<void> {
  const input = formRow(panel, key).locator("vscode-text-field input");
  await input.fill(String(value));
  await input.press("Enter");
}

/** Chooses in a drop-down list. */
export async function choose(panel: Frame, key: string, value: string): Promise<void> {
  const row = formRow(panel, key);
  await row.locator("vscode-dropdown").click();
  await row.locator(`vscode-option[value="${value}"]`).click();
}

/** What a drop-down list stands at. */
export function choice(panel: Frame, key: string): Promise<string> {
  return formRow(panel, key)
    .locator("vscode-dropdown")
    .evaluate((dropdown) => (dropdown as HTMLSelectElement).value);
}

export interface ShownPeak {
  peakBytes: number;
  bytesByClass: BytesByClass;
}

/** The plan's bytes as its bars carry them: of the run, and of full fine-tuning. Null while there is no plan. */
export async function shownPlan(panel: Frame): Promise<{ plan: ShownPeak; fullFineTuning: ShownPeak; fits: boolean } | null> {
  const rows = await panel.locator(".plan[data-plan=plan] .plan-row").evaluateAll((elements) =>
    elements.map((row) => {
      const figure = row.querySelector<HTMLElement>(".plan-figure")?.dataset ?? {};
      const parts = [...row.querySelectorAll<HTMLElement>(".plan-part")].map(({ dataset }) => [dataset.memory ?? "", Number(dataset.bytes)] as const);
      return { origin: figure.origin, peakBytes: Number(figure.bytes), parts };
    }),
  );
  const fits = await panel
    .locator(".plan-verdict")
    .getAttribute("data-fits", { timeout: 1000 })
    .catch(() => null);
  const peak = (origin: string): ShownPeak | null => {
    const row = rows.find((one) => one.origin === origin);
    if (!row) return null;
    const known = new Map(row.parts);
    const bytesByClass = Object.fromEntries(memoryClasses.map((name) => [name, known.get(name) ?? 0])) as BytesByClass;
    return { peakBytes: row.peakBytes, bytesByClass };
  };
  const [plan, fullFineTuning] = [peak("plan"), peak("fullFineTuning")];
  return plan && fullFineTuning && fits !== null ? { plan, fullFineTuning, fits: fits === "true" } : null;
}

/** Bytes of device memory that the panel shows as measured, by class and at the peak; those of 0 bytes are left out. */
export async function shownMemory(panel: Frame): Promise<Map<string, number>> {
  const cells = await panel
    .locator('.memory-table [data-origin="measured"][data-bytes]')
    .evaluateAll((elements) => elements.map(({ dataset }) => [dataset.memory ?? "", Number(dataset.bytes)] as const) as [string, number][])
    .catch(() => []);
  return new Map(cells.filter(([, bytes]) => bytes > 0));
}
