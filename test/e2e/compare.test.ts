/**
 * Compare Runs in the real VS Code: two finished runs side by side, a finished comparison with its plateau figure and the accuracy on a test set, in every theme;
 * exports; and a comparison that is started, watched in view, Runs view and status bar, goes on over a reload of the window, is stopped and resumed, and told of
 * when it ends. Figures are held against the folders' own files.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import { type ComparisonLine, parseComparisonLines } from "../../src/protocol/compareResults.ts";
import { summarise } from "../../src/protocol/compareSummary.ts";
import { panelTitle } from "./panelReading.ts";
import { eventsOf, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until, type WorkbenchWindow } from "./window.ts";
import { type Theme, themes } from "./workbench.ts";

const root = path.resolve(import.meta.dirname, "../..");
const cli = path.join(root, "dist/cli.js");
const title = "Sparse Tuner Compare Runs";
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const bodyClass: Record<Theme, string> = {
  dark: "vscode-dark",
  light: "vscode-light",
  "hc-black": "vscode-high-contrast",
  "hc-light": "vscode-high-contrast-light",
};

const data = "data: { train: data/gsm8k-train.jsonl, eval: data/gsm8k-test.jsonl }";
const runFile = (method: string) =>
  `model: ./model\n${data}\nmethod: ${method}\ntrain: { steps: 20, sequenceLength: 64, learningRate: 3.0e-3 }\nevaluate: { every: 10, rows: 5 }\n`;
const methods = [
  "{ name: smt, blockSize: 16, warmup: { steps: 1 } }",
  "{ name: smt, label: diagonal, score: diagonal, blockSize: 16 }",
  "{ name: full, label: full FT }",
];
/** The plateau alone is scored on a test set too. */
const task = "task: { name: boolq, data: boolq.json }\n";
const comparison = (steps: number) =>
  `model: ./model\n${data}\nmethods: [${methods.join(", ")}]\nbudgets: [2000, 8000, 32000]\nlearningRates: [1.0e-3, 3.0e-3]\nseeds: [1, 2, 3]\ntrain: { steps: ${steps}, batchSize: 2, sequenceLength: 64, learningRateWarmupSteps: 2 }\nevaluate: { every: null, rows: 5 }\n`;

function fill(folder: string): void {
  const filter = (file: string) => !file.endsWith(".sparse-tuner.yaml");
  cpSync(path.join(root, "media/demo"), folder, { recursive: true, filter });
  const files = {
    "blocks.sparse-tuner.yaml": ["train", runFile("{ name: smt, blocks: 40, blockSize: 16, warmup: { steps: 2 } }")],
    "all.sparse-tuner.yaml": ["train", runFile("{ name: full }")],
    "plateau.sparse-tuner-compare.yaml": ["compare", comparison(6) + task],
  };
  cpSync(path.join(root, "test/fixtures/tasks/boolq/test.json"), path.join(folder, "boolq.json"));
  for (const [name, [command, text]] of Object.entries(files)) {
    writeFileSync(path.join(folder, name), text);
    execFileSync(process.execPath, [cli, command, path.join(folder, name)], { stdio: "ignore" });
  }
  // More runs than are done while a window is reloaded, however fast the machine.
  const seeds = `seeds: [${Array.from({ length: 60 }, (_, index) => index + 1).join(", ")}]`;
  const live = comparison(150).replace("budgets: [2000, 8000, 32000]", "budgets: [8000]").replace("seeds: [1, 2, 3]", seeds);
  writeFileSync(path.join(folder, "live.sparse-tuner-compare.yaml"), live);
}

const inWorkbench = workbenchSession({
  workspace: { fill },
  viewport: { width: 1400, height: 1300 },
  settings: { "files.simpleDialog.enable": true },
});

const comparisonsOf = (workspace: string | null) => {
  const folder = path.join(workspace ?? "", ".sparse-tuner/comparisons");
  return existsSync(folder) ? readdirSync(folder).map((name) => path.join(folder, name)) : [];
};
const named = (workspace: string | null, name: string) => comparisonsOf(workspace).find((folder) => folder.endsWith(`-${name}`)) ?? "";
const linesOf = (folder: string): ComparisonLine[] =>
  existsSync(path.join(folder, "results.jsonl")) ? parseComparisonLines(readFileSync(path.join(folder, "results.jsonl"), "utf8")) : [];

/** The cells of a table, row by row, header first. */
async function cells(frame: Frame, caption: RegExp | string): Promise<string[][]> {
  const table = frame.locator("table").filter({ has: frame.locator("caption", { hasText: caption }) });
  await table.waitFor();
  return table.locator("tr").evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent ?? "")));
}

async function seriousFindings(frame: Frame): Promise<string[]> {
  await frame.evaluate(axe);
  await frame.evaluate(() => {
    document.documentElement.style.background = "var(--vscode-editor-background)";
  });
  const violations = await frame.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] }> };
    };
    return (await axe.run()).violations;
  });
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return serious.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}\n${failureSummary}`));
}

async function inEveryTheme(window: WorkbenchWindow, frame: Frame, name: string): Promise<void> {
  for (const theme of Object.keys(themes) as Theme[]) {
    await window.setTheme(themes[theme]);
    await frame.locator(`body.${bodyClass[theme]}`).waitFor();
    await window.screenshot(`compare-${name}-${theme}`);
    assert.deepEqual(await seriousFindings(frame), [], theme);
  }
  await window.setTheme(themes.dark);
}

async function closeAll(window: WorkbenchWindow): Promise<void> {
  await window.runCommand("View: Close All Editors");
  await until("no view any more", async () => (await window.findFrame(title)) === null);
}

test(
  "two finished runs side by side: table and curves are those of their events",
  inWorkbench(async ({ window, workspace }) => {
    await window.runCommandAndPick("Sparse Tuner: Compare Runs", /Choose runs/);
    for (const name of ["blocks", "all"]) {
      const row = window.quickPickRows.filter({ hasText: name });
      await until(`${name} to be ticked`, async () => (await row.getAttribute("aria-checked")) === "true" || (await row.click().then(() => false)));
    }
    await window.quickInput.getByText("2 Selected").waitFor();
    await window.page.keyboard.press("Enter");
    const frame = await window.frame(title, 60_000);
    const [head, ...rows] = await cells(frame, "Runs side by side");
    assert.deepEqual(head.slice(0, 6), ["Run", "Method", "Trained parameters", "Held-out loss before", "after", "change"]);
    assert.equal(rows.length, 2);
    for (const row of rows) {
      const folder = runFolders(workspace ?? "").find((run) => run.endsWith(row[0])) ?? "";
      const losses = eventsOf(folder).flatMap((event) => (event.kind === "evaluation" ? [event.loss] : []));
      assert.deepEqual([row[3], row[4]], [losses[0].toFixed(4), losses[losses.length - 1].toFixed(4)], row[0]);
      assert.equal(row[8], "20");
    }
    await until("the parameters of both", async () => (await cells(frame, "Runs side by side")).slice(1).every((row) => /^[\d.]+ K$/.test(row[2])));
    assert.match(rows.find((row) => row[0] === "all")?.[2] ?? "", /^656 K$/);
    const label = (await frame.locator(".chart-plot").getAttribute("aria-label")) ?? "";
    assert.match(label, /^Training loss: .*all \d\.\d+/);
    // Lines of two colours are on the canvas.
    const colours = await frame.locator(".chart-plot canvas").evaluate((canvas) => {
      const { width, height } = canvas as HTMLCanvasElement;
      const pixels = (canvas as HTMLCanvasElement).getContext("2d")?.getImageData(0, 0, width, height).data ?? new Uint8ClampedArray();
      const seen = new Set<string>();
      for (let i = 0; i < pixels.length; i += 4)
        if (pixels[i + 3] > 200 && Math.max(pixels[i], pixels[i + 1], pixels[i + 2]) - Math.min(pixels[i], pixels[i + 1], pixels[i + 2]) > 100)
          seen.add(pixels[i] > pixels[i + 2] ? "orange" : "blue");
      return [...seen].sort();
    });
    assert.deepEqual(colours, ["blue", "orange"]);
    await inEveryTheme(window, frame, "runs");
    await frame.getByRole("combobox", { name: "Curves to show" }).click();
    await frame.getByRole("option", { name: "Held-out loss" }).click();
    await until("the held-out curves", async () => /^Held-out loss/.test((await frame.locator(".chart-plot").getAttribute("aria-label")) ?? ""));
    await window.screenshot("compare-runs-held-out");
  }),
);

test(
  "rows that are selected in the Runs view are put side by side by their menu",
  inWorkbench(async ({ window }) => {
    await closeAll(window);
    await window.openContainer("Sparse Tuner");
    const row = (name: string) => window.treeRows("Runs").filter({ hasText: name }).first();
    for (const name of ["blocks", "all"]) await row(name).click({ modifiers: ["ControlOrMeta"] });
    await until("both rows to be selected", async () => (await window.treeRows("Runs").and(window.page.locator(".selected")).count()) === 2);
    await row("all").click({ button: "right" });
    await window.page.getByRole("menuitem", { name: "Compare Runs" }).hover();
    // What is done to one run is not offered for several.
    assert.equal(await window.page.getByRole("menuitem", { name: "Duplicate Run" }).count(), 0);
    await window.page.keyboard.press("Enter");
    const frame = await window.frame(title, 60_000);
    assert.equal((await cells(frame, "Runs side by side")).length, 3);
    await frame.getByText("2 runs side by side").waitFor();
  }),
);

test(
  "a finished comparison: figure, table and every run are its results",
  inWorkbench(async ({ window, workspace }) => {
    await closeAll(window);
    await window.runCommandAndPick("Sparse Tuner: Compare Runs", /plateau/);
    const frame = await window.frame(title, 60_000);
    const summary = summarise(linesOf(named(workspace, "plateau")));
    assert.ok(summary);
    const [head, ...rows] = await cells(frame, "Methods at their budgets");
    assert.equal(rows.length, 7);
    for (const [index, { point, mean, spread }] of summary.points.entries()) {
      const row = rows[index];
      assert.equal(row[0], point.label);
      assert.equal(row[head.indexOf("Held-out loss")], `${mean?.toFixed(4)} ± ${spread?.toFixed(4)}`);
      assert.equal(row[head.indexOf("Seeds")], "3 of 3");
    }
    for (const [index, { accuracy, accuracySpread }] of summary.points.entries())
      assert.equal(
        rows[index][head.indexOf("BoolQ (floor 60.0 %)")],
        `${(100 * (accuracy ?? Number.NaN)).toFixed(1)} % ± ${(100 * (accuracySpread ?? Number.NaN)).toFixed(1)}`,
      );
    await frame
      .locator(".notes")
      .getByText(`the untrained model is right in ${(100 * (summary.task?.before?.accuracy ?? 0)).toFixed(1)} % of 10`)
      .waitFor();
    // A marker with a tip for each point in each of the four charts.
    assert.equal(await frame.locator(".figure svg g > title").count(), 28);
    assert.match((await frame.locator(".figure svg").getAttribute("aria-label")) ?? "", /full FT with 656 K parameters/);
    await frame.locator("summary").click();
    assert.equal((await cells(frame, /^Every run$/)).length, 1 + 7 * 4);
    await inEveryTheme(window, frame, "plateau");
  }),
);

test(
  "the keyboard reaches buttons, tables and runs; a run's file and panel open",
  inWorkbench(async ({ window, workspace }) => {
    const frame = await window.frame(title);
    await frame.locator("h1").click();
    const reached = new Set<string>();
    for (let i = 0; i < 14; i++) {
      await window.page.keyboard.press("Tab");
      const name = await frame.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.tagName ?? "");
      reached.add(name);
    }
    for (const name of ["Save the figure as SVG", "Reveal folder", "SUMMARY"])
      assert.ok(reached.has(name), `${name} is not among ${[...reached].join(", ")}`);
    assert.ok([...reached].some((name) => name.startsWith("Methods at their budgets")));
    await frame.getByRole("button", { name: "Open the run file of diagonal-2000-lr0.001-seed1" }).click();
    await window.tab("run.yaml").waitFor();
    await window.page.locator(".part.editor").getByText("diagonal").first().waitFor();
    await window.runCommand("View: Close Editor");
    // The page was made anew, and the list of runs is open as it was.
    await (await window.frame(title)).getByRole("button", { name: "Open the panel of full-ft-lr0.001-seed1" }).click();
    const panel = await window.frame(panelTitle, 60_000);
    await panel.getByText("full-ft-lr0.001-seed1").first().waitFor();
    assert.ok(named(workspace, "plateau"));
    await window.runCommand("View: Close Editor");
  }),
);

test(
  "CSV, SVG and PNG are saved where the person says, and are whole",
  inWorkbench(async ({ window, workspace }) => {
    const folder = named(workspace, "plateau");
    for (const [button, name, whole] of [
      ["Save every run as CSV", "plateau-comparison.csv", (bytes: Buffer) => bytes.equals(readFileSync(path.join(folder, "results.csv")))],
      ["Save the figure as SVG", "plateau-comparison.svg", (bytes: Buffer) => /^<\?xml.*<svg.*full FT.*<\/svg>\n$/s.test(bytes.toString())],
      ["Save the figure as PNG", "plateau-comparison.png", (bytes: Buffer) => bytes.subarray(1, 4).toString() === "PNG" && bytes.length > 10_000],
    ] as const) {
      const file = path.join(workspace ?? "", name);
      await (await window.frame(title)).getByRole("button", { name: button }).click();
      await until("the dialog", async () => (await window.quickInput.locator("input").first().inputValue()).endsWith(name));
      const input = window.quickInput.locator("input").first();
      await input.fill(file);
      // The dialog looks at the disk before it takes a path.
      await until("the dialog to take the path", async () => {
        if (!(await window.quickInput.isVisible())) return true;
        await input.press("Enter").catch(() => undefined);
        return !(await window.quickInput.isVisible());
      });
      await until(`${name} on the disk`, () => existsSync(file) && whole(readFileSync(file)));
    }
  }),
);

test(
  "a comparison is started from its file, watched, stopped and resumed",
  inWorkbench(async ({ window, workspace }) => {
    await closeAll(window);
    await window.openFile("live.sparse-tuner-compare.yaml");
    await window.page.locator(".codelens-decoration").getByText("Start comparison").click();
    let frame = await window.frame(title, 120_000);
    await frame.locator(".status").getByText("running").waitFor({ timeout: 60_000 });
    await frame.getByText("The figure appears when the learning rate of a first method is chosen.").waitFor();
    await until("a step of a run", async () => /step \d+ of 150/.test((await frame.locator(".status").textContent()) ?? ""), 120_000);
    await window.screenshot("compare-live");
    // The same in the status bar and the Runs view, where it is found again after the window was reloaded: the process is the same.
    const folder = named(workspace, "live");
    const pidOf = () => JSON.parse(readFileSync(path.join(folder, "run.lock"), "utf8")).pid as number;
    const pid = pidOf();
    const bar = () => window.page.locator(".statusbar-item", { hasText: /live · \d+ \/ \d+ runs/ });
    await bar().waitFor();
    await window.stateSaved(path.basename(folder));
    await window.reload();
    await bar().waitFor({ timeout: 120_000 });
    frame = await window.frame(title, 120_000);
    await frame.locator(".status").getByText("running").waitFor({ timeout: 60_000 });
    assert.equal(pidOf(), pid);
    await window.openContainer("Sparse Tuner");
    const row = window.treeRows("Runs").filter({ hasText: "live" });
    await row.getByText(/running · \d+ \/ \d+ runs/).waitFor();
    await window.screenshot("compare-live-reloaded");
    await row.first().hover();
    await row.getByRole("button", { name: "Stop Comparison" }).click();
    await frame.locator(".status").getByText("stopped").waitFor({ timeout: 60_000 });
    await row.getByText(/stopped · /).waitFor();
    await bar().waitFor({ state: "detached" });
    const ended = linesOf(folder).at(-1);
    assert.ok(ended?.kind === "ended" && ended.outcome === "stopped");
    await window.screenshot("compare-stopped");
    const before = linesOf(folder).filter(({ kind }) => kind === "result").length;
    await frame.getByRole("button", { name: "Resume" }).click();
    await until("another result", () => linesOf(folder).filter(({ kind }) => kind === "result").length > before, 180_000);
    await until("the figure grows with the results", async () => (await frame.locator(".figure svg g > title").count()) > 0, 240_000);
    await window.screenshot("compare-resumed");
    await frame.getByRole("button", { name: "Stop after this step" }).click();
    await frame.locator(".status").getByText("stopped").waitFor({ timeout: 60_000 });
  }),
);

test(
  "a comparison that ends while nobody looks is told of, and opens from there",
  inWorkbench(async ({ window, workspace, env }) => {
    await closeAll(window);
    const small = comparison(4)
      .replace("[2000, 8000, 32000]", "[]")
      .replace(/methods: .*/, "methods: [{ name: full }]");
    writeFileSync(path.join(workspace ?? "", "short.sparse-tuner-compare.yaml"), small);
    execFileSync(process.execPath, [cli, "compare", path.join(workspace ?? "", "short.sparse-tuner-compare.yaml")], { env, stdio: "ignore" });
    const told = window.page.locator(".notification-list-item", { hasText: "The comparison short is finished: 4 runs." });
    await told.waitFor({ timeout: 60_000 });
    await window.screenshot("compare-told");
    await told.getByRole("button", { name: "Open Comparison" }).click();
    const frame = await window.frame(title, 60_000);
    await frame.locator(".status").getByText("done").waitFor();
  }),
);

test(
  "a new comparison on the model and data of a run file is a file to edit; its errors have their place",
  inWorkbench(async ({ window, workspace }) => {
    await closeAll(window);
    await window.openFile("blocks.sparse-tuner.yaml");
    await window.runCommand("Sparse Tuner: New Comparison");
    await window.tab("blocks.sparse-tuner-compare.yaml").waitFor();
    const text = readFileSync(path.join(workspace ?? "", "blocks.sparse-tuner-compare.yaml"), "utf8");
    assert.match(text, /model: \.\/model\n/);
    assert.match(text, /budgets:\n {2}- 660\n {2}- 3300\n {2}- 13000\n/);
    assert.match(text, /eval: \.\/data\/gsm8k-test\.jsonl/);
    await window.page.locator(".codelens-decoration").getByText("Start comparison").waitFor();
    await window.screenshot("compare-new");
    writeFileSync(path.join(workspace ?? "", "blocks.sparse-tuner-compare.yaml"), text.replace("seeds:", "seeeds:"));
    await window.page.locator(".squiggly-error").first().waitFor();
  }),
);

test(
  "a comparison's folder that has gone is said, with what to do",
  inWorkbench(async ({ window, workspace }) => {
    await closeAll(window);
    const folder = named(workspace, "plateau");
    const config = path.join(folder, "compare.yaml");
    await window.runCommandAndPick("Sparse Tuner: Compare Runs", /plateau/);
    const frame = await window.frame(title, 60_000);
    await frame.locator(".figure svg").waitFor();
    const text = readFileSync(config);
    execFileSync("rm", [config]);
    await frame.getByText("is no comparison folder any more").waitFor();
    await window.screenshot("compare-gone");
    // A comparison can be chosen from here; the one that has gone is not among them.
    await frame.getByRole("button", { name: "Choose another comparison" }).click();
    await window.quickPickRows.filter({ hasText: "live" }).first().waitFor();
    assert.equal(await window.quickPickRows.filter({ hasText: "plateau" }).count(), 0);
    await window.page.keyboard.press("Escape");
    writeFileSync(config, text);
    await frame.locator(".figure svg").waitFor();
    assert.deepEqual(window.policyViolations(), []);
  }),
);
