/** The demo from the palette to its end: live frames, decoded heatmap cells, shares and memory equal what the core and its run folder say. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Selection } from "../../src/protocol/selection.ts";
import { assertEqualsCheckpoint, inspectorTitle } from "./inspectorReading.ts";
import { clickBlock, decodeBlocks, heatmapData, heatmapMatrices, type Place, panelTitle, receivedFrames, showMode } from "./panelReading.ts";
import { commandLine, lastEvent, recordedFrames, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import type { Workbench } from "./workbench.ts";

const inWorkbench = workbenchSession({ longRun: true, recordFrames: true, viewport: { width: 1500, height: 1500 } });

const valueModes = ["gradient", "delta", "secondMoment"] as const;
type Inspected = { step: number; blocks: (Place & { score: number; rank: number } & Record<(typeof valueModes)[number], number | null>)[] };

const keyOf = ({ name, row, column }: Place) => `${name}:${row},${column}`;

const demoFolder = (workbench: Workbench) => path.join(workbench.globalStorage("sparse-tuner.sparse-tuner"), "demo");

/** A person's own copy of the demo's run file stays; this one has a longer warm-up, so that a busy machine shows some of it. */
function lengthenWarmup(workbench: Workbench): void {
  const name = "demo.sparse-tuner.yaml";
  const text = readFileSync(path.join(import.meta.dirname, "../../media/demo", name), "utf8");
  const longer = text.replace("warmup: { steps: 20 }", "warmup: { steps: 200 }");
  assert.notEqual(longer, text);
  mkdirSync(demoFolder(workbench), { recursive: true });
  writeFileSync(path.join(demoFolder(workbench), name), longer);
}

function demoRun(workbench: Workbench): string {
  const [runFolder] = runFolders(demoFolder(workbench));
  assert.ok(runFolder, "the demo has a run folder");
  return runFolder;
}

/** Frames that hold scores, by the step of the warm-up; the last one, which the choice was made from, as `final`. */
function scoresByStep(frames: readonly { header: object; payload: Uint8Array }[]): Map<string, { header: object; payload: Uint8Array }> {
  const scores = frames.filter(({ header }) => "kind" in header && header.kind === "scores") as {
    header: { step: number; final: boolean };
    payload: Uint8Array;
  }[];
  return new Map(scores.map((frame) => [frame.header.final ? "final" : String(frame.header.step), frame]));
}

test(
  "Run Demo opens the panel, and warm-up frames reach it as the core recorded them",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    lengthenWarmup(workbench);
    await window.runCommand("Sparse Tuner: Run Demo");
    const panel = await window.frame(panelTitle);
    await panel.locator(".heatmap-toolbar").waitFor({ state: "visible" });
    await window.screenshot("panel-warm-up");
    await until("the blocks to be chosen", async () => (await receivedFrames(panel)).some(({ header }) => header.kind === "selection"), 120_000);
    await window.screenshot("panel-running");

    const recorded = scoresByStep(recordedFrames(demoRun(workbench)));
    const received = scoresByStep(await receivedFrames(panel));
    assert.ok(received.size >= 6, `frames of the warm-up steps ${[...received.keys()]}`);
    for (const [step, { header, payload }] of received) {
      assert.deepEqual(header, recorded.get(step)?.header, `header of step ${step}`);
      assert.ok(recorded.get(step)?.payload && Buffer.from(payload).equals(recorded.get(step)?.payload as Uint8Array), `cells of step ${step}`);
    }
  }),
);

test(
  "it ends as finished",
  inWorkbench(async (workbench) => {
    const panel = await workbench.window.frame(panelTitle);
    await panel.locator(".badge").getByText("Finished").waitFor({ timeout: 120_000 });
    assert.equal(lastEvent(demoRun(workbench), "step")?.step, 300);
    await workbench.window.screenshot("panel-finished");
  }),
);

/** Corners of the first and the last matrix, and so many others all over the model, the same at each run; at least a third of them chosen. */
function somePlaces(matrices: readonly { name: string; rows: number; columns: number }[], chosen: readonly Place[], count: number): Place[] {
  const corners = [matrices[0], matrices[matrices.length - 1]].flatMap(({ name, rows, columns }) =>
    [0, rows - 1].flatMap((row) => [0, columns - 1].map((column) => ({ name, row, column }))),
  );
  let state = 12345;
  const below = (limit: number) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * limit);
  };
  const others = Array.from({ length: count }, (_, index) => {
    if (index % 3 === 0) return chosen[below(chosen.length)];
    const { name, rows, columns } = matrices[below(matrices.length)];
    // Every other one lies at an edge of its matrix.
    return { name, row: index % 2 === 0 ? rows - 1 : below(rows), column: below(columns) };
  });
  return [...corners, chosen[0], chosen[chosen.length - 1], ...others].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** The colour's range is a narrow one, and holds the value, up to f32. */
function assertShows(shown: { low: number; high: number } | null, value: number, what: string): void {
  const slack = 1e-6 * Math.abs(value);
  assert.ok(
    shown && shown.high - shown.low <= 0.1 * Math.max(Math.abs(shown.low), Math.abs(shown.high)),
    `${what} is shown as ${JSON.stringify(shown)}`,
  );
  assert.ok(shown && shown.low - slack <= value && value <= shown.high + slack, `${what}: ${value} is shown as ${JSON.stringify(shown)}`);
}

test(
  "cells decoded from the heatmap's colours equal what `sparse-tuner inspect` says, in every mode",
  inWorkbench(async (workbench) => {
    const runFolder = demoRun(workbench);
    const panel = await workbench.window.frame(panelTitle);
    const { step, blocks } = commandLine<Inspected>(workbench, "inspect", runFolder, "--json");
    const chosen = new Map(blocks.map((block) => [keyOf(block), block]));
    const matrices = await heatmapMatrices(panel);
    const places = somePlaces(matrices, blocks, 60);

    await showMode(panel, "selected");
    for (const [index, shown] of (await decodeBlocks(panel, places)).entries()) {
      const expected = chosen.has(keyOf(places[index])) ? 1 : 0;
      assert.deepEqual(shown, { low: expected, high: expected }, keyOf(places[index]));
    }
    await showMode(panel, "score");
    const final = scoresByStep(recordedFrames(runFolder)).get("final");
    assert.ok(final);
    for (const [index, shown] of (await decodeBlocks(panel, places)).entries())
      assertShows(shown, chosen.get(keyOf(places[index]))?.score ?? scoreOf(final, places[index]), `score of ${keyOf(places[index])}`);
    for (const mode of valueModes) {
      await showMode(panel, mode);
      await until(`${mode} of step ${step}`, async () => (await heatmapData(panel, "step")) === String(step));
      await workbench.window.screenshot(`heatmap-${mode}`);
      for (const [index, shown] of (await decodeBlocks(panel, places)).entries()) {
        const block = chosen.get(keyOf(places[index]));
        if (!block) assert.equal(shown, null, `${keyOf(places[index])} has no ${mode}`);
        else assertShows(shown, block[mode] as number, `${mode} of ${keyOf(places[index])}`);
      }
    }
    await showMode(panel, "score");
  }),
);

/** A block's score as the core's last frame of scores holds it. */
function scoreOf({ header, payload }: { header: object; payload: Uint8Array }, { name, row, column }: Place): number {
  let at = 0;
  for (const matrix of (header as { matrices: { name: string; rows: number; columns: number; low: number; high: number }[] }).matrices) {
    if (matrix.name === name) return matrix.low + (payload[at + row * matrix.columns + column] * (matrix.high - matrix.low)) / 255;
    at += matrix.rows * matrix.columns;
  }
  throw new Error(`no matrix ${name}`);
}

test(
  "Q/K/V shares equal selection.json, in total and by layer",
  inWorkbench(async (workbench) => {
    const selection = JSON.parse(readFileSync(path.join(demoRun(workbench), "selection.json"), "utf8")) as Selection;
    const panel = await workbench.window.frame(panelTitle);
    const read = async (layer: string) => {
      const parts = await panel
        .locator(`.qkv-share [data-layer="${layer}"][data-share]`)
        .evaluateAll((elements) =>
          elements.map((element) => [element.getAttribute("data-projection"), Number(element.getAttribute("data-share"))] as const),
        );
      return new Map(parts);
    };
    const total = await read("all");
    for (const [projection, share] of Object.entries(selection.shares))
      if (share > 0) assert.ok(Math.abs((total.get(projection) ?? 0) - share) < 1e-12, `${projection}: ${total.get(projection)} instead of ${share}`);
    const projectionOf = (name: string) => name.slice(name.lastIndexOf(".") + 1);
    for (const layer of [0, 1]) {
      const shown = await read(String(layer));
      for (const projection of Object.keys(selection.shares)) {
        const mine = selection.blocks.filter(({ name }) => name.includes(`layers.${layer}.`) && projectionOf(name) === projection);
        const share = mine.length / selection.blocks.length;
        assert.ok(
          Math.abs((shown.get(projection) ?? 0) - share) < 1e-9,
          `layer ${layer}, ${projection}: ${shown.get(projection)} instead of ${share}`,
        );
      }
    }
  }),
);

test(
  "displayed memory equals the last ledger event, byte for byte, and so does the plan of the run that has chosen its blocks",
  inWorkbench(async (workbench) => {
    const panel = await workbench.window.frame(panelTitle);
    const event = lastEvent(demoRun(workbench), "memory");
    assert.ok(event);
    const expected = Object.entries({ ...event.bytesByClass, peak: event.peakBytes }).filter(([, bytes]) => bytes > 0);
    for (const origin of ["measured", "plan"]) {
      const shown = await panel
        .locator(`.memory-table [data-origin="${origin}"][data-bytes]`)
        .evaluateAll((cells) => cells.map((cell) => [(cell as HTMLElement).dataset.memory, Number((cell as HTMLElement).dataset.bytes)] as const));
      assert.deepEqual(new Map(shown.filter(([, bytes]) => bytes > 0)), new Map(expected), origin);
    }
  }),
);

test(
  "a click on a block opens it; five blocks of the finished run and of an older checkpoint equal the bytes of the files",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const runFolder = demoRun(workbench);
    const { blocks } = JSON.parse(readFileSync(path.join(runFolder, "selection.json"), "utf8")) as Selection;
    const panel = await window.frame(panelTitle);
    await clickBlock(panel, blocks[0]);
    const inspector = await window.frame(inspectorTitle);
    await inspector.locator("h2").first().getByText(blocks[0].name).waitFor();
    await inspector.locator("dl").getByText("Frobenius norm").first().waitFor();
    await window.screenshot("inspector-finished");
    const some = [0, 1, 40, 90, blocks.length - 1].map((rank) => blocks[rank]);
    const model = path.join(demoFolder(workbench), "model");
    await assertEqualsCheckpoint({ window, inspector }, { checkpoint: path.join(runFolder, "checkpoints/step-300"), model }, some, "now");
    await assertEqualsCheckpoint({ window, inspector }, { checkpoint: path.join(runFolder, "checkpoints/step-200"), model }, some, 200);
    await inspector.getByRole("button", { name: "Pin beside" }).click();
    await inspector.getByRole("button", { name: "Unpin" }).waitFor();
    await inspector.locator(".side").nth(1).getByRole("radio", { name: "Delta since the base" }).check();
    await inspector.locator(".side").nth(1).getByText("Frobenius norm").waitFor();
    await inspector.locator(".side").nth(1).getByText("Neighbours in the matrix").waitFor();
    await window.screenshot("inspector-two-blocks");
  }),
);

test(
  "the webviews' documents gave the security policy nothing to report",
  inWorkbench(async ({ window }) => {
    assert.deepEqual(window.policyViolations(), []);
    // What it forbids does reach this list.
    const inspector = await window.frame(inspectorTitle);
    await inspector.evaluate(() => document.body.insertAdjacentHTML("beforeend", '<p style="color: red"></p>'));
    await until("a report of an inline style", () => window.policyViolations().length > 0);
  }),
);
