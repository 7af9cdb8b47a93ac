/**
 * What watching costs, in the real VS Code: `npm run bench:window`. A warm-up over 98,304 blocks (the demo's model in blocks of 2 × 2, one thread) sends its heatmap
 * as often as it may; the panel is shown and hidden in turn, and the extension host's processor time and the core's steps a second are taken of each turn.
 * Then the window is reloaded, and the time until the panel shows the run again is taken. Figures, no verdicts: nothing here is a test. Linux only.
 */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { panelTitle } from "../e2e/panelReading.ts";
import { eventsOf, runFolders } from "../e2e/runFolder.ts";
import { sharedVsix } from "../e2e/vsix.ts";
import { until } from "../e2e/window.ts";
import { startWorkbench } from "../e2e/workbench.ts";

const turns = 6;
const turnMs = 8000;
/** Linux counts processor time in hundredths of a second. */
const msPerTick = 10;

const runFile = `model: ./model
data: { train: data/gsm8k-train.jsonl }
method: { name: smt, blocks: 40, blockSize: 2, warmup: { steps: 1000000 } }
train: { steps: 1, batchSize: 1, sequenceLength: 256, precision: f32 }
evaluate: { every: null }
threads: 1
`;

/** Milliseconds of processor time that a process has taken. */
function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * msPerTick;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];

const workbench = await startWorkbench({
  vsix: [await sharedVsix()],
  viewport: { width: 1400, height: 900 },
  workspace: {
    name: "bench",
    fill: (folder) => {
      cpSync(path.resolve(import.meta.dirname, "../../media/demo"), folder, { recursive: true });
      writeFileSync(path.join(folder, "demo.sparse-tuner.yaml"), runFile);
    },
  },
});
try {
  const { window } = workbench;
  await window.openFile("demo.sparse-tuner.yaml");
  await window.runCommand("Sparse Tuner: Start");
  const cells = 'canvas[data-step]:not([data-step=""])';
  await (await window.frame(panelTitle)).locator(cells).first().waitFor({ timeout: 120_000 });
  const runFolder = runFolders(workbench.workspace as string)[0];
  const stepsDone = () => eventsOf(runFolder).filter(({ kind }) => kind === "warmup").length;
  const host = workbench.extensionHosts()[0];

  /** One turn: host's share of a core, and the core's steps a second. */
  const turn = async (): Promise<{ host: number; steps: number }> => {
    await delay(2000);
    const before = { ms: processorMs(host), steps: stepsDone(), at: performance.now() };
    await delay(turnMs);
    const seconds = (performance.now() - before.at) / 1000;
    return { host: (processorMs(host) - before.ms) / (10 * seconds), steps: (stepsDone() - before.steps) / seconds };
  };
  const shown: Awaited<ReturnType<typeof turn>>[] = [];
  const hidden: typeof shown = [];
  for (let i = 0; i < turns; i++) {
    shown.push(await turn());
    await window.runCommand(i === 0 ? "File: New Untitled Text File" : "View: Open Next Editor in Group");
    hidden.push(await turn());
    await window.runCommand("View: Open Next Editor in Group");
    await until("the panel to be shown again", async () => (await window.findFrame(panelTitle))?.locator(cells).first().isVisible());
  }
  const slower = shown.map(({ steps }, i) => 100 * (1 - steps / hidden[i].steps));
  console.log(
    `98304 blocks: the extension host takes ${median(shown.map((each) => each.host)).toFixed(1)} % of a core while the panel is shown, ${median(hidden.map((each) => each.host)).toFixed(1)} % while it is hidden`,
  );
  console.log(
    `warm-up steps are ${median(slower).toFixed(1)} % slower while the panel is shown (${slower.map((each) => each.toFixed(1)).join(", ")})`,
  );

  await window.stateSaved(path.join("runs", path.basename(runFolder)));
  await window.reload();
  await window.ready();
  const started = performance.now();
  await until("the panel to come back", async () => (await window.findFrame(panelTitle))?.locator(cells).first().isVisible());
  console.log(`after a reload the panel shows the run ${(performance.now() - started).toFixed(0)} ms after the workbench is there`);
} finally {
  await workbench.close();
}
