/**
 * Speed of the training panel on LLaMA-7B's shapes, in a real Chromium: `npm run bench:panel [CHROMIUM]`. Feeds the built panel warm-up frames of 100,000 and 400,000
 * blocks at their rates and prints the main thread's time a frame (script, layout and paint, by the browser's own count), the longest task, the time
 * to restore a panel, and the service's time for a new plan. Figures, no verdicts: nothing here is a test.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { chromium, type Page } from "playwright-core";
import { ServiceClient } from "../../src/extension/service/serviceClient.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import type { HeatmapFrame, RunView, ToPanel } from "../../src/protocol/panelProtocol.ts";

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

const run: RunView = {
  runFolder: "/runs/llama-7b",
  name: "llama-7b",
  state: "running",
  step: 0,
  totalSteps: 20_000,
  warmup: { step: 1, of: 100 },
  loss: 2,
  remainingMs: 3_600_000,
  failure: null,
  logTail: [],
  pid: 1,
  machineBytes: 64 * 2 ** 30,
};

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

async function servePanel(): Promise<{ url: string; close(): void }> {
  const page = `<!DOCTYPE html><html><head><meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; script-src 'nonce-n'">
<link rel="stylesheet" href="/panel.css"></head><body class="vscode-dark"><main id="root"></main>
<script nonce="n">window.sent = []; window.acquireVsCodeApi = () => ({ postMessage: (m) => { window.sent.push(m.kind); window.onSent?.(m.kind); }, getState() {}, setState() {} });</script>
<script type="module" nonce="n" src="/panel.js"></script></body></html>`;
  const types: Record<string, string> = { js: "text/javascript", css: "text/css" };
  const server = http.createServer(async (request, response) => {
    const name = (request.url ?? "/").slice(1);
    if (!/^panel\.(js|css)$/.test(name)) return void response.setHeader("content-type", "text/html").end(page);
    response.setHeader("content-type", types[name.split(".")[1]]).end(await readFile(path.join(root, "dist/webview", name)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => server.close() };
}

/** Messages cross as bytes beside their JSON, as structured clone would bring them. */
async function feed(page: Page, message: ToPanel): Promise<void> {
  const frames = message.kind === "hydrate" ? message.frames : message.kind === "frame" ? [message.frame] : [];
  const payloads = frames.map(({ payload }) => Buffer.from(payload).toString("base64"));
  await page.evaluate(
    ([text, packed]) => {
      const decoded = JSON.parse(text as string);
      const list = decoded.kind === "frame" ? [decoded.frame] : (decoded.frames ?? []);
      list.forEach((frame: { payload: Uint8Array }, i: number) => {
        frame.payload = Uint8Array.from(atob((packed as string[])[i]), (character) => character.charCodeAt(0));
      });
      (window as unknown as { prepared: unknown }).prepared = decoded;
    },
    [JSON.stringify(message, (key, value) => (key === "payload" ? null : value)), payloads] as const,
  );
}

/** Delivers the prepared message and waits until the panel has painted it; milliseconds until then. */
function deliver(page: Page, shown: string): Promise<number> {
  return page.evaluate(
    (kind) =>
      new Promise<number>((resolve) => {
        const scope = window as unknown as { prepared: unknown; onSent: ((sent: string) => void) | null };
        const started = performance.now();
        scope.onSent = (sent) => {
          if (sent !== kind) return;
          scope.onSent = null;
          requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
        };
        window.dispatchEvent(new MessageEvent("message", { data: scope.prepared }));
      }),
    shown,
  );
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];

async function frames(page: Page, blockSize: number, perSecond: number, count: number): Promise<void> {
  const cells = scoresFrame(blockSize, 0).payload.length;
  await feed(page, {
    kind: "hydrate",
    strings: {},
    run,
    form: null,
    plan: { kind: "none" },
    events: events(5000),
    frames: [scoresFrame(blockSize, 0)],
  });
  const restoreMs = await deliver(page, "frameShown");
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
    await feed(page, { kind: "frame", frame: scoresFrame(blockSize, step) });
    // What the feeding itself cost is over and counted before the frame begins.
    await page.evaluate(() => {
      (window as unknown as { longest: number }).longest = 0;
    });
    const before = await busyMs();
    await deliver(page, "frameShown");
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

const program = [process.argv[2], process.env.CHROME_PATH, "/usr/bin/chromium", "/usr/bin/google-chrome"].find((file) => file && existsSync(file));
if (!program) throw new Error("No Chromium was found: name one as the argument or in CHROME_PATH.");
await plans();
const panel = await servePanel();
const browser = await chromium.launch({ executablePath: program, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
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
