/** Preview Training Data: the real first batch of the text in the editor, what counts in the loss marked and coloured, the row left out with its line. */
import assert from "node:assert/strict";
import { cpSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { editorLines, editorOf, editorText, focusEditor, openFromExplorer } from "./editorReading.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const name = "preview.sparse-tuner.yaml";
const title = "First batch of preview.sparse-tuner";
const badLine = 3;
const rows = Array.from({ length: 8 }, (_, i) => ({ prompt: `Question ${i}: how many?`, completion: `It is ${"so many ".repeat(i + 1)}and ${i}.` }));
const text = `model: ./model
data: { train: rows.jsonl }
method: { name: smt, blocks: 8, blockSize: 16, warmup: { steps: 1 } }
train: { steps: 2, batchSize: 2, sequenceLength: 64 }
`;

const inWorkbench = workbenchSession({
  viewport: { width: 1600, height: 1000 },
  settings: { "files.autoSave": "off", "editor.minimap.enabled": false },
  workspace: {
    // With signs that a link's address must carry.
    name: "data #1 50%",
    fill(folder) {
      cpSync(path.resolve(import.meta.dirname, "../../media/demo/model"), path.join(folder, "model"), { recursive: true });
      const lines = rows.map((row) => JSON.stringify(row));
      lines.splice(badLine - 1, 0, "{ this is no row");
      writeFileSync(path.join(folder, "rows.jsonl"), `${lines.join("\n")}\n`);
      writeFileSync(path.join(folder, name), text);
    },
  },
});

/** The preview's text as one line, when it is about so many rows. */
function previewOf({ window }: OpenWorkbench, rowCount: number): Promise<string> {
  return until(
    `a preview of ${rowCount} rows`,
    async () => {
      const found = (await editorLines(window, title)).join("").replaceAll(/\s+/g, " ");
      return found.includes(`${rowCount} × 64 tokens`) && found.includes("Rows left out") && found;
    },
    90_000,
  );
}

/** Rows of the data whose answer stands between the marks of the loss, by the line they are shown under. */
function documentsIn(preview: string): Map<number, { inLoss: string; outside: string }> {
  const parts = preview.split(/Line (\d+) of the data: [^⟦]*?in the loss/).slice(1);
  const found = new Map<number, { inLoss: string; outside: string }>();
  for (let i = 0; i + 1 < parts.length; i += 2) {
    const body = parts[i + 1].split("Row ")[0].split("Notes")[0];
    const inLoss = [...body.matchAll(/⟦([^⟧]*)⟧/g)].map(([, inside]) => inside).join("");
    found.set(Number(parts[i]), { inLoss, outside: body.replaceAll(/⟦[^⟧]*⟧/g, "") });
  }
  return found;
}

const rowOfLine = (line: number) => rows[line < badLine ? line - 1 : line - 2];
const dense = (from: string) => from.replaceAll(/\s/g, "");

test(
  "answers are in the loss, questions are not, and each is shown under its line of the data",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await openFromExplorer(window, name);
    await window.runCommand("Sparse Tuner: Preview Training Data");
    const documents = documentsIn(await previewOf(workbench, 2));
    // Long lines are broken, so that a document can be read without scrolling sideways.
    assert.ok((await editorLines(window, title)).length > 26, "no line is broken");
    await window.screenshot("preview");
    assert.ok(documents.size >= 2, `${documents.size} documents`);
    for (const [line, { inLoss, outside }] of documents) {
      const { prompt, completion } = rowOfLine(line);
      assert.ok(dense(inLoss).includes(dense(completion)), `line ${line}: ${inLoss}`);
      assert.ok(dense(outside).includes(dense(prompt)), `line ${line}: ${outside}`);
      assert.ok(!dense(inLoss).includes("Question"), inLoss);
    }
  }),
);

test(
  "what is in the loss has a colour of its own",
  inWorkbench(async ({ window }) => {
    const parts = await editorOf(window, title).evaluate((editor) => {
      const isClear = (background: string) => /^(transparent|rgba\(0, 0, 0, 0\))$/.test(background);
      const grounds = [...editor.querySelectorAll(".view-overlays .cdr")].filter((ground) => !isClear(getComputedStyle(ground).backgroundColor));
      const boxes = grounds.map((ground) => ground.getBoundingClientRect());
      return [...editor.querySelectorAll(".view-line span span")].map((span) => {
        const { left, right, top, bottom } = span.getBoundingClientRect();
        const [x, y] = [(left + right) / 2, (top + bottom) / 2];
        return { text: span.textContent ?? "", coloured: boxes.some((box) => box.left < x && x < box.right && box.top < y && y < box.bottom) };
      });
    });
    const answers = parts.filter(({ text: shown }) => /many.*and/.test(shown.replaceAll("\u00a0", " ")));
    const questions = parts.filter(({ text: shown }) => shown.includes("Question"));
    assert.ok(answers.length > 0 && answers.every(({ coloured }) => coloured), JSON.stringify(parts));
    assert.ok(questions.length > 0 && !questions.some(({ coloured }) => coloured), JSON.stringify(parts));
  }),
);

test(
  "the row left out leads to its line",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    assert.match(await previewOf(workbench, 2), /Rows left out.*rows\.jsonl:3: it is not valid JSON/s);
    const place = editorOf(window, title).locator(".view-line span").getByText("rows.jsonl:3").last();
    await window.page.keyboard.down("ControlOrMeta");
    await place.click();
    await window.page.keyboard.up("ControlOrMeta");
    await window.tab("rows.jsonl").waitFor();
    await window.statusBarItem("Ln 3,").waitFor();
    await window.screenshot("preview-left-out");
  }),
);

test(
  "asked again, it previews the text in the editor, unsaved as it is",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.tab(name).click();
    await focusEditor(window, name);
    await window.page.keyboard.press("ControlOrMeta+a");
    await window.page.keyboard.insertText(text.replace("batchSize: 2", "batchSize: 1"));
    await until("the text typed", async () => (await editorText(window, name)).includes("batchSize: 1"));
    await window.runCommand("Sparse Tuner: Preview Training Data");
    const preview = await previewOf(workbench, 1);
    assert.ok(preview.includes("Row 1") && !preview.includes("Row 2"), preview);
  }),
);

test(
  "a run file that no batch can be made of says why",
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.tab(name).click();
    await focusEditor(window, name);
    await window.page.keyboard.press("ControlOrMeta+a");
    await window.page.keyboard.insertText(text.replace("rows.jsonl", "nowhere.jsonl"));
    await until("the text typed", async () => (await editorText(window, name)).includes("nowhere"));
    await window.runCommand("Sparse Tuner: Preview Training Data");
    await window.notification("nowhere.jsonl").waitFor({ timeout: 90_000 });
    await window.screenshot("preview-no-data");
  }),
);
