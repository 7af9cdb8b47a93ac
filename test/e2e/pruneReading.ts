/** Drives Prune Model as a person does, and reads the pruning view: its state, and the numbers that its bars and its table carry. */
import type { Frame } from "playwright-core";
import { until, type WorkbenchWindow } from "./window.ts";

export const pruneTitle = "Sparse Tuner Pruning";
const patienceMs = 90_000;

export interface PruneAnswers {
  /** Null where the model is known already. */
  model: string | RegExp | null;
  method: string;
  pattern: string;
  /** Of an n:m pattern's channels; as they are by default. */
  order?: string;
  /** Of RIA for a share. */
  grouping?: string;
  calibration: string;
  /** The label of an entry, or a number. */
  samples: string | number;
}

/** Answers the questions of Prune Model; the last is left to the caller when `target` is null. */
export async function answerPruning(window: WorkbenchWindow, answers: PruneAnswers, target: string | null): Promise<void> {
  const asked = (question: string) => window.quickInput.locator(`input[placeholder="${question}"]`).waitFor({ timeout: patienceMs });
  if (answers.model !== null) {
    await asked("Choose the model to prune");
    await window.pick(answers.model);
  }
  await asked("Choose how the weights that go are found");
  await window.pick(answers.method);
  await asked("Choose how many weights become zero");
  await window.pick(answers.pattern);
  if (answers.pattern.includes(":") && answers.method !== "SparseGPT") {
    await asked("Choose the order in which channels fall into groups");
    await window.pick(answers.order ?? "As they are");
  }
  if (answers.method === "RIA" && !answers.pattern.includes(":")) {
    await asked("Choose among which weights the lowest go");
    await window.pick(answers.grouping ?? "Whole matrix");
  }
  await asked("Choose the text that the model is calibrated on");
  await window.pick(answers.calibration);
  if (answers.calibration !== "No calibration") {
    await asked("Choose how much of the text is used");
    if (typeof answers.samples === "string") await window.pick(answers.samples);
    else {
      await window.pick("Another number…");
      await window.quickInput.getByText("Windows of text").waitFor();
      await window.answer(String(answers.samples));
    }
  }
  await asked("Choose the folder for the pruned model");
  if (target !== null) await window.pick(target);
}

/** The pruning view whose heading names a folder. */
export function pruneView({ page }: WorkbenchWindow, folder: string): Promise<Frame> {
  return until(
    `the pruning view of ${folder}`,
    async () => {
      for (const frame of page.frames()) {
        const shown = await frame
          .evaluate((title) => (document.title === title ? document.querySelector("h1")?.textContent : null), pruneTitle)
          .catch(() => null);
        if (shown === folder) return frame;
      }
      return null;
    },
    patienceMs,
  );
}

export function stateOf(view: Frame): Promise<string> {
  return view.locator("main").evaluate((main) => (main as HTMLElement).dataset.state ?? "");
}

/** A chart's bars: a projection's values by layer; null where it is not measured or not there yet. */
export async function barsOf(view: Frame, chart: "sparsity" | "error"): Promise<Record<string, (number | null)[]>> {
  const rows = await view.locator(`[data-chart=${chart}] [role=row]`).evaluateAll((elements) =>
    elements.map((row) => {
      const bars = [...row.querySelectorAll<HTMLElement>("[role=gridcell]")];
      const values = bars.map(({ dataset }) => (dataset.state === "measured" ? Number(dataset.value) : null));
      return [(row as HTMLElement).dataset.projection ?? "", values] as const;
    }),
  );
  return Object.fromEntries(rows);
}
