/** Edits by the way that the panel's form goes, on real documents: undo is the editor's, comments and unknown keys stay, line ends too. */
import assert from "node:assert/strict";
import * as vscode from "vscode";
import { DraftSubject } from "../../../src/extension/panel/panelSubject.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { type Checks, shown, until } from "./checks.ts";

const text = `# How it began.
model: ./model # relative
data: { train: data/gsm8k-train.jsonl }
method: { name: smt, ratio: 0.05 } # a budget
mine: kept # a key that nobody knows
train:
  # Rows.
  batchSize: 4
  steps: 3
`;

export const editChecks: Checks = {
  "a change of the form changes its value and nothing else; undo and redo are the editor's": async () => {
    const { document } = await shown("edited.sparse-tuner.yaml", text);
    const draft = new DraftSubject(document.uri);
    await draft.edit([{ path: ["train", "batchSize"], value: 8 }]);
    const first = text.replace("batchSize: 4", "batchSize: 8");
    assert.equal(document.getText(), first);
    assert.ok(document.isDirty, "the file is not written before the person saves");
    await draft.edit([{ path: ["method", "ratio"] }, { path: ["method", "blocks"], value: 40 }]);
    const second = document.getText();
    assert.match(second, /^method: \{ name: smt, blocks: 40 \} # a budget$/m);
    assert.equal(second.replace(/^method.*$/m, ""), first.replace(/^method.*$/m, ""));
    for (const expected of [first, text]) {
      await vscode.commands.executeCommand("undo");
      await until("the earlier text", () => document.getText() === expected);
    }
    await vscode.commands.executeCommand("redo");
    await until("the later text", () => document.getText() === first);
  },

  "who watches the run file is told of an edit, of typing and of undo": async () => {
    const editor = await shown("watched.sparse-tuner.yaml", text);
    const draft = new DraftSubject(editor.document.uri);
    let told = 0;
    const nothing = () => {};
    const watch = draft.watch({ onText: () => told++, onRun: nothing, onEvents: nothing, onFrame: nothing });
    await draft.edit([{ path: ["train", "steps"], value: 5 }]);
    await until("word of the edit", () => told === 1);
    await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "# Typed.\n"));
    await until("word of the typing", () => told === 2);
    assert.equal((await draft.read()).form.values.mine, "kept");
    assert.equal((await draft.read()).toPlan.text, editor.document.getText());
    await vscode.commands.executeCommand("undo");
    await until("word of the undo", () => told === 3);
    watch.dispose();
    await draft.edit([{ path: ["train", "steps"], value: 6 }]);
    assert.equal(told, 3);
  },

  "line ends of Windows stay": async () => {
    const { document } = await shown("windows.sparse-tuner.yaml", text.replaceAll("\n", "\r\n"));
    await new DraftSubject(document.uri).edit([{ path: ["train", "learningRate"], value: 0.001 }]);
    assert.equal(document.eol, vscode.EndOfLine.CRLF);
    assert.match(document.getText(), /^ {2}learningRate: 0\.001\r$/m);
    assert.ok(!/[^\r]\n/.test(document.getText()));
  },

  "a broken file is not edited, and the reason names the line": async () => {
    const broken = text.replace("train:\n", "train: [\n");
    const { document } = await shown("broken.sparse-tuner.yaml", broken);
    await assert.rejects(
      () => new DraftSubject(document.uri).edit([{ path: ["train", "steps"], value: 9 }]),
      (error: unknown) => error instanceof UserError && error.code === "runFile/broken" && /line \d/.test(error.message),
    );
    assert.equal(document.getText(), broken);
  },

  "Lower Batch Size changes the open file, with its comments, and can be undone": async () => {
    const { document } = await shown("lower.sparse-tuner.yaml", text.replace(/^mine.*\n/m, ""));
    const before = document.getText();
    await vscode.commands.executeCommand("sparseTuner.lowerBatch", document.uri);
    await until("a smaller batch", () => /batchSize: 2\b/.test(document.getText()));
    assert.match(document.getText(), /gradientAccumulation: 2\b/);
    for (const comment of before.match(/#.*/g) ?? []) assert.ok(document.getText().includes(comment), comment);
    await vscode.commands.executeCommand("undo");
    await until("the earlier text", () => document.getText() === before);
  },
};
