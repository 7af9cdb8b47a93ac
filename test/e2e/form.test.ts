/**
 * The panel's form edits the open run file, and follows it: comments and unknown keys stay, undo in the editor brings both back; the plan beside it is the
 * core's, to the byte; a started run can only be duplicated, and takes the memory that its ledger says.
 */
import assert from "node:assert/strict";
import { cpSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import type { ServiceResults } from "../../src/protocol/serviceProtocol.ts";
import { editorText, focusEditor, openFromExplorer } from "./editorReading.ts";
import { choice, choose, enter, fieldValue, formRow, panelOfFile, shownMemory, shownPlan } from "./formReading.ts";
import { commandLine, lastEvent, runFolders } from "./runFolder.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const demo = path.resolve(import.meta.dirname, "../../media/demo");
const name = "small.sparse-tuner.yaml";
const text = `# Tuned by hand: this line stays.
model: ./model # the small one
data: { train: data/gsm8k-train.jsonl }
method:
  name: smt
  # A comment between keys.
  ratio: 0.05 # five percent
  blockSize: 16
  warmup: { steps: 2 }
train:
  steps: 3
  batchSize: 2      # rows
  sequenceLength: 256
  precision: f32
evaluate: { every: null }
notes: mine # a key that nobody knows
`;
const patienceMs = 90_000;

const inWorkbench = workbenchSession({
  viewport: { width: 1700, height: 1300 },
  // Saved by hand: what the form shows and plans is the text in the editor.
  settings: { "files.autoSave": "off", "editor.minimap.enabled": false },
  workspace: {
    fill(folder) {
      cpSync(demo, folder, { recursive: true, filter: (file) => !file.endsWith(".sparse-tuner.yaml") });
      writeFileSync(path.join(folder, name), text);
    },
  },
});

/** Waits until the editor's text is this; says what it is instead. */
async function untilText({ window }: OpenWorkbench, expected: string, file = name): Promise<void> {
  let shown = "";
  const same = async () => {
    shown = await editorText(window, file);
    return shown === expected;
  };
  await until("the text in the editor", same, patienceMs).catch(() => assert.equal(shown, expected));
}

async function undo({ window }: OpenWorkbench): Promise<void> {
  await focusEditor(window, name);
  await window.page.keyboard.press("ControlOrMeta+z");
}

const withValue = (from: string, old: string, value: string) => {
  assert.ok(from.includes(old), old);
  return from.replace(old, value);
};

test(
  "the panel beside an open run file shows its values and names the key that nobody knows",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await openFromExplorer(window, name);
    await untilText(workbench, text);
    await window.runCommand("Sparse Tuner: Open Training Panel");
    const panel = await panelOfFile(window, name);
    await until("the form's values", async () => (await fieldValue(panel, "train.batchSize")) === "2", patienceMs);
    assert.equal(await choice(panel, "train.precision"), "f32");
    assert.equal(await formRow(panel, "train.schedule").getAttribute("data-given"), "false");
    await panel.locator(".form-problems").getByText("notes").waitFor();
    await window.screenshot("form-unknown-key");
  }),
);

test(
  "what is typed or chosen changes the text and nothing else of it; undo in the editor brings both back",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    await enter(panel, "train.batchSize", 8);
    const typed = withValue(text, "batchSize: 2 ", "batchSize: 8 ");
    await untilText(workbench, typed);
    await choose(panel, "train.precision", "bf16");
    const chosen = withValue(typed, "precision: f32", "precision: bf16");
    await untilText(workbench, chosen);
    await formRow(panel, "method.ratio").locator("input[type=range]").fill("6");
    await untilText(workbench, withValue(chosen, "ratio: 0.05 #", "ratio: 0.02 #"));
    await workbench.window.screenshot("form-edited");
    for (const expected of [chosen, typed, text]) {
      await undo(workbench);
      await untilText(workbench, expected);
    }
    await until("the form to follow", async () => (await fieldValue(panel, "train.batchSize")) === "2", patienceMs);
    assert.equal(await choice(panel, "train.precision"), "f32");
    assert.equal(await fieldValue(panel, "method.ratio"), "0.05");
  }),
);

test(
  "a checkbox writes a key, going back to the default takes it out again",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    await formRow(panel, "method.targets").locator('[data-target="o_proj"]').click();
    await until("targets in the text", async () => /targets:/.test(await editorText(workbench.window, name)), patienceMs);
    const written = await editorText(workbench.window, name);
    assert.ok(written.includes("q_proj") && !written.includes("o_proj"), written);
    await formRow(panel, "method.targets")
      .getByRole("button", { name: /^Back to the default/ })
      .click();
    await untilText(workbench, text);
    await until("the box to be ticked again", async () =>
      formRow(panel, "method.targets")
        .locator('[data-target="o_proj"]')
        .evaluate((box) => (box as HTMLInputElement).checked),
    );
  }),
);

test(
  "what is no number is not written, and the field says so",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const panel = await panelOfFile(window, name);
    await formRow(panel, "train.steps").locator("vscode-text-field input").fill("many");
    await formRow(panel, "train.steps").getByText("This is no whole number: the run file stays as it is.").waitFor();
    await window.screenshot("form-no-number");
    assert.equal(await editorText(window, name), text);
    await enter(panel, "train.steps", 3);
  }),
);

test(
  "a key that is deleted in the editor leaves the form, and the plan comes",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await focusEditor(window, name);
    for (const key of ["ControlOrMeta+End", "ArrowUp", "ControlOrMeta+Shift+k"]) await window.page.keyboard.press(key);
    await untilText(workbench, text.replace(/^notes.*\n/m, ""));
    const panel = await panelOfFile(window, name);
    await panel.locator('.run-form[data-problems="0"]').waitFor({ timeout: patienceMs });
    await panel.locator(".plan[data-plan=plan]").waitFor({ timeout: patienceMs });
    await window.screenshot("form-plan");
  }),
);

type Planned = Pick<ServiceResults["plan"], "peakBytes" | "bytesByClass" | "fullFineTuning">;

/** What the command line plans for the text in the editor, which need not be saved. */
async function plannedByCommandLine(workbench: OpenWorkbench): Promise<Planned> {
  const file = path.join(workbench.workspace ?? "", ".planned.sparse-tuner.yaml");
  writeFileSync(file, await editorText(workbench.window, name));
  return commandLine<Planned>(workbench, "plan", file, "--json");
}

const peakOf = ({ peakBytes, bytesByClass }: Pick<Planned, "peakBytes" | "bytesByClass">) => ({ peakBytes, bytesByClass });

test(
  "planned bytes equal `sparse-tuner plan --json` at two budgets and both precisions",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    const peaks = new Set<number>();
    for (const ratio of ["0.05", "0.2"]) {
      await enter(panel, "method.ratio", ratio);
      for (const precision of ["f32", "bf16"]) {
        if ((await choice(panel, "train.precision")) !== precision) await choose(panel, "train.precision", precision);
        const written = async () => {
          const now = await editorText(workbench.window, name);
          return now.includes(`ratio: ${ratio} `) && now.includes(`precision: ${precision}`);
        };
        await until(`${ratio}, ${precision} in the text`, written, patienceMs);
        const planned = await plannedByCommandLine(workbench);
        const expected = { plan: peakOf(planned), fullFineTuning: peakOf(planned.fullFineTuning) };
        let shown: Awaited<ReturnType<typeof shownPlan>> = null;
        const equal = async () => {
          shown = await shownPlan(panel);
          return shown?.plan.peakBytes === expected.plan.peakBytes && shown.fullFineTuning.peakBytes === expected.fullFineTuning.peakBytes;
        };
        await until("the plan", equal, patienceMs).catch(() => {});
        assert.deepEqual(shown, { ...expected, fits: true }, `ratio ${ratio}, ${precision}`);
        peaks.add(planned.peakBytes).add(planned.fullFineTuning.peakBytes);
      }
    }
    // Four plans, and full fine-tuning's for each precision: none stands in for another.
    assert.equal(peaks.size, 6);
  }),
);

test(
  "whether it fits follows batch and length, and what would help is said",
  inWorkbench(async (workbench) => {
    const panel = await panelOfFile(workbench.window, name);
    const verdict = (fits: boolean) => panel.locator(`.plan-verdict[data-fits="${fits}"]`).waitFor({ timeout: patienceMs });
    await enter(panel, "train.sequenceLength", 512);
    await enter(panel, "train.batchSize", 65536);
    await verdict(false);
    await panel.locator(".plan-verdict").getByText("Does not fit").waitFor();
    await panel.locator(".plan-change").getByText("Cheapest change").waitFor();
    await workbench.window.screenshot("form-does-not-fit");
    await enter(panel, "train.sequenceLength", 2);
    await verdict(true);
    await enter(panel, "train.sequenceLength", 512);
    await verdict(false);
    await enter(panel, "train.batchSize", 2);
    await verdict(true);
    const before = await shownPlan(panel);
    await enter(panel, "method.ratio", 0.5);
    await until(
      "the plan of the larger budget",
      async () => ((await shownPlan(panel))?.plan.peakBytes ?? 0) > (before?.plan.peakBytes ?? 0),
      patienceMs,
    );
    await enter(panel, "method.ratio", 0.05);
    await enter(panel, "train.sequenceLength", 256);
    await choose(panel, "train.precision", "f32");
    await untilText(workbench, text.replace(/^notes.*\n/m, ""));
  }),
);

/** Starts what the panel shows, waits for its end; the newest run folder. */
async function trained(workbench: OpenWorkbench, panel: Frame): Promise<string> {
  await panel.locator('.run-actions [data-action="start"]').click();
  await panel.locator(".badge").getByText("Finished").waitFor({ timeout: 180_000 });
  return runFolders(workbench.workspace ?? "").at(-1) ?? "";
}

/** The panel shows the ledger's last event, to the byte. */
async function assertMemory(panel: Frame, runFolder: string): Promise<void> {
  const event = lastEvent(runFolder, "memory");
  assert.ok(event);
  const expected = new Map(Object.entries({ ...event.bytesByClass, peak: event.peakBytes }).filter(([, bytes]) => bytes > 0));
  await until("the measured peak", async () => (await shownMemory(panel)).get("peak") === event.peakBytes, patienceMs).catch(() => {});
  assert.deepEqual(await shownMemory(panel), expected);
}

test(
  "a started run is shown as a fact that can be duplicated, with the memory that its ledger says",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const draft = await panelOfFile(window, name);
    const runFolder = await trained(workbench, draft);
    const panel = await panelOfFile(window, "run.yaml");
    await panel.locator('.run-form[data-editable="false"]').waitFor({ timeout: patienceMs });
    const fields = await panel
      .locator(".run-form .form-row:not([hidden]) vscode-text-field")
      .evaluateAll((all) => all.map((field) => (field as HTMLInputElement).readOnly));
    const choices = await panel
      .locator(".run-form .form-row:not([hidden]) vscode-dropdown")
      .evaluateAll((all) => all.map((list) => (list as HTMLSelectElement).disabled));
    assert.ok(fields.length > 5 && fields.every(Boolean) && choices.length > 3 && choices.every(Boolean), JSON.stringify({ fields, choices }));
    await assertMemory(panel, runFolder);
    await window.screenshot("form-read-only");
    await panel.locator(".form-read-only").getByText("Duplicate", { exact: true }).click();
  }),
);

test(
  "the duplicate is a run file of its own: at another budget and precision its run takes what its ledger says",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const copy = "small-copy.sparse-tuner.yaml";
    const panel = await panelOfFile(window, copy);
    assert.equal(await panel.locator(".run-form").getAttribute("data-editable"), "true");
    await enter(panel, "method.ratio", 0.2);
    await choose(panel, "train.precision", "bf16");
    await until("both in the copy", async () => /ratio: 0\.2.*precision: bf16/s.test(await editorText(window, copy)), patienceMs);
    await window.screenshot("form-duplicate");
    const runFolder = await trained(workbench, panel);
    assert.equal(runFolders(workbench.workspace ?? "").length, 2);
    await assertMemory(await panelOfFile(window, "run.yaml"), runFolder);
    await window.screenshot("form-second-run");
  }),
);
