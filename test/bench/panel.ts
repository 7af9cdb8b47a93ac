/**
 * Speed of the training panel on LLaMA-7B's shapes, in a real Chromium: `npm run bench:panel`. Feeds the built panel warm-up frames of 100,000 and 400,000
 * blocks at their rates and prints the main thread's time a frame (script, layout and paint, by the browser's own count), the longest task, the time
 * to restore a panel, and the service's time for a new plan. Figures, no verdicts: nothing here is a test.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { chromium, type Page } from "playwright-core";
import { ServiceClient } from "../../src/extension/service/serviceClient.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import type { HeatmapFrame } from "../../src/protocol/panelProtocol.ts";
import { browserArguments, findBrowser } from "../e2e/browser.ts";
import { deliver, prepare, serveWebview, someRun } from "../e2e/panelPage.ts";

const root = path.resolve(import.meta.dirname, "../..");

/** Grids of a LLaMA-7B in blocks of so many entries: hidden size 4096, intermediate 11008, 32 layers. */
function llamaGrids(blockSize: number) {
  const [hidden, intermediate] = [4096, 11008].map((entries) => Math.ceil(entries / blockSize));
  const attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => ({ name: `self_attn.${name}`, rows: hidden, columns: hidden }));
  const mlp = [
    { name: "mlp.gate_proj", rows: intermediate, columns: hidden },
    { name: "mlp.up_proj", rows: intermediate, columns: hidden },
    { name: "mlp.down_proj", rows: hidden, columns: intermediate },
  ];
  return Array.from({ length: 32 }, (_, layer) =>
    [...attention, ...mlp].map((matrix) => ({ ...matrix, name: `model.layers.${layer}.${matrix.name}`, low: 0, high: 1 + layer / 32 })),
  ).flat();
}

function scoresFrame(blockSize: number, step: number): HeatmapFrame {
  const matrices = llamaGrids(blockSize);
  const payload = new Uint8Array(matrices.reduce((sum, { rows, columns }) => sum + rows * columns, 0));
  for (let i = 0; i < payload.length; i++) payload[i] = (Math.imul(i + step * 7919, 2654435761) >>> 24) & 255;
  return { header: { kind: "scores", step, afterStep: 0, final: false, matrices }, payload };
}

const run = { ...someRun, name: "llama-7b", runFolder: "/runs/llama-7b" };

/** A history as long as a long run's. */
function events(count: number): RunEvent[] {
  return Array.from({ length: count }, (_, i) => ({
    sequence: i + 1,
    timeMs: 1.7e12 + i * 1000,
    kind: "step" as const,
    step: i + 1,
    loss: 2 + Math.sin(i / 50),
    learningRate: 1e-4,
    gradNorm: 1,
    tokensPerSecond: 1000,
  }));
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];

async function frames(page: Page, blockSize: number, perSecond: number, count: number): Promise<void> {
  const cells = scoresFrame(blockSize, 0).payload.length;
  await prepare(page, {
    kind: "hydrate",
    strings: {},
    run,
    form: null,
    plan: { kind: "none" },
    events: [],
    frames: [scoresFrame(blockSize, 0)],
  });
  const restoreMs = await deliver(page);
  await prepare(page, { kind: "events", events: events(5000) });
  await page.evaluate(() => window.dispatchEvent(new MessageEvent("message", { data: (window as unknown as { prepared: unknown }).prepared })));
  await delay(1000);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const busyMs = async () => 1000 * ((await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0);
  await page.evaluate(() => {
    const scope = window as unknown as { longest: number };
    scope.longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) scope.longest = Math.max(scope.longest, duration);
    }).observe({ entryTypes: ["longtask"] });
  });
  const spent: number[] = [];
  for (let step = 1; step <= count; step++) {
    await prepare(page, { kind: "frame", frame: scoresFrame(blockSize, step) });
    // What the feeding itself cost is over and counted before the frame begins.
    await page.evaluate(() => {
      (window as unknown as { longest: number }).longest = 0;
    });
    const before = await busyMs();
    await deliver(page);
    spent.push((await busyMs()) - before);
    await delay(1000 / perSecond - 50);
  }
  const longest = await page.evaluate(() => (window as unknown as { longest: number }).longest);
  console.log(
    `${cells} blocks, ${perSecond}/s: main thread ${median(spent).toFixed(1)} ms a frame (median of ${count}, 90 % below ${spent.toSorted((a, b) => a - b)[Math.floor(0.9 * count)].toFixed(1)}); longest task ${longest > 0 ? `${longest.toFixed(0)} ms` : "below 50 ms"}; restored in ${restoreMs.toFixed(0)} ms`,
  );
}

/** Time of a new plan for another budget, LLaMA-7B, in a warm service. */
async function plans(): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "sparse-tuner-bench-"));
  const service = new ServiceClient({ program: async () => ({ node: process.execPath, core: path.join(root, "dist/core.js") }), log: () => {} });
  try {
    const config = { architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32 };
    const rest = { num_attention_heads: 32, num_key_value_heads: 32, vocab_size: 32000, max_position_embeddings: 4096, rms_norm_eps: 1e-5 };
    await writeFile(path.join(folder, "config.json"), JSON.stringify({ ...config, ...rest, torch_dtype: "bfloat16", tie_word_embeddings: false }));
    const spent: number[] = [];
    for (let i = 0; i < 21; i++) {
      const text = `model: .\ndata: { train: rows.jsonl }\nmethod: { name: smt, ratio: ${(0.005 + i / 5000).toFixed(4)} }\ntrain: { batchSize: 1, sequenceLength: ${512 + 64 * i} }\n`;
      const started = performance.now();
      await service.request("plan", { runFile: path.join(folder, "run.sparse-tuner.yaml"), text });
      spent.push(performance.now() - started);
    }
    console.log(
      `plan of a LLaMA-7B: first ${spent[0].toFixed(0)} ms with the process's start, then ${median(spent.slice(1)).toFixed(1)} ms (median of 20)`,
    );
  } finally {
    service.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

await plans();
const panel = await serveWebview("panel");
const browser = await chromium.launch({ executablePath: findBrowser(), args: browserArguments });
try {
  for (const [blockSize, perSecond] of [
    [256, 10],
    [128, 4],
  ]) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.on("pageerror", (error) => console.error(error.message));
    await page.goto(panel.url);
    await page.waitForFunction(() => (window as unknown as { sent: string[] }).sent.includes("ready"));
    await frames(page, blockSize, perSecond, 40);
    await page.close();
  }
} finally {
  await browser.close();
  panel.close();
}
