/**
 * The inspector's page, fed by a core that trains and by made-up answers: a picture stays until the next one has come, colours and figures are of one step,
 * and of a large block the visible window alone is asked for. What the inspector is in VS Code stands in the other end-to-end tests.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { analyze } from "../../src/core/blocks/analysis.ts";
import { readSelection } from "../../src/core/commands/train.ts";
import type { BlockPlace } from "../../src/protocol/coreProtocol.ts";
import type { FromInspector, StepChoice, ToInspector } from "../../src/protocol/inspectorProtocol.ts";
import type { Selection } from "../../src/protocol/selection.ts";
import { newRun, running, WatchingHost } from "../core/host/runningCore.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { browserArguments, findBrowser } from "./browser.ts";
import { serveWebview } from "./panelPage.ts";

type Values = Extract<ToInspector, { kind: "values" }>;
type Asked = Extract<FromInspector, { kind: "readWindow" }>;

let inspector: Awaited<ReturnType<typeof serveWebview>>;
let browser: Browser;
before(
  async () => {
    inspector = await serveWebview("inspector");
    browser = await chromium.launch({ executablePath: findBrowser(), args: browserArguments });
  },
  { timeout: 120_000 },
);
after(async () => {
  await browser?.close();
  inspector?.close();
});

/** The inspector on one block; `read` answers what it asks, and `asked` is all of that. */
async function open(
  test: { after(clean: () => unknown): void },
  block: BlockPlace,
  { at, live, read }: { at: StepChoice; live: boolean; read: (asked: Asked) => Promise<Omit<Values, "kind" | "request">> },
): Promise<{ page: Page; asked: Asked[]; moved(step: number): Promise<void> }> {
  const page = await browser.newPage({ viewport: { width: 900, height: 1200 } });
  test.after(() => page.close());
  const post = (message: ToInspector) => {
    const values = "values" in message ? Buffer.from(new Uint8Array(Float32Array.from(message.values).buffer)).toString("base64") : null;
    return page.evaluate(
      ([given, packed]) => {
        const bytes = packed === null ? null : Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
        const data = bytes ? { ...given, values: new Float32Array(bytes.buffer) } : given;
        window.dispatchEvent(new MessageEvent("message", { data }));
      },
      [{ ...message, values: null }, values] as const,
    );
  };
  const asked: Asked[] = [];
  await page.exposeFunction("onMessage", async (message: FromInspector) => {
    if (message.kind === "history") return post({ kind: "history", request: message.request, cells: [] });
    if (message.kind === "neighbours") return post({ kind: "neighbours", request: message.request, cells: new Array(9).fill(null) });
    if (message.kind !== "readWindow") return;
    asked.push(message);
    await post({ kind: "values", request: message.request, ...(await read(message)) });
  });
  await page.goto(inspector.url);
  await page.waitForFunction(() => (window as unknown as { sent: string[] }).sent.includes("ready"));
  const shown = { runName: "some", blockSize: 16, live, steps: [], selected: [], left: { ...block, at }, right: null };
  await post({ kind: "hydrate", strings: {}, ...shown });
  return { page, asked, moved: (step) => post({ kind: "moved", live, step, steps: [] }) };
}

/** What the page shows at one moment. */
interface Seen {
  step: string;
  smallest: number;
  largest: number;
  /** Cells of the 16 × 16 that nothing is drawn in. */
  empty: number;
  /** How near the bluest and the most orange cell come to full colour, 0 … 1. */
  blue: number;
  orange: number;
}

/** Looks at a page that shows 16 × 16 values, once a frame, until it has shown so many steps. */
function watch(page: Page, steps: number): Promise<Seen[]> {
  return page.evaluate(
    (wanted) =>
      new Promise<Seen[]>((resolve) => {
        const seen: Seen[] = [];
        const known = new Set<string>();
        const fact = (name: string) =>
          [...document.querySelectorAll("dt")].find((term) => term.textContent === name)?.nextElementSibling?.textContent;
        const look = () => {
          const canvas = document.querySelector("canvas") as HTMLCanvasElement;
          const { data, width } = (canvas.getContext("2d") as CanvasRenderingContext2D).getImageData(0, 0, canvas.width, canvas.height);
          let [empty, blue, orange] = [0, 0, 0];
          for (let i = 0; i < 256; i++) {
            const at = 4 * (Math.floor(((i >> 4) + 0.5) * (width / 16)) * width + Math.floor(((i & 15) + 0.5) * (width / 16)));
            const [red, , blueness, alpha] = data.subarray(at, at + 4);
            if (alpha === 0) empty++;
            else if (red < blueness) blue = Math.max(blue, (255 - red) / 250);
            else orange = Math.max(orange, (255 - blueness) / 255);
          }
          const step = fact("Step") ?? "";
          seen.push({ step, smallest: Number(fact("Smallest")), largest: Number(fact("Largest")), empty, blue, orange });
          known.add(step);
          if (known.size > wanted) resolve(seen);
          else requestAnimationFrame(look);
        };
        look();
      }),
    steps,
  );
}

test("on a run that trains the matrix is never empty, and its colours are those of the figures' step", async (t) => {
  const overrides = {
    method: { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 1 } },
    // Steps of a tenth of a second or so: long enough to see what is shown between two of them.
    train: { steps: 1_000_000, batchSize: 8, sequenceLength: 256 },
    evaluate: { every: null },
    checkpoint: { every: null },
  };
  const runFolder = await newRun(temporaryFolder(t), overrides);
  const host = await WatchingHost.attach(t, await running(t, runFolder));
  await host.seen(({ kind }) => kind === "step");
  const [{ name, row, column }] = (readSelection(runFolder) as Selection).blocks;
  const read = async ({ window, analyze }: Asked) => {
    const block = await host.client.readBlock({ name, row, column, part: "gradient", window, analyze });
    assert.ok(block.available);
    return block;
  };
  const { page, asked, moved } = await open(t, { name, row, column }, { at: "now", live: true, read });
  await page.getByText("Frobenius norm").waitFor();
  const watching = watch(page, 4);
  let done = false;
  void watching.finally(() => {
    done = true;
  });
  for (let told = 0; !done; told = host.steps) {
    await host.seen((event) => event.kind === "step" && event.step > told);
    await moved(host.steps);
  }
  const seen = await watching;
  assert.ok(asked.every(({ analyze }) => analyze));
  for (const { step, smallest, largest, empty, blue, orange } of seen) {
    assert.equal(empty, 0, `empty at step ${step}`);
    const scale = Math.max(-smallest, largest);
    const near = (colour: number, value: number) => Math.abs(colour - Math.max(0, value) / scale) < 0.01;
    assert.ok(near(blue, -smallest) && near(orange, largest), `step ${step}: ${smallest} to ${largest} is drawn as ${blue} and ${orange}`);
  }
});

/** Values of a block of 16 × 16 that differ from step to step. */
const stepValues = (step: number) => Float32Array.from({ length: 256 }, (_, i) => (i === 0 ? -step : i / 256));

test("a picture stays as it is until the next one has come, and then everything changes at once", async (t) => {
  let step = 1;
  let release: Promise<void> = Promise.resolve();
  const read = async () => {
    await release;
    const values = stepValues(step);
    return { step, rows: 16, columns: 16, blockRows: 16, blockColumns: 16, values, analysis: analyze(values, 16, 16), analysisMs: 0 };
  };
  const block = { name: "model.layers.0.mlp.up_proj", row: 0, column: 0 };
  const { page, asked, moved } = await open(t, block, { at: "now", live: true, read });
  await page.getByText("Frobenius norm").waitFor();
  const looks = async () => [await page.locator("canvas").screenshot(), await page.locator("dl").innerText()] as const;
  const [picture, facts] = await looks();
  let letGo: () => void = () => {};
  release = new Promise((resolve) => {
    letGo = resolve;
  });
  step = 2;
  await moved(2);
  await t.waitFor(() => assert.equal(asked.length, 2));
  const [meanwhile, factsMeanwhile] = await looks();
  assert.ok(picture.equals(meanwhile), "the picture went before the next one came");
  assert.equal(factsMeanwhile, facts);
  letGo();
  await page.waitForFunction(() => document.querySelector("dd")?.textContent === "2");
  const [later] = await looks();
  assert.ok(!picture.equals(later));
});

test("of a block of 4096 × 4096 the visible window is asked for and drawn, and why there are no statistics is said", async (t) => {
  let step = 7;
  const read = async ({ window, analyze: wanted }: Asked) => {
    const [rows, columns] = [Math.min(window.rows, 4096 - window.row), Math.min(window.columns, 4096 - window.column)];
    const values = new Float32Array(rows * columns).fill(1);
    return { step, rows, columns, blockRows: 4096, blockColumns: 4096, values, ...(wanted ? { analysis: null } : {}) };
  };
  const block = { name: "model.layers.0.mlp.up_proj", row: 0, column: 0 };
  const { page, asked, moved } = await open(t, block, { at: "now", live: false, read });
  await page.getByText("4096 × 4096").waitFor();
  await page.getByText("No statistics: they are made of blocks of up to 4194304 values.").waitFor();
  await page.getByText("Rows 0 to 359 of 4096, columns 0 to 359 of 4096").waitFor();
  await page.locator("canvas").press("End");
  await page.getByText("row 4095, column 4095: 1").waitFor();
  await page.getByText("Rows 3736 to 4095 of 4096, columns 3736 to 4095 of 4096").waitFor();
  assert.deepEqual(
    asked.map(({ window: { row, column, rows, columns }, analyze: wanted }) => [row, column, rows, columns, wanted]),
    [
      [0, 0, 360, 360, true],
      [3736, 3736, 360, 360, false],
    ],
  );
  // The run has saved another checkpoint meanwhile: values of it are not shown under the figures of the one before.
  step = 9;
  await moved(9);
  await page.waitForFunction(() => document.querySelector("dd")?.textContent === "9");
  assert.deepEqual(
    asked.slice(2).map(({ analyze: wanted }) => wanted),
    [false, true],
  );
});
