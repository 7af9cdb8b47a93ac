/** Changes of a document that come quickly after each other are all made; what the editor refuses because the text has moved on is made of the newer one. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { editRunFile } from "../../src/extension/files/runFileDocument.ts";
import type { WorkspaceEdit } from "./vscodeStandIn.ts";

const vscode = await import("vscode");
const { editDocument } = await import("../../src/extension/files/documentEdits.ts");

/** An editor with one document, which takes a while for an edit and refuses it when the text has become another one meanwhile. */
function openEditor(text: string, { refuses = false } = {}) {
  const editor = { text, edits: 0 };
  const openTextDocument = async () => {
    const { text } = editor;
    return { getText: () => text, positionAt: (offset: number) => offset, text };
  };
  const applyEdit = async ({ replacements }: WorkspaceEdit) => {
    const before = editor.text;
    editor.edits++;
    await delay(5);
    if (refuses || before !== editor.text) return false;
    for (const { range, text } of replacements.toSorted((a, b) => b.range.start - a.range.start))
      editor.text = editor.text.slice(0, range.start) + text + editor.text.slice(range.end);
    return true;
  };
  Object.assign(vscode.workspace, { openTextDocument, applyEdit });
  return editor;
}

const uri = vscode.Uri.file("/run.sparse-tuner.yaml");
const set = (path: string[], value: number) => editDocument(uri, (text) => editRunFile(text, [{ path, value }]));

test("fields that are changed one right after the other are all in the text", async () => {
  const editor = openEditor("train: { steps: 100, batchSize: 4 } # mine\nthreads: 1\n");
  await Promise.all([set(["train", "steps"], 2), set(["train", "batchSize"], 1), set(["threads"], 2)]);
  assert.equal(editor.text, "train: { steps: 2, batchSize: 1 } # mine\nthreads: 2\n");
});

test("a text that a person changes meanwhile is changed as it is then", async () => {
  const editor = openEditor("steps: 1\nthreads: 1\n");
  const changed = set(["threads"], 8);
  await delay(1);
  editor.text = `# typed\n${editor.text}`;
  await changed;
  assert.deepEqual([editor.text, editor.edits], ["# typed\nsteps: 1\nthreads: 8\n", 2]);
});

test("what the editor will not have, and a broken text, are said; the next change is tried all the same", async () => {
  const editor = openEditor("threads: 1\n", { refuses: true });
  const refused = set(["threads"], 2);
  const broken = editDocument(uri, () => editRunFile("threads: [", [{ path: ["threads"], value: 1 }]));
  await assert.rejects(refused, { code: "panel/not-edited" });
  await assert.rejects(broken, { code: "runFile/broken" });
  assert.equal(editor.text, "threads: 1\n");
});
