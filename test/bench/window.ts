/**
 * What watching costs, in the real VS Code: `npm run bench:window`. A warm-up over 98,304 blocks (the demo's model in blocks of 2 × 2, one thread) sends its heatmap
 * as often as it may. In turn the panel is shown, is hidden, and is hidden while a bare client takes the frames, which is what a watcher costs the core where
 * no workbench and no browser compete with it for the processor. Before that the window is reloaded, and the time until the panel shows the run again is taken:
 * in all, from when VS Code asked for it, and from when VS Code had its page's document. The same is taken of a panel that was hidden behind another tab, when
 * VS Code is not starting at the same time. What the extension host takes with no run at all is taken first. A remote window's host also looks for listening
 * ports, all the time and whoever runs in it: that is off, unless `-- --ports` is given. Figures, no verdicts: nothing here is a test. Linux only.
 */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CoreClient } from "../../src/extension/coreClient.ts";
import { panelTitle } from "../e2e/panelReading.ts";
import { coreRecords, eventsOf, runFolders } from "../e2e/runFolder.ts";
import { sharedVsix } from "../e2e/vsix.ts";
import { until } from "../e2e/window.ts";
import { startWorkbench } from "../e2e/workbench.ts";

const turns = 6;
const turnMs = 8000;
/** Until a window that was just opened has come to rest. */
const settleMs = 15_000;
const reloads = 5;
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

/** In the panel's page: milliseconds from its document's last byte to when the first heatmap was painted. */
function sinceDocument(): number {
  const [document] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  return performance.getEntriesByName("sparse-tuner-frame-shown")[0].startTime - document.responseEnd;
}

/** Per cent of a core that a process takes. */
async function hostShare(pid: number, forMs: number): Promise<number> {
  const [beganMs, before] = [performance.now(), processorMs(pid)];
  await delay(forMs);
  return (100 * (processorMs(pid) - before)) / (performance.now() - beganMs);
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];
const list = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(", ");

const workbench = await startWorkbench({
  vsix: [await sharedVsix()],
  viewport: { width: 1400, height: 900 },
  release: process.argv.includes("--floor") ? "floor" : "newest",
  settings: process.argv.includes("--ports") ? {} : { "remote.autoForwardPortsSource": "output" },
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
  await delay(settleMs);
  const withoutRun = await hostShare(workbench.extensionHosts().at(-1) as number, 2 * turnMs);
  await window.runCommand("Sparse Tuner: Start");
  const cells = 'canvas[data-step]:not([data-step=""])';
  const shows = async () => (await window.findFrame(panelTitle))?.locator(cells).first().isVisible();
  await (await window.frame(panelTitle)).locator(cells).first().waitFor({ timeout: 120_000 });
  const runFolder = runFolders(workbench.workspace as string)[0];
  const [core] = coreRecords(workbench, runFolder);
  const stepsDone = () => eventsOf(runFolder).filter(({ kind }) => kind === "warmup").length;

  /** What the log says of panels that were opened or shown again. */
  const openings = () => [
    ...workbench
      .logs()
      .matchAll(/training panel: its page was ready after (\d+) ms and on the screen, with (its heatmap|no heatmap yet), after (\d+) ms/g),
  ];
  const [whole, ready, asked, own]: number[][] = [[], [], [], []];
  let late = 0;
  for (let i = 0; i < reloads; i++) {
    await window.stateSaved(path.join("runs", path.basename(runFolder)));
    const known = openings().length;
    const beganMs = performance.now();
    await window.reload();
    await until("the panel to come back", shows);
    whole.push(performance.now() - beganMs);
    const opened = (await until("its line in the log", () => openings()[known])) as RegExpExecArray;
    ready.push(Number(opened[1]));
    asked.push(Number(opened[3]));
    own.push(await (await window.frame(panelTitle)).evaluate(sinceDocument));
    if (opened[2] === "no heatmap yet") late++;
  }
  const text = (values: readonly number[]) => `${median(values).toFixed(0)} ms (${values.map((value) => value.toFixed(0)).join(", ")})`;
  console.log(`a reloaded page shows the run again after ${text(whole)}, VS Code's own start included`);
  console.log(`from when VS Code asks for the panel: its page is ready after ${text(ready)} and shows the heatmap after ${text(asked)}`);
  console.log(`from when VS Code has the page's document: the heatmap is shown after ${text(own)}; ${late} came without one at first`);

  const host = workbench.extensionHosts().at(-1) as number;
  /** Heatmaps that the panel has shown since this was called last. */
  const framesShown = async () =>
    (await window.findFrame(panelTitle))
      ?.locator(cells)
      .first()
      .evaluate((canvas) => {
        const counted = canvas as HTMLElement & { shown?: number };
        const since = counted.shown ?? 0;
        if (counted.shown === undefined) new MutationObserver(() => counted.shown!++).observe(canvas, { attributeFilter: ["data-step"] });
        counted.shown = 0;
        return since;
      });

  /** Per cent of a core that the extension host takes, heatmaps shown, the core's steps a second, and its processor time a step in ms. */
  interface Turn {
    host: number;
    framesPerSecond: number;
    stepsPerSecond: number;
    stepMs: number;
  }
  const turn = async (): Promise<Turn> => {
    await delay(2000);
    const read = () => ({ hostMs: processorMs(host), coreMs: processorMs(core.pid), steps: stepsDone(), atMs: performance.now() });
    await framesShown();
    const before = read();
    await delay(turnMs);
    const after = read();
    const frames = (await framesShown()) ?? 0;
    const [ms, steps] = [after.atMs - before.atMs, after.steps - before.steps];
    const framesPerSecond = (1000 * frames) / ms;
    return {
      host: (100 * (after.hostMs - before.hostMs)) / ms,
      framesPerSecond,
      stepsPerSecond: (1000 * steps) / ms,
      stepMs: (after.coreMs - before.coreMs) / steps,
    };
  };
  const shownAgain: { ready: number; asked: number; own: number }[] = [];
  const showPanel = async () => {
    const known = openings().length;
    await window.tab(path.basename(runFolder)).click();
    await until("the panel to be shown again", shows);
    const opened = (await until("its line in the log", () => openings()[known])) as RegExpExecArray;
    const own = await (await window.frame(panelTitle)).evaluate(sinceDocument);
    shownAgain.push({ ready: Number(opened[1]), asked: Number(opened[3]), own });
  };
  // What the panel is hidden behind.
  await window.runCommand("File: New Untitled Text File");
  await showPanel();
  const [shown, hidden, bare]: Turn[][] = [[], [], []];
  let taken = 0;
  for (let i = 0; i < turns; i++) {
    shown.push(await turn());
    if (i === 0) await window.screenshot("bench-window");
    await window.tab("Untitled-1").click();
    hidden.push(await turn());
    const client = await CoreClient.connect({ record: core, name: "bench", listener: { onFrame: () => taken++ } });
    await client.watchHeatmap(true);
    bare.push(await turn());
    client.close();
    await showPanel();
  }
  const again = (value: (each: (typeof shownAgain)[number]) => number) => text(shownAgain.map(value));
  console.log(
    `a panel shown again behind its tab: its page is ready after ${again(({ ready }) => ready)} and shows the heatmap after ${again(({ asked }) => asked)}; from its document ${again(({ own }) => own)}`,
  );
  const shareOf = (of: Turn[]) => `${median(of.map((each) => each.host)).toFixed(1)} %`;
  console.log(
    `98304 blocks: the extension host takes ${shareOf(shown)} of a core while the panel is shown (${median(shown.map(({ framesPerSecond }) => framesPerSecond)).toFixed(1)} heatmaps and ${median(shown.map(({ stepsPerSecond }) => stepsPerSecond)).toFixed(1)} steps a second), ${shareOf(hidden)} while it is hidden, ${withoutRun.toFixed(1)} % before there was a run`,
  );
  const slower = shown.map(({ stepsPerSecond }, i) => 100 * (1 - stepsPerSecond / hidden[i].stepsPerSecond));
  console.log(`warm-up steps come ${median(slower).toFixed(1)} % slower while the panel is shown (${list(slower)})`);
  const dearer = (of: Turn[]) => of.map(({ stepMs }, i) => 100 * (stepMs / hidden[i].stepMs - 1));
  console.log(
    `processor time of the core a step: ${median(hidden.map(({ stepMs }) => stepMs)).toFixed(1)} ms; ${median(dearer(shown)).toFixed(1)} % more while the panel is shown (${list(dearer(shown))}), ${median(dearer(bare)).toFixed(1)} % more while a bare client takes ${(taken / ((turns * (turnMs + 2000)) / 1000)).toFixed(1)} frames a second (${list(dearer(bare))})`,
  );
} finally {
  await workbench.close();
}
